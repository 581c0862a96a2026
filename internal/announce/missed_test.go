package announce_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// askFellows has each node ask for the interfaces of others that announce, and tell what it missed.
func (c *cluster) askFellows() {
	if c.now.UnixMilli()%500 != 0 {
		return
	}
	for i, x := range c.nodes {
		x.missed = nil
		for _, p := range x.state.Announcing() {
			at := slices.IndexFunc(c.nodes, func(o *simulated) bool { return o.name == p.Node })
			if o := c.nodes[at]; o != x && !o.answersTo(x) {
				x.missed = append(x.missed, p)
			}
		}
		c.step(x, c.known(x, c.api[i]))
	}
}

// The LAN is cut into parts while the gossip takes another way, so that all speakers hear each other: the
// part with a quorum soon answers for everything, what it had has not moved, and without such a part nothing
// has. Once the LAN is whole nothing moves back.
func TestAPartOfTheLANWithAQuorumTakesWhatItDoesNotHear(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, rapid.IntRange(3, 7).Draw(t, "nodes"), 12, func(c *cluster) {
			c.measured, c.gateway = true, rapid.IntRange(-1, 1).Draw(t, "part of the gateway")
		})
		for i, x := range c.nodes {
			c.step(x, c.known(x, c.api[i]))
		}
		c.run(8 * time.Second)
		before := c.settled("at the start")
		if len(before) != len(c.units) {
			t.Fatalf("at the start only %v are answered", before)
		}
		for _, x := range c.nodes {
			x.segment = rapid.IntRange(0, 2).Draw(t, "part of "+string(x.name))
		}
		has, quorate := map[name.NodeName]bool{}, false
		for _, x := range c.nodes {
			has[x.name] = c.quorum(x).Has
			quorate = quorate || has[x.name]
		}
		watch := func(d time.Duration) {
			for end := c.now.Add(d); c.now.Before(end); {
				c.run(tick)
				c.askFellows()
			}
		}
		watch(10 * time.Second)
		during := c.settled("while it is cut")
		for a, owner := range before {
			switch now := during[a]; {
			case now == "":
				t.Fatalf("nobody answers for %s", a)
			case now != owner && (has[owner] || !has[now]):
				t.Fatalf("%s moved from %s (with a quorum: %v) to %s (%v)", a, owner, has[owner], now, has[now])
			case quorate && !has[now]:
				t.Fatalf("%s stays with %s, which the part with a quorum does not hear", a, owner)
			}
		}
		for _, x := range c.nodes {
			x.segment = 0
		}
		c.gateway = 0
		watch(20 * time.Second)
		for a, now := range c.settled("when it is whole") {
			if now != during[a] {
				t.Fatalf("%s moved from %s to %s when the LAN was whole again", a, during[a], now)
			}
		}
	})
}

// missing is the news that a node misses eth0 of others.
func missing(from name.NodeName, number uint64, missed ...name.NodeName) announce.Heard {
	addresses := map[name.NodeName]string{"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3", "d": "10.0.0.4", "e": "10.0.0.5"}
	r := announce.Report{Node: from, Number: number, Proxy: announce.ProxyReady, Interfaces: node(string(from), addresses[from]).Interfaces}
	for _, n := range missed {
		r.Missed = append(r.Missed, announce.Place{Node: n, Interface: "eth0"})
	}
	return announce.Heard{News: announce.News{Reports: []announce.Report{r}}}
}

// selfMissing is what b knows of itself when it misses eth0 of others.
func selfMissing(missed ...name.NodeName) announce.SelfKnown {
	self := announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: node("b", "10.0.0.2").Interfaces}
	for _, n := range missed {
		self.Missed = append(self.Missed, announce.Place{Node: n, Interface: "eth0"})
	}
	return self
}

// deafened has a node say that its own interface eth0 is deaf, beside what else it says.
func deafened(h announce.Heard) announce.Heard {
	h.News.Reports[0].Interfaces = slices.Clone(h.News.Reports[0].Interfaces)
	h.News.Reports[0].Interfaces[0].Deaf = true
	return h
}

