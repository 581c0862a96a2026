//go:build e2e

package interop

import (
	"fmt"
	"strings"

	"github.com/ballast-lb/ballast/internal/announce"
)

func communities(c *cell) {
	c.begin(c.to(one, announce.Attributes{Communities: []announce.Community{
		{Global: 64512, Local1: 7}, {Global: 0xffff, Local1: 0xff01}, {Large: true, Global: 4200000001, Local1: 1, Local2: 2},
	}}))
	c.want(one, c.via4("path 64512 64512:7 no-export 4200000001:1:2"))
}

// linkBandwidth: three endpoints are 375000 octets a second.
func linkBandwidth(c *cell) {
	inner := c.another(nodeASN)
	beginAll([]*cell{c, inner},
		route(one, announce.Attributes{Weight: 3}, peerNames(c, inner)...),
		route(two, announce.Attributes{Weight: 3, Transitive: true}, peerNames(c, inner)...),
		route(three, announce.Attributes{}, peerNames(c, inner)...))
	for _, x := range []*cell{c, inner} {
		path := map[bool]string{true: "Local", false: "64512"}[x.site.ibgp()]
		x.want(two, fmt.Sprintf("via %s path %s bandwidth 375000", x.r.node4, path))
		x.want(three, fmt.Sprintf("via %s path %s", x.r.node4, path))
		switch {
		case c.d.name != openBGPD:
			x.want(one, fmt.Sprintf("via %s path %s bandwidth 375000", x.r.node4, path))
		case x.site.ibgp():
			x.want(one, x.via4("path Local bandwidth hidden"))
		default: // RFC 4360 section 6 would have it so
			x.want(one, x.via4("path 64512"))
			c.notes = append(c.notes, "NonTransitive over iBGP alone")
		}
	}
}

func multiExitDiscriminator(c *cell) {
	c.begin(c.to(one, announce.Attributes{MED: number32(50)}), c.to(two, announce.Attributes{}))
	c.want(one, c.via4("path 64512 med 50"))
	c.want(two, c.via4("path 64512"))
	c.n.set("a", c.to(one, announce.Attributes{MED: number32(4000000000)}))
	c.want(one, c.via4("path 64512 med 4000000000"))
}

// localPreference goes to iBGP peers alone.
func localPreference(c *cell) {
	inner := c.another(nodeASN)
	beginAll([]*cell{c, inner}, route(one, announce.Attributes{LocalPref: number32(300)}, peerNames(c, inner)...), route(two, announce.Attributes{}, peerNames(c, inner)...))
	c.want(one, c.via4("path 64512"))
	inner.want(one, inner.via4("path Local pref 300"))
	inner.want(two, inner.via4("path Local"))
}

func prepending(c *cell) {
	c.begin(c.to(one, announce.Attributes{Prepend: number32(2)}), c.to(two, announce.Attributes{Prepend: number32(10)}))
	c.want(one, c.via4("path 64512 64512 64512"))
	c.want(two, fmt.Sprintf("via %s path %s", c.r.node4, strings.TrimSpace(strings.Repeat("64512 ", 11))))
}

// aggregation: an aggregate stays until the last Service that needs it has left.
func aggregation(c *cell) {
	const four, six = "198.51.100.0/24", "2001:db8:a::/64"
	c.carry(true, true)
	c.n.set("b", c.plain(four, six)...)
	c.begin(c.plain(four, six)...)
	c.want(four, c.via4("path 64512"))
	c.want(six, c.via6("path 64512"))
	c.n.set("a", c.plain(one)...)
	c.want(one, c.via4("path 64512"))
	c.want(four, c.via4("path 64512"))
	c.want(six, c.via6("path 64512"))
	c.n.set("b")
	c.want(four, "")
	c.want(six, "")
}
