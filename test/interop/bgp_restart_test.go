//go:build e2e

package interop

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
)

// kill ends the speaker without a word.
func (n *node) kill() {
	n.t.Helper()
	must(n.t, n.command.Process.Kill())
	<-n.logged
	_ = n.command.Wait()
	n.in.Close()
	n.command = nil
}

// monitor is what the kernel of a router's namespace says of its routes.
type monitor struct {
	*router
	mu    sync.Mutex
	text  strings.Builder
	marks int
}

// Write implements io.Writer.
func (m *monitor) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(b)
}

func (m *monitor) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// monitor watches the kernel's routes, in both families, until the test ends.
func (r *router) monitor() *monitor {
	r.t.Helper()
	m := &monitor{router: r}
	command := exec.Command("ip", "-n", r.namespace, "monitor", "route")
	command.Stdout, command.Stderr = m, m
	must(r.t, command.Start())
	r.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	m.settle()
	return m
}

// settle makes routes of its own until one of them shows: whatever happened before shows too.
func (m *monitor) settle() {
	m.t.Helper()
	eventually(m.t, "monitor of "+m.name, func() string {
		m.marks++
		mark := fmt.Sprintf("10.255.%d.%d", m.marks>>8, m.marks&255)
		ip(m.t, "-n", m.namespace, "route", "add", "blackhole", mark)
		return fmt.Sprint(strings.Contains(m.String(), "blackhole "+mark))
	}, "true")
}

