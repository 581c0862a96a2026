package layer2

import (
	"bytes"
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// entry is an address on an interface: who wants it, this node's duty, and its place in the
// queue.
type entry struct {
	side    *side
	address netip.Addr
	wishes  []wish
	duty    duty
	// at is when the duty is to act; position is the entry's place in the queue, or -1.
	at       time.Time
	position int
}

// wish is what one service wants of an address on an interface.
type wish struct {
	service name.ServiceKey
	role    role
}

// wish makes r what service wants.
func (e *entry) wish(service name.ServiceKey, r role) {
	for i := range e.wishes {
		if e.wishes[i].service == service {
			e.wishes[i].role = r
			return
		}
	}
	e.wishes = append(e.wishes, wish{service, r})
}

// withdraw ends what service wants.
func (e *entry) withdraw(service name.ServiceKey) {
	e.wishes = slices.DeleteFunc(e.wishes, func(w wish) bool { return w.service == service })
}

// agree returns the one role for several wishes, at least one: an owner prevails over a deputy,
// the deputy of the lowest owner over others, and an address is first, or yielded, only if all say so.
func agree(wishes []wish) role {
	agreed := wishes[0].role
	for _, w := range wishes[1:] {
		agreed.first, agreed.yields = agreed.first && w.role.first, agreed.yields && w.role.yields
		if bytes.Compare(w.role.owner[:], agreed.owner[:]) < 0 { // no owner to name is the lowest
			agreed.owner = w.role.owner
		}
	}
	return agreed
}

// queue holds the entries that are to act, as a heap with the first in front. Repeats of a
// takeover that the rate holds up thus come after the first announcements of all.
type queue struct{ entries []*entry }

func (q *queue) first() (*entry, bool) {
	if len(q.entries) == 0 {
		return nil, false
	}
	return q.entries[0], true
}

// put places e in the queue, or moves it, to act at that time.
func (q *queue) put(e *entry, at time.Time) {
	e.at = at
	if e.position >= 0 {
		heap.Fix(q, e.position)
		return
	}
	heap.Push(q, e)
}

func (q *queue) remove(e *entry) {
	if e.position >= 0 {
		heap.Remove(q, e.position)
	}
}

// Len, Less, Swap, Push and Pop are for container/heap alone.

func (q *queue) Len() int           { return len(q.entries) }
func (q *queue) Less(i, j int) bool { return q.entries[i].at.Before(q.entries[j].at) }

func (q *queue) Swap(i, j int) {
	q.entries[i], q.entries[j] = q.entries[j], q.entries[i]
	q.entries[i].position, q.entries[j].position = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.position = len(q.entries)
	q.entries = append(q.entries, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(q.entries) - 1
	e := q.entries[last]
	q.entries[last] = nil
	q.entries = q.entries[:last]
	e.position = -1
	return e
}
