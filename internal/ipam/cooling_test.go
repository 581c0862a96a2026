package ipam_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// slow is a pool whose addresses cool for a minute.
func slow(p ipam.Pool) ipam.Pool {
	return with(p, func(p *ipam.Pool) { p.ReuseDelay = time.Minute })
}

// passes lets time go by.
func passes(d time.Duration) event { return func(s *scene) { s.now = s.now.Add(d) } }

func TestCooling(t *testing.T) {
	t.Parallel()
	ten := slow(pool("a", "192.0.2.1-192.0.2.10"))
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "who lies in wait for a neighbour's address does not get it", events: []event{pools(ten), asks("bank/web", address("192.0.2.7")), asks("evil/wait", address("192.0.2.7")), gone("bank/web")}, want: outcome{"evil/wait", "- AddressInUse"}, message: "was freed"},
		{name: "nor does a claim", events: []event{pools(ten), asks("bank/web", address("192.0.2.7")), asks("@evil/wait", address("192.0.2.7")), gone("bank/web")}, want: outcome{"@evil/wait", "- AddressInUse"}},
		{name: "nor one who comes later", events: []event{pools(ten), asks("bank/web", address("192.0.2.7")), gone("bank/web"), asks("evil/late", address("192.0.2.7"))}, want: outcome{"evil/late", "- AddressInUse"}},
		{name: "nor one who finds nothing else free", events: []event{pools(slow(one())), asks("bank/web"), gone("bank/web"), asks("evil/late")}, want: outcome{"evil/late", "- PoolExhausted"}},
		{name: "the Service that is made anew has it at once, by name", events: []event{pools(ten), asks("bank/web", address("192.0.2.7")), asks("evil/wait", address("192.0.2.7")), gone("bank/web"), asks("bank/web", address("192.0.2.7"))}, want: outcome{"bank/web", "192.0.2.7"}},
		{name: "and without naming it, though a lower one is free", events: []event{pools(ten), asks("bank/x"), asks("bank/web"), gone("bank/x"), gone("bank/web"), passes(time.Second), asks("bank/web")}, want: outcome{"bank/web", "192.0.2.2"}},
		{name: "and so has a claim that is made anew", events: []event{pools(ten), asks("@bank/x"), asks("@bank/ip"), gone("@bank/x"), gone("@bank/ip"), asks("@bank/ip")}, want: outcome{"@bank/ip", "192.0.2.2"}},
		{name: "a Service that comes back to a pool has its address again", events: []event{pools(ten, pool("b", "203.0.113.1-203.0.113.9")), asks("n/a"), asks("n/a", from("b")), asks("n/a", from("a"))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "and so it has in a pool that is tried late", events: []event{pools(ten), asks("n/a"), gone("n/a"), pools(pool("0", "203.0.113.1-203.0.113.9"), ten), asks("n/a")}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "another Service of the namespace gets it last", events: []event{pools(slow(two())), asks("n/a"), gone("n/a"), asks("n/b"), asks("n/c")}, want: outcome{"n/b", "192.0.2.2", "n/c", "192.0.2.1"}},
		{name: "another Service of the namespace gets it by name", events: []event{pools(ten), asks("n/a"), gone("n/a"), asks("n/b", address("192.0.2.1"))}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "the last of its sharers counts", events: []event{pools(ten), asks("m/a", under("k", "n")), asks("n/b", under("k", "m"), port(81, "TCP")), gone("m/a"), gone("n/b"), asks("m/c", address("192.0.2.1"))}, want: outcome{"m/c", "- AddressInUse"}},
		{name: "when it has cooled, the oldest who waits gets it", events: []event{pools(slow(one())), asks("bank/web"), asks("evil/b"), asks("evil/a"), gone("bank/web"), passes(time.Minute)}, want: outcome{"evil/b", "192.0.2.1", "evil/a", "- PoolExhausted"}},
		{name: "when it has cooled, who asks for it by name gets it", events: []event{pools(ten), asks("bank/web", address("192.0.2.7")), asks("evil/wait", address("192.0.2.7")), gone("bank/web"), passes(time.Minute)}, want: outcome{"evil/wait", "192.0.2.7"}},
		{name: "an address that automatic choice avoids cools too", events: []event{pools(slow(pool("a", "192.0.2.0/24"))), asks("bank/web", address("192.0.2.255")), gone("bank/web"), asks("evil/b", address("192.0.2.255"))}, want: outcome{"evil/b", "- AddressInUse"}},
		{name: "and is not chosen when it has cooled", events: []event{pools(slow(pool("a", "192.0.2.254-192.0.2.255"))), asks("m/a"), asks("bank/web", address("192.0.2.255")), gone("bank/web"), asks("n/b"), passes(time.Minute)}, want: outcome{"n/b", "- PoolExhausted"}},
		{name: "a lowered delay counts for what cools already", events: []event{pools(slow(one())), asks("bank/web"), asks("evil/b"), gone("bank/web"), passes(10 * time.Second), pools(with(one(), func(p *ipam.Pool) { p.ReuseDelay = 5 * time.Second }))}, want: outcome{"evil/b", "192.0.2.1"}},
		{name: "a raised delay counts for what cools already", events: []event{pools(slow(one())), asks("bank/web"), asks("evil/b"), gone("bank/web"), pools(with(one(), func(p *ipam.Pool) { p.ReuseDelay = time.Hour })), passes(2 * time.Minute)}, want: outcome{"evil/b", "- PoolExhausted"}},
		{name: "what goes to another pool goes on cooling", events: []event{pools(ten), asks("bank/web"), gone("bank/web"), pools(slow(pool("b", "192.0.2.1-192.0.2.10"))), asks("evil/b", address("192.0.2.1"))}, want: outcome{"evil/b", "- AddressInUse"}},
		{name: "what no pool has for a while goes on cooling", events: []event{pools(ten), asks("bank/web"), gone("bank/web"), pools(), pools(ten), asks("evil/b", address("192.0.2.1"))}, want: outcome{"evil/b", "- AddressInUse"}},
		{name: "without a delay nothing cools", events: []event{pools(one()), asks("bank/web"), asks("evil/b"), gone("bank/web")}, want: outcome{"evil/b", "192.0.2.1"}},
		{name: "a namespace that has used up its quota in what cools blocks no more than that", events: []event{
			pools(slow(limited(pool("a", "192.0.2.1-192.0.2.3"), 1))),
			asks("evil/a"), gone("evil/a"), asks("evil/b"), gone("evil/b"), asks("evil/c"), gone("evil/c"), asks("m/a"), asks("n/a"),
		}, want: outcome{"m/a", "192.0.2.2", "n/a", "192.0.2.3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}

func TestLoweredDelayDoesNotWaitBehindOlderOnes(t *testing.T) {
	t.Parallel()
	a, now := ipam.New(), start
	p := slow(pool("a", "192.0.2.1-192.0.2.2"))
	p.ReuseDelay = 24 * time.Hour
	a.SetPools([]ipam.Pool{p})
	one, two := request("one", ipam.IPv4), request("two", ipam.IPv4)
	a.Allocate(one, now)
	a.Allocate(two, now)
	a.Release(one.Key, now)
	p.ReuseDelay = time.Second
	a.SetPools([]ipam.Pool{p})
	now = now.Add(time.Minute)
	a.Release(two.Key, now)
	now = now.Add(time.Minute)
	r := request("new", ipam.IPv4)
	r.Key = ipam.ServiceKey(name.ServiceKey{Namespace: "elsewhere", Name: "new"})
	if d := a.Allocate(r, now); !slices.Equal(d.Addresses, addrs("192.0.2.1")) {
		t.Errorf("both have cooled for longer than a second: got %v (%s), want 192.0.2.1", d.Addresses, d.Message)
	}
}

// TestNextSaysWhenSomethingHasCooled is what the ledger's timer goes by.
func TestNextSaysWhenSomethingHasCooled(t *testing.T) {
	t.Parallel()
	a, p := ipam.New(), slow(one())
	a.SetPools([]ipam.Pool{p})
	web := request("web", ipam.IPv4)
	a.Allocate(web, start)
	a.Release(web.Key, start)
	if at, some := a.Next(); some {
		t.Errorf("nobody waits, and it is to be looked again at %v", at)
	}
	r := web
	r.Key = ipam.ServiceKey(name.ServiceKey{Namespace: "elsewhere", Name: "new"})
	if d := a.Allocate(r, start); d.Reason != v1alpha1.ReasonPoolExhausted || !strings.Contains(d.Message, "freed") {
		t.Errorf("got %+v, want PoolExhausted, and that an address was freed a moment ago", d)
	}
	if at, some := a.Next(); !some || !at.Equal(start.Add(time.Minute)) {
		t.Errorf("next is %v, %t; want a minute after the release", at, some)
	}
	if woken := a.Retry(start.Add(time.Minute)); !slices.Equal(woken, []ipam.Key{r.Key}) {
		t.Errorf("woke %v, want the one who waits", woken)
	}
}

// TestCoolingForgets lets holders come and go for long: what cools takes no more room than
// what was freed within the delay.
func TestCoolingForgets(t *testing.T) {
	t.Parallel()
	a, now := ipam.New(), start
	p := slow(pool("a", "10.0.0.0/8"))
	p.ReuseDelay = 24 * time.Hour
	a.SetPools([]ipam.Pool{p})
	one := request("one", ipam.IPv4)
	for range 100_000 {
		a.Allocate(one, now)
		a.Release(one.Key, now)
		now = now.Add(time.Millisecond)
	}
	if got := ipam.Remembered(a); got > 100 {
		t.Errorf("one holder that came and went is remembered in %d places", got)
	}
	for i := range 1000 {
		r := request(fmt.Sprint(i), ipam.IPv4)
		a.Allocate(r, now)
		a.Release(r.Key, now)
	}
	a.Retry(now.Add(25 * time.Hour))
	if got := ipam.Remembered(a); got > 0 {
		t.Errorf("all has cooled, and %d are remembered", got)
	}
}
