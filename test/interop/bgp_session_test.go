//go:build e2e

package interop

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
)

// configure gives a running daemon of FRR lines of configuration.
func (r *router) configure(daemon string, lines ...string) {
	r.t.Helper()
	args := []string{"--vty_socket", r.dir, "-d", daemon, "-c", "configure terminal"}
	for _, line := range lines {
		args = append(args, "-c", line)
	}
	if out, err := exec.Command("vtysh", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("configure %s of %s: %v: %s", daemon, r.name, err, out)
	}
}

// waitError waits until there is no session with a peer, for a reason that contains want.
func (n *node) waitError(peer name.PeerName, want string) {
	n.t.Helper()
	eventually(n.t, "error of "+string(peer)+" with: "+want, func() string {
		state := n.peer(peer)
		if state.State == bgp.Established || state.LastError == "" || !strings.Contains(state.LastError, want) {
			return fmt.Sprintf("%s: %s", state.State, state.LastError)
		}
		return ""
	}, "")
}

// untouched checks that the session with a peer is the one that it was.
func (n *node) untouched(before bgp.PeerState) {
	n.t.Helper()
	if now := n.peer(before.Name); now.State != bgp.Established || now.Since != before.Since || now.Flaps != before.Flaps {
		n.t.Errorf("session with %s: was %+v, is %+v", before.Name, before, now)
	}
}

// established is how many sessions with the node the router has had.
func (r *router) established() int {
	r.t.Helper()
	var state map[string]struct{ ConnectionsEstablished int }
	r.show("bgp neighbors "+r.node4.String(), &state)
	return state[r.node4.String()].ConnectionsEstablished
}

func TestTTLSecurity(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	both, inner, six, onlyTheirs, onlyOurs := n.router(64513), n.router(64512), n.router(64514), n.router(64515), n.router(64516)
	secured := func(neighbor netip.Addr) string { return fmt.Sprintf(" neighbor %s ttl-security hops 1", neighbor) }
	both.start(both.node4, 64512, secured(both.node4))
	inner.start(inner.node4, 64512, secured(inner.node4))
	six.start(six.node6, 64512, secured(six.node6))
	onlyTheirs.start(onlyTheirs.node4, 64512, secured(onlyTheirs.node4))
	onlyOurs.start(onlyOurs.node4, 64512)
	peers := []announce.Peer{both.peer4(64512), inner.peer4(64512), six.peer6(64512), onlyTheirs.peer4(64512), onlyOurs.peer4(64512)}
	for i := range peers {
		if peers[i].Name != name.PeerName(onlyTheirs.name) {
			peers[i].TTLSecurity = 1
		}
	}
	n.setPeers(peers...)
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2", "r3", "r4", "r5"))
	n.sync()
	both.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	inner.waitRoute("192.0.2.1/32", "via 10.77.2.1 path Local pref 100")
	six.waitRoute("192.0.2.1/32", "via 10.77.3.1 path 64512")
	// One of the two sides hears nothing, and both give up when the hold time ends. To us that is the hold timer, or a KEEPALIVE
	// that does not come.
	n.waitError("r4", "")
	if state := n.peer("r5"); state.State == bgp.Established || state.Flaps > 0 {
		t.Errorf("a session without TTL security of the router: %+v", state)
	}
	for _, r := range []*router{onlyTheirs, onlyOurs} {
		if times := r.established(); times != 0 {
			t.Errorf("%s had %d sessions", r.name, times)
		}
	}
	good := n.peer("r1")

	// With the same setting on both sides they come up.
	peers[3].TTLSecurity, peers[4].TTLSecurity = 1, 0
	n.setPeers(peers...)
	onlyTheirs.waitRoute("192.0.2.1/32", "via 10.77.4.1 path 64512")
	onlyOurs.waitRoute("192.0.2.1/32", "via 10.77.5.1 path 64512")
	n.untouched(good)
}

func TestASNumbersThatAreNotKnownBefore(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	external, internal, local := n.router(4200000001), n.router(64512), n.router(64514)
	notExternal, notInternal := n.router(64512), n.router(64515)
	for _, r := range []*router{external, internal, notExternal, notInternal} {
		r.start(r.node4, 64512)
	}
	local.start(local.node4, 64599)
	dynamic := func(r *router, d announce.DynamicASN) announce.Peer {
		p := r.peer4(64512)
		p.PeerASN, p.Dynamic = 0, d
		return p
	}
	masked := dynamic(local, announce.External)
	masked.LocalASN = 64599
	peers := []announce.Peer{
		dynamic(external, announce.External), dynamic(internal, announce.Internal), masked,
		dynamic(notExternal, announce.External), dynamic(notInternal, announce.Internal),
	}
	n.setPeers(peers...)
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2", "r3", "r4", "r5"))
	n.sync()
	external.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	internal.waitRoute("192.0.2.1/32", "via 10.77.2.1 path Local pref 100")
	local.waitRoute("192.0.2.1/32", "via 10.77.3.1 path 64599")
	for peer, want := range map[name.PeerName]uint32{"r1": 4200000001, "r2": 64512, "r3": 64514} {
		if got := n.peer(peer).ASN; got != want {
			t.Errorf("AS number of %s: %d, want %d", peer, got, want)
		}
	}
	n.waitError("r4", "peer has our own AS number 64512, and dynamicASN is external")
	n.waitError("r5", "bad peer AS")
	for _, r := range []*router{notExternal, notInternal} {
		if got := r.prefixes(); got != "" {
			t.Errorf("%s got %s", r.name, got)
		}
	}
}

