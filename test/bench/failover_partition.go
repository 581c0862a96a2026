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

// capacity has one node announce very many addresses and asks for them.
func capacity(ctx context.Context, b *bed) (t table, err error) {
	t = table{
		title:   fmt.Sprintf("capacity: %d IPv4 addresses on one speaker", b.capacity),
		columns: []string{"value"},
	}
	if err := b.prepareFailover(ctx); err != nil {
		return t, err
	}
	const prefix, node = "capacity-", "n2"
	if err := b.exclude(ctx, true, announcers()...); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, b.exclude(ctx, false, announcers()...), b.remove(ctx, prefix)) }()
	progress("making %d Services", b.capacity)
	if err := b.createUnowned(ctx, prefix, b.capacity, 0); err != nil {
		return t, err
	}
	if err := b.quiet(ctx); err != nil {
		return t, err
	}
	all, err := b.addressesOf(ctx, prefix)
	if err != nil {
		return t, err
	}
	if err := b.takeAll(ctx, &t, node, all); err != nil {
		return t, err
	}
	return t, b.flood(ctx, &t, node, all)
}

// takeAll lets the node take all addresses at once and listens to its announcements.
func (b *bed) takeAll(ctx context.Context, t *table, node string, all []netip.Addr) error {
	heard, err := b.lab.Watch(witness, all...)
	if err != nil {
		return err
	}
	defer heard.Stop()
	if err := b.exclude(ctx, false, node); err != nil {
		return err
	}
	what := fmt.Sprintf("%d addresses are announced, and then no more is heard", len(all))
	before := -1
	ticks := 0
	err = lab.Poll(ctx, bulkLimit, what, func(context.Context) error {
		if ticks++; ticks%50 != 0 { // every 5 s
			return errors.New("listening")
		}
		seen := heard.Seen()
		known := map[netip.Addr]bool{}
		for _, s := range seen {
			known[s.Address] = true
		}
		if len(known) < len(all) || len(seen) != before {
			before = len(seen)
			return fmt.Errorf("%d packets for %d addresses", before, len(known))
		}
		return nil
	})
	if err != nil {
		return err
	}
	seen := heard.Stop()
	began := seen[0].At
	last := lastFirst(seen, all, "", began.Add(-time.Nanosecond))
	t.add("from the first announcement until the last address's first", seconds(last))
	t.add("until the very last announcement", seconds(seen[len(seen)-1].At.Sub(began)))
	t.add("announcement packets", count(len(seen)))
	t.add("most in a second", count(mostInASecond(seen)))
	return nil
}

// mostInASecond is the largest number of packets in any second.
func mostInASecond(seen []lab.Sighting) int {
	most, first := 0, 0
	for i, s := range seen {
		for s.At.Sub(seen[first].At) > time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// flood asks for all addresses at several rates.
func (b *bed) flood(ctx context.Context, t *table, node string, all []netip.Addr) error {
	if err := b.quiet(ctx); err != nil {
		return err
	}
	p, err := b.lab.Process("speaker-" + node)
	if err != nil {
		return err
	}
	for _, rate := range []int{1000, 5000, 20000} {
		before, err := cpuTime(p.Pid())
		if err != nil {
			return err
		}
		report, err := b.lab.Flood(ctx, lab.Flood{From: witness, Addresses: all, Rate: rate, Count: 5 * rate})
		if err != nil {
			return err
		}
		after, err := cpuTime(p.Pid())
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%d requests a second (%.0f were sent): ", rate, float64(report.Sent)/report.Duration.Seconds())
		t.add(name+"answered after, median", micros(median(report.Latencies)))
		t.add(name+"answered after, 99 of 100", micros(quantile(report.Latencies, 0.99)))
		t.aim("0", report.Lost == 0, name+"unanswered of "+count(report.Sent), count(report.Lost))
		t.add(name+"CPU for 10,000 requests", millis((after-before)*10000/time.Duration(report.Sent)))
	}
	f, err := footprintOf(p)
	if err != nil {
		return err
	}
	t.add("resident memory of that speaker", megabytes(f.now))
	t.add("its highest", megabytes(f.highest))
	return nil
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }
