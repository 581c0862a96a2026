package arp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Addresses is a set of IPv4 addresses. It is a value that never changes, so it may be
// shared between goroutines; With and Without return a changed copy, at the cost of copying
// four bytes an address. The zero value is the empty set.
type Addresses struct {
	sorted []uint32
}

// With returns the set with address added. It panics if address is not IPv4.
func (a Addresses) With(address netip.Addr) Addresses {
	v := value(address)
	i, found := slices.BinarySearch(a.sorted, v)
	if found {
		return a
	}
	sorted := make([]uint32, 0, len(a.sorted)+1)
	sorted = append(sorted, a.sorted[:i]...)
	sorted = append(sorted, v)
	return Addresses{append(sorted, a.sorted[i:]...)}
}

// Without returns the set with address removed. It panics if address is not IPv4.
func (a Addresses) Without(address netip.Addr) Addresses {
	i, found := slices.BinarySearch(a.sorted, value(address))
	if !found {
		return a
	}
	return Addresses{slices.Delete(slices.Clone(a.sorted), i, i+1)}
}

// Contains says whether address is in the set; one that is not IPv4 never is.
func (a Addresses) Contains(address netip.Addr) bool {
	return address.Is4() && a.contains(value(address))
}

// Len returns the number of addresses in the set.
func (a Addresses) Len() int { return len(a.sorted) }

func (a Addresses) contains(v uint32) bool {
	_, found := slices.BinarySearch(a.sorted, v)
	return found
}

// value returns an IPv4 address as the number that it is on the wire.
func value(address netip.Addr) uint32 {
	if !address.Is4() {
		panic("arp: not an IPv4 address: " + address.String())
	}
	b := address.As4()
	return binary.BigEndian.Uint32(b[:])
}
