//go:build e2e

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// matrixPatience bounds every wait in a cell, pace is how often it looks.
	matrixPatience = 45 * time.Second
	pace           = 100 * time.Millisecond
	// nodeASN and routerASN are the AS numbers unless a cell wants others.
	nodeASN, routerASN = 64512, 64513
)

// site is what the configuration of a daemon with one neighbor, the node, is made of.
type site struct {
	asn, nodeASN uint32
	// own and node are the addresses of the session.
	own, node  netip.Addr
	ipv4, ipv6 bool
	// hold is what the daemon proposes; its keepalives come three times as often.
	hold     time.Duration
	password string
	// security is GTSM with a neighbor one hop away; hops is how many hops away a neighbor is that is not connected.
	security bool
	hops     int
	// extended is RFC 8950.
	extended bool
	bfd      bool
	// device is that of a session whose addresses nobody configures.
	device string
	// lenient has a BFD session that fails begin a graceful restart, for a daemon that drops the routes else.
	lenient bool
}

// ibgp says whether the session is within one AS.
func (s site) ibgp() bool { return s.asn == s.nodeASN }

// neighbor is what the session is with, in most daemons.
func (s site) neighbor() string {
	if s.device != "" {
		return s.device
	}
	return s.node.String()
}

// families are the address families of the session, in the words of most.
func (s site) families() []string {
	var all []string
	if s.ipv4 {
		all = append(all, "ipv4")
	}
	if s.ipv6 {
		all = append(all, "ipv6")
	}
	return all
}

// learned is a route as a daemon has it.
type learned struct {
	via, path string
	// med 0 and pref 100 are not told: some daemons show them for routes that have none.
	med, pref uint32
	// communities are in the form of communityName, the large ones last.
	communities []string
	// bandwidths are link bandwidths in octets per second.
	bandwidths []string
	invalid    bool
}

// String returns the words that router.route has for a route of FRR.
func (l learned) String() string {
	words := []string{"via " + l.via, "path Local"}
	if l.path != "" {
		words[1] = "path " + l.path
	}
	if l.med != 0 {
		words = append(words, fmt.Sprintf("med %d", l.med))
	}
	if l.pref != 100 {
		words = append(words, fmt.Sprintf("pref %d", l.pref))
	}
	words = append(words, l.communities...)
	for _, b := range l.bandwidths {
		words = append(words, "bandwidth "+b)
	}
	if l.invalid {
		words = append(words, "invalid")
	}
	return strings.Join(words, " ")
}

// communityName writes a standard community as FRR does.
func communityName(value uint32) string {
	switch value {
	case 0xffff0000:
		return "graceful-shutdown"
	case 0xffffff01:
		return "no-export"
	}
	return fmt.Sprintf("%d:%d", value>>16, value&0xffff)
}

// cell is one daemon in one test: a node, a router joined to it, and the session between them.
type cell struct {
	*testing.T
	d    *daemon
	n    *node
	r    *router
	site site
	peer announce.Peer
	// notes are shown beside the outcome.
	notes []string
}

// newCell makes the namespaces for an eBGP session over IPv4 with IPv4 routes; nothing runs yet but the speaker.
func newCell(t *testing.T, d *daemon) *cell {
	t.Helper()
	c := &cell{T: t, d: d, n: newNode(t)}
	c.neighbor(routerASN)
	return c
}

// neighbor makes the cell's router.
func (c *cell) neighbor(asn uint32) {
	c.Helper()
	c.r = c.n.router(asn)
	linkLocal(c.T, c.r.namespace, "eth0") // FRR wants one to be there when it starts
	c.site = site{asn: asn, nodeASN: nodeASN, own: c.r.own4, node: c.r.node4, ipv4: true, hold: 9 * time.Second}
	c.peer = c.r.peer4(nodeASN)
	c.peer.IPv6 = false
}

// another is a second router of the same kind at the same node.
func (c *cell) another(asn uint32) *cell {
	c.Helper()
	other := *c
	other.neighbor(asn)
	return &other
}

// over6 makes it a session over IPv6.
func (c *cell) over6() {
	c.site.own, c.site.node, c.peer.Address = c.r.own6, c.r.node6, c.r.own6
}

// unnumber makes it a session between the link-local addresses, which both sides find out; own and node are them.
func (c *cell) unnumber() {
	c.Helper()
	c.site.device = "eth0"
	c.site.own, c.site.node = linkLocal(c.T, c.r.namespace, "eth0"), linkLocal(c.T, c.n.namespace, c.r.device)
	c.peer.Interface, c.peer.NextHop4, c.peer.NextHop6 = c.r.device, netip.Addr{}, netip.Addr{}
	f := newFinder(c.T, c.n.namespace)
	f.set(c.r.device)
	c.peer.Address = c.site.own.WithZone(c.r.device)
}

