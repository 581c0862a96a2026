package main

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// callLeast is the shortest time between two questions for a place in calm, callTogether how many
	// questions all nodes of a network together ask in a second then.
	callLeast, callTogether = time.Second, 50
	// callAgain is how often a node asks for a place that did not answer it or, as others say, them;
	// callDoubted is how many such questions it asks in a second at most.
	callAgain, callDoubted = time.Second, 20
	// callWell is how often the time doubles, from callAgain, after which a place is asked for again that
	// answers this node, though another misses it.
	callWell = 5
	// callSilences is how many questions in a row must have had no answer. Of a place that another node
	// misses one is enough.
	callSilences = 3
	// callSpread is the longest time before a node asks for a place because another misses it: not all are
	// to ask at the same moment.
	callSpread = 200 * time.Millisecond
	// callAtOnce is how many places a node asks for at the same time at most.
	callAtOnce = 16
)

// callee is a place of another node on a network of this one.
type callee struct {
	place announce.Place
	from  link.Interface // the own one on that network
	at    lan.Neighbor
	// missed says that another node misses it, idle that it is not to be asked for: an interface is deaf or
	// down, or the speaker of the node does not live, so that others find out what became of it.
	missed, idle bool
}

// network is what is known of the network of an own interface: how many places announce on it, this node's
// among them, and how many nodes ask for each.
type network struct{ places, askers int }

// wait is the time between two questions of one node on a network if it asks for some places there in turn,
// so that each place is asked for by one node at a time.
func (n network) wait(callees int) time.Duration {
	every := max(callLeast, time.Duration(n.places)*time.Second/callTogether)
	return every * time.Duration(max(n.askers, 1)) / time.Duration(max(callees, 1))
}

// roll is which places are asked for, and what they answered. It is pure; make it with newRoll.
//
// On each network all nodes ask for all places in turn, each node in an order of its own: of a place that
// is cut off together with some nodes, the others find that out within a few turns, whoever they are. Who
// gets no answer from a place that has answered before asks again, callSilences times in all, and then
// misses it. Who hears that another node misses a place asks for it at once.
type roll struct {
	self    name.NodeName
	entries map[announce.Place]*entry
	turns   map[string]*turn // by own interface
	// spread draws a time, at least 0, before which a place that another node misses is not asked for.
	spread func() time.Duration
}

// entry is a place and what became of it.
type entry struct {
	callee
	rank     uint64
	answered bool // it has, ever
	silences int  // in a row
	// well counts the answers since another node missed it.
	well int
	// due is when to ask for it out of turn; zero: it is asked for in its turn.
	due    time.Time
	asking bool
}

// turn is whose turn it is on a network.
type turn struct {
	last time.Time // when somebody was asked for in turn, at first when the network was
	next uint64    // the rank that is next
	wait time.Duration
}

func newRoll(self name.NodeName, spread func() time.Duration) *roll {
	return &roll{self: self, entries: map[announce.Place]*entry{}, turns: map[string]*turn{}, spread: spread}
}

// take takes which places there are, and the networks by own interface.
func (r *roll) take(callees []callee, networks map[string]network, now time.Time) {
	present, active := map[announce.Place]bool{}, map[string]int{}
	for _, c := range callees {
		present[c.place] = true
		if !c.idle {
			active[c.from.Name]++
		}
		r.enter(c, now)
	}
	maps.DeleteFunc(r.entries, func(p announce.Place, _ *entry) bool { return !present[p] })
	maps.DeleteFunc(r.turns, func(i string, _ *turn) bool { return active[i] == 0 })
	for i, n := range active {
		if r.turns[i] == nil {
			r.turns[i] = &turn{last: now}
		}
		r.turns[i].wait = networks[i].wait(n)
	}
}