func TestAPasswordIsRotated(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	turning, other := n.router(64513), n.router(64514)
	password := func(r *router, key string) string { return fmt.Sprintf("neighbor %s password %s", r.node4, key) }
	turning.start(turning.node4, 64512, " "+password(turning, "one"))
	other.start(other.node4, 64512, " "+password(other, "sesame"))
	ours, theirs := turning.peer4(64512), other.peer4(64512)
	ours.Password, theirs.Password = "one", "sesame"
	n.setPeers(ours, theirs)
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1", "r2"))
	n.sync()
	turning.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	other.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64512")
	before := n.peer("r2")

	// The router first.
	turning.configure("bgpd", "router bgp 64513", password(turning, "two"))
	n.waitError("r1", "")
	ours.Password = "two"
	n.setPeers(ours, theirs)
	turning.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	n.waitState("r1", bgp.Established)

	// We first.
	ours.Password = "three"
	n.setPeers(ours, theirs)
	n.waitError("r1", "connect: i/o timeout")
	turning.configure("bgpd", "router bgp 64513", password(turning, "three"))
	n.waitState("r1", bgp.Established)
	turning.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512")
	n.untouched(before)
}

func TestLinkBandwidth(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	outer, inner, wide := n.router(64513), n.router(64512), n.router(4200000001)
	outer.start(outer.node4, 64512)
	inner.start(inner.node4, 64512)
	wide.start(wide.node4, 4200000000)
	n.setPeers(outer.peer4(64512), inner.peer4(64512), wide.peer4(4200000000))
	n.set("plain", route("192.0.2.1/32", announce.Attributes{Weight: 3}, "r1", "r2", "r3"))
	n.set("transitive", route("192.0.2.2/32", announce.Attributes{Weight: 5, Transitive: true}, "r1", "r2", "r3"))
	n.set("none", route("192.0.2.3/32", announce.Attributes{}, "r1", "r2", "r3"))
	n.set("mixed", route("192.0.2.4/32", announce.Attributes{Weight: 7, Transitive: true}, "r1"), route("192.0.2.4/32", announce.Attributes{}, "r2"))
	n.sync()
	for r, from := range map[*router]string{
		outer: "via 10.77.1.1 path 64512", inner: "via 10.77.2.1 path Local pref 100", wide: "via 10.77.3.1 path 4200000000",
	} {
		r.waitRoute("192.0.2.1/32", from+" LB:64512:375000 (3.000 Mbps)")
		r.waitRoute("192.0.2.2/32", from+" LB:64512:625000 (5.000 Mbps)")
		r.waitRoute("192.0.2.3/32", from)
	}
	outer.waitRoute("192.0.2.4/32", "via 10.77.1.1 path 64512 LB:64512:875000 (7.000 Mbps)")
	inner.waitRoute("192.0.2.4/32", "via 10.77.2.1 path Local pref 100")
	n.set("plain", route("192.0.2.1/32", announce.Attributes{Weight: 1}, "r1", "r2", "r3"))
	outer.waitRoute("192.0.2.1/32", "via 10.77.1.1 path 64512 LB:64512:125000 (1.000 Mbps)")
}

// A node that is about to go says so, and every router takes another path if it has one (RFC 8326).
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	inner, outer := n.router(64512), n.router(64513)
	inner.start(inner.node4, 64512)
	outer.start(outer.node4, 64512)
	n.setPeers(inner.peer4(64512), outer.peer4(64512))
	routes := func(a announce.Attributes) {
		n.set("a", route("192.0.2.1/32", a, "r1", "r2"), route("2001:db8:1::1/128", a, "r1", "r2"))
	}
	routes(announce.Attributes{LocalPref: number32(300)})
	n.sync()
	inner.waitRoute("192.0.2.1/32", "via 10.77.1.1 path Local pref 300")
	outer.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64512")
	before := []bgp.PeerState{n.peer("r1"), n.peer("r2")}
	routes(announce.Attributes{LocalPref: number32(0), Communities: []announce.Community{{Global: 0xffff}}})
	inner.waitRoute("192.0.2.1/32", "via 10.77.1.1 path Local pref 0 graceful-shutdown")
	inner.waitRoute("2001:db8:1::1/128", "via fd77:1::1 path Local pref 0 graceful-shutdown")
	// LOCAL_PREF does not go over eBGP: FRR makes 0 of the community by itself (RFC 8326 section 4.2).
	outer.waitRoute("192.0.2.1/32", "via 10.77.2.1 path 64512 pref 0 graceful-shutdown")
	outer.waitRoute("2001:db8:1::1/128", "via fd77:2::1 path 64512 pref 0 graceful-shutdown")
	for _, state := range before {
		n.untouched(state)
	}
}
