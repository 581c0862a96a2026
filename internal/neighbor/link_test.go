package neighbor

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTheRouterOfALinkIsTheFirstUntilItFallsSilent(t *testing.T) {
	t.Parallel()
	type event struct {
		at   time.Duration
		from netip.Addr // invalid: the interface goes down
	}
	for name, c := range map[string]struct {
		events   []event
		at       time.Duration
		want     netip.Addr
		conflict bool
	}{
		"nobody was heard":                                    {nil, 0, netip.Addr{}, false},
		"one was heard":                                       {[]event{{0, router}}, time.Second, router, false},
		"it stays when it falls silent":                       {[]event{{0, router}}, time.Hour, router, false},
		"a second one is a conflict":                          {[]event{{0, router}, {time.Second, second}}, 2 * time.Second, router, true},
		"the conflict ends when the second falls silent":      {[]event{{0, router}, {time.Second, second}, {30 * time.Second, router}}, time.Minute, router, false},
		"a silent router gives way":                           {[]event{{0, router}, {silence, second}}, silence, second, false},
		"a router that gave way and comes back is the second": {[]event{{0, router}, {silence, second}, {silence + 1, router}}, silence + 2, second, true},
		"after the interface was down the next is the router": {[]event{{0, router}, {1, netip.Addr{}}, {2, second}}, 3, second, false},
		"the same one after that is no change":                {[]event{{0, router}, {1, netip.Addr{}}, {2, router}, {3, second}}, 4, router, true},
		"the second takes over from the silent first":         {[]event{{0, router}, {1, second}, {silence, second}}, silence + 1, second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			l := link{}
			for _, e := range c.events {
				if e.from.IsValid() {
					l.hear(e.from, start.Add(e.at))
				} else {
					l.down()
				}
			}
			if got := l.router; got != c.want {
				t.Errorf("the router is %v, want %v", got, c.want)
			}
			if got := l.conflict(start.Add(c.at)); got != c.conflict {
				t.Errorf("conflict is %v, want %v", got, c.conflict)
			}
			if got := l.problem("eth0", start.Add(c.at)) == ""; got != (c.want.IsValid() && !c.conflict) {
				t.Errorf("problem is %q", l.problem("eth0", start.Add(c.at)))
			}
		})
	}
}

func TestARouterThatIsHeardOftenEnoughIsNeverReplaced(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		heard := now
		l := link{}
		l.hear(router, now)
		for range 50 {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(silence)-1).Draw(t, "gap")))
			if now.Sub(heard) >= silence || rapid.Bool().Draw(t, "router") {
				heard = heard.Add(min(now.Sub(heard), silence-1))
				l.hear(router, heard)
			}
			if now.Sub(heard) < silence {
				l.hear(second, now)
			}
			if l.router != router {
				t.Fatalf("the router is %v", l.router)
			}
		}
	})
}

func TestSolicitationsAreAnsweredSoonButNotOften(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		l := link{}
		l.begin(now)
		for range 3 { // the first ones
			now = l.next
			l.advertised(now, 0)
		}
		for range 50 {
			last := now
			for range rapid.IntRange(0, 5).Draw(t, "solicitations") {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "gap")))
				if now.After(l.next) {
					break
				}
				l.solicited(now, rapid.Float64Range(0, 0.999).Draw(t, "random"))
				if limit := last.Add(minGap); l.next.After(now.Add(maxAnswerDelay)) && l.next.After(limit) {
					t.Fatalf("the answer to what comes at %v is at %v", now.Sub(last), l.next.Sub(last))
				}
			}
			now = l.next
			if gap := now.Sub(last); gap < minGap || gap > maxInterval {
				t.Fatalf("two advertisements are %v apart", gap)
			}
			l.advertised(now, rapid.Float64Range(0, 0.999).Draw(t, "random"))
		}
	})
}
