package announce_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// answering says whether a node answers for an address as its owner.
func (x *simulated) answering(a netip.Addr) bool {
	return !x.dead && !x.away && x.answers[a] && !x.blocked[a]
}

// listen lets each node find out, after a while, who else answers for what it owns, and give way if it is
// to.
func (c *cluster) listen() {
	for i, x := range c.nodes {
		if x.dead || x.away {
			continue
		}
		changed := false
		for _, s := range c.units {
			a := s.Addresses[0]
			var rival name.NodeName
			for _, o := range c.nodes {
				if o != x && o.side == x.side && o.answering(a) {
					rival = o.name
				}
			}
			switch {
			case !x.answers[a]:
				rival = ""
			case x.blocked[a] && (rival == "" || !x.yields[a]):
				x.blocked[a] = x.yields[a] && c.random.IntN(20) > 0
			case rival != "" && x.yields[a]:
				x.blocked[a] = true
			}
			if !x.answers[a] {
				x.blocked[a] = false
			}
			if rival != x.rivals[a] && c.random.IntN(50) == 0 {
				x.rivals[a], changed = rival, true
			}
		}
		if changed {
			c.step(x, c.known(x, c.api[i]))
		}
	}
}

// known is what a node knows of itself, and who answers for what it owns.
func (c *cluster) known(x *simulated, n announce.Node) announce.SelfKnown {
	self := announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: n.Interfaces, Missed: x.missed}
	for a, o := range x.rivals {
		if o != "" {
			self.Conflicts = append(self.Conflicts, announce.Conflict{Address: a, Interface: "eth0", Node: o, Probe: x.blocked[a]})
		}
	}
	return self
}

// The LAN is cut and heals while a firewall keeps some nodes from hearing the gossip of others: after a
// while one node answers for each address, and so it stays, also once all hear each other again.
func TestNodesThatDoNotHearEachOtherEndWithOneOwner(t *testing.T) {
	t.Parallel()
	splits := atomic.Int64{}
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, rapid.IntRange(2, 5).Draw(t, "nodes"), 4, func(c *cluster) {
			c.measured, c.islands, c.gateway = true, true, rapid.IntRange(-1, 1).Draw(t, "side of the gateway")
		})
		c.run(8 * time.Second)
		before := c.settled("at the start")
		for _, x := range c.nodes {
			x.side, x.island = rapid.IntRange(0, 1).Draw(t, "side"), rapid.IntRange(0, 2).Draw(t, "island")
		}
		c.run(time.Duration(rapid.IntRange(0, 12000).Draw(t, "cut for ms")) * time.Millisecond)
		for _, x := range c.nodes {
			x.side = 0
		}
		c.gateway = 0
		for a := range before {
			if len(c.answering(a)) > 1 {
				splits.Add(1)
			}
		}
		c.run(election.YieldBehind + 7*time.Second)
		for range 50 {
			c.run(100 * time.Millisecond)
			for a := range before {
				if got := c.answering(a); len(got) != 1 {
					t.Fatalf("on one LAN, with the gossip blocked: %v answer for %s", got, a)
				}
			}
		}
		for _, x := range c.nodes {
			x.island = 0
		}
		c.run(4 * time.Second)
		if after := c.settled("once all hear each other"); len(after) != len(before) {
			t.Fatalf("once all hear each other: %d of %d are answered", len(after), len(before))
		}
	})
	if splits.Load() == 0 {
		t.Error("no cut ended with two owners of anything")
	}
	t.Logf("%d addresses had two owners after the cuts", splits.Load())
}

// Of two nodes that both answer, and do not hear each other, who hears no speaker at all gives way; if
// neither does, or both do, so does the lower rank, after a while.
func TestWhoGivesWayToAnOwnerThatItDoesNotHear(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr(lan)
	_, ahead := election.Yields(address, "a", "b", false)
	lower, higher := name.NodeName("a"), name.NodeName("b")
	if !ahead {
		lower, higher = higher, lower
	}
	tests := []struct {
		name   string
		self   name.NodeName
		third  announce.Health
		rival  announce.Health
		after  time.Duration
		yields bool
		// step is that of its claim.
		step uint64
	}{
		{"alone and lower, a moment later", lower, announce.Dead, announce.Unheard, election.YieldWeak, true, 0},
		{"alone and lower, at once", lower, announce.Dead, announce.Unheard, 0, false, 0},
		{"alone and higher, at first", higher, announce.Dead, announce.Unheard, election.YieldWeak, false, 0},
		{"alone and higher, if the other does not", higher, announce.Dead, announce.Unheard, election.YieldAhead, true, 0},
		{"alone, and the other's speaker seemed to be away", lower, announce.Dead, announce.Silent, election.YieldWeak, true, 0},
		{"not alone and lower, at first", lower, announce.Alive, announce.Unheard, election.YieldAhead, false, 0},
		{"not alone and lower, if the other does not", lower, announce.Alive, announce.Unheard, election.YieldBehind, true, 0},
		{"not alone and higher", higher, announce.Alive, announce.Unheard, time.Minute, false, 0},
		{"not alone and higher, but it claimed without a quorum", higher, announce.Alive, announce.Unheard, election.YieldAhead, true, 1},
		{"it hears the other", lower, announce.Alive, announce.Alive, time.Minute, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			other := higher
			if tt.self == higher {
				other = lower
			}
			s := speaker(tt.self, announce.Known{Service: service(lan)}, announce.Heard{News: announce.News{Claims: []election.Claim{
				{Unit: address, Owner: tt.self, Successor: other, Epoch: 1<<16 + tt.step},
			}}})
			at := begin()
			s.Step(at, announce.MembersKnown{Joined: true, Members: []announce.Member{
				{Node: tt.self, Health: announce.Alive, Since: at}, {Node: other, Health: tt.rival, Since: at}, {Node: "c", Health: tt.third, Since: at},
			}})
			self := announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: node(string(tt.self), "10.0.0.1").Interfaces}
			self.Conflicts = []announce.Conflict{{Address: address, Interface: "eth0", Node: other}}
			changes := s.Step(at, self)
			if tt.after > 0 {
				changes = append(changes, s.Step(at.Add(tt.after-time.Millisecond))...)
				changes = append(changes, s.Step(at.Add(tt.after))...)
			}
			if len(changes) == 0 {
				t.Fatal("nothing changes")
			}
			d := changes[len(changes)-1].Decision
			yields := len(d.Layer2) == 1 && d.Layer2[0].Yields
			if yields != tt.yields || (d.Owner == other) != tt.yields {
				t.Errorf("yields %v to %s: %+v", yields, d.Owner, d)
			}
			want := v1alpha1.ReasonSplitOwner
			if !tt.yields && d.Verdict.Reason != want && tt.rival != announce.Alive {
				t.Errorf("it says %s, want %s", d.Verdict.Reason, want)
			}
			self.Conflicts = nil
			if changes = s.Step(at.Add(tt.after+time.Second), self); len(changes) != 1 || changes[0].Decision.Owner != tt.self {
				t.Errorf("once nobody else answers: %+v", changes)
			}
		})
	}
}

