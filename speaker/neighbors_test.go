package main

import (
	"net/netip"
	"testing"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// face is an interface with stable addresses.
func face(name string, mac byte, prefixes ...string) link.Interface {
	i := link.Interface{Name: name, Index: int(mac), MAC: link.MAC{2, 0, 0, 0, 0, mac}, Up: true}
	for _, p := range prefixes {
		prefix := netip.MustParsePrefix(p)
		i.Addresses = append(i.Addresses, link.Address{Prefix: prefix, Global: prefix.Addr().IsGlobalUnicast(), Stable: true})
	}
	return i
}

// said is what the speaker of a node with these interfaces says of it.
func said(node name.NodeName, interfaces ...link.Interface) announce.Node {
	n := announce.Node{Name: node}
	for _, i := range interfaces {
		n.Interfaces = append(n.Interfaces, announce.Interface{Name: i.Name, Up: i.Up, MAC: announce.MAC(i.MAC), Prefixes: prefixes(i)})
	}
	return n
}

func TestANodeIsAskedForOnEachNetworkThatItShares(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ours   []link.Interface
		theirs announce.Node
		want   []string // what is asked for, on which interface
	}{
		"the IPv4 address of the common network": {
			[]link.Interface{face("eth0", 1, "10.0.0.1/24", "fd00::1/64"), face("eth1", 2, "172.16.0.1/24")},
			said("b", face("ens3", 3, "10.0.0.2/24", "fd00::2/64")),
			[]string{"10.0.0.2 on eth0"},
		},
		"both networks, if both are common": {
			[]link.Interface{face("eth0", 1, "10.0.0.1/24"), face("eth1", 2, "172.16.0.1/24")},
			said("b", face("eth0", 3, "10.0.0.2/24"), face("eth1", 4, "172.16.0.2/24")),
			[]string{"10.0.0.2 on eth0", "172.16.0.2 on eth1"},
		},
		"without IPv4 the link-local address": {
			[]link.Interface{face("eth0", 1, "fd00::1/64", "fe80::1/64")},
			said("b", face("eth0", 3, "fd00::2/64", "fe80::2/64")),
			[]string{"fe80::2 on eth0"},
		},
		"a node with another mask, since both may be on one wire": {
			[]link.Interface{face("eth0", 1, "10.0.0.130/24")}, said("b", face("eth0", 3, "10.0.0.2/25")), []string{"10.0.0.2 on eth0"},
		},
		"a node whose address is alone in its network cannot be asked": {
			[]link.Interface{face("eth0", 1, "10.0.0.1/24")}, said("b", face("eth0", 3, "10.0.0.2/32")), nil,
		},
		"no common network, so nobody can be asked, though there is an address to ask for": {
			[]link.Interface{face("eth0", 1, "192.0.2.1/24")}, said("b", face("eth0", 3, "10.0.0.2/24")), nil,
		},
		"no own interface that is up": {nil, said("b", face("eth0", 3, "10.0.0.2/24")), nil},
		"a node of which nothing is known": {
			[]link.Interface{face("eth0", 1, "10.0.0.1/24")}, said("b"), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := neighbors{self: "a", interfaces: func() link.Snapshot { return tc.ours }, log: logr.Discard()}
			n.nodes.Store(&[]announce.Node{said("a", tc.ours...), tc.theirs})
			var got []string
			for _, q := range n.questions("b", netip.Addr{}) {
				got = append(got, q.Neighbor.Address.String()+" on "+q.From.Name)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			}
		})
	}
}
