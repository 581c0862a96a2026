package announce_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// tick is the resolution of the simulated cluster's time.
const tick = 10 * time.Millisecond

// cluster is the speakers of some nodes, each with a State of its own, in virtual time. What one
// says reaches those on its side of a partition a moment later; how a node is, others find out
// after a while.
type cluster struct {
	t      *rapid.T
	random *rand.Rand
	now    time.Time
	nodes  []*simulated
	mail   []letter
	api    []announce.Node
	units  []announce.Service
	// measured says that nodes measure quorums, and that a node that is cut off hears somebody, so
	// that it takes those for dead whom it does not hear. gateway is the side of the gateway.
	measured bool
	gateway  int
	// islands says that gossip is blocked between nodes of different islands, though they are on one LAN.
	islands bool
	// apart names pairs, from and to, of which one does not hear the other though all others hear both.
	apart map[[2]name.NodeName]bool
}

// simulated is a node.
type simulated struct {
	name  name.NodeName
	state *announce.State
	// dead is the whole node, away only its speaker.
	dead, away bool
	side       int
	// segment is the part of the LAN that it is in; the gossip takes another way.
	segment int
	// missed are the places that it asked in vain.
	missed []announce.Place
	// seen is how it sees the others.
	seen    map[name.NodeName]announce.Member
	answers map[netip.Addr]bool
	joined  bool
	// asking says that a quorum is being measured.
	asking bool
	relay  *announce.Relay
	// island is where its gossip is heard. yields are the addresses that it gives way for, blocked those
	// that it therefore does not answer for, and rivals are who it has found to answer, too.
	island          int
	yields, blocked map[netip.Addr]bool
	rivals          map[netip.Addr]name.NodeName
}

// hears says whether what one node tells reaches the other.
func (x *simulated) hears(o *simulated) bool {
	return x.side == o.side && x.island == o.island && !x.dead && !o.dead && !x.away && !o.away
}

// answersTo says whether the kernel of a node that is not dead answers another one on the LAN.
func (x *simulated) answersTo(o *simulated) bool { return x.side == o.side && x.segment == o.segment }

// letter is what reaches a node at some time; without facts it is a measurement of its quorum.
type letter struct {
	to    *simulated
	at    time.Time
	facts []announce.Fact
	// suspects are those of the measurement.
	suspects []name.NodeName
}

func newCluster(t *rapid.T, n, services int, edit ...func(*cluster)) *cluster {
	c := &cluster{t: t, now: time.Unix(1e9, 0), apart: map[[2]name.NodeName]bool{}, random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))}
	for _, e := range edit {
		e(c)
	}
	for i := range n {
		c.api = append(c.api, node(fmt.Sprintf("n%d", i), fmt.Sprintf("10.0.0.%d", i+1)))
	}
	for i := range services {
		s := service(fmt.Sprintf("10.0.0.%d", 130+i))
		s.Key.Name = fmt.Sprintf("s%d", i)
		s.Endpoints = map[name.NodeName]announce.Endpoints{"elsewhere": {Ready: 1}}
		c.units = append(c.units, s)
	}
	for i := range n {
		x := &simulated{name: c.api[i].Name, relay: announce.NewRelay(c.api[i].Name), seen: map[name.NodeName]announce.Member{}}
		c.nodes = append(c.nodes, x)
	}
	for _, x := range c.nodes {
		for _, o := range c.nodes {
			x.seen[o.name] = announce.Member{Node: o.name, Health: announce.Alive, Since: c.now}
		}
		c.boot(x, true)
	}
	return c
}

// boot starts the speaker of a node, which knows nothing but the API.
func (c *cluster) boot(x *simulated, joined bool) {
	w := world()
	l2(nil)(&w)
	x.state, x.answers, x.joined, x.away = announce.NewState(x.name), map[netip.Addr]bool{}, joined, false
	x.yields, x.blocked, x.rivals = map[netip.Addr]bool{}, map[netip.Addr]bool{}, map[netip.Addr]name.NodeName{}
	facts := []announce.Fact{
		announce.Configured{Config: w.Config},
		announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.GraceKnown{Grace: 30 * time.Second},
		announce.NodesKnown{Nodes: c.api},
		x.members(),
	}
	for _, s := range c.units {
		facts = append(facts, announce.Known{Service: s})
	}
	if c.measured {
		facts = append(facts, announce.QuorumMeasured{})
	}
	c.step(x, facts...)
}

