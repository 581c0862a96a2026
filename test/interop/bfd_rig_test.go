//go:build e2e

package interop

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/bfd"
)

// multiplier is that of both ends: a busy machine must not look like a failure.
const multiplier = 8

// bfdPath is one way from a node to a router: the addresses of both ends.
type bfdPath struct {
	name         string
	node, router netip.Addr // link-local ones without zones
	multihop     bool
}

// bfdRig is a node with a BFD session over each kind of path to one router.
type bfdRig struct {
	*testing.T
	n     *node
	r     *router
	paths []bfdPath
	// ttl is the least with which the multihop sessions accept packets.
	ttl uint8
	bfdDaemon
}

// bfdDaemon is the other end.
type bfdDaemon struct {
	// start starts it, with the intervals of the last configure.
	start func() *exec.Cmd
	// configure gives it intervals in milliseconds; one that runs takes them.
	configure func(receive, transmit int)
	// state is what it says of a path: up, down or init. timers is what it says of our timers, in its own words.
	state, timers func(bfdPath) string
	// begun and changed are its words for 300 ms and 200 ms of ours, and for 500 ms and 400 ms, when its own are 350 ms and 250 ms.
	begun, changed string
	// ended is what it says when we have taken the session out of service (RFC 5882 section 4.2).
	ended func(bfdPath) string
}

// The kinds of paths.
const (
	single4    = "IPv4"
	single6    = "IPv6"
	linkLocal6 = "IPv6 link-local"
	multihop4  = "IPv4 multihop"
	multihop6  = "IPv6 multihop"
)

func newBFDRig(t *testing.T, ttl uint8) *bfdRig {
	t.Helper()
	n := newNode(t)
	r := n.router(64513)
	near4, far4 := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	near6, far6 := netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")
	for _, x := range []struct {
		namespace, own, other, via string
	}{
		{n.namespace, near4.String() + "/32", far4.String(), r.own4.String()},
		{r.namespace, far4.String() + "/32", near4.String(), r.node4.String()},
		{n.namespace, near6.String() + "/128", far6.String(), r.own6.String()},
		{r.namespace, far6.String() + "/128", near6.String(), r.node6.String()},
	} {
		ip(t, "-n", x.namespace, "address", "add", x.own, "dev", "lo")
		ip(t, "-n", x.namespace, "route", "add", x.other, "via", x.via)
	}
	return &bfdRig{T: t, n: n, r: r, ttl: ttl, paths: []bfdPath{
		{single4, r.node4, r.own4, false},
		{single6, r.node6, r.own6, false},
		{linkLocal6, linkLocal(t, n.namespace, r.device), linkLocal(t, r.namespace, "eth0"), false},
		{multihop4, near4, far4, true},
		{multihop6, near6, far6, true},
	}}
}

// watch gives the node its BFD sessions, with these timers.
func (b *bfdRig) watch(receive, transmit time.Duration) {
	b.Helper()
	var sessions []bfd.Session
	for _, p := range b.paths {
		s := bfd.Session{Peer: p.router, Local: p.node, MultiHop: p.multihop, Receive: receive, Transmit: transmit, Multiplier: multiplier, MinimumTTL: b.ttl}
		if p.router.IsLinkLocalUnicast() {
			s.Peer, s.Local = p.router.WithZone(b.r.device), p.node.WithZone(b.r.device)
		}
		sessions = append(sessions, s)
	}
	b.n.call(request{Call: "Watch", Sessions: sessions})
}

// status is what the node says of a session.
func (b *bfdRig) status(p bfdPath) bfd.Status {
	b.Helper()
	all := b.n.ask(request{Call: "Peers"}).BFD
	at := slices.IndexFunc(all, func(s bfd.Status) bool { return s.Peer.WithZone("") == p.router })
	if at < 0 {
		b.Fatalf("no session over %s: %+v", p.name, all)
	}
	return all[at]
}

// both waits until the node and the daemon say of each path that it is up or down.
func (b *bfdRig) both(what string, theirs string, ours bfd.State) {
	b.Helper()
	b.each(what+", as the daemon has it", b.state, theirs)
	b.ours(what, ours)
}

// each waits until something is said of every path.
func (b *bfdRig) each(what string, said func(bfdPath) string, want string) {
	b.Helper()
	for _, p := range b.paths {
		eventually(b.T, what+": "+p.name, func() string { return said(p) }, want)
	}
}

// negotiated waits until the node says of each path at which intervals it sends and expects packets, and how long it waits.
func (b *bfdRig) negotiated(what, want string) {
	b.Helper()
	for _, p := range b.paths {
		eventually(b.T, what+": timers of "+p.name, func() string {
			s := b.status(p)
			return fmt.Sprintf("send %s expect %s detect %s", s.TransmitInterval, s.ReceiveInterval, s.DetectionTime)
		}, want)
	}
}

