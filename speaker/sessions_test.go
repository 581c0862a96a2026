package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/link"
)

// linkAddress is an address of an interface, with the length of its prefix.
func linkAddress(prefix string, stable bool) link.Address {
	p := netip.MustParsePrefix(prefix)
	return link.Address{Prefix: p, Global: p.Addr().IsGlobalUnicast(), Stable: stable}
}

func TestNextHopsAndSourceOfASession(t *testing.T) {
	t.Parallel()
	links := link.Snapshot{
		{Name: "eth0", Addresses: []link.Address{
			linkAddress("10.0.0.1/32", true), linkAddress("10.0.0.2/24", true), linkAddress("10.0.0.3/24", true), linkAddress("10.9.0.1/24", true),
			linkAddress("2001:db8::1/128", true), linkAddress("2001:db8::2/64", false), linkAddress("2001:db8::3/64", true), linkAddress("2001:db8::4/64", true),
		}},
		{Name: "eth1", Addresses: []link.Address{linkAddress("192.0.2.1/24", true)}},
		{Name: "eth2"},
		{Name: "eth3", Addresses: []link.Address{linkAddress("169.254.7.1/24", true), linkAddress("198.18.0.1/24", true)}},
	}
	own4, own6 := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("2001:db8::4")
	at := func(router string) announce.Peer { return announce.Peer{Address: netip.MustParseAddr(router)} }
	for name, x := range map[string]struct {
		peer           announce.Peer
		own            []netip.Addr
		before         hops
		v4, v6, source string
	}{
		"the Node's own addresses are taken":            {at("10.0.0.254"), []netip.Addr{own4, own6}, hops{}, "10.0.0.3", "2001:db8::4", "10.0.0.3"},
		"over IPv6, those of that family are":           {at("2001:db8::fe"), []netip.Addr{own4, own6}, hops{}, "10.0.0.3", "2001:db8::4", "2001:db8::4"},
		"no virtual or temporary address is taken":      {at("2001:db8::fe"), []netip.Addr{own4}, hops{}, "10.0.0.3", "2001:db8::3", "2001:db8::3"},
		"a virtual address that is the Node's own is":   {at("2001:db8::fe"), []netip.Addr{netip.MustParseAddr("2001:db8::1")}, hops{}, "10.0.0.2", "2001:db8::1", "2001:db8::1"},
		"the source is on the router's network":         {at("10.9.0.254"), []netip.Addr{own4, own6}, hops{}, "10.0.0.3", "2001:db8::4", "10.9.0.1"},
		"what was taken stays, though a lower one came": {at("2001:db8::fe"), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, hops{v4: own4, source: own6}, "10.0.0.3", "2001:db8::3", "2001:db8::4"},
		"a link without the other family":               {at("192.0.2.254"), []netip.Addr{own4}, hops{}, "192.0.2.1", "", "192.0.2.1"},
		"a router further away":                         {at("198.51.100.1"), []netip.Addr{own4, own6}, hops{}, "10.0.0.3", "2001:db8::4", ""},
		"a router further away, over IPv6":              {at("2001:db8:9::1"), []netip.Addr{own4}, hops{}, "10.0.0.3", "2001:db8::3", "2001:db8::3"},
		"an IPv4 link-local router":                     {at("169.254.7.2"), []netip.Addr{own4}, hops{}, "198.18.0.1", "", "169.254.7.1"},
		"an unnumbered session": {
			announce.Peer{Interface: "eth1", Address: netip.MustParseAddr("fe80::1%eth1")}, []netip.Addr{own4}, hops{}, "192.0.2.1", "", "",
		},
		"an unnumbered session without addresses": {
			announce.Peer{Interface: "eth2", Address: netip.MustParseAddr("fe80::1%eth2")}, []netip.Addr{own4}, hops{}, "", "", "",
		},
		"an interface that is not there": {announce.Peer{Interface: "eth9"}, []netip.Addr{own4}, hops{}, "", "", ""},
	} {
		h := nextHops(x.peer, links, x.own, x.before)
		said := func(a netip.Addr) string {
			if a.IsValid() {
				return a.String()
			}
			return ""
		}
		if said(h.v4) != x.v4 || said(h.v6) != x.v6 || said(h.source) != x.source {
			t.Errorf("%s: got %v, want %q and %q, from %q", name, h, x.v4, x.v6, x.source)
		}
	}
}

func TestALinkThatIsDownForAMomentKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	links := link.Snapshot{
		{Name: "eth0", Addresses: []link.Address{linkAddress("10.0.0.1/24", true), linkAddress("2001:db8::1/64", true)}},
		{Name: "eth1", Addresses: []link.Address{linkAddress("192.0.2.1/24", true)}},
	}
	down := link.Snapshot{{Name: "eth0", Addresses: links[0].Addresses[:1]}}
	router := announce.Peer{Address: netip.MustParseAddr("10.0.0.254")}
	before := nextHops(router, links, own, hops{})
	if got := nextHops(router, down, own, before); got != before {
		t.Errorf("down: got %v, want %v", got, before)
	}
	// So does one that has lost its addresses with that, though another interface has the node's own.
	router = announce.Peer{Address: netip.MustParseAddr("192.0.2.254")}
	before = nextHops(router, links, own, hops{})
	links[0].Up = true
	links[1].Addresses = nil
	if got := nextHops(router, links, own, before); got != before {
		t.Errorf("down without addresses: got %v, want %v", got, before)
	}
	links[1].Up = true
	if got := nextHops(router, links, own, before); got.v4 != own[0] {
		t.Errorf("up without addresses: got %v, want the node's own", got)
	}
}

func TestWhatASpeakerSaysOfItsSessions(t *testing.T) {
	t.Parallel()
	since := time.Unix(1000, 999)
	router, found := netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fe80::1%eth0")
	peers := []bgp.PeerState{
		{Name: "up", Address: router, State: bgp.Established, Since: since, IPv4: bgp.Carried, IPv6: bgp.NoNextHop, ASN: 64513, Flaps: 2, Advertised: bgp.Advertised{IPv4: 3}},
		{Name: "down", Address: found, State: bgp.Active, Since: since, LastError: "connect: refused", IPv4: bgp.Carried, IPv6: bgp.Carried},
		{Name: "searching", State: bgp.Idle, Since: since},
	}
	watched := []bfd.Status{{
		Session: bfd.Session{Peer: router}, State: bfd.Up, Since: since, RemoteState: bfd.Up,
		TransmitInterval: 300 * time.Millisecond, ReceiveInterval: 200 * time.Millisecond, DetectionTime: 600 * time.Millisecond,
	}}
	at := second(since)
	want := []v1alpha1.SpeakerPeer{
		{
			Name: "up", Address: "10.0.0.254", State: "Established", Since: at, PeerASN: 64513, Flaps: 2, AdvertisedIPv4: 3, BFD: "Up",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, NoNextHop: []corev1.IPFamily{corev1.IPv6Protocol},
			BFDSession: &v1alpha1.SpeakerBFDSession{Since: at, RemoteState: "Up", TransmitInterval: 300, ReceiveInterval: 200, DetectionTime: 600},
		},
		{Name: "down", Address: "fe80::1%eth0", State: "Active", Since: at, LastError: "connect: refused"},
		{Name: "searching", State: "Idle", Since: at},
	}
	if got := speakerPeers(peers, watched); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := established(peers); !reflect.DeepEqual(got, []announce.Session{{Peer: "up", IPv4: announce.Carried, IPv6: announce.NoNextHop}}) {
		t.Errorf("established: %+v", got)
	}
}
