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

func TestNextHopsAreTheFirstStableAddressesOfTheSessionsInterface(t *testing.T) {
	t.Parallel()
	address := func(prefix string, stable bool) link.Address {
		return link.Address{Prefix: netip.MustParsePrefix(prefix), Global: true, Stable: stable}
	}
	links := link.Snapshot{
		{Name: "eth0", Addresses: []link.Address{address("10.0.0.1/24", true), address("10.0.0.2/24", true), address("2001:db8::9/64", false), address("2001:db8::1/64", true)}},
		{Name: "eth1", Addresses: []link.Address{address("192.0.2.1/24", true)}},
		{Name: "eth2"},
	}
	own := netip.MustParseAddr("10.0.0.1")
	for name, x := range map[string]struct {
		peer   announce.Peer
		v4, v6 string
	}{
		"a router on the link":                        {announce.Peer{Address: netip.MustParseAddr("10.0.0.254")}, "10.0.0.1", "2001:db8::1"},
		"a router on a link without the other family": {announce.Peer{Address: netip.MustParseAddr("192.0.2.254")}, "192.0.2.1", ""},
		"a router further away":                       {announce.Peer{Address: netip.MustParseAddr("198.51.100.1")}, "10.0.0.1", "2001:db8::1"},
		"an unnumbered session":                       {announce.Peer{Interface: "eth1", Address: netip.MustParseAddr("fe80::1%eth1")}, "192.0.2.1", ""},
		"an unnumbered session without addresses":     {announce.Peer{Interface: "eth2", Address: netip.MustParseAddr("fe80::1%eth2")}, "", ""},
		"an interface that is not there":              {announce.Peer{Interface: "eth9"}, "", ""},
	} {
		h := nextHops(x.peer, links, own, hops{})
		said := func(a netip.Addr) string {
			if a.IsValid() {
				return a.String()
			}
			return ""
		}
		if said(h.v4) != x.v4 || said(h.v6) != x.v6 {
			t.Errorf("%s: got %v, want %q and %q", name, h, x.v4, x.v6)
		}
	}
	// A link that is down for a moment keeps what it had.
	down := link.Snapshot{{Name: "eth0", Addresses: links[0].Addresses[:2]}}
	router := announce.Peer{Address: netip.MustParseAddr("10.0.0.254")}
	before := nextHops(router, links, own, hops{})
	if got := nextHops(router, down, own, before); got != before {
		t.Errorf("down: got %v, want %v", got, before)
	}
	// So does one that has lost its addresses with that, though another interface has the node's own.
	router = announce.Peer{Address: netip.MustParseAddr("192.0.2.254")}
	before = nextHops(router, links, own, hops{})
	for _, i := range []int{0, 1, 2} {
		links[i].Up = i != 1
	}
	links[1].Addresses = nil
	if got := nextHops(router, links, own, before); got != before {
		t.Errorf("down without addresses: got %v, want %v", got, before)
	}
	links[1].Up = true
	if got := nextHops(router, links, own, before); got.v4 != own {
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
