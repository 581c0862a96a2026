//go:build e2e

package interop

import (
	"fmt"
	"net/netip"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
)

// The rows that some daemons lack.
const (
	rowExtended    = "IPv4 with IPv6 next hop (RFC 8950)"
	rowUnnumbered  = "unnumbered"
	rowBFD         = "BFD"
	rowBFD6        = "BFD over IPv6"
	rowBFDMultiHop = "BFD, multihop (RFC 5883)"
	// The other order would be a failure to FRR and BIRD: the speaker ends BGP first.
	rowRestartBFD = "graceful restart with BFD"
)

// The prefixes that are announced.
const (
	one, two, three = "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"
	six             = "2001:db8:1::1/128"
)

// features are the rows of the matrix.
func features() []feature {
	return []feature{
		{"IPv4", overIPv4},
		{"IPv6", overIPv6},
		{"IPv4 link-local router (RFC 3927)", linkLocalRouter},
		{"both families, one session", bothFamilies},
		{rowExtended, extendedNextHop},
		{rowUnnumbered, unnumbered},
		{"router configured after the node", configuredLater},
		{"MD5, and its rotation", passwords},
		{"GTSM", ttlSecurity},
		{"multihop", multiHop},
		{"communities", communities},
		{"link bandwidth", linkBandwidth},
		{"MED", multiExitDiscriminator},
		{"local preference", localPreference},
		{"AS path prepending", prepending},
		{"graceful restart", gracefulRestart},
		{"GRACEFUL_SHUTDOWN", gracefulShutdown},
		{"aggregation", aggregation},
		{"local ASN", localASN},
		{"dynamic ASN", dynamicASN},
		{rowBFD, bfdSession},
		{rowBFD6, bfdOver6},
		{rowBFDMultiHop, bfdMultiHop},
		{"BFD on the node alone", bfdAlone},
		{rowRestartBFD, gracefulRestartBFD},
	}
}

func overIPv4(c *cell) {
	c.begin(c.plain(one, two)...)
	c.want(one, c.via4("path 64512"))
	c.want(two, c.via4("path 64512"))
	c.n.set("a", c.plain(two)...)
	c.want(one, "")
	c.want(two, c.via4("path 64512"))
}

func overIPv6(c *cell) {
	c.over6()
	c.carry(false, true)
	c.begin(c.plain(six)...)
	c.want(six, c.via6("path 64512"))
	c.n.set("a")
	c.want(six, "")
}

// linkLocalRouter has addresses of 169.254.0.0/16, and a password.
func linkLocalRouter(c *cell) {
	own, node := netip.MustParseAddr("169.254.7.2"), netip.MustParseAddr("169.254.7.1")
	ip(c.T, "-n", c.n.namespace, "address", "add", node.String()+"/24", "dev", c.r.device)
	ip(c.T, "-n", c.r.namespace, "address", "add", own.String()+"/24", "dev", "eth0")
	c.site.own, c.site.node, c.peer.Address = own, node, own
	c.site.password, c.peer.Password = "sesame", "sesame"
	c.begin(c.plain(one)...)
	c.want(one, "via 169.254.7.1 path 64512")
}

// bothFamilies are carried by a session over IPv4 and by another one over IPv6.
func bothFamilies(c *cell) {
	over6 := c.another(64514)
	over6.over6()
	for _, x := range []*cell{c, over6} {
		x.carry(true, true)
	}
	beginAll([]*cell{c, over6}, route(one, announce.Attributes{}, peerNames(c, over6)...), route(six, announce.Attributes{}, peerNames(c, over6)...))
	for _, x := range []*cell{c, over6} {
		x.want(one, x.via4("path 64512"))
		x.want(six, x.via6("path 64512"))
	}
}

func extendedNextHop(c *cell) {
	c.over6()
	c.carry(true, true)
	c.site.extended = true
	c.peer.NextHop4 = netip.Addr{}
	c.begin(c.plain(one, six)...)
	c.want(one, c.via6("path 64512"))
	c.want(six, c.via6("path 64512"))
	if state := c.n.peer(c.peer.Name); state.IPv4 != bgp.Carried || state.IPv6 != bgp.Carried {
		c.Errorf("%+v", state)
	}
}

