//go:build e2e

package interop

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
)

// gracefulRestartBFD is gracefulRestart with BFD, which sees the speaker go.
func gracefulRestartBFD(c *cell) {
	c.watched()
	if c.d.name == birdName {
		c.site.lenient = true
		c.notes = append(c.notes, "with bfd graceful")
	}
	gracefulRestart(c)
}

// gracefulRestart: while the speaker restarts, no route leaves; one that it does not announce again leaves with the
// End-of-RIB, long before the restart time ends.
func gracefulRestart(c *cell) {
	c.carry(true, true)
	c.peer.GracefulRestart = 120 * time.Second
	all := c.plain(one, two, six)
	c.begin(all...)
	// two is announced no more after the restart.
	here := map[string]string{one: c.via4("path 64512"), six: c.via6("path 64512")}
	for prefix, words := range here {
		c.want(prefix, words)
	}
	c.want(two, c.via4("path 64512"))
	if c.site.bfd {
		c.steady()
	}
	left := func() string { return "" }
	if c.d.watch != nil {
		left = c.d.watch(c.r)
	}
	c.n.call(request{Call: "Restarting"})
	c.n.stop()
	stay := func() {
		for prefix, words := range here {
			if got := c.d.route(c.r, prefix); got != words {
				c.Errorf("during the restart the daemon had %q of %s", got, prefix)
			}
		}
	}
	stay()
	c.n.start()
	c.dial(all[0], all[2])
	c.until("the new session", func() (bool, string) {
		stay()
		state := c.n.peer(c.peer.Name)
		return state.State == bgp.Established, fmt.Sprintf("%+v", state)
	})
	c.until("the End-of-RIB to remove what is not announced again", func() (bool, string) {
		stay()
		return c.d.route(c.r, two) == "", c.d.route(c.r, two)
	})
	c.wait("restart", func() string { return c.d.restart(c.r, c.site) }, "time 120 R ipv4 F ipv6 F")
	c.established()
	if c.d.watch == nil {
		return
	}
	c.until("the route to be seen to leave", func() (bool, string) { got := left(); return strings.Contains(got, "192.0.2.2"), got })
	if got := left(); strings.Contains(got, "192.0.2.1") || strings.Contains(got, "2001:db8:1::1") {
		c.Errorf("left during the restart: %s", got)
	}
}

// gracefulShutdown is what a node says before it leaves (RFC 8326).
func gracefulShutdown(c *cell) {
	inner := c.another(nodeASN)
	beginAll([]*cell{c, inner}, route(one, announce.Attributes{}, peerNames(c, inner)...))
	c.want(one, c.via4("path 64512"))
	inner.want(one, inner.via4("path Local"))
	leaving := announce.Attributes{LocalPref: number32(0), Communities: []announce.Community{{Global: 0xffff}}}
	c.n.set("a", route(one, leaving, peerNames(c, inner)...))
	pref := 0
	if c.d.name == goBGP {
		pref = 1 // the least that its policies can set
	}
	c.want(one, fmt.Sprintf("via %s path 64512 pref %d graceful-shutdown", c.r.node4, pref))
	inner.want(one, fmt.Sprintf("via %s path Local pref %d graceful-shutdown", inner.r.node4, pref))
	c.n.set("a")
	c.want(one, "")
	inner.want(one, "")
}

// bfdMultiplier is how many packets, of 300 ms, may be missed: so many that a busy machine is no dead one.
const bfdMultiplier = 10

// watched gives the session BFD, and a hold time that never ends here.
func (c *cell) watched() {
	c.site.bfd, c.site.hold, c.peer.Hold = true, 180*time.Second, 180*time.Second
	c.peer.BFD = announce.BFD{Receive: 300 * time.Millisecond, Transmit: 300 * time.Millisecond, Multiplier: bfdMultiplier, MinimumTTL: 254}
}

// bfdMultiHop is bfdSession with a router in between.
func bfdMultiHop(c *cell) {
	c.beyond()
	c.watched()
	if c.d.name == birdName {
		c.peer.BFD.MinimumTTL = 63 // it sends with a TTL of 64, and there is one router in between
		c.notes = append(c.notes, "with minimumTtl 63")
	}
	bfdFails(c)
}

// bfdSession: a node that is silent loses its routes; one that ends BFD does not for long.
func bfdSession(c *cell) {
	c.watched()
	bfdFails(c)
}

// bfdOver6 is bfdSession over IPv6.
func bfdOver6(c *cell) {
	c.over6()
	c.carry(false, true)
	c.watched()
	bfdFails(c)
}

// steady waits until BFD and BGP are up, and have been for a while.
func (c *cell) steady() {
	c.Helper()
	const while = 2 * time.Second
	c.wait("BFD as the daemon has it", func() string { return c.d.bfd(c.r, c.site) }, "up")
	c.until("BFD and BGP to last", func() (bool, string) {
		now := c.n.ask(request{Call: "Peers"})
		b, p := now.BFD[0], now.Peers[0]
		return b.State == bfd.Up && p.State == bgp.Established && time.Since(b.Since) > while && time.Since(p.Since) > while, fmt.Sprintf("%+v, %+v", b, p)
	})
	c.wait("BFD as the daemon has it", func() string { return c.d.bfd(c.r, c.site) }, "up")
	c.established()
}

// bfdAlone: BFD that never comes up does not block BGP, and takes no session down.
func bfdAlone(c *cell) {
	c.watched()
	c.site.bfd = false
	c.begin(c.plain(one)...)
	c.want(one, c.via4("path 64512"))
	c.until("BFD to have tried for more than its detection time", func() (bool, string) {
		now := c.n.ask(request{Call: "Peers"})
		tried := len(now.BFD) > 0 && now.BFD[0].State == bfd.Down && time.Since(now.BFD[0].Since) > bfdMultiplier*c.peer.BFD.Transmit && now.BFD[0].Sent > 0
		return tried, fmt.Sprintf("%+v", now.BFD)
	})
	c.established()
	c.want(one, c.via4("path 64512"))
	if state := c.n.peer(c.peer.Name); state.Flaps > 0 {
		c.Errorf("the session was down: %+v", state)
	}
}

func bfdFails(c *cell) {
	prefix, words := one, c.via4("path 64512")
	if c.site.ipv6 {
		prefix, words = six, c.via6("path 64512")
	}
	c.begin(c.plain(prefix)...)
	up := func() {
		c.Helper()
		c.steady()
		c.want(prefix, words)
	}
	up()
	must(c.T, c.n.command.Process.Signal(syscall.SIGSTOP))
	c.want(prefix, "")
	must(c.T, c.n.command.Process.Signal(syscall.SIGCONT))
	up()
	flaps := c.n.peer(c.peer.Name).Flaps
	c.peer.BFD = announce.BFD{}
	c.n.setPeers(c.peer)
	c.until("the end of BFD", func() (bool, string) { got := c.d.bfd(c.r, c.site); return got != "up", got })
	// FRR and BIRD both take AdminDown for a failure, though RFC 5882 section 4.2 says that it is none.
	c.until("another session", func() (bool, string) {
		state := c.n.peer(c.peer.Name)
		return state.Flaps > flaps && state.State == bgp.Established, fmt.Sprintf("%+v", state)
	})
	c.notes = append(c.notes, "AdminDown resets BGP")
	c.established()
	c.want(prefix, words)
}