// carry says which families the session has.
func (c *cell) carry(ipv4, ipv6 bool) {
	c.site.ipv4, c.site.ipv6, c.peer.IPv4, c.peer.IPv6 = ipv4, ipv6, ipv4, ipv6
}

// begin starts the daemon, and the session with routes.
func (c *cell) begin(routes ...announce.Route) { c.Helper(); beginAll([]*cell{c}, routes...) }

// beginAll starts the daemons of cells of one node, and the sessions with routes.
func beginAll(cells []*cell, routes ...announce.Route) {
	n := cells[0].n
	n.t.Helper()
	var peers []announce.Peer
	for _, c := range cells {
		c.d.start(c.r, c.site)
		peers = append(peers, c.peer)
	}
	n.setPeers(peers...)
	n.set("a", routes...)
	n.sync()
	for _, c := range cells {
		c.established()
	}
}

// dial gives the speaker its peer and routes.
func (c *cell) dial(routes ...announce.Route) {
	c.Helper()
	c.n.setPeers(c.peer)
	c.n.set("a", routes...)
	c.n.sync()
}

// to is a route to the cell's peer.
func (c *cell) to(prefix string, attributes announce.Attributes) announce.Route {
	return route(prefix, attributes, c.peer.Name)
}

// plain are routes of no attribute to the cell's peer.
func (c *cell) plain(prefixes ...string) []announce.Route {
	var all []announce.Route
	for _, prefix := range prefixes {
		all = append(all, c.to(prefix, announce.Attributes{}))
	}
	return all
}

// via4 and via6 are the words for a route through the node.
func (c *cell) via4(words string) string { return fmt.Sprintf("via %s %s", c.r.node4, words) }
func (c *cell) via6(words string) string { return fmt.Sprintf("via %s %s", c.r.node6, words) }

// established waits until both sides say that the session is up.
func (c *cell) established() {
	c.Helper()
	c.wait("session as the daemon has it", func() string { return c.d.session(c.r, c.site) }, string(bgp.Established))
	c.wait("session as the speaker has it", func() string { return string(c.n.peer(c.peer.Name).State) }, string(bgp.Established))
}

// want waits until the daemon has a route in these words; none: until it has no such route.
func (c *cell) want(prefix, words string) {
	c.Helper()
	c.wait("route "+prefix, func() string { return c.d.route(c.r, prefix) }, words)
}

// wait looks until got is as wanted.
func (c *cell) wait(what string, got func() string, want string) {
	c.Helper()
	c.until(what+" to be "+want, func() (bool, string) { last := got(); return last == want, last })
}

// until looks until done says so; got is for the failure.
func (c *cell) until(what string, done func() (ok bool, got string)) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), matrixPatience)
	defer cancel()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		ok, got := done()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			c.Fatalf("waited for %s, got %s", what, got)
		case <-tick.C:
		}
	}
}

// beyond makes a namespace behind the router, which forwards, and moves the router there: the node is two hops away.
func (c *cell) beyond() {
	c.Helper()
	hop := *c.r
	c.r.namespace = newNamespace(c.T, hop.name+"far")
	c.r.own4, c.r.own6 = netip.MustParseAddr("10.78.0.2"), netip.MustParseAddr("fd78::2")
	near4, near6 := netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("fd78::1")
	join(c.T, end{hop.namespace, "eth1", near4, near6}, end{c.r.namespace, "eth0", c.r.own4, c.r.own6})
	ip(c.T, "netns", "exec", hop.namespace, "sh", "-c", "cd /proc/sys/net && echo 1 >ipv4/ip_forward && echo 1 >ipv6/conf/all/forwarding")
	ip(c.T, "-n", c.n.namespace, "route", "add", "10.78.0.0/24", "via", hop.own4.String())
	ip(c.T, "-n", c.n.namespace, "route", "add", "fd78::/64", "via", hop.own6.String())
	ip(c.T, "-n", c.r.namespace, "route", "add", hop.node4.String()+"/32", "via", near4.String())
	ip(c.T, "-n", c.r.namespace, "route", "add", hop.node6.String()+"/128", "via", near6.String())
	c.site.own, c.site.hops = c.r.own4, 2
	c.peer.Address, c.peer.MultiHop = c.r.own4, true
}

// peerNames are the names of the peers of cells.
func peerNames(cells ...*cell) []name.PeerName {
	var all []name.PeerName
	for _, c := range cells {
		all = append(all, c.peer.Name)
	}
	return all
}
