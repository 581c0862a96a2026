// Package link tells which network interfaces and addresses this node has, as a value
// (Snapshot), and delivers a new one whenever they change (Watcher).
//
// It is the only package that speaks netlink (RFC 3549). It never changes an interface, an
// address or a route, and never polls.
package link

import (
	"net/netip"
	"slices"
	"strings"
)

// MAC is an Ethernet address. The zero value is none, as tunnels without one have.
type MAC [6]byte

// String returns the address in the usual form, 02:00:00:00:00:01.
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i, octet := range m {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteByte(digits[octet>>4])
		b.WriteByte(digits[octet&0xf])
	}
	return b.String()
}

// Interface is one network interface of this node. Values are never modified once they are
// part of a Snapshot.
type Interface struct {
	Name string
	// Index is the kernel's number for the interface; one that is deleted and made again
	// under the same name gets another.
	Index int
	MAC   MAC
	// Kind is what the kernel calls the driver's kind (veth, bridge, bond, vlan, vxlan …);
	// "device" is hardware, or something that shows itself as such.
	Kind string
	// Master is the kind of the interface that this one is a port of (bridge, bond, vrf …),
	// or empty.
	Master string
	// Up says that the interface is administratively up and has carrier.
	Up bool
	// Loopback and NoARP are the kernel's flags of these names; an interface with NoARP
	// resolves no neighbors.
	Loopback, NoARP bool
	// Addresses are sorted by prefix.
	Addresses []Address
}

// Address is one address of an interface.
type Address struct {
	// Prefix holds the address itself and the length of its on-link prefix.
	Prefix netip.Prefix
	// Global says that the address is unicast and of global scope; private ones are too.
	Global bool
	// Stable says that the address is neither temporary (RFC 8981) nor tentative, duplicate
	// or deprecated (RFC 4862).
	Stable bool
}

// Snapshot is all interfaces at one moment, sorted by name. It is never modified once
// delivered, so it may be shared between goroutines.
type Snapshot []Interface

// Equal says whether two snapshots are the same in everything that they hold.
func (s Snapshot) Equal(o Snapshot) bool {
	return slices.EqualFunc(s, o, Interface.equal)
}

// Find returns the interface with this name.
func (s Snapshot) Find(name string) (Interface, bool) {
	i, found := slices.BinarySearchFunc(s, name, func(x Interface, name string) int {
		return strings.Compare(x.Name, name)
	})
	if !found {
		return Interface{}, false
	}
	return s[i], true
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && i.Index == o.Index && i.MAC == o.MAC && i.Kind == o.Kind &&
		i.Master == o.Master && i.Up == o.Up && i.Loopback == o.Loopback && i.NoARP == o.NoARP &&
		slices.Equal(i.Addresses, o.Addresses)
}
