package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// epoch is when what is measured was done.
func epoch() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func after(d time.Duration) time.Time { return epoch().Add(d) }

func TestAJourney(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	good := func(at time.Duration) lab.Attempt {
		return lab.Attempt{Start: after(at), Connected: ms, Answered: 2 * ms, Outcome: lab.Answered}
	}
	late := func(at time.Duration) lab.Attempt {
		return lab.Attempt{Start: after(at), Connected: 1020 * ms, Answered: 1022 * ms, Outcome: lab.Answered}
	}
	lost := func(at time.Duration) lab.Attempt { return lab.Attempt{Start: after(at), Outcome: lab.TimedOut} }
	for name, c := range map[string]struct {
		journey
		gap               time.Duration
		unwell, unexcused int
	}{
		"without failures there is no gap":                      {journey: journey{log: lab.ProbeLog{Attempts: []lab.Attempt{good(0), good(10 * ms)}}}},
		"the gap ends when the last that failed was begun":      {journey{log: lab.ProbeLog{Attempts: []lab.Attempt{lost(10 * ms), good(20 * ms), lost(350 * ms), good(360 * ms)}}}, 350 * ms, 2, 2},
		"a connection whose first packet was lost has failed":   {journey{log: lab.ProbeLog{Attempts: []lab.Attempt{late(40 * ms), good(50 * ms)}}}, 40 * ms, 1, 1},
		"one that failed before what was done makes no gap":     {journey{log: lab.ProbeLog{Attempts: []lab.Attempt{lost(-5 * ms)}}}, 0, 1, 1},
		"a prober that was late is not a connection that fails": {journey: journey{log: lab.ProbeLog{Attempts: []lab.Attempt{late(0)}, Delays: []lab.Delay{{At: after(ms), Length: time.Second}}}}},
		"a connection in flight when routes changed is excused": {
			journey{log: lab.ProbeLog{Attempts: []lab.Attempt{lost(0), lost(250 * ms), lost(310 * ms)}}, events: []lab.RouteEvent{{At: after(300 * ms)}}},
			310 * ms, 3, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.began = epoch()
			if c.journey.gap() != c.gap || len(c.journey.unwell()) != c.unwell || c.unexcused != c.journey.unexcused() {
				t.Errorf("got gap %s, %d failed, %d not excused", c.journey.gap(), len(c.journey.unwell()), c.journey.unexcused())
			}
		})
	}
}

func TestRoutesAreCompleteWhenTheLastHasItsLastNextHop(t *testing.T) {
	t.Parallel()
	hops := []netip.Addr{netip.MustParseAddr("10.10.0.12"), netip.MustParseAddr("10.10.0.13")}
	one, two, other := netip.MustParsePrefix("198.18.0.1/32"), netip.MustParsePrefix("198.18.0.2/32"), netip.MustParsePrefix("192.0.2.0/24")
	events := []lab.RouteEvent{
		{At: after(1), Prefix: one, NextHops: hops},
		{At: after(2), Prefix: one, NextHops: hops, Deleted: true},
		{At: after(3), Prefix: one, NextHops: hops[:1]},
		{At: after(4), Prefix: two, NextHops: hops},
		{At: after(5), Prefix: one, NextHops: hops},
		{At: after(6), Prefix: two, NextHops: hops},
		{At: after(7), Prefix: other, NextHops: hops},
	}
	if last, n := completedAt(events, len(hops)); n != 2 || !last.Equal(after(5)) {
		t.Errorf("got %d routes, the last at %s; want 2, the last when %s got its second next hop", n, last, one)
	}
}

func TestASessionIsBackWhenItsLineSaysSo(t *testing.T) {
	t.Parallel()
	const lines = "r1 Established 2026-01-01T12:00:05Z\nr2 Active 2026-01-01T12:00:05Z\nr3 Established 2026-01-01T11:00:00Z\n"
	for peer, back := range map[string]bool{"r1": true, "r2": false, "r3": false, "r4": false} {
		if err := begunSince(lines, peer, epoch()); (err == nil) != back {
			t.Errorf("%s: %v", peer, err)
		}
	}
}
