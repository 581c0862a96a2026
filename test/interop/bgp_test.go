//go:build e2e

package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
)

func number32(n uint32) *uint32 { return &n }

func TestRoutesReachFRR(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	four, six, inner := n.router(64513), n.router(4200000001), n.router(64512)
	four.start(four.node4, 64512)
	six.start(six.node6, 64500)
	inner.start(inner.node4, 64512)
	n.setPeers(four.peer4(64512), six.peer6(64500), inner.peer4(64512))
	all := announce.Attributes{LocalPref: number32(300), MED: number32(50), Prepend: number32(2), Communities: []announce.Community{
		{Global: 64512, Local1: 7}, {Global: 0xffff, Local1: 0xff01}, {Large: true, Global: 4200000001, Local1: 1, Local2: 2},
	}}
	const words = "64512:7 no-export 4200000001:1:2"
	n.set("all", route("192.0.2.1/32", all, "r1", "r2", "r3"), route("2001:db8:1::1/128", all, "r1", "r2", "r3"))
	n.set("two", route("192.0.2.2/32", announce.Attributes{}, "r1"), route("192.0.2.2/32", announce.Attributes{MED: number32(0)}, "r3"))
	n.set("aggregate-1", route("198.51.100.0/24", announce.Attributes{}, "r1"))
	n.set("aggregate-2", route("198.51.100.0/24", announce.Attributes{}, "r1"))
	n.sync()

	four.waitPrefixes("192.0.2.1/32", "192.0.2.2/32", "198.51.100.0/24", "2001:db8:1::1/128")
	four.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512 64512 64512 med 50 "+words)
	four.waitRoute("192.0.2.2/32", "via 10.77.1.1 path 64512")
	four.waitRoute("2001:db8:1::1/128", "via fd77:1::1 path 64512 64512 64512 med 50 "+words)
	six.waitPrefixes("192.0.2.1/32", "2001:db8:1::1/128")
	six.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64500 64500 64500 med 50 "+words)
	six.waitRoute("2001:db8:1::1/128", "via fd77:2::1 path 64500 64500 64500 med 50 "+words)
	inner.waitPrefixes("192.0.2.1/32", "192.0.2.2/32", "2001:db8:1::1/128")
	inner.waitRoute("192.0.2.1/32", "via 10.77.3.1 path Local med 50 pref 300 "+words)
	inner.waitRoute("192.0.2.2/32", "via 10.77.3.1 path Local med 0 pref 100")
	inner.waitRoute("2001:db8:1::1/128", "via fd77:3::1 path Local med 50 pref 300 "+words)

	n.set("all", route("192.0.2.1/32", announce.Attributes{}, "r2"))
	n.set("aggregate-1")
	six.waitPrefixes("192.0.2.1/32")
	six.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64500")
	four.waitPrefixes("192.0.2.2/32", "198.51.100.0/24")
	inner.waitPrefixes("192.0.2.2/32")
	n.set("aggregate-2")
	four.waitPrefixes("192.0.2.2/32")
}

