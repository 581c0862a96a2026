package ndp

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Entry is an address to answer for.
type Entry struct {
	// Address is an IPv6 address without a zone.
	Address netip.Addr
	// MAC is the link-layer address to give for it: that of another node, on whose behalf
	// we answer, or zero for our own.
	MAC MAC
}

// Addresses is a set of IPv6 addresses, each with the link-layer address to give for it. It
// is a value that never changes, so it may be shared between goroutines; With and Without
// return a changed copy, which shares with the old one what is the same in both. A change of a
// few addresses among 10,000 copies some 6 kB. The zero value is the empty set.
type Addresses struct {
	// chunks are in order, and so are the addresses in each. None is empty or holds more than
	// chunkLen, and two neighbors together hold more than half of that, so there are never
	// many more than are needed. They are never modified.
	chunks [][]entry
	count  int
}

// chunkLen is how many addresses a chunk holds at most. A change copies one chunk and the list
// of all, so the square root of the number of addresses is about the best.
const chunkLen = 128

// entry is an Entry as it is stored.
type entry struct {
	address key
	mac     MAC
}

// key is an IPv6 address as the two halves of the number that it is on the wire.
type key struct{ hi, lo uint64 }

func (k key) compare(other key) int {
	if c := cmp.Compare(k.hi, other.hi); c != 0 {
		return c
	}
	return cmp.Compare(k.lo, other.lo)
}

// edit is what is to be done about one address: to have the entry in the set, or none for it.
type edit struct {
	entry
	remove bool
}

// With returns the set with entries added; one whose address is already in the set replaces
// that, and a later one an earlier one. It panics if an address is not IPv6, is mapped from
// IPv4 or has a zone.
func (a Addresses) With(entries ...Entry) Addresses {
	edits := make([]edit, 0, len(entries))
	for _, e := range entries {
		edits = append(edits, edit{entry: entry{value(e.Address), e.MAC}})
	}
	return a.edited(edits)
}

// Without returns the set with addresses removed. It panics where With would.
func (a Addresses) Without(addresses ...netip.Addr) Addresses {
	edits := make([]edit, 0, len(addresses))
	for _, x := range addresses {
		edits = append(edits, edit{entry: entry{address: value(x)}, remove: true})
	}
	return a.edited(edits)
}

// edited returns the set after edits, of which a later one for the same address counts. It
// sorts them in place.
func (a Addresses) edited(edits []edit) Addresses {
	if len(edits) == 0 {
		return a
	}
	// Stable, so that of equal ones the last one given is the last.
	slices.SortStableFunc(edits, func(x, y edit) int { return x.address.compare(y.address) })
	var changed Addresses
	chunks := a.chunks
	if len(chunks) == 0 {
		chunks = [][]entry{nil}
	}
	changed.chunks = make([][]entry, 0, len(chunks)+len(edits)/chunkLen+1)
	for i, chunk := range chunks {
		n := len(edits) // those for this chunk: all up to where the next begins
		if i+1 < len(chunks) {
			n, _ = slices.BinarySearchFunc(edits, chunks[i+1][0].address, func(e edit, k key) int { return e.address.compare(k) })
		}
		if n > 0 {
			chunk = merge(chunk, edits[:n])
			edits = edits[n:]
		}
		changed.append(chunk)
	}
	return changed
}

// append adds the entries of a chunk, which may be empty or too long, behind all others.
func (a *Addresses) append(chunk []entry) {
	a.count += len(chunk)
	last := len(a.chunks) - 1
	switch {
	case len(chunk) == 0:
	case last >= 0 && len(a.chunks[last])+len(chunk) <= chunkLen/2:
		a.chunks[last] = slices.Concat(a.chunks[last], chunk)
	case len(chunk) <= chunkLen:
		a.chunks = append(a.chunks, chunk)
	default:
		parts := (len(chunk) + chunkLen - 1) / chunkLen
		for i := range parts { // each in memory of its own, so that none keeps that of the others
			a.chunks = append(a.chunks, slices.Clone(chunk[len(chunk)*i/parts:len(chunk)*(i+1)/parts]))
		}
	}
}

// merge returns a copy of sorted after edits, which are sorted, too.
func merge(sorted []entry, edits []edit) []entry {
	merged := make([]entry, 0, len(sorted)+len(edits))
	for i, e := range edits {
		if i+1 < len(edits) && edits[i+1].address == e.address {
			continue
		}
		n, found := find(sorted, e.address)
		merged = append(merged, sorted[:n]...)
		sorted = sorted[n:]
		if found {
			sorted = sorted[1:]
		}
		if !e.remove {
			merged = append(merged, e.entry)
		}
	}
	return append(merged, sorted...)
}

// Contains says whether address is in the set; one that With refuses never is.
func (a Addresses) Contains(address netip.Addr) bool {
	_, found := a.Find(address)
	return found
}

// Find returns the MAC that address was added with, and whether it is in the set.
func (a Addresses) Find(address netip.Addr) (MAC, bool) {
	if !isIPv6(address) {
		return MAC{}, false
	}
	return a.find(value(address))
}

// Len returns the number of addresses in the set.
func (a Addresses) Len() int { return a.count }

func (a Addresses) find(k key) (MAC, bool) {
	i, found := slices.BinarySearchFunc(a.chunks, k, func(chunk []entry, k key) int { return chunk[0].address.compare(k) })
	if !found {
		if i == 0 {
			return MAC{}, false
		}
		i-- // the last that begins before k
	}
	at, found := find(a.chunks[i], k)
	if !found {
		return MAC{}, false
	}
	return a.chunks[i][at].mac, true
}

func find(sorted []entry, k key) (int, bool) {
	return slices.BinarySearchFunc(sorted, k, func(e entry, k key) int { return e.address.compare(k) })
}

func isIPv6(address netip.Addr) bool {
	return address.Is6() && !address.Is4In6() && address.Zone() == ""
}

// value returns an IPv6 address as the number that it is on the wire.
func value(address netip.Addr) key {
	if !isIPv6(address) {
		panic("ndp: not an IPv6 address: " + address.String())
	}
	b := address.As16()
	return keyAt(b[:], 0)
}

func keyAt(b []byte, offset int) key {
	return key{binary.BigEndian.Uint64(b[offset:]), binary.BigEndian.Uint64(b[offset+8:])}
}

func putKey(b []byte, k key) {
	binary.BigEndian.PutUint64(b, k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
}

// addr returns k as an address.
func (k key) addr() netip.Addr {
	var b [16]byte
	putKey(b[:], k)
	return netip.AddrFrom16(b)
}
