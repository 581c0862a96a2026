package link

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// List asks the kernel for all interfaces and addresses of the network namespace that the
// calling thread is in. What changes meanwhile makes it fail with
// netlink.ErrDumpInterrupted: ask again.
func List() (Snapshot, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return snapshot(links, addresses), nil
}

// snapshot turns what netlink said into values of this package.
func snapshot(links []netlink.Link, addresses []netlink.Addr) Snapshot {
	byIndex := map[int][]Address{}
	for _, a := range addresses {
		if address, ok := addressOf(a); ok {
			byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], address)
		}
	}
	kinds := map[int]string{}
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	s := make(Snapshot, 0, len(links))
	for _, l := range links {
		i := interfaceOf(l)
		i.Master = kinds[l.Attrs().MasterIndex]
		i.Addresses = byIndex[i.Index]
		slices.SortFunc(i.Addresses, func(a, b Address) int {
			return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
		})
		s = append(s, i)
	}
	slices.SortFunc(s, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
	return s
}

func interfaceOf(l netlink.Link) Interface {
	const upWithCarrier = unix.IFF_UP | unix.IFF_RUNNING
	attributes := l.Attrs()
	i := Interface{
		Name: attributes.Name, Index: attributes.Index, Kind: l.Type(),
		Up:       attributes.RawFlags&upWithCarrier == upWithCarrier,
		Loopback: attributes.RawFlags&unix.IFF_LOOPBACK != 0,
		NoARP:    attributes.RawFlags&unix.IFF_NOARP != 0,
	}
	if len(attributes.HardwareAddr) == len(i.MAC) {
		i.MAC = MAC(attributes.HardwareAddr)
	}
	return i
}

func addressOf(a netlink.Addr) (Address, bool) {
	unstable := unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
	prefix, ok := prefixOf(a.IPNet)
	if !ok {
		return Address{}, false
	}
	if prefix.Addr().Is6() { // in IPv4 the same flag marks a second address of a prefix
		unstable |= unix.IFA_F_TEMPORARY
	}
	return Address{
		Prefix: prefix,
		Global: a.Scope == unix.RT_SCOPE_UNIVERSE && prefix.Addr().IsGlobalUnicast(),
		Stable: a.Flags&unstable == 0,
	}, true
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), bits), ok
}