// enter takes what is now known of a place.
func (r *roll) enter(c callee, now time.Time) {
	e := r.entries[c.place]
	if e == nil || e.at != c.at || e.from.Index != c.from.Index || e.from.MAC != c.from.MAC {
		e = &entry{rank: r.rank(c.place)}
		r.entries[c.place] = e
	}
	was := e.missed && !e.idle
	e.callee = c
	switch {
	case c.idle:
		e.silences, e.due = 0, time.Time{}
	case c.missed && !was:
		if e.well = 0; e.due.IsZero() {
			e.due = now.Add(r.spread())
		}
	case !c.missed && was && (!e.answered || e.silences == 0):
		e.silences, e.due = 0, time.Time{}
	}
}

// rank is where a place stands in the order of this node.
func (r *roll) rank(p announce.Place) uint64 {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(string(r.self) + "\x00" + string(p.Node) + "\x00" + p.Interface))
	return sum.Sum64()
}

// due returns which places to ask for now, and how long it is until the next is due; each is to be told to
// learn.
func (r *roll) due(now time.Time) (list []callee, wait time.Duration) {
	wait = callAgain
	asking := 0
	ask := func(e *entry) {
		e.asking, e.due = true, time.Time{}
		asking++
		list = append(list, e.callee)
	}
	for _, e := range r.entries {
		if e.asking {
			asking++
		}
	}
	ordered := slices.SortedFunc(maps.Values(r.entries), func(x, y *entry) int {
		return cmp.Or(x.due.Compare(y.due), cmp.Compare(x.rank, y.rank))
	})
	for _, e := range ordered {
		switch {
		case e.due.IsZero() || e.asking || asking >= callAtOnce:
		case now.Before(e.due):
			wait = min(wait, e.due.Sub(now))
		default:
			ask(e)
		}
	}
	for i, t := range r.turns {
		if left := t.last.Add(t.wait).Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if e := r.following(i, t.next); e != nil && asking < callAtOnce {
			t.last, t.next = now, e.rank+1
			wait = min(wait, t.wait)
			ask(e)
		}
	}
	return list, wait
}

// following is the place on the network of an own interface whose turn it is; nil: those that are left are
// asked for out of turn.
func (r *roll) following(i string, next uint64) *entry {
	var found *entry
	for _, e := range r.entries {
		if e.from.Name != i || e.idle || e.asking || e.silences > 0 {
			continue
		}
		if found == nil || e.rank-next < found.rank-next { // of unsigned numbers: the order is a circle
			found = e
		}
	}
	return found
}

// learn takes what became of a question. One that failed says nothing.
func (r *roll) learn(c callee, answered, failed bool, now time.Time) {
	e := r.entries[c.place]
	if e == nil || e.at != c.at || e.from.Index != c.from.Index {
		return
	}
	e.asking = false
	switch {
	case e.idle:
		return
	case answered:
		e.answered, e.silences = true, 0
		e.well++
	case !failed && (e.answered || e.missed):
		e.silences++
	}
	if e.due.IsZero() && (e.missed || e.silences > 0) {
		e.due = now.Add(r.again())
		if e.silences == 0 {
			e.due = now.Add(callAgain << min(max(e.well-1, 0), callWell))
		}
	}
}

// hear takes that some nodes answered another question on the network of an own interface.
func (r *roll) hear(on string, who []name.NodeName) {
	for p, e := range r.entries {
		if e.from.Name == on && slices.Contains(who, p.Node) {
			e.silences = 0
		}
	}
}

// again is after how long to ask again for a place that did not answer.
func (r *roll) again() time.Duration {
	doubted := 0
	for _, e := range r.entries {
		if e.silences > 0 {
			doubted++
		}
	}
	return max(callAgain, time.Duration(doubted)*time.Second/callDoubted)
}

// missing returns the places that this node misses, sorted.
func (r *roll) missing() []announce.Place {
	var list []announce.Place
	for p, e := range r.entries {
		if e.silences >= callSilences || e.missed && e.silences > 0 {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, announce.Place.Compare)
	return list
}
