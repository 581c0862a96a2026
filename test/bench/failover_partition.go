package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// healTarget is how long after a partition two nodes may answer for an address.
const healTarget = time.Second

// partitions splits the LAN between the owner of an address, with another node, and the rest with the client.
func partitions(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("partition: the owner of an address and another node are cut off for %s, %d runs", b.partition, b.runs),
		columns: []string{"median", "max"},
	}
	return t, b.withAddresses(ctx, "partition-", 1, func(all []netip.Addr) error {
		var seen outcomes
		var doubled []time.Duration
		var moves []int
		for run := range b.runs {
			one, err := b.partitionOnce(ctx, all)
			if err != nil {
				return fmt.Errorf("run %d: %w", run+1, err)
			}
			progress("run %d: %s; two owners for %s after the end, %d moves after that", run+1, one.probed, seconds(one.doubled), one.moves)
			seen, doubled, moves = append(seen, one.outcome), append(doubled, one.doubled), append(moves, one.moves)
		}
		gaps := seen.gaps()
		t.add("longest gap between answered connections", seconds(median(gaps)), seconds(quantile(gaps, 1)))
		t.add("new connections failed", count(median(seen.failed())), count(quantile(seen.failed(), 1)))
		t.aim("<= "+seconds(healTarget), quantile(doubled, 1) <= healTarget, "two nodes answer after its end, for", seconds(median(doubled)), seconds(quantile(doubled, 1)))
		t.aim("0", quantile(moves, 1) == 0, "moves after that", count(median(moves)), count(quantile(moves, 1)))
		t.note("gaps of every run in ms: %s; the prober itself was late by %s at most", listed(gaps), millis(seen.delay()))
		return nil
	})
}

// parted is one run.
type parted struct {
	outcome
	doubled time.Duration // how long two nodes answered after the end
	moves   int
}

func (b *bed) partitionOnce(ctx context.Context, all []netip.Addr) (parted, error) {
	var one parted
	owners, err := b.awaitOwners(ctx, nil, all)
	if err != nil {
		return one, err
	}
	owner := owners[all[0]]
	island := []string{owner, announcers(owner)[0]}
	c, err := b.watch(ctx, all, probeInterval)
	if err != nil {
		return one, err
	}
	err = b.lab.Partition(ctx, island...)
	if err == nil {
		_, err = b.awaitOwners(ctx, island, all)
	}
	if err == nil {
		err = rest(ctx, b.partition)
	}
	if err == nil {
		err = b.lab.Heal(ctx)
	}
	if err == nil {
		one.doubled, one.moves, err = b.afterHeal(ctx, all)
	}
	one.outcome = c.stop()
	if err != nil {
		return one, errors.Join(err, b.lab.Heal(ctx))
	}
	return one, b.settled(ctx)
}

// afterHeal asks time and again until one node alone has answered in a row, and for a while
// after that.
func (b *bed) afterHeal(ctx context.Context, all []netip.Addr) (doubled time.Duration, moves int, err error) {
	const window, inARow, after = 50 * time.Millisecond, 10, 5 * time.Second
	began, alone, owner := time.Now(), 0, ""
	for time.Since(began) < stepLimit {
		asked := time.Since(began)
		answers, err := b.lab.Ask(ctx, witness, window, all...)
		if err != nil {
			return 0, 0, err
		}
		got := answers.Owners(all[0])
		switch {
		case len(got) != 1 || owner != "" && got[0] != owner && alone < inARow:
			doubled, alone, owner = asked+window, 0, ""
		case owner != "" && got[0] != owner:
			moves++
			owner = got[0]
		default:
			alone++
			owner = got[0]
		}
		if alone >= inARow && time.Since(began) > doubled+after {
			return doubled, moves, nil
		}
	}
	return 0, 0, errors.New("wait for one owner after a partition: there is none")
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