// steady checks that no session has gone down, or come up again, since ups.
func (b *bfdRig) steady(what string, ups uint64) {
	b.Helper()
	for _, p := range b.paths {
		if s := b.status(p); s.State != bfd.Up || s.Ups != ups || s.Downs != ups-1 {
			b.Errorf("%s: %s is %s after %d ups and %d downs", what, p.name, s.State, s.Ups, s.Downs)
		}
	}
}

// nft runs a script of nft(8) in the router's namespace.
func (b *bfdRig) nft(script string) {
	b.Helper()
	command := exec.Command("ip", "netns", "exec", b.r.namespace, "nft", "-f", "-")
	command.Stdin = strings.NewReader(script)
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("nft: %v: %s", err, out)
	}
}

// cut drops BFD in both directions, mend lets it through again.
func (b *bfdRig) cut() {
	b.Helper()
	b.nft(`table inet cut {
 chain input { type filter hook input priority 0; udp dport { 3784, 4784 } drop; }
 chain output { type filter hook output priority 0; udp dport { 3784, 4784 } drop; }
}`)
}

func (b *bfdRig) mend() { b.Helper(); b.nft("delete table inet cut") }

// further has the router's packets come with another TTL or hop limit.
func (b *bfdRig) further(ttl int) {
	b.Helper()
	b.nft(fmt.Sprintf(`table inet ttl
delete table inet ttl
table inet ttl {
 chain further {
  meta nfproto ipv4 ip ttl set %[1]d
  meta nfproto ipv6 ip6 hoplimit set %[1]d
 }
 chain output {
  type filter hook output priority 0
  udp dport { 3784, 4784 } jump further
 }
}
`, ttl))
}

// hops has the packets of the router come with the least TTL of the multihop sessions, then with less, then as they are.
func (b *bfdRig) hops() {
	b.Helper()
	up := func(want func(bfdPath) bfd.State, what string) {
		b.Helper()
		for _, p := range b.paths {
			eventually(b.T, what+": "+p.name, func() string { return b.status(p).State.String() }, want(p).String())
		}
	}
	b.further(int(b.ttl))
	up(func(p bfdPath) bfd.State {
		if p.multihop {
			return bfd.Up
		}
		return bfd.Down
	}, "least TTL")
	for _, p := range b.paths {
		if s := b.status(p); p.multihop && s.Downs > 0 || !p.multihop && s.Rejected == 0 {
			b.Errorf("least TTL: %s has %d downs and %d rejected packets", p.name, s.Downs, s.Rejected)
		}
	}
	b.further(int(b.ttl) - 1)
	up(func(bfdPath) bfd.State { return bfd.Down }, "less TTL")
	b.nft("delete table inet ttl")
	b.both("TTL as it is", "up", bfd.Up)
}

// ours waits until the node says of each path that it is in a state.
func (b *bfdRig) ours(what string, want bfd.State) {
	b.Helper()
	b.each(what+", as the node has it", func(p bfdPath) string { return b.status(p).State.String() }, want.String())
}

// all is the whole life of the sessions.
func (b *bfdRig) all() {
	b.Helper()
	b.configure(350, 250)
	daemon := b.start()
	b.watch(300*time.Millisecond, 200*time.Millisecond)
	b.both("start", "up", bfd.Up)
	b.each("our timers", b.timers, b.begun)
	b.negotiated("start", "send 350ms expect 300ms detect 2.4s")

	// Changes on either side go through a Poll Sequence (RFC 5880 section 6.8.3), and no session ends.
	b.watch(500*time.Millisecond, 400*time.Millisecond)
	b.each("our timers after our change", b.timers, b.changed)
	b.negotiated("our change", "send 400ms expect 500ms detect 4s")
	b.configure(600, 700)
	b.negotiated("the daemon's change", "send 600ms expect 700ms detect 5.6s")
	b.watch(200*time.Millisecond, 200*time.Millisecond)
	b.negotiated("our next change", "send 600ms expect 700ms detect 5.6s")
	b.steady("changes of intervals", 1)

	b.hops()

	b.cut()
	b.both("cut", "down", bfd.Down)
	b.each("diagnostic", func(p bfdPath) string { return b.status(p).Diagnostic.String() }, bfd.DetectionTimeExpired.String())
	b.mend()
	b.both("mended", "up", bfd.Up)

	must(b.T, daemon.Process.Kill())
	_ = daemon.Wait()
	b.ours("daemon killed", bfd.Down)
	b.start()
	b.both("daemon started again", "up", bfd.Up)

	b.n.stop()
	b.each("our end", b.ended, "down administratively down")
	b.n.start()
}