func unnumbered(c *cell) {
	c.unnumber()
	c.carry(true, true)
	c.begin(c.plain(one, six)...)
	c.want(one, fmt.Sprintf("via %s path 64512", c.site.node))
	c.want(six, fmt.Sprintf("via %s path 64512", c.site.node))
}

// configuredLater: the daemon closes connections of a neighbor that it does not know.
func configuredLater(c *cell) {
	node := c.site.node
	c.site.node = node.Next().Next().Next()
	c.d.start(c.r, c.site)
	c.dial(c.plain(one)...)
	c.until("the speaker to say that it is refused", func() (bool, string) {
		state := c.n.peer(c.peer.Name)
		return state.LastError != "", fmt.Sprintf("%+v", state)
	})
	c.site.node = node
	c.d.reload(c.r, c.site)
	c.established()
	c.want(one, c.via4("path 64512"))
}

// passwords: a wrong one, the right one, then another on both sides.
func passwords(c *cell) {
	c.site.password, c.peer.Password = "sesame", "wrong"
	c.d.start(c.r, c.site)
	c.dial(c.plain(one)...)
	c.wait("what the speaker says", func() string { return c.n.peer(c.peer.Name).LastError }, "connect: i/o timeout")
	c.peer.Password = "sesame"
	c.n.setPeers(c.peer)
	c.established()
	c.want(one, c.via4("path 64512"))
	c.site.password = "tahini"
	c.d.reload(c.r, c.site)
	c.peer.Password = "tahini"
	c.n.setPeers(c.peer)
	c.until("another session", func() (bool, string) {
		state := c.n.peer(c.peer.Name)
		return state.Flaps > 0 && state.State == bgp.Established, fmt.Sprintf("%+v", state)
	})
	c.established()
	c.want(one, c.via4("path 64512"))
}

// ttlSecurity: each side refuses packets of the other unless that one sends with TTL 255.
func ttlSecurity(c *cell) {
	const dropped = "TCPMinTTLDrop"
	c.site.security, c.peer.TTLSecurity = true, 1
	careless := c.another(64514) // has no GTSM
	careless.peer.TTLSecurity = 1
	c.begin(c.plain(one)...)
	c.want(one, c.via4("path 64512"))
	if n := counter(c.T, c.n.namespace, dropped) + counter(c.T, c.r.namespace, dropped); n > 0 {
		c.Errorf("%d packets were refused between two sides that have it", n)
	}
	careless.d.start(careless.r, careless.site)
	refuses := func(side string, namespace string, x *cell) {
		c.Helper()
		c.until(side+" to refuse packets", func() (bool, string) {
			return counter(c.T, namespace, dropped) > 0, fmt.Sprintf("%s, %+v", x.d.session(x.r, x.site), c.n.peer(x.peer.Name))
		})
		if got := x.d.session(x.r, x.site); got == string(bgp.Established) {
			c.Errorf("%s refuses packets, and the session is up", side)
		}
	}
	c.n.setPeers(careless.peer)
	refuses("the node", c.n.namespace, careless)
	c.peer.TTLSecurity = 0
	c.n.setPeers(c.peer)
	refuses("the daemon", c.r.namespace, c)
}

func multiHop(c *cell) {
	c.beyond()
	c.begin(c.plain(one)...)
	c.want(one, c.via4("path 64512"))
}

// localASN is what the daemon takes the node for.
func localASN(c *cell) {
	c.site.nodeASN, c.peer.LocalASN = 64599, 64599
	c.begin(c.to(one, announce.Attributes{}), c.to(two, announce.Attributes{Prepend: number32(1)}))
	c.want(one, c.via4("path 64599"))
	c.want(two, c.via4("path 64599 64599"))
}

// dynamicASN: the node takes the AS number that the daemon says, if it is of the right kind.
func dynamicASN(c *cell) {
	inner := c.another(nodeASN)
	c.peer.PeerASN, c.peer.Dynamic = 0, announce.External
	inner.peer.PeerASN, inner.peer.Dynamic = 0, announce.Internal
	beginAll([]*cell{c, inner}, route(one, announce.Attributes{}, peerNames(c, inner)...))
	c.want(one, c.via4("path 64512"))
	inner.want(one, inner.via4("path Local"))
	for _, x := range []*cell{c, inner} {
		if got := c.n.peer(x.peer.Name).ASN; got != x.site.asn {
			c.Errorf("the AS number of %s: %d, want %d", x.peer.Name, got, x.site.asn)
		}
	}
}