func TestAnOwnerIsFollowedThatTwoNodesMiss(t *testing.T) {
	t.Parallel()
	members := func(a, c announce.Health) announce.MembersKnown {
		return announce.MembersKnown{Joined: true, Members: []announce.Member{
			{Node: "a", Health: a, Since: begin().Add(time.Minute)}, {Node: "b", Health: announce.Alive, Since: begin()}, {Node: "c", Health: c, Since: begin()},
		}}
	}
	for _, tt := range []struct {
		name    string
		facts   []announce.Fact
		quorum  bool
		follows bool
	}{
		{"this node and another miss it", []announce.Fact{selfMissing("a"), missing("c", 1, "a")}, true, true},
		{"only this node misses it", []announce.Fact{selfMissing("a"), missing("c", 1)}, true, false},
		{"only another misses it", []announce.Fact{selfMissing(), missing("c", 1, "a")}, true, false},
		{"the owner is of no weight", []announce.Fact{selfMissing("a"), missing("a", 1, "a")}, true, false},
		{"the other hears it again", []announce.Fact{selfMissing("a"), missing("c", 1, "a"), missing("c", 2)}, true, false},
		{"this node hears it again", []announce.Fact{selfMissing("a"), missing("c", 1, "a"), selfMissing()}, true, false},
		{"the other is gone", []announce.Fact{selfMissing("a"), missing("c", 1, "a"), members(announce.Alive, announce.Dead)}, true, false},
		{"the owner is silent, so that it has the grace period", []announce.Fact{selfMissing("a"), missing("c", 1, "a"), members(announce.Silent, announce.Alive)}, true, false},
		{"without a quorum", []announce.Fact{selfMissing("a"), missing("c", 1, "a")}, false, false},
		{"without a quorum, and the owner says that it is deaf", []announce.Fact{selfMissing("a"), missing("c", 1, "a"), deafened(missing("a", 1))}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := speaker("b", announce.Known{Service: service(lan)}, owned(1<<16), announce.QuorumMeasured{})
			now := begin().Add(time.Minute)
			s.Step(now, tt.facts...)
			measured := 0
			for range 100 {
				now = now.Add(100 * time.Millisecond)
				s.Step(now)
				for _, m := range s.Unmeasured(now) {
					measured++
					s.Step(now, announce.QuorumKnown{Interface: m.Interface, Has: tt.quorum, Witness: true, Asked: m.Suspects})
				}
			}
			if follows := s.Owns() > 0; follows != tt.follows {
				t.Errorf("it follows: %v", follows)
			}
			if !tt.follows && measured > 4 {
				t.Errorf("who waits measures %d times in 10 s", measured)
			}
		})
	}
}

func TestWhatIsToldOfPlacesThatAreMissed(t *testing.T) {
	t.Parallel()
	told := func(s *announce.State) []announce.Place {
		for _, r := range s.News().Reports {
			if r.Node == "b" {
				return r.Missed
			}
		}
		return nil
	}
	a := []announce.Place{{Node: "a", Interface: "eth0"}}
	s := speaker("b", announce.Known{Service: service(lan)}, owned(1<<16), selfMissing())
	if got := s.Announcing(); !slices.Equal(got, a) {
		t.Errorf("announces on %v", got)
	}
	if before := s.Version(); len(s.Missed()) > 0 {
		t.Errorf("missed are %v", s.Missed())
	} else if s.Step(begin(), missing("c", 1, "a", "b")); !slices.Equal(s.Missed(), a) || s.Version() == before {
		t.Errorf("c misses a and this node: missed are %v, version %d after %d", s.Missed(), s.Version(), before)
	}
	if s.Step(begin(), selfMissing("a")); !slices.Equal(told(s), a) {
		t.Errorf("this node tells %v", told(s))
	}
	nodes := []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3"), node("d", "10.0.0.4"), node("e", "10.0.0.5")}
	s = speaker("b", announce.Known{Service: service(lan)}, owned(1<<16), announce.NodesKnown{Nodes: nodes}, alive("a", "b", "c", "d", "e"),
		selfMissing(), missing("c", 1, "a"), missing("d", 1, "a"), missing("e", 1, "a"))
	if s.Step(begin(), selfMissing("a")); len(told(s)) > 0 {
		t.Errorf("though three others tell it, it tells %v", told(s))
	}
	if s.Step(begin(), missing("d", 2)); !slices.Equal(told(s), a) {
		t.Errorf("once only two others do, it tells %v", told(s))
	}
	if s.Step(begin(), missing("d", 3, "a")); !slices.Equal(told(s), a) {
		t.Errorf("what it has told it goes on to tell, and not %v", told(s))
	}
}
