package arp

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Entry is an address of a set, and what is said about it.
type Entry struct {
	// Address is IPv4.
	Address netip.Addr
	// MAC is the hardware address to give; the zero value is the interface's own. A deputy
	// gives that of the owner for whom it answers.
	MAC MAC
}

// Addresses is a set of IPv4 addresses, each with what is said about it. It is a value that
// never changes, so it may be shared between goroutines; With and Without return a changed copy,
// at the cost of copying ten bytes an address, however many of them change. The zero value is
// the empty set.
type Addresses struct {
	sorted []uint32
	macs   []MAC // of the address at the same place in sorted
}

// With returns the set with entries added, in place of those for the same addresses; of
// several entries for one address the last counts. It panics if an address is not IPv4.
func (a Addresses) With(entries ...Entry) Addresses {
	added := slices.Clone(entries)
	slices.SortStableFunc(added, func(x, y Entry) int { return cmp.Compare(value(x.Address), value(y.Address)) })
	changed := newAddresses(len(a.sorted) + len(added))
	rest := a
	for i, e := range added {
		if i+1 < len(added) && added[i+1].Address == e.Address {
			continue
		}
		v := value(e.Address)
		at, found := slices.BinarySearch(rest.sorted, v)
		changed.append(rest.cut(0, at))
		changed.append(Addresses{[]uint32{v}, []MAC{e.MAC}})
		if found {
			at++
		}
		rest = rest.cut(at, len(rest.sorted))
	}
	changed.append(rest)
	return changed
}

// Without returns the set with addresses removed, those that it contains. It panics if one is
// not IPv4.
func (a Addresses) Without(addresses ...netip.Addr) Addresses {
	removed := make([]uint32, 0, len(addresses))
	for _, address := range addresses {
		removed = append(removed, value(address))
	}
	slices.Sort(removed)
	changed := newAddresses(len(a.sorted))
	rest := a
	for _, v := range removed {
		at, found := slices.BinarySearch(rest.sorted, v)
		if !found {
			continue
		}
		changed.append(rest.cut(0, at))
		rest = rest.cut(at+1, len(rest.sorted))
	}
	changed.append(rest)
	return changed
}

// Find returns the MAC that address was added with, and whether it is in the set; one that is
// not IPv4 never is.
func (a Addresses) Find(address netip.Addr) (MAC, bool) {
	if !address.Is4() {
		return MAC{}, false
	}
	return a.find(value(address))
}

// Contains says whether address is in the set.
func (a Addresses) Contains(address netip.Addr) bool {
	_, found := a.Find(address)
	return found
}

// Len returns the number of addresses in the set.
func (a Addresses) Len() int { return len(a.sorted) }

func (a Addresses) find(v uint32) (MAC, bool) {
	at, found := slices.BinarySearch(a.sorted, v)
	if !found {
		return MAC{}, false
	}
	return a.macs[at], true
}

func newAddresses(capacity int) Addresses {
	return Addresses{make([]uint32, 0, capacity), make([]MAC, 0, capacity)}
}

func (a *Addresses) append(o Addresses) {
	a.sorted, a.macs = append(a.sorted, o.sorted...), append(a.macs, o.macs...)
}

func (a Addresses) cut(from, to int) Addresses {
	return Addresses{a.sorted[from:to], a.macs[from:to]}
}

// value returns an IPv4 address as the number that it is on the wire.
func value(address netip.Addr) uint32 {
	if !address.Is4() {
		panic("arp: not an IPv4 address: " + address.String())
	}
	b := address.As4()
	return binary.BigEndian.Uint32(b[:])
}

// fromValue is the reverse of value.
func fromValue(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
