package layer2

import (
	"container/heap"
	"net/netip"
	"time"
)

// DefaultRefreshInterval is how often an address is announced again without other settings.
const DefaultRefreshInterval = 60 * time.Second

const (
	// announceRate bounds the announcements a second that this node sends on all interfaces
	// together, two frames each: 10,000 addresses are taken over in 5 s, at 2 Mbit/s.
	announceRate = 2000
	// announceBurst is how many may follow each other without a pause.
	announceBurst = 100
	// ratePause is how long to wait once the rate is reached.
	ratePause = 10 * time.Millisecond

	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// takeover returns the pauses between the announcements of a takeover. RFC 5227 section 2.3
// asks for two announcements; further ones reach hosts that missed those, for instance
// behind a switch port that has just come up.
func takeover() []time.Duration {
	return []time.Duration{
		100 * time.Millisecond, // 0.1 s after the first
		400 * time.Millisecond, // 0.5 s
		500 * time.Millisecond, // 1 s
		time.Second,            // 2 s
		2 * time.Second,        // 4 s
	}
}

// following returns the wait after announcement number step of an address, counted from 0,
// and whether there is another one at all. random is in [0, 1) and keeps the refreshes of
// many addresses apart: they lie within a tenth of the interval.
func following(step int, refresh time.Duration, random float64) (time.Duration, bool) {
	if pauses := takeover(); step < len(pauses) {
		return pauses[step], true
	}
	if refresh <= 0 {
		return 0, false
	}
	return time.Duration(float64(refresh) * (0.9 + 0.2*random)), true
}

// refreshing says whether announcement number step of an address is a refresh.
func refreshing(step int) bool { return step > len(takeover()) }

// backoff returns the wait before an interface is tried again after this many failures: it
// doubles up to lastRetry, less a random half.
func backoff(failures int, random float64) time.Duration {
	d := min(firstRetry<<min(failures, 10), lastRetry)
	return d - time.Duration(random*float64(d)/2)
}

// entry is an address on an interface: how many services want it, and when it is announced
// next.
type entry struct {
	port    *port
	address netip.Addr
	refs    int
	// step counts the announcements since the takeover; due is when the next is sent.
	step int
	due  time.Time
	// position is the entry's place in the queue, or -1.
	position int
}

// queue holds the entries to announce, as a heap with the one due first in front. Repeats of
// a takeover that the rate holds up thus come after the first announcements of all.
type queue struct{ entries []*entry }

func (q *queue) first() (*entry, bool) {
	if len(q.entries) == 0 {
		return nil, false
	}
	return q.entries[0], true
}

// put places e in the queue, or moves it, to be announced as number step at due.
func (q *queue) put(e *entry, step int, due time.Time) {
	e.step, e.due = step, due
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
func (q *queue) Less(i, j int) bool { return q.entries[i].due.Before(q.entries[j].due) }

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