// quorum is what a node measures now.
func (c *cluster) quorum(x *simulated, suspects ...name.NodeName) announce.QuorumKnown {
	said := announce.QuorumKnown{Interface: "eth0", Asked: suspects}
	answer := 0
	for _, o := range c.nodes {
		switch {
		case o.dead || !o.answersTo(x):
		case slices.Contains(suspects, o.name):
			said.Answered = append(said.Answered, o.name)
		default:
			answer++
		}
	}
	gateway := x.side+x.segment == c.gateway // there are either sides or segments
	said.Has, said.Witness = 2*answer > len(c.nodes) || gateway && 2*answer == len(c.nodes), answer > 1 || gateway
	return said
}

func (x *simulated) members() announce.MembersKnown {
	fact := announce.MembersKnown{Joined: x.joined}
	for _, m := range x.seen {
		if m.Health != announce.Dead {
			fact.Members = append(fact.Members, m)
		}
	}
	return fact
}

func (c *cluster) step(x *simulated, facts ...announce.Fact) {
	for _, change := range x.state.Step(c.now, facts...) {
		for _, a := range change.Service.Addresses {
			x.answers[a], x.yields[a] = false, false
		}
		for _, l := range change.Decision.Layer2 {
			x.answers[l.Address], x.yields[l.Address] = l.For == announce.MAC{}, l.Yields
		}
	}
	if due := x.state.Unmeasured(c.now); len(due) > 0 && !x.asking {
		x.asking = true
		c.mail = append(c.mail, letter{to: x, at: c.now.Add(tick), suspects: due[0].Suspects})
	}
	if news := x.state.Outbox(); !news.Empty() {
		for _, to := range c.nodes {
			if to != x {
				c.send(x, to, announce.Heard{News: news})
			}
		}
	}
	x.relay.Add(x.state.Learned(), c.now)
}

// pass has a node pass on what it learned, each to three others at random.
func (c *cluster) pass(x *simulated) {
	for _, news := range x.relay.Take(c.now) {
		makers, told := news.Makers(), 0
		for _, i := range c.random.Perm(len(c.nodes)) {
			if to := c.nodes[i]; to != x && told < 3 && !slices.Contains(makers, to.name) {
				c.send(x, to, announce.Heard{News: news})
				told++
			}
		}
	}
}

func (c *cluster) send(from, to *simulated, facts ...announce.Fact) {
	if from.hears(to) && !c.apart[[2]name.NodeName{from.name, to.name}] {
		c.mail = append(c.mail, letter{to: to, at: c.now.Add(time.Duration(c.random.IntN(5)) * tick), facts: facts})
	}
}

// exchange is what two speakers do when they meet.
func (c *cluster) exchange(x, y *simulated) {
	if x.hears(y) {
		xs, ys := x.state.News(), y.state.News()
		c.step(x, announce.Heard{News: ys})
		c.step(y, announce.Heard{News: xs})
	}
}

// run lets time pass.
func (c *cluster) run(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); c.now = c.now.Add(tick) {
		c.perceive()
		if c.islands {
			c.listen()
		}
		due := []letter{}
		c.mail = slices.DeleteFunc(c.mail, func(l letter) bool {
			if l.at.After(c.now) {
				return false
			}
			due = append(due, l)
			return true
		})
		for _, l := range due {
			if l.facts == nil {
				l.to.asking, l.facts = false, []announce.Fact{c.quorum(l.to, l.suspects...)}
			}
			if !l.to.dead && !l.to.away {
				c.step(l.to, l.facts...)
			}
		}
		for _, x := range c.nodes {
			if again := x.state.Again(); !x.dead && !x.away && !again.IsZero() && !again.After(c.now) {
				c.step(x)
			}
			c.pass(x)
		}
	}
}

// perceive lets each node find out, at some time, how each other is.
func (c *cluster) perceive() {
	for _, x := range c.nodes {
		if x.dead || x.away || x.side != 0 && !c.measured { // who is cut off hears nobody, and takes nobody for dead
			continue
		}
		changed := false
		for _, o := range c.nodes {
			is := announce.Alive
			switch {
			case o == x:
			case o.dead || o.side != x.side:
				is = announce.Dead
			case o.away || !o.joined:
				is = announce.Silent
			case o.island != x.island && o.answering(x.state.Held(o.name)):
				is = announce.Unheard
			case o.island != x.island:
				is = announce.Silent
			}
			if x.seen[o.name].Health == is || c.random.IntN(20) > 0 {
				continue
			}
			if is == announce.Alive {
				c.exchange(x, o)
			}
			x.seen[o.name], changed = announce.Member{Node: o.name, Health: is, Since: c.now}, true
		}
		if changed {
			c.step(x, x.members())
		}
	}
}

