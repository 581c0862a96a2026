package announce_test

import (
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// ms is a moment of a case of TestNodesAnnounceANewPrefixTogether, in milliseconds since the Service was seen.
type ms int

func (m ms) time() time.Time { return begin().Add(time.Minute + time.Duration(m)*time.Millisecond) }

// crew is the speakers of the nodes a, b and c, which announce by BGP only and tell each other at once.
type crew struct {
	names  []name.NodeName
	states map[name.NodeName]*announce.State
	routes map[name.NodeName]int // how many routes each announces
	since  map[name.NodeName]ms  // when that last changed
	lost   name.NodeName         // what this node says reaches nobody
}

func newCrew(facts ...announce.Fact) *crew {
	w := world()
	bgp(nil)(&w)
	c := &crew{
		names: []name.NodeName{"a", "b", "c"}, states: map[name.NodeName]*announce.State{},
		routes: map[name.NodeName]int{}, since: map[name.NodeName]ms{},
	}
	for _, n := range c.names {
		c.states[n] = announce.NewState(n)
		c.step(n, -60_000, append([]announce.Fact{
			announce.DeliveryChecked{},
			announce.Configured{Config: w.Config},
			announce.NamespacesKnown{Labels: w.Namespaces},
			announce.GraceKnown{Grace: 30 * time.Second},
			three(), alive("a", "b", "c"),
		}, facts...)...)
	}
	return c
}

// step has a node learn facts, and the others hear at once what it says of them.
func (c *crew) step(n name.NodeName, at ms, facts ...announce.Fact) {
	s := c.states[n]
	for _, x := range s.Step(at.time(), facts...) {
		if c.routes[n] != len(x.Decision.Routes) {
			c.routes[n], c.since[n] = len(x.Decision.Routes), at
		}
	}
	said, err := announce.DecodeNews(s.Outbox().Encode())
	if err != nil {
		panic(err)
	}
	for _, o := range c.names {
		if o != n && c.states[o] != nil && n != c.lost && !said.Empty() {
			c.step(o, at, announce.Heard{News: said})
		}
	}
}

// all has each node learn facts.
func (c *crew) all(at ms, facts ...announce.Fact) {
	for _, n := range c.names {
		c.step(n, at, facts...)
	}
}

// pass lets time pass, until shortly before a moment.
func (c *crew) pass(from, to ms) {
	for at := from; at < to; at += 10 {
		for _, n := range c.names {
			if again := c.states[n].Again(); !again.IsZero() && !at.time().Before(again) {
				c.step(n, at)
			}
		}
	}
}

func TestNodesAnnounceANewPrefixTogether(t *testing.T) {
	t.Parallel()
	const never = ms(-1)
	web := with(service("192.0.2.1"), func(s *announce.Service) { s.UID = "1" })
	local := func(nodes ...name.NodeName) func(*announce.Service) {
		return func(s *announce.Service) {
			s.Local, s.Endpoints = true, map[name.NodeName]announce.Endpoints{}
			for _, n := range nodes {
				s.Endpoints[n] = announce.Endpoints{Ready: 1}
			}
		}
	}
	for name, c := range map[string]struct {
		service  announce.Service
		facts    []announce.Fact
		lost     name.NodeName
		delivers map[name.NodeName]ms // when each node delivers
		doubts   map[name.NodeName]ms
		want     map[name.NodeName]ms // when each announces
	}{
		"all announce as soon as the last of them delivers": {
			delivers: map[name.NodeName]ms{"a": 100, "b": 300, "c": 700},
			want:     map[name.NodeName]ms{"a": 700, "b": 700, "c": 700},
		},
		"1 s after the first that delivers, the rest of them are not waited for": {
			delivers: map[name.NodeName]ms{"a": 100, "b": 300},
			want:     map[name.NodeName]ms{"a": 1100, "b": 1100, "c": never},
		},
		"a node that delivers after that announces at once": {
			delivers: map[name.NodeName]ms{"a": 100, "b": 300, "c": 1500},
			want:     map[name.NodeName]ms{"a": 1100, "b": 1100, "c": 1500},
		},
		"a node that does not deliver in time announces at once": {
			delivers: map[name.NodeName]ms{"a": 100, "b": 300}, doubts: map[name.NodeName]ms{"c": 3000},
			want: map[name.NodeName]ms{"a": 1100, "b": 1100, "c": 3000},
		},
		"a node that is not heard costs the others no more than the limit, and it waits by its own clock": {
			lost: "a", delivers: map[name.NodeName]ms{"a": 100, "b": 300, "c": 400},
			want: map[name.NodeName]ms{"a": 400, "b": 1300, "c": 1300},
		},
		"nobody waits for a node whose speaker does not live": {
			facts:    []announce.Fact{alive("a", "b")},
			delivers: map[name.NodeName]ms{"a": 100, "b": 300},
			want:     map[name.NodeName]ms{"a": 300, "b": 300, "c": never},
		},
		"nobody waits for a node that is being taken out of service": {
			facts: []announce.Fact{three(func(n *announce.Node) {
				if n.Name == "c" {
					n.Drain = "its taint"
				}
			})},
			delivers: map[name.NodeName]ms{"a": 100, "b": 300},
			want:     map[name.NodeName]ms{"a": 300, "b": 300, "c": never},
		},
		"nobody waits for a node without an endpoint of a Local Service": {
			service:  with(web, local("a", "b")),
			delivers: map[name.NodeName]ms{"a": 100, "b": 300},
			want:     map[name.NodeName]ms{"a": 300, "b": 300, "c": never},
		},
		"the only one announces at once": {
			service:  with(web, local("b")),
			delivers: map[name.NodeName]ms{"b": 200},
			want:     map[name.NodeName]ms{"a": never, "b": 200, "c": never},
		},
	} {
		if c.service.Key.Name == "" {
			c.service = web
		}
		crew := newCrew(c.facts...)
		crew.lost = c.lost
		crew.all(0, announce.Known{Service: c.service})
		for at := ms(0); at <= 4000; at += 10 {
			for _, n := range crew.names {
				if c.delivers[n] == at && at > 0 {
					crew.step(n, at, announce.Delivered{Service: web.Key})
				}
				if c.doubts[n] == at && at > 0 {
					crew.step(n, at, announce.Delivered{Service: web.Key, Doubted: true})
				}
			}
			crew.pass(at, at+10)
		}
		for _, n := range crew.names {
			got := crew.since[n]
			if crew.routes[n] == 0 {
				got = never
			}
			if got != c.want[n] {
				t.Errorf("%s: %s announces after %d ms, want %d", name, n, got, c.want[n])
			}
		}
	}
}

func TestLayer2DoesNotWaitForOtherNodes(t *testing.T) {
	t.Parallel()
	web := service(lan)
	s := checking()
	decide(s, announce.Known{Service: web})
	changes := s.Step(begin().Add(4*time.Second), announce.Delivered{Service: web.Key})
	if len(changes) != 1 || len(changes[0].Decision.Layer2) != 1 || len(changes[0].Decision.Routes) > 0 || changes[0].Decision.Delivery != announce.Delivers {
		t.Errorf("a delivers: got %+v, want that it answers in layer 2, and waits with its routes", changes)
	}
	changes = s.Step(s.Again())
	if len(changes) != 1 || len(changes[0].Decision.Routes) != 1 || !s.Again().IsZero() {
		t.Errorf("nobody else delivers in time: got %+v and %s, want routes, and nothing to do later", changes, s.Again())
	}
}

func TestANodeThatComesLaterAnnouncesAtOnce(t *testing.T) {
	t.Parallel()
	web := with(service("192.0.2.1"), func(s *announce.Service) { s.UID = "1" })
	without := with(web, func(s *announce.Service) {
		s.Local, s.Endpoints = true, map[name.NodeName]announce.Endpoints{"a": {Ready: 1}, "b": {Ready: 1}}
	})
	moved := with(without, func(s *announce.Service) {
		s.Endpoints = map[name.NodeName]announce.Endpoints{"b": {Ready: 1}, "c": {Ready: 1}}
	})
	c := newCrew()
	c.all(0, announce.Known{Service: without}) // and nobody can say that it is announced
	c.step("a", 100, announce.Delivered{Service: web.Key})
	c.step("b", 100, announce.Delivered{Service: web.Key})
	c.pass(100, 2000)
	c.all(600_000, announce.Known{Service: moved})
	c.step("c", 600_010, announce.Delivered{Service: web.Key})
	if c.since["a"] != 600_000 || c.since["b"] != 100 || c.since["c"] != 600_010 || c.routes["c"] != 1 {
		t.Errorf("got routes %v since %v, want that c has them once it delivers", c.routes, c.since)
	}
}

func TestWhatIsSaidOfAServiceBeforeItIsSeenCounts(t *testing.T) {
	t.Parallel()
	web := with(service("192.0.2.1"), func(s *announce.Service) { s.UID = "1" })
	for n, c := range map[string]struct {
		said announce.Service
		want ms
	}{
		"the same Service":             {web, 200},
		"one with another address":     {with(service("192.0.2.2"), func(s *announce.Service) { s.UID = "1" }), 1200},
		"an earlier one with the name": {with(web, func(s *announce.Service) { s.UID = "0" }), 1200},
	} {
		crew := newCrew(alive("a", "b"))
		crew.step("b", 0, announce.Known{Service: c.said})
		crew.step("b", 100, announce.Delivered{Service: web.Key})
		crew.step("a", 150, announce.Known{Service: web})
		crew.step("a", 200, announce.Delivered{Service: web.Key})
		crew.pass(200, 3000)
		if crew.since["a"] != c.want {
			t.Errorf("b has said that it delivers %s: a announces after %d ms, want %d", n, crew.since["a"], c.want)
		}
	}
}
