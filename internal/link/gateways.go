package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Gateways asks the kernel for the next hops of the default routes, of both families and in all
// routing tables, that leave by the interface with this index, in the network namespace that the
// calling thread is in. They are sorted, without zones and each there once; there are none if no
// default route has a next hop on the interface. The kernel tells all of its routes, so the cost
// grows with their number. What changes meanwhile makes it fail with
// netlink.ErrDumpInterrupted: ask again.
func Gateways(index int) ([]netip.Addr, error) {
	var found []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all := netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		err := netlink.RouteListFilteredIter(family, &all, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			found = append(found, nextHops(r, index)...)
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found), nil
}

// nextHops returns the next hops of r by the interface with this index, if r is a default route.
func nextHops(r netlink.Route, index int) []netip.Addr {
	if r.Type != unix.RTN_UNICAST {
		return nil
	}
	if r.Dst != nil {
		if bits, _ := r.Dst.Mask.Size(); bits > 0 {
			return nil
		}
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
	}
	var found []netip.Addr
	for _, h := range hops {
		if h.LinkIndex != index {
			continue
		}
		if a, ok := netip.AddrFromSlice(nextHop(h)); ok && !a.IsUnspecified() {
			found = append(found, a.Unmap())
		}
	}
	return found
}

// nextHop returns the address of a next hop, which for an IPv4 route may be IPv6 (RFC 8950); nil
// if the destinations are on the link themselves.
func nextHop(h *netlink.NexthopInfo) net.IP {
	if via, ok := h.Via.(*netlink.Via); ok {
		return via.Addr
	}
	return h.Gw
}
