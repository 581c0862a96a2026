package ipam_test

import (
	"testing"

	"github.com/ballast-lb/ballast/internal/ipam"
)

// unwritten lets events happen, and those who wait be tried again, without anything being written.
func unwritten(events ...event) event {
	return func(s *scene) {
		for _, e := range events {
			e(s)
			for _, k := range s.Retry(s.now) {
				s.got[k] = s.Allocate(s.asks[k], s.now)
			}
		}
	}
}

// TestWhatWasNeverWrittenNeverBinds is decisions whose write failed, or never began.
func TestWhatWasNeverWrittenNeverBinds(t *testing.T) {
	t.Parallel()
	b := pool("b", "198.51.100.1-198.51.100.9")
	reassign := func(p ipam.Pool) ipam.Pool { return with(p, func(p *ipam.Pool) { p.Reassign = true }) }
	wide, right := reassign(pool("a", "192.0.2.1-192.0.2.9")), reassign(pool("a", "192.0.2.5-192.0.2.9"))
	reserved := with(reassign(pool("a", "192.0.2.2-192.0.2.9")), func(p *ipam.Pool) { p.Reserved = ranges("192.0.2.1-192.0.2.1") })
	excluded := with(reserved, func(p *ipam.Pool) { p.Excluded = p.Reserved })
	for _, tc := range []struct {
		name   string
		events []event
		want   outcome
	}{
		{name: "a pool that was asked for and is not any more moves nobody", events: []event{pools(two(), b), asks("n/a", from("b")), unwritten(asks("n/a", from("a")), asks("n/a", from("b")))}, want: outcome{"n/a", "198.51.100.1"}},
		{name: "nor does one that is not asked for any more", events: []event{pools(two(), b), asks("n/a", from("b")), unwritten(asks("n/a", from("a")), asks("n/a"))}, want: outcome{"n/a", "198.51.100.1"}},
		{name: "nor does an address", events: []event{pools(two(), b), asks("n/a"), unwritten(asks("n/a", address("192.0.2.2")), asks("n/a"))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "nor one of another pool, with a request that is refused", events: []event{pools(two(), b), asks("n/a"), unwritten(asks("n/a", from("b")), asks("n/a", from("missing")))}, want: outcome{"n/a", "192.0.2.1 - NoPool"}},
		{name: "a family that was not asked for for a moment stays", events: []event{pools(pool("a", "192.0.2.1-192.0.2.9", "2001:db8::/64")), asks("n/x", dual(2)), asks("n/a", dual(2)), gone("n/x"), unwritten(asks("n/a"), asks("n/a", dual(2)))}, want: outcome{"n/a", "192.0.2.2 2001:db8::2"}},
		{name: "a sharing key that was changed for a moment moves nobody", events: []event{pools(two()), asks("n/a", under("k")), asks("n/b", under("k"), port(81, "TCP")), unwritten(asks("n/b", under("l"), port(81, "TCP")), asks("n/b", under("k"), port(81, "TCP")))}, want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.1"}},
		{name: "an edit of a pool with Reassign that is undone moves nobody", events: []event{pools(wide), asks("n/a"), unwritten(pools(right), pools(wide))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "a request that stays is met in the end", events: []event{pools(two(), b), asks("n/a", from("b")), unwritten(asks("n/a", from("a")), asks("n/a", from("a")))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "an address that became a node's stays, Reassign or not", events: []event{pools(wide), asks("n/a"), pools(reserved)}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "one that is excluded too is taken back", events: []event{pools(wide), asks("n/a"), pools(excluded)}, want: outcome{"n/a", "192.0.2.2"}},
		{name: "what is given up counts toward a quota until it is written", events: []event{pools(limited(two(), 1), b), asks("n/a"), unwritten(asks("n/a", from("b")), asks("n/b", from("a")), asks("n/a"))}, want: outcome{"n/a", "192.0.2.1", "n/b", "- QuotaExceeded"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), "")
		})
	}
}
