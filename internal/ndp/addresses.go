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
// return a changed copy, at the cost of copying 24 bytes an address, however many change at
// once. The zero value is the empty set.
type Addresses struct {
	sorted []entry
}

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

// With returns the set with entries added; one whose address is already in the set replaces
// that, and a later one an earlier one. It panics if an address is not IPv6, is mapped from
// IPv4 or has a zone.
func (a Addresses) With(entries ...Entry) Addresses {
	added := make([]entry, 0, len(entries))
	for _, e := range entries {
		added = append(added, entry{value(e.Address), e.MAC})
	}
	// Stable, so that of equal ones the last one given is the last.
	slices.SortStableFunc(added, func(x, y entry) int { return x.address.compare(y.address) })
	sorted := make([]entry, 0, len(a.sorted)+len(added))
	rest := a.sorted
	for i, e := range added {
		if i+1 < len(added) && added[i+1].address == e.address {
			continue
		}
		n, found := find(rest, e.address)
		sorted = append(append(sorted, rest[:n]...), e)
		rest = rest[n:]
		if found {
			rest = rest[1:]
		}
	}
	return Addresses{append(sorted, rest...)}
}

// Without returns the set with addresses removed. It panics where With would.
func (a Addresses) Without(addresses ...netip.Addr) Addresses {
	gone := make([]key, 0, len(addresses))
	for _, x := range addresses {
		gone = append(gone, value(x))
	}
	slices.SortFunc(gone, key.compare)
	sorted := make([]entry, 0, len(a.sorted))
	rest := a.sorted
	for _, k := range gone {
		n, found := find(rest, k)
		sorted = append(sorted, rest[:n]...)
		rest = rest[n:]
		if found {
			rest = rest[1:]
		}
	}
	return Addresses{append(sorted, rest...)}
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
func (a Addresses) Len() int { return len(a.sorted) }

func (a Addresses) find(k key) (MAC, bool) {
	i, found := find(a.sorted, k)
	if !found {
		return MAC{}, false
	}
	return a.sorted[i].mac, true
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
