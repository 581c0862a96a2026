package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"go4.org/netipx"
)

// free knows what is free in an ordered list of ranges, without listing it.
//
// A cursor moves through the ranges once. Whatever lies before it is held, or was
// returned and stands in a compressed bitmap; whatever lies at or after it is free unless
// held or cooling. So the lowest free address is the first of the bitmap or else the cursor,
// and a range costs nothing but its two ends however large it is.
type free struct {
	ranges   []netipx.IPRange
	byFrom   []int // indexes of ranges, sorted by From
	skip     func(netip.Addr) bool
	at       int               // index of the range that the cursor is in
	next     netip.Addr        // the cursor; invalid: the start of that range
	returned *roaring64.Bitmap // by place
}

// newFree makes a list of all that ranges contain and skip does not.
func newFree(ranges []netipx.IPRange, skip func(netip.Addr) bool) *free {
	f := &free{ranges: ranges, skip: skip, returned: roaring64.New(), byFrom: make([]int, len(ranges))}
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

// first returns the first free address, given what is held or cools. It stays free: first
// returns it again until somebody holds it.
func (f *free) first(used func(netip.Addr) bool) (netip.Addr, bool) {
	if !f.returned.IsEmpty() {
		return f.address(f.returned.Minimum()), true
	}
	return f.advance(used)
}

// advance moves the cursor to the next address that is free and returns it.
func (f *free) advance(used func(netip.Addr) bool) (netip.Addr, bool) {
	for f.at < len(f.ranges) {
		r := f.ranges[f.at]
		if !f.next.IsValid() {
			f.next = r.From()
		}
		if a := f.next; !f.skip(a) && !used(a) {
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

// put gives back an address that nobody holds any more, and that has cooled.
func (f *free) put(a netip.Addr) {
	if place, passed := f.place(a); passed && !f.skip(a) {
		f.returned.Add(place)
	}
}

// hold forgets an address that somebody holds now.
func (f *free) hold(a netip.Addr) {
	if place, passed := f.place(a); passed {
		f.returned.Remove(place)
	}
}

// offsetBits leaves room for as many addresses of one range before the cursor, which have
// all been looked at one by one, and for 2^24 ranges.
const offsetBits = 40

// place numbers the addresses that the cursor has passed, in the order of the ranges. It
// is false for those that the cursor is still to come to.
func (f *free) place(a netip.Addr) (uint64, bool) {
	i := f.rangeOf(a)
	if i < 0 || i > f.at || i == f.at && (!f.next.IsValid() || !a.Less(f.next)) {
		return 0, false
	}
	return uint64(i)<<offsetBits | (low(a) - low(f.ranges[i].From())), true
}

// address is the inverse of place.
func (f *free) address(place uint64) netip.Addr {
	from, offset := f.ranges[place>>offsetBits].From(), place&(1<<offsetBits-1)
	if from.Is4() {
		b := from.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(offset))
		return netip.AddrFrom4(b)
	}
	b := from.As16()
	sum, carry := bits.Add64(low(from), offset, 0)
	binary.BigEndian.PutUint64(b[8:], sum)
	binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+carry)
	return netip.AddrFrom16(b)
}

// low is the last 64 bits of an address.
func low(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:])
}
