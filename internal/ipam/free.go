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
	cooling  []cooled              // oldest first
	place    map[netip.Addr]uint64 // serial of the entry in returned or cooling that counts
	serial   uint64
	cool     map[netip.Addr]struct{} // those that cool
}

type cooled struct {
	addr   netip.Addr
	until  time.Time
	serial uint64
}

// newFree makes a list of all that ranges contain and skip does not.
func newFree(ranges []netipx.IPRange, skip func(netip.Addr) bool) *free {
	f := &free{
		ranges: ranges, skip: skip, place: map[netip.Addr]uint64{}, cool: map[netip.Addr]struct{}{},
		byFrom: make([]int, len(ranges)),
	}
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

// take returns the first free address: one that has cooled before one that cools. It
// does not mark it: the caller holds it, or loses sight of it.
func (f *free) take(now time.Time, held func(netip.Addr) bool) (netip.Addr, bool) {
	f.thaw(now, held)
	for len(f.returned) > 0 {
		e := heap.Pop(&f.returned).(entry)
		if f.place[e.addr] != e.serial {
			continue
		}
		delete(f.place, e.addr)
		if !held(e.addr) {
			return e.addr, true
		}
	}
	if a, ok := f.advance(held); ok {
		return a, true
	}
	for len(f.cooling) > 0 {
		c := f.cooling[0]
		f.cooling = f.cooling[1:]
		if f.warm(c) && !held(c.addr) {
			return c.addr, true
		}
	}
	return netip.Addr{}, false
}

// advance moves the cursor past the next address that is free and returns it.
func (f *free) advance(held func(netip.Addr) bool) (netip.Addr, bool) {
	for f.at < len(f.ranges) {
		r, a := f.ranges[f.at], f.next
		if !a.IsValid() {
			a = r.From()
		}
		if a == r.To() {
			f.at, f.next = f.at+1, netip.Addr{}
		} else {
			f.next = a.Next()
		}
		if _, cools := f.cool[a]; !cools && !f.skip(a) && !held(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// put gives back an address that nobody holds any more; it cools until a point in time.
func (f *free) put(a netip.Addr, until time.Time) {
	if f.skip(a) || f.rangeOf(a) < 0 {
		return
	}
	f.serial++
	f.place[a] = f.serial
	f.cool[a] = struct{}{}
	f.cooling = append(f.cooling, cooled{addr: a, until: until, serial: f.serial})
}

// hold forgets an address that somebody holds now.
func (f *free) hold(a netip.Addr) {
	delete(f.place, a)
	delete(f.cool, a)
}

// thaw moves what has cooled to where it is handed out again in order.
func (f *free) thaw(now time.Time, held func(netip.Addr) bool) {
	for len(f.cooling) > 0 && !f.cooling[0].until.After(now) {
		c := f.cooling[0]
		f.cooling = f.cooling[1:]
		if f.warm(c) && f.passed(c.addr) && !held(c.addr) {
			f.back(c.addr)
		}
	}
}

// back gives back an address that the cursor has passed, to be handed out in its order.
func (f *free) back(a netip.Addr) {
	f.serial++
	f.place[a] = f.serial
	heap.Push(&f.returned, entry{rank: f.rangeOf(a), addr: a, serial: f.serial})
}

// warm ends the cooling of an entry and says whether it still counted.
func (f *free) warm(c cooled) bool {
	if f.place[c.addr] != c.serial {
		return false
	}
	delete(f.place, c.addr)
	delete(f.cool, c.addr)
	return true
}

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