// lost are routes that were deleted.
func (m *monitor) lost() []string {
	m.t.Helper()
	m.settle()
	var all []string
	for line := range strings.Lines(m.String()) {
		if strings.HasPrefix(line, "Deleted ") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// installed counts the routes that bgpd has put into the router's kernel, and those of them that are of a session of before.
func (r *router) installed() string {
	r.t.Helper()
	var counts []string
	for _, family := range []string{"-4", "-6"} {
		out, err := exec.Command("ip", family, "-n", r.namespace, "-o", "route", "show", "proto", "bgp").Output()
		must(r.t, err)
		counts = append(counts, fmt.Sprint(strings.Count(string(out), "\n")))
	}
	stale := 0
	for _, family := range []string{"ipv4", "ipv6"} {
		out, err := r.try("bgpd", "show bgp "+family+" unicast json")
		must(r.t, err)
		stale += strings.Count(string(out), `"stale":true`)
	}
	return fmt.Sprintf("%s stale %d", strings.Join(counts, "+"), stale)
}

// restartBits are what FRR has received of graceful restart, and from which session on.
func (r *router) restartBits() string {
	r.t.Helper()
	type family struct {
		FBit bool
	}
	var state map[string]struct {
		BgpState               string
		ConnectionsEstablished int
		GracefulRestartInfo    struct {
			EndOfRibRecv             map[string]bool
			RBit                     bool
			Timers                   struct{ ReceivedRestartTimer int }
			IPv4Unicast, IPv6Unicast family
		}
	}
	r.show("bgp neighbors "+r.node4.String(), &state)
	s := state[r.node4.String()]
	g := s.GracefulRestartInfo
	return fmt.Sprintf("%s %d end-of-rib %v R %t time %d F %t %t", s.BgpState, s.ConnectionsEstablished, g.EndOfRibRecv, g.RBit,
		g.Timers.ReceivedRestartTimer, g.IPv4Unicast.FBit, g.IPv6Unicast.FBit)
}

// thousands are 1,000 routes of each family.
func thousands(peers ...name.PeerName) []announce.Route {
	var all []announce.Route
	for i := range 1000 {
		all = append(all,
			route(fmt.Sprintf("10.100.%d.%d/32", i>>8, i&255), announce.Attributes{}, peers...),
			route(fmt.Sprintf("2001:db8:100::%x/128", i+1), announce.Attributes{}, peers...))
	}
	return all
}

const (
	everything = "1000+1000 stale 0"
	// restarted is restartBits after a restart; %d is the number of the session.
	restarted = "Established %d end-of-rib map[ipv4Unicast:true ipv6Unicast:true] R true time 30 F true true"
)

// begin gives a new speaker its routes and peers, in the order of the real one.
func (n *node) begin(routes []announce.Route, peers ...announce.Peer) {
	n.t.Helper()
	n.setPeers(peers...)
	n.call(request{Call: "Many", Routes: routes})
	n.sync()
}

// again ends the speaker and starts it again: as a restart is meant to be, or by a SIGKILL.
func (n *node) again(killed bool) {
	n.t.Helper()
	if killed {
		n.kill()
	} else {
		n.call(request{Call: "Restarting"})
		n.stop()
	}
	n.start()
}

func graceful(r *router) announce.Peer {
	p := r.peer4(64512)
	p.GracefulRestart = 30 * time.Second
	return p
}

func TestARestartLosesNoRoute(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	r.start(r.node4, 64512)
	routes := thousands("r1")
	n.begin(routes, graceful(r))
	eventually(t, "routes", r.installed, everything)
	m := r.monitor()
	for i, killed := range []bool{false, true, false} {
		n.again(killed)
		n.begin(routes, graceful(r))
		eventually(t, fmt.Sprintf("restart %d", i+1), r.restartBits, fmt.Sprintf(restarted, i+2))
		eventually(t, "routes", r.installed, everything)
		if lost := m.lost(); len(lost) > 0 {
			t.Fatalf("restart %d (killed: %t): %d routes left, the first: %s", i+1, killed, len(lost), lost[0])
		}
	}
	t.Logf("what the router's kernel said: %d lines about routes of ours", strings.Count(m.String(), "proto bgp"))

	// A restart that leaves out a route takes it away, at End-of-RIB.
	n.again(false)
	n.begin(routes[1:], graceful(r))
	eventually(t, "routes", r.installed, "999+1000 stale 0")
	// An end for good takes all.
	n.stop()
	eventually(t, "routes after the end", r.installed, "0+0 stale 0")
	n.start()
}

// Neither a peer that cannot be reached, nor one that can be reached only later, costs a route.
func TestARestartWithPeersThatAreAway(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	here, late, hole := n.router(64513), n.router(64514), n.router(64515)
	here.start(here.node4, 64512)
	late.start(late.node4, 64512)
	ip(t, "-n", n.namespace, "neighbor", "add", hole.own4.String(), "lladdr", "02:00:00:00:00:99", "dev", hole.device)
	routes := thousands("r1", "r2", "r3")
	peers := []announce.Peer{graceful(hole), graceful(late), graceful(here)}
	n.begin(routes, peers...)
	eventually(t, "routes", here.installed, everything)
	eventually(t, "routes", late.installed, everything)
	nearby, later := here.monitor(), late.monitor()
	for i, killed := range []bool{false, true} {
		if killed {
			n.kill()
		} else {
			n.call(request{Call: "Restarting"})
			n.stop()
		}
		ip(t, "-n", n.namespace, "neighbor", "replace", late.own4.String(), "lladdr", "02:00:00:00:00:99", "dev", late.device)
		n.start()
		n.begin(routes, peers...)
		eventually(t, "restart", here.restartBits, fmt.Sprintf(restarted, i+2))
		eventually(t, "routes", here.installed, everything)
		if state := n.peer("r2").State; state == bgp.Established {
			t.Fatal("the late one came early")
		}
		ip(t, "-n", n.namespace, "neighbor", "delete", late.own4.String(), "dev", late.device)
		eventually(t, "restart of the late one", late.restartBits, fmt.Sprintf(restarted, i+2))
		eventually(t, "routes of the late one", late.installed, everything)
		for _, m := range []*monitor{nearby, later} {
			if lost := m.lost(); len(lost) > 0 {
				t.Fatalf("restart %d (killed: %t): %s lost %d routes, the first: %s", i+1, killed, m.name, len(lost), lost[0])
			}
		}
	}
	if state := n.peer("r3"); state.State != bgp.Active {
		t.Errorf("black hole: %+v", state)
	}
}

// BFD fails during a restart too. The session has ended before it, without a word, so nothing is left for BFD to end.
func TestARestartWithBFDLosesNoRoute(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	r.daemon("zebra", "")
	r.daemon("bfdd", "", "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
	r.bgpd = r.daemon("bgpd", fmt.Sprintf(`router bgp %d
 bgp router-id 10.88.0.1
 no bgp ebgp-requires-policy
 neighbor %[2]s remote-as 64512
 neighbor %[2]s timers 3 9
 neighbor %[2]s bfd 10 300 300
 address-family ipv6 unicast
  neighbor %[2]s activate
 exit-address-family
`, r.asn, r.node4))
	peer := graceful(r)
	peer.BFD = announce.BFD{Receive: 300 * time.Millisecond, Transmit: 300 * time.Millisecond, Multiplier: 10, MinimumTTL: 254}
	routes := thousands("r1")
	up := func(what string, after int) {
		t.Helper()
		eventually(t, what+": session", func() string { return fmt.Sprintf("%s %t", n.peer("r1").State, r.established() > after) }, "Established true")
		eventually(t, what+": routes", r.installed, everything)
		eventually(t, what+": BFD", func() string {
			return n.ask(request{Call: "Peers"}).BFD[0].State.String() + " " + r.frrBFD(bfdPath{node: r.node4}).Status
		}, "Up up")
	}
	n.begin(routes, peer)
	up("start", 0)
	m := r.monitor()
	for i, killed := range []bool{false, true, false} {
		sessions := r.established()
		if killed {
			// Of an end that is not planned FRR's BFD learns by silence. If that came after the beginning of the next session,
			// it would end that one, and the routes with it.
			n.kill()
			eventually(t, "FRR's BFD", func() string { return r.frrBFD(bfdPath{node: r.node4}).Status }, "down")
			n.start()
		} else {
			n.again(false)
		}
		n.begin(routes, peer)
		what := fmt.Sprintf("restart %d (killed: %t)", i+1, killed)
		up(what, sessions)
		if lost := m.lost(); len(lost) > 0 {
			t.Fatalf("%s: %d routes left, the first: %s", what, len(lost), lost[0])
		}
	}
	// What BFD is there for: a node that is silent.
	must(t, n.command.Process.Signal(syscall.SIGSTOP))
	eventually(t, "routes of a node that is silent", r.installed, "0+0 stale 0")
	must(t, n.command.Process.Signal(syscall.SIGCONT))
	eventually(t, "routes of a node that is back", r.installed, everything)
}