func TestAFamilyGoesOverASessionOfTheOther(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	able, unable, four := n.router(64513), n.router(64514), n.router(64515)
	able.start(able.node6, 64512, fmt.Sprintf(" neighbor %s capability extended-nexthop", able.node6))
	unable.start(unable.node6, 64512)
	four.start(four.node4, 64512)
	peers := []announce.Peer{able.peer6(64512), unable.peer6(64512), four.peer4(64512)}
	for i := range peers {
		peers[i].NextHop4, peers[i].NextHop6 = netip.Addr{}, netip.Addr{}
	}
	n.setPeers(peers...)
	n.set("both", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2", "r3"), route("2001:db8:1::1/128", announce.Attributes{}, "r1", "r2", "r3"))
	n.sync()

	// RFC 8950 where the router can, else not at all.
	able.waitRoute("192.0.2.1/32", "via fd77:1::1 path 64512")
	unable.waitPrefixes("2001:db8:1::1/128")
	four.waitPrefixes("192.0.2.1/32")
	for peer, want := range map[string][2]bgp.Carriage{
		"r1": {bgp.Carried, bgp.Carried}, "r2": {bgp.NoNextHop, bgp.Carried}, "r3": {bgp.Carried, bgp.NoNextHop},
	} {
		for _, state := range n.call(request{Call: "Peers"}) {
			if string(state.Name) == peer && [2]bgp.Carriage{state.IPv4, state.IPv6} != want {
				t.Errorf("%s: %+v, want %v", peer, state, want)
			}
		}
	}

	// With addresses on the interfaces all goes everywhere, and no session ends for it.
	since := n.peer("r2").Since
	n.setPeers(able.peer6(64512), unable.peer6(64512), four.peer4(64512))
	able.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	unable.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64512")
	four.waitRoute("2001:db8:1::1/128", "via fd77:3::1 path 64512")
	if again := n.peer("r2").Since; again != since {
		t.Errorf("session since %s, was %s", again, since)
	}
}

func TestPasswordSourceAndMultihop(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	locked, far := n.router(64513), n.router(64514)
	locked.start(locked.node4, 64512, fmt.Sprintf(" neighbor %s password sesame", locked.node4))
	// The far router is known by its loopback address, and knows the node by one.
	ip(t, "-n", n.namespace, "address", "add", "10.99.0.1/32", "dev", "lo")
	ip(t, "-n", n.namespace, "route", "add", "10.99.0.2/32", "via", far.own4.String())
	ip(t, "-n", far.namespace, "address", "add", "10.99.0.2/32", "dev", "lo")
	ip(t, "-n", far.namespace, "route", "add", "10.99.0.1/32", "via", far.node4.String())
	far.start(netip.MustParseAddr("10.99.0.1"), 64512, " neighbor 10.99.0.1 ebgp-multihop 2", " neighbor 10.99.0.1 update-source 10.99.0.2")
	secret, remote := locked.peer4(64512), far.peer4(64512)
	secret.Password = "wrong"
	remote.Address, remote.Source, remote.MultiHop = netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("10.99.0.1"), true
	n.setPeers(secret, remote)
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2"))
	n.sync()
	far.waitRoute("192.0.2.1/32", "via 10.99.0.1 path 64512")
	eventually(t, "wrong password", func() string { return n.peer("r1").LastError }, "connect: i/o timeout")
	since := n.peer("r2").Since
	secret.Password = "sesame"
	n.setPeers(secret, remote)
	locked.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	if again := n.peer("r2").Since; again != since {
		t.Errorf("the other session since %s, was %s", again, since)
	}
}

func TestAPeerThatDoesNotAnswerDelaysNobody(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good, hole, stuck := n.router(64513), n.router(64514), n.router(64515)
	good.start(good.node4, 64512)
	stuck.start(stuck.node4, 64512)
	// What goes to the black hole has an Ethernet address that nobody has.
	ip(t, "-n", n.namespace, "neighbor", "add", hole.own4.String(), "lladdr", "02:00:00:00:00:99", "dev", hole.device)
	n.setPeers(hole.peer4(64512), stuck.peer4(64512), good.peer4(64512))
	n.sync()
	n.waitState("r3", bgp.Established)
	n.waitState("r1", bgp.Established)
	must(t, stuck.bgpd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = stuck.bgpd.Process.Signal(syscall.SIGCONT) })

	const many = 5000
	var routes []announce.Route
	for i := range many {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), 32)
		routes = append(routes, route(prefix.String(), announce.Attributes{}, "r1", "r2", "r3"))
	}
	start := time.Now()
	n.call(request{Call: "Many", Routes: routes})
	t.Logf("%d calls of Set took %s", many, time.Since(start))
	eventually(t, "routes", func() string { return fmt.Sprint(strings.Count(good.prefixes(), "/")) }, fmt.Sprint(many))
	t.Logf("%d routes arrived after %s", many, time.Since(start))
	eventually(t, "hold timer", func() string { return n.peer("r3").LastError }, "hold timer expired: nothing heard from the peer")
	if state := n.peer("r1"); state.State != bgp.Established {
		t.Errorf("good peer: %+v", state)
	}
	if state := n.peer("r2"); state.State != bgp.Active {
		t.Errorf("black hole: %+v", state)
	}
}

func TestNothingOfAPeerIsPassedOn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	giver, other := n.router(64513), n.router(64514)
	giver.start(giver.node4, 64512)
	other.start(other.node4, 64512)
	n.setPeers(giver.peer4(64512), other.peer4(64512))
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r2"))
	n.sync()
	n.waitState("r1", bgp.Established)
	eventually(t, "routes given", func() string {
		var state map[string]struct {
			AddressFamilyInfo map[string]struct{ SentPrefixCounter int }
		}
		giver.show("bgp neighbors "+giver.node4.String(), &state)
		return fmt.Sprint(state[giver.node4.String()].AddressFamilyInfo["ipv4Unicast"].SentPrefixCounter)
	}, "1")
	other.waitPrefixes("192.0.2.1/32")
	if got := giver.prefixes(); got != "" {
		t.Errorf("the giver got %s", got)
	}
}

func TestARemovedPeerIsToldSo(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	going, staying := n.router(64513), n.router(64514)
	going.start(going.node4, 64512)
	staying.start(staying.node4, 64512)
	n.setPeers(going.peer4(64512), staying.peer4(64512))
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2"))
	n.sync()
	going.waitPrefixes("192.0.2.1/32")
	staying.waitPrefixes("192.0.2.1/32")
	n.setPeers(staying.peer4(64512))
	going.waitPrefixes()
	lastReset := func(r *router) func() string {
		return func() string {
			var state map[string]struct{ LastNotificationReason string }
			r.show("bgp neighbors "+r.node4.String(), &state)
			return state[r.node4.String()].LastNotificationReason
		}
	}
	eventually(t, "notification", lastReset(going), "Cease/Peer De-configured")
	if state := n.peer("r2"); state.State != bgp.Established {
		t.Errorf("the other session: %+v", state)
	}
	// The end of the speaker.
	n.in.Close()
	eventually(t, "notification", lastReset(staying), "Cease/Peer De-configured")
	staying.waitPrefixes()
}
