package announce_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// A LAN that is cut into up to three parts, each of which hears somebody: once it is whole again one
// node answers for each address; what a node of the part with a quorum owned has not moved, what
// another owned has moved to that part at most, and without such a part nothing has.
func TestAfterACutThePartWithAQuorumKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, rapid.IntRange(2, 7).Draw(t, "nodes"), 12, func(c *cluster) {
			c.measured, c.gateway = true, rapid.IntRange(-1, 1).Draw(t, "side of the gateway")
		})
		c.run(8 * time.Second)
		before := c.settled("at the start")
		if len(before) != len(c.units) {
			t.Fatalf("at the start only %v are answered", before)
		}
		sides := map[name.NodeName]bool{}
		for _, x := range c.nodes {
			x.side = rapid.IntRange(0, 2).Draw(t, "side of "+string(x.name))
		}
		for _, x := range c.nodes {
			sides[x.name] = c.quorum(x).Has
		}
		c.run(time.Duration(rapid.IntRange(100, 15000).Draw(t, "cut for ms")) * time.Millisecond)
		for _, x := range c.nodes {
			x.side = 0
		}
		c.gateway = 0
		c.run(3 * time.Second)
		after := c.settled("after the cut")
		quorate := false
		for _, has := range sides {
			quorate = quorate || has
		}
		for a, owner := range before {
			now := after[a]
			switch {
			case now == "":
				t.Fatalf("nobody answers for %s", a)
			case now == owner:
			case sides[owner], !sides[now], !quorate:
				t.Fatalf("%s moved from %s (with a quorum: %v) to %s (%v)", a, owner, sides[owner], now, sides[now])
			}
		}
	})
}

// Two nodes on a LAN without a gateway: the survivor has no quorum, and answers all the same in the
// end, but says nothing unasked if it hears nobody.
func TestASurvivorWithoutAQuorumAnswersInTheEnd(t *testing.T) {
	t.Parallel()
	for _, gateway := range []bool{true, false} {
		s := speaker("b", owned(3), announce.Known{Service: service(lan)}, announce.QuorumMeasured{})
		measure := func(at time.Time) {
			for _, m := range s.Unmeasured(at) {
				s.Step(at, announce.QuorumKnown{Interface: m.Interface, Has: gateway, Witness: gateway, Asked: m.Suspects})
			}
		}
		s.Step(begin(), alive("b"))
		measure(begin())
		if s.Answers() == 1 != gateway {
			t.Errorf("with a gateway %v: it answers for %d units at once", gateway, s.Answers())
		}
		at := begin()
		for at.Before(begin().Add(election.Patience + time.Second)) {
			at = at.Add(100 * time.Millisecond)
			s.Step(at)
			measure(at)
		}
		if s.Answers()+len(s.Deputized()) == 0 && s.Owns() == 0 {
			t.Errorf("with a gateway %v: nobody owns the unit", gateway)
		}
	}
}

// A node that is about to claim a new unit, once it has measured its quorum, does not say that it
// answers: it would take the address for one that was answered before, and not ask for conflicts.
func TestWhoHasNotClaimedIsNotSaidToAnswer(t *testing.T) {
	t.Parallel()
	s := speaker("a", alive("a"), announce.QuorumMeasured{})
	decided := func(facts ...announce.Fact) announce.Decision {
		changes := s.Step(begin(), facts...)
		if len(changes) != 1 {
			t.Fatalf("%d changes", len(changes))
		}
		return changes[0].Decision
	}
	if d := decided(announce.Known{Service: service(lan)}); d.Owner != "a" || d.Claimed || len(d.Layer2) > 0 {
		t.Errorf("before it is measured: %+v", d)
	}
	if d := decided(announce.QuorumKnown{Interface: "eth0", Has: true}); !d.Claimed || len(d.Layer2) != 1 || !d.Layer2[0].First {
		t.Errorf("once it is: %+v", d)
	}
}

// Contradictory views: b and c know that the pod is on b, a does not and owns the address.
func TestContradictoryViewsCostFewClaims(t *testing.T) {
	t.Parallel()
	local := func(on name.NodeName) announce.Known {
		s := with(service(lan), func(s *announce.Service) {
			s.Local, s.Endpoints = true, map[name.NodeName]announce.Endpoints{on: {Ready: 1}}
		})
		return announce.Known{Service: s}
	}
	a := speaker("a", local("a"), announce.Heard{News: announce.News{Claims: []election.Claim{
		{Unit: netip.MustParseAddr(lan), Owner: "a", Epoch: 1},
	}}})
	b := speaker("b", local("b"), announce.Heard{News: a.News()})
	claims, at := 0, begin()
	for range 10000 { // 10 s
		at = at.Add(time.Millisecond)
		for _, x := range []struct{ from, to *announce.State }{{a, b}, {b, a}} {
			if again := x.from.Again(); !again.IsZero() && !again.After(at) {
				x.from.Step(at)
			}
			if news := x.from.Outbox(); !news.Empty() {
				claims += len(news.Claims)
				x.to.Step(at, announce.Heard{News: news})
			}
		}
	}
	if claims > 10 {
		t.Errorf("%d claims in 10 s", claims)
	}
	a.Step(at, announce.SelfKnown{Stale: true, Settled: true, Proxy: announce.ProxyReady, Interfaces: node("a", "10.0.0.1").Interfaces})
	claims = 0
	for range 120 {
		at = at.Add(time.Second)
		for _, x := range []struct{ from, to *announce.State }{{a, b}, {b, a}} {
			x.from.Step(at)
			news := x.from.Outbox()
			claims += len(news.Claims)
			x.to.Step(at, announce.Heard{News: news})
		}
	}
	if claims > 1 || b.Answers() != 1 || a.Answers() != 0 {
		t.Errorf("once a knows that its view is stale: %d claims, b answers for %d, a for %d", claims, b.Answers(), a.Answers())
	}
}
