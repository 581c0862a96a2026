package main

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// pollMax is how many nodes are asked, beside the suspects, to measure a quorum: of more, some at
// random stand for all.
const pollMax = 16

// quorums measures, when a claim depends on it, whether this node hears more than half of the nodes
// on a network. Not their speakers are asked, but their kernels: gossip may be blocked, or go
// another way.
type quorums struct {
	self       name.NodeName
	asker      *lan.Asker
	interfaces func() link.Snapshot
	nodes      *atomic.Pointer[[]announce.Node]
	tell       func(context.Context, ...announce.Fact) error
	// heard takes which nodes answered on an interface; it must not block.
	heard func(on string, who []name.NodeName)
	log   logr.Logger
	due   chan []announce.Measurement

	has sync.Map // what was logged last of each interface: string to bool
}

// want has measured what is due; it never blocks, and what is not begun is wanted again later.
func (q *quorums) want(due []announce.Measurement) {
	select {
	case <-q.due:
	default:
	}
	select {
	case q.due <- due:
	default:
	}
}

// run measures until ctx ends. One interface is measured once at a time.
func (q *quorums) run(ctx context.Context) error {
	var measuring sync.WaitGroup
	defer measuring.Wait()
	running, ended := map[string]bool{}, make(chan string)
	for {
		var due []announce.Measurement
		select {
		case <-ctx.Done():
			return nil
		case due = <-q.due:
		case done := <-ended:
			delete(running, done)
		}
		for _, m := range due {
			if running[m.Interface] {
				continue // what that does not tell is wanted again
			}
			running[m.Interface] = true
			measuring.Go(func() {
				_ = q.tell(ctx, q.measure(ctx, m)) // an error: ctx ended
				select {
				case ended <- m.Interface:
				case <-ctx.Done():
				}
			})
		}
	}
}

// measure asks on one interface. An interface that cannot be asked on has no quorum.
func (q *quorums) measure(ctx context.Context, m announce.Measurement) announce.QuorumKnown {
	known := announce.QuorumKnown{Interface: m.Interface, Asked: m.Suspects}
	from, found := q.interfaces().Find(m.Interface)
	if !found || !from.Up {
		return known
	}
	b := q.ballot(from, m.Suspects, gatewaysOn(from, q.log))
	poll := lan.Poll{From: from, Hosts: b.hosts, Gateways: b.gateways, Enough: b.enough}
	tally, err := q.asker.Poll(ctx, poll)
	if err != nil && ctx.Err() == nil {
		q.log.V(1).Info("cannot measure the quorum", "interface", from.Name, "error", err.Error())
	}
	known.Has, known.Witness, known.Answered = b.has(tally), b.witness(tally), b.answered(tally)
	q.heard(m.Interface, known.Answered)
	if before, was := q.has.Swap(m.Interface, known.Has); !was || before != known.Has {
		q.log.Info("quorum on this network", "interface", from.Name, "has", known.Has, "nodes", b.roll,
			"asked", len(b.hosts), "answered", len(b.answered(tally))+b.heard(tally), "gateway", tally.Gateway)
	}
	return known
}

// ballot is who is asked.
type ballot struct {
	hosts []lan.Neighbor
	// names are those of the hosts: first the suspects, which count as silent.
	names    []name.NodeName
	suspects int
	gateways []netip.Addr
	// roll is how many nodes may answer on the network, this one among them.
	roll int
}

// ballot draws whom to ask: all suspects that are on the network of an interface, and some others.
func (q *quorums) ballot(from link.Interface, suspects []name.NodeName, gateways []netip.Addr) ballot {
	b := ballot{roll: 1, gateways: gateways}
	var nodes []announce.Node
	if known := q.nodes.Load(); known != nil {
		nodes = slices.Clone(*known)
	}
	rand.Shuffle(len(nodes), func(x, y int) { nodes[x], nodes[y] = nodes[y], nodes[x] })
	slices.SortStableFunc(nodes, func(x, y announce.Node) int {
		return order(slices.Contains(suspects, x.Name), slices.Contains(suspects, y.Name))
	})
	for _, n := range nodes {
		at, there := on(from, n)
		if !there || n.Name == q.self {
			continue
		}
		b.roll++
		suspect := slices.Contains(suspects, n.Name)
		if !suspect && len(b.hosts)-b.suspects >= pollMax {
			continue
		}
		if suspect {
			b.suspects++
		}
		b.hosts, b.names = append(b.hosts, at), append(b.names, n.Name)
	}
	return b
}

// order puts what is true first.
func order(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// heard is how many of those who are no suspects have answered.
func (b ballot) heard(t lan.Tally) (n int) {
	for _, answered := range t.Answered[b.suspects:] {
		if answered {
			n++
		}
	}
	return n
}

// has says whether more than half of the roll has answered, this node among them, or half of it and
// a gateway. Those who were not drawn count like those who were.
func (b ballot) has(t lan.Tally) bool {
	drawn, others := len(b.hosts)-b.suspects, b.roll-1-b.suspects
	twice := 2 * (drawn + b.heard(t)*others) // of answers, times drawn
	if drawn == 0 {
		drawn, twice = 1, 2
	}
	return twice > b.roll*drawn || t.Gateway && twice == b.roll*drawn
}

// enough says whether more answers would change nothing; those of suspects have had their time.
func (b ballot) enough(t lan.Tally) bool { return b.has(t) && b.witness(t) }

// witness says whether anybody but suspects has answered.
func (b ballot) witness(t lan.Tally) bool { return t.Gateway || b.heard(t) > 0 }

// answered are the suspects that have.
func (b ballot) answered(t lan.Tally) (list []name.NodeName) {
	for i := range b.suspects {
		if t.Answered[i] {
			list = append(list, b.names[i])
		}
	}
	return list
}
