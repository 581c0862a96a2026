package link

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNextHopsAreThoseOfDefaultRoutesByTheInterface(t *testing.T) {
	t.Parallel()
	const eth0, eth1 = 2, 3
	gateway, second := net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)
	via := &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: net.ParseIP("fe80::1")}
	network := func(text string) *net.IPNet {
		_, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	tests := []struct {
		name  string
		route netlink.Route
		want  []string
	}{
		{"a default route has its gateway", netlink.Route{LinkIndex: eth0, Dst: network("0.0.0.0/0"), Gw: gateway}, []string{"192.0.2.1"}},
		{"a route without a destination is one", netlink.Route{LinkIndex: eth0, Gw: gateway}, []string{"192.0.2.1"}},
		{"an IPv6 gateway is link-local", netlink.Route{LinkIndex: eth0, Dst: network("::/0"), Gw: net.ParseIP("fe80::1")}, []string{"fe80::1"}},
		{"an IPv4 route may have an IPv6 gateway", netlink.Route{LinkIndex: eth0, Via: via}, []string{"fe80::1"}},
		{"a default route by another interface does not count", netlink.Route{LinkIndex: eth1, Gw: gateway}, nil},
		{"a route to a network does not count", netlink.Route{LinkIndex: eth0, Dst: network("0.0.0.0/1"), Gw: gateway}, nil},
		{"a default route without a gateway has none", netlink.Route{LinkIndex: eth0, Dst: network("0.0.0.0/0")}, nil},
		{"a blackhole has none", netlink.Route{Type: unix.RTN_BLACKHOLE, LinkIndex: eth0, Gw: gateway}, nil},
		{"of several paths those by the interface count", netlink.Route{MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: eth0, Gw: gateway}, {LinkIndex: eth1, Gw: net.IPv4(198, 51, 100, 1)}, {LinkIndex: eth0, Gw: second}, {LinkIndex: eth0, Via: via}, {LinkIndex: eth0},
		}}, []string{"192.0.2.1", "192.0.2.2", "fe80::1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.route.Type == 0 {
				tt.route.Type = unix.RTN_UNICAST
			}
			var want []netip.Addr
			for _, text := range tt.want {
				want = append(want, netip.MustParseAddr(text))
			}
			if got := nextHops(tt.route, eth0); !slices.Equal(got, want) {
				t.Errorf("nextHops() = %v, want %v", got, want)
			}
		})
	}
}
