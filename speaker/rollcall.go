package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// rollCall asks on the LAN for the interfaces on which other nodes announce: a speaker may live, and hear
// somebody there, though this side of the network does not hear it; see roll.
type rollCall struct {
	self       name.NodeName
	asker      lanAsker
	interfaces func() link.Snapshot
	deaf       func() []string // of the own interfaces
	nodes      *atomic.Pointer[[]announce.Node]
	// changed is called when missed returns something else; it must not block.
	changed func()
	log     logr.Logger

	poke  chan struct{} // says that want or heard was called
	known atomic.Pointer[wants]
	now   atomic.Pointer[[]announce.Place]

	mu    sync.Mutex // guards what follows
	inbox []answers
}

// answers are nodes that answered another question on the network of an own interface.
type answers struct {
	on  string
	who []name.NodeName
}

// wants are the places that announce, and those that other nodes miss.
type wants struct{ announcing, missed []announce.Place }

// called is what became of a question.
type called struct {
	callee
	answered, failed bool
}

// want takes which places announce, and which of them other nodes miss; it never blocks.
func (c *rollCall) want(announcing, missed []announce.Place) {
	c.known.Store(&wants{announcing, missed})
	poke(c.poke)
}

// heard takes that nodes answered another question on the network of an own interface: no claim is to rest
// on an earlier silence. It never blocks.
func (c *rollCall) heard(on string, who []name.NodeName) {
	if len(who) == 0 {
		return
	}
	c.mu.Lock()
	c.inbox = append(c.inbox, answers{on, who})
	c.mu.Unlock()
	poke(c.poke)
}

// missed are the places that this node misses, sorted.
func (c *rollCall) missed() []announce.Place {
	if known := c.now.Load(); known != nil {
		return *known
	}
	return nil
}

// run asks until ctx ends.
func (c *rollCall) run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	r, ended := newRoll(c.self, func() time.Duration { return rand.N(callSpread) }), make(chan called)
	for {
		callees, networks := c.look()
		r.take(callees, networks, time.Now())
		c.mu.Lock()
		inbox := c.inbox
		c.inbox = nil
		c.mu.Unlock()
		for _, a := range inbox {
			r.hear(a.on, a.who)
		}
		due, wait := r.due(time.Now())
		for _, one := range due {
			asking.Go(func() {
				select {
				case ended <- c.ask(ctx, one):
				case <-ctx.Done():
				}
			})
		}
		c.publish(r.missing())
		next := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			next.Stop()
			return nil
		case <-next.C:
		case <-c.poke:
		case one := <-ended:
			r.learn(one.callee, one.answered, one.failed, time.Now())
		}
		next.Stop()
	}
}

// ask asks for a place. Of a question that took long it is not known whether this process stood still.
func (c *rollCall) ask(ctx context.Context, one callee) called {
	began := time.Now()
	answer, err := c.asker.Ask(ctx, lan.Question{From: one.from, Neighbor: one.at})
	if err != nil && ctx.Err() == nil {
		c.log.V(1).Info("cannot ask the LAN", "node", one.place.Node, "interface", one.from.Name, "error", err.Error())
	}
	return called{callee: one, answered: answer.Neighbor, failed: err != nil || time.Since(began) > roundMax}
}

// look returns the places of other nodes on networks of this one, and those networks by own interface.
func (c *rollCall) look() ([]callee, map[string]network) {
	nodes, want := c.nodes.Load(), c.known.Load()
	if nodes == nil || want == nil {
		return nil, nil
	}
	byName := map[name.NodeName]announce.Node{}
	for _, n := range *nodes {
		byName[n.Name] = n
	}
	own, deaf := slices.DeleteFunc(c.interfaces(), func(i link.Interface) bool { return !i.Up }), c.deaf()
	networks := map[string]network{}
	for _, i := range own {
		networks[i.Name] = network{askers: c.askers(i, *nodes)}
	}
	count := func(i string) {
		n := networks[i]
		n.places++
		networks[i] = n
	}
	var list []callee
	for _, p := range want.announcing {
		if p.Node == c.self {
			count(p.Interface)
			continue
		}
		n := byName[p.Node]
		theirs := slices.IndexFunc(n.Interfaces, func(i announce.Interface) bool { return i.Name == p.Interface })
		if theirs < 0 {
			continue
		}
		for _, i := range own {
			at, there := beside(i, n.Interfaces[theirs])
			if !there {
				continue
			}
			count(i.Name)
			list = append(list, callee{
				place: p, from: i, at: at, missed: slices.Contains(want.missed, p),
				idle: n.Health != announce.Alive || !n.Interfaces[theirs].Hears() || slices.Contains(deaf, i.Name),
			})
			break
		}
	}
	return list, networks
}

// askers counts the nodes that ask for a place on the network of an interface: all that live there but the
// one that is asked for.
func (c *rollCall) askers(i link.Interface, nodes []announce.Node) int {
	there := 0
	for _, n := range nodes {
		if n.Name != c.self && n.Health == announce.Alive && slices.ContainsFunc(n.Interfaces, func(theirs announce.Interface) bool {
			_, beside := beside(i, theirs)
			return beside && theirs.Hears()
		}) {
			there++ // this node asks in the place of the one that is asked for
		}
	}
	return there
}

// publish tells which places this node misses, if that has changed.
func (c *rollCall) publish(missing []announce.Place) {
	before := c.missed()
	if slices.Equal(before, missing) {
		return
	}
	c.now.Store(&missing)
	for _, p := range missing {
		if !slices.Contains(before, p) {
			c.log.Info("another node does not answer on the LAN where it announces, though its speaker lives", "node", p.Node, "interface", p.Interface)
		}
	}
	for _, p := range before {
		if !slices.Contains(missing, p) {
			c.log.Info("another node is not missed on the LAN any more", "node", p.Node, "interface", p.Interface)
		}
	}
	c.changed()
}
