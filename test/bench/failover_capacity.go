package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

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
	progress("all have an address; waiting for rest")
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
	progress("waiting for rest")
	return t, b.flood(ctx, &t, node, all)
}

// takeAll lets the node take all addresses at once and listens to its announcements.
func (b *bed) takeAll(ctx context.Context, t *table, node string, all []netip.Addr) error {
	progress("%s takes all", node)
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
	for _, rate := range []int{1000, 5000, 20000} { // the last is more than two cores do
		progress("asking %d times a second", rate)
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
		t.add(name+"unanswered of "+count(report.Sent), count(report.Lost))
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
