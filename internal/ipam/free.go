package ipam

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// free knows what is free in an ordered list of ranges, without listing it.
//
// A cursor moves through the ranges once. Whatever lies before it is held, or was
// returned and waits in a heap; whatever lies at or after it is free unless held. So the
// lowest free address is the top of the heap or else the cursor, and a range costs
// nothing but its two ends however large it is. Addresses freed a moment ago cool in a
// queue and are handed out last.
type free struct {
	ranges   []netipx.IPRange
	byFrom   []int // indexes of ranges, sorted by From
	skip     func(netip.Addr) bool
	at       int        // index of the range that the cursor is in
	next     netip.Addr // the cursor; invalid: the start of that range
	returned returned
	cooling  queue
	marks    map[netip.Addr]mark // of what is in returned or cooling
	serial   uint64
}

// mark says which entry of an address counts: the one with this serial.
type mark struct {
	serial uint64
	cools  bool
}

// queue is what cools, the oldest first. Its front is cut off now and then, not each time.
type queue struct {
	entries []cooled
	front   int
}

type cooled struct {
	addr   netip.Addr
	until  int64 // nanoseconds of Unix time
	serial uint64
}

// all returns what is queued, the oldest first.
func (q *queue) all() []cooled { return q.entries[q.front:] }

// drop forgets the oldest.
func (q *queue) drop() {
	if q.front++; 2*q.front >= len(q.entries) {
		q.entries = q.entries[:copy(q.entries, q.all())]
		q.front = 0
	}
}

// newFree makes a list of all that ranges contain and skip does not.
func newFree(ranges []netipx.IPRange, skip func(netip.Addr) bool) *free {
	f := &free{ranges: ranges, skip: skip, marks: map[netip.Addr]mark{}, byFrom: make([]int, len(ranges))}
	for i := range ranges {
		f.byFrom[i] = i
	}
	slices.SortFunc(f.byFrom, func(a, b int) int { return ranges[a].From().Compare(ranges[b].From()) })
	return f
}

// rangeOf returns the index of the range that contains an address, or -1.
func (f *free) rangeOf(a netip.Addr) int {
	i, found := slices.BinarySearchFunc(f.byFrom, a, func(i int, a netip.Addr) int { return f.ranges[i].From().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !f.ranges[f.byFrom[i]].Contains(a) {
		return -1
	}
	return f.byFrom[i]
}

// first returns the first free address: one that has cooled before one that cools. It
// stays free: first returns it again until somebody holds it.
func (f *free) first(now time.Time, held func(netip.Addr) bool) (netip.Addr, bool) {
	f.thaw(now)
	for len(f.returned) > 0 {
		if e := f.returned[0]; f.marks[e.addr] == (mark{serial: e.serial}) {
			return e.addr, true
		}
		heap.Pop(&f.returned)
	}
	if a, ok := f.advance(held); ok {
		return a, true
	}
	for len(f.cooling.all()) > 0 {
		if c := f.cooling.all()[0]; f.counts(c) {
			return c.addr, true
		}
		f.cooling.drop()
	}
	return netip.Addr{}, false
}

// advance moves the cursor to the next address that is free and returns it.
func (f *free) advance(held func(netip.Addr) bool) (netip.Addr, bool) {
	for f.at < len(f.ranges) {
		r := f.ranges[f.at]
		if !f.next.IsValid() {
			f.next = r.From()
		}
		if a := f.next; !f.marks[a].cools && !f.skip(a) && !held(a) {
			return a, true
		}
		if f.next == r.To() {
			f.at, f.next = f.at+1, netip.Addr{}
		} else {
			f.next = f.next.Next()
		}
	}
	return netip.Addr{}, false
}

// put gives back an address that nobody holds any more; it cools until a point in Unix time,
// in nanoseconds.
func (f *free) put(a netip.Addr, until int64) {
	if f.skip(a) || f.rangeOf(a) < 0 {
		return
	}
	f.serial++
	f.marks[a] = mark{f.serial, true}
	f.cooling.entries = append(f.cooling.entries, cooled{addr: a, until: until, serial: f.serial})
}

// hold forgets an address that somebody holds now.
func (f *free) hold(a netip.Addr) { delete(f.marks, a) }

// thaw moves what has cooled to where it is handed out again in order.
func (f *free) thaw(now time.Time) {
	for len(f.cooling.all()) > 0 && f.cooling.all()[0].until <= now.UnixNano() {
		c := f.cooling.all()[0]
		f.cooling.drop()
		if !f.counts(c) {
			continue
		}
		if !f.passed(c.addr) {
			delete(f.marks, c.addr)
			continue
		}
		f.marks[c.addr] = mark{serial: c.serial}
		heap.Push(&f.returned, entry{rank: f.rangeOf(c.addr), addr: c.addr, serial: c.serial})
	}
}

// counts says whether an entry of cooling is the one that counts for its address.
func (f *free) counts(c cooled) bool { return f.marks[c.addr] == mark{c.serial, true} }

// passed says whether the cursor will not come to an address any more.
func (f *free) passed(a netip.Addr) bool {
	i := f.rangeOf(a)
	if i != f.at {
		return i < f.at
	}
	return f.next.IsValid() && a.Less(f.next)
}

// entry is a returned address; rank is the index of its range.
type entry struct {
	rank   int
	addr   netip.Addr
	serial uint64
}

// returned is a heap in the order of ranges, then addresses.
type returned []entry

func (r returned) Len() int { return len(r) }
func (r returned) Less(i, j int) bool {
	if r[i].rank != r[j].rank {
		return r[i].rank < r[j].rank
	}
	return r[i].addr.Less(r[j].addr)
}
func (r returned) Swap(i, j int) { r[i], r[j] = r[j], r[i] }

// Push implements heap.Interface.
func (r *returned) Push(x any) { *r = append(*r, x.(entry)) }

// Pop implements heap.Interface.
func (r *returned) Pop() any {
	last := len(*r) - 1
	e := (*r)[last]
	*r = (*r)[:last]
	return e
}