// answering returns who answers for an address as its owner.
func (c *cluster) answering(a netip.Addr) []name.NodeName {
	var list []name.NodeName
	for _, x := range c.nodes {
		if x.answering(a) {
			list = append(list, x.name)
		}
	}
	return list
}

// settled fails unless each unit has one owner on each side that has a node, counted if a node
// whose speaker is away owns it.
func (c *cluster) settled(when string) map[netip.Addr]name.NodeName {
	owners := map[netip.Addr]name.NodeName{}
	for _, s := range c.units {
		a := s.Addresses[0]
		got := c.answering(a)
		if len(got) > 1 {
			c.t.Fatalf("%s: %v answer for %s", when, got, a)
		}
		if len(got) == 1 {
			owners[a] = got[0]
		}
	}
	return owners
}

func (c *cluster) pick(label string) *simulated {
	return c.nodes[rapid.IntRange(0, len(c.nodes)-1).Draw(c.t, label)]
}

// Whatever happens to nodes, speakers and the network: in the end one node answers for each
// address, and no owner that nothing happened to has lost one.
func TestOneOwnerThatStaysWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, rapid.IntRange(2, 5).Draw(t, "nodes"), 6)
		c.run(3 * time.Second)
		before := c.settled("at the start")
		if len(before) != len(c.units) {
			t.Fatalf("at the start only %v are answered", before)
		}
		for range rapid.IntRange(1, 6).Draw(t, "events") {
			event, touched := c.event()
			c.run(3 * time.Second)
			after := c.settled(event)
			for a, owner := range before {
				now, answered := after[a]
				switch {
				case !answered && !touched[owner]:
					t.Fatalf("%s: nobody answers for %s, which %s did", event, a, owner)
				case now != owner && !touched[owner]:
					t.Fatalf("%s: %s moved from %s to %s", event, a, owner, now)
				}
			}
			if alive := slices.ContainsFunc(c.nodes, func(x *simulated) bool { return !x.dead && !x.away }); alive && len(after) == 0 {
				t.Fatalf("%s: nobody answers for anything", event)
			}
			before = after
		}
	})
}

// event does something and returns what, and which nodes may lose addresses by it. It undoes
// what could not be told apart from what follows.
func (c *cluster) event() (string, map[name.NodeName]bool) {
	x := c.pick("node")
	switch kind := rapid.SampledFrom([]string{"dies and returns", "restarts its speaker", "is drained and back", "is cut off and back"}).Draw(c.t, "event"); kind {
	case "dies and returns":
		x.dead = true
		c.run(2 * time.Second)
		c.settled(string(x.name) + " is dead")
		x.dead = false
		c.rejoin(x)
		return string(x.name) + " " + kind, map[name.NodeName]bool{x.name: true}
	case "restarts its speaker":
		x.away = true
		c.run(time.Second)
		c.rejoin(x)
		return string(x.name) + " " + kind, nil
	case "is drained and back":
		c.drain(x, "asked")
		c.run(2 * time.Second)
		c.settled(string(x.name) + " is drained")
		c.drain(x, "")
		return string(x.name) + " " + kind, map[name.NodeName]bool{x.name: true}
	default:
		x.side = 1
		c.run(2 * time.Second)
		x.side = 0
		return string(x.name) + " " + kind, map[name.NodeName]bool{x.name: true}
	}
}

// rejoin starts the speaker of a node, which then meets another one if there is any.
func (c *cluster) rejoin(x *simulated) {
	for n := range x.seen {
		x.seen[n] = announce.Member{Node: n, Health: announce.Silent, Since: c.now}
	}
	c.boot(x, false)
	for _, o := range c.nodes {
		if o != x && !o.dead && !o.away && o.side == x.side {
			c.exchange(x, o)
			break
		}
	}
	x.joined = true
	x.seen[x.name] = announce.Member{Node: x.name, Health: announce.Alive, Since: c.now}
	c.step(x, x.members())
}

func (c *cluster) drain(x *simulated, why string) {
	c.api = slices.Clone(c.api)
	for i := range c.api {
		if c.api[i].Name == x.name {
			c.api[i].Drain = why
		}
	}
	for _, o := range c.nodes { // the API tells each at another time
		at := c.now.Add(time.Duration(c.random.IntN(20)) * tick)
		c.mail = append(c.mail, letter{to: o, at: at, facts: []announce.Fact{announce.NodesKnown{Nodes: c.api}}})
	}
}
