package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// healTarget is how long after a partition two nodes may answer for an address.
const healTarget = time.Second

// split takes an owner's contact with others away.
type split struct {
	name string
	// lost are the nodes that nobody who asks hears then.
	lost       func(owner string) []string
	begin, end func(ctx context.Context, lost []string) error
}

// partitions splits the LAN between the owner of an address, with another node, and the rest with the client.
func partitions(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("partition: the owner of an address and another node are cut off for %s, %d runs", b.partition, b.runs),
		columns: []string{"median", "max"},
	}
	return t, b.splits(ctx, &t, split{
		"partition",
		func(owner string) []string { return []string{owner, announcers(owner)[0]} },
		func(ctx context.Context, lost []string) error { return b.lab.Partition(ctx, lost...) },
		func(ctx context.Context, _ []string) error { return b.lab.Heal(ctx) },
	})
}

// oneWays loses what the owner of an address sends, or what it receives.
func oneWays(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("oneway: the owner of an address sends or receives nothing for %s, %d runs each", b.partition, b.runs),
		columns: []string{"median", "max"},
	}
	onOwner := func(do func(context.Context, *lab.Node) error) func(context.Context, []string) error {
		return func(ctx context.Context, lost []string) error {
			n, err := b.lab.NodeNamed(lost[0])
			if err != nil {
				return err
			}
			return do(ctx, n)
		}
	}
	losing := func(name string, loss lab.Loss) split {
		return split{
			name,
			func(owner string) []string { return []string{owner} },
			onOwner(func(ctx context.Context, n *lab.Node) error { return n.Lose(ctx, loss, "eth0") }),
			onOwner(func(ctx context.Context, n *lab.Node) error { return n.Mend(ctx, "eth0") }),
		}
	}
	return t, b.splits(ctx, &t, losing("sends nothing", lab.LoseSent), losing("receives nothing", lab.LoseReceived))
}

// splits runs each split several times.
func (b *bed) splits(ctx context.Context, t *table, all ...split) error {
	return b.withAddresses(ctx, "split-", 1, func(addresses []netip.Addr) error {
		for _, s := range all {
			var seen outcomes
			var doubled []time.Duration
			var moves []int
			for run := range b.runs {
				one, err := b.splitOnce(ctx, s, addresses)
				if err != nil {
					return fmt.Errorf("%s, run %d: %w", s.name, run+1, err)
				}
				progress("%s, run %d: %s; two owners for %s after the end, %d moves after that", s.name, run+1, one.probed, seconds(one.doubled), one.moves)
				seen, doubled, moves = append(seen, one.outcome), append(doubled, one.doubled), append(moves, one.moves)
			}
			gaps := seen.gaps()
			t.add(s.name+": longest gap between answered connections", seconds(median(gaps)), seconds(quantile(gaps, 1)))
			t.add(s.name+": new connections failed", count(median(seen.failed())), count(quantile(seen.failed(), 1)))
			t.aim("<= "+seconds(healTarget), quantile(doubled, 1) <= healTarget, s.name+": two nodes answer after its end, for", seconds(median(doubled)), seconds(quantile(doubled, 1)))
			t.aim("0", quantile(moves, 1) == 0, s.name+": moves after that", count(median(moves)), count(quantile(moves, 1)))
			t.note("%s: gaps of every run in ms: %s; the prober itself was late by %s at most", s.name, listed(gaps), millis(seen.delay()))
		}
		return nil
	})
}

// parted is one run.
type parted struct {
	outcome
	doubled time.Duration // how long two nodes answered after the end
	moves   int
}

func (b *bed) splitOnce(ctx context.Context, s split, all []netip.Addr) (parted, error) {
	var one parted
	owners, err := b.awaitOwners(ctx, nil, all)
	if err != nil {
		return one, err
	}
	lost := s.lost(owners[all[0]])
	c, err := b.watch(ctx, all, probeInterval)
	if err != nil {
		return one, err
	}
	err = s.begin(ctx, lost)
	if err == nil {
		_, err = b.awaitOwners(ctx, lost, all)
	}
	if err == nil {
		err = rest(ctx, b.partition)
	}
	if err == nil {
		err = s.end(ctx, lost)
	}
	if err == nil {
		one.doubled, one.moves, err = b.afterHeal(ctx, all)
	}
	one.outcome = c.stop()
	if err != nil {
		return one, errors.Join(err, s.end(ctx, lost))
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
	return 0, 0, errors.New("wait for one owner after a split: there is none")
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