// A node whose kernel answers, and whose speaker neither another one nor the API server hears: it is
// followed after the grace period. While anybody hears it, it is not.
func TestAnOwnerThatNobodyHearsIsFollowedAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	unheard := func(witnessed bool) announce.MembersKnown {
		return announce.MembersKnown{Joined: true, Members: []announce.Member{
			{Node: "a", Health: announce.Unheard, Since: begin(), Witnessed: witnessed}, {Node: "b", Health: announce.Alive, Since: begin()},
		}}
	}
	tests := []struct {
		name               string
		unknown, witnessed bool
		follows            bool
	}{
		{"nobody hears it", true, false, true},
		{"another node hears it", true, true, false},
		{"the API server hears it", false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := speaker("b", announce.Known{Service: service(lan)}, owned(1<<16), unheard(tt.witnessed))
			nodes := []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")}
			nodes[0].Unknown = tt.unknown
			s.Step(begin(), announce.NodesKnown{Nodes: nodes})
			s.Step(begin().Add(29 * time.Second))
			if s.Owns() > 0 {
				t.Error("it follows within the grace period")
			}
			s.Step(begin().Add(30 * time.Second))
			s.Step(begin().Add(32 * time.Second))
			if follows := s.Owns() > 0; follows != tt.follows {
				t.Errorf("it follows: %v, want %v", follows, tt.follows)
			}
		})
	}
}

// The claim of an owner that this node takes for dead has just been heard, so it lives.
func TestAClaimThatHasJustBeenHeardIsNotAnsweredWithAnother(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr(lan)
	claim := func(owner name.NodeName, epoch uint64) announce.Heard {
		return announce.Heard{News: announce.News{Claims: []election.Claim{{Unit: address, Owner: owner, Successor: "b", Epoch: epoch}}}}
	}
	s := speaker("b", announce.Known{Service: service(lan)}, claim("c", 1<<16+1), alive("b", "c")) // a is dead
	at := begin().Add(time.Minute)
	s.Step(at, claim("a", 2<<16))
	for range 9 {
		at = at.Add(100 * time.Millisecond)
		if s.Step(at); s.Owns() > 0 {
			t.Fatal("it claims from who has just claimed")
		}
	}
	if s.Step(at.Add(time.Second)); s.Owns() == 0 {
		t.Error("it never claims what a dead node owns")
	}
}

// A node that claimed without a quorum, and would own the unit by now, does not claim it for good while the
// owner of before, which it does not hear, answers for it.
func TestAContestedClaimWithoutAQuorumIsNotMadeGood(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr(lan)
	for _, contested := range []bool{false, true} {
		s := speaker("b", announce.Known{Service: service(lan)}, announce.QuorumMeasured{}, announce.Heard{News: announce.News{
			Claims: []election.Claim{{Unit: address, Owner: "b", Successor: "c", Epoch: 1<<16 + 1}},
		}})
		at := begin()
		s.Step(at, announce.MembersKnown{Joined: true, Members: []announce.Member{
			{Node: "a", Health: announce.Unheard, Since: at}, {Node: "b", Health: announce.Alive, Since: at}, {Node: "c", Health: announce.Alive, Since: at},
		}})
		self := announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: node("b", "10.0.0.2").Interfaces}
		if contested {
			self.Conflicts = []announce.Conflict{{Address: address, Interface: "eth0", Node: "a"}}
		}
		s.Step(at, self)
		s.Outbox()
		claimed := false
		for range 200 {
			at = at.Add(100 * time.Millisecond)
			s.Step(at, announce.QuorumKnown{Interface: "eth0", Has: true, Witness: true})
			claimed = claimed || len(s.Outbox().Claims) > 0
		}
		if claimed == contested {
			t.Errorf("contested %v: it claimed a new term: %v", contested, claimed)
		}
	}
}
