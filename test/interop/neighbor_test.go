//go:build e2e

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/neighbor"
)

// finderEnv makes the test binary a neighbor.Finder in the namespace of a node.
const finderEnv = "BLSTBGP_FINDER"

// finding is what a finder says of one interface, and why nothing can be sent to the router.
type finding struct{ Router, Problem, Unreachable string }

// finderChild is a Finder that is driven over stdin: each line is the one interface that it is given, or empty; the answer is
// what it has found there.
func finderChild() int {
	log := funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, prefix, args) }, funcr.Options{LogTimestamp: true})
	finder := neighbor.New(neighbor.Config{Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- finder.Run(ctx) }()
	lines, out, iface := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout), ""
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			iface = line
			finder.Set([]string{iface})
		}
		f := finding{Problem: finder.Problem(iface)}
		if router, found := finder.Found()[iface]; found {
			f.Router = router.String()
			if conn, err := net.Dial("udp", netip.AddrPortFrom(router, 179).String()); err != nil {
				f.Unreachable = err.Error()
			} else {
				_ = conn.Close()
			}
		}
		_ = out.Encode(f)
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// finder is a Finder in a namespace.
type finder struct {
	t   *testing.T
	in  io.WriteCloser
	out *json.Decoder
}

func newFinder(t *testing.T, namespace string) *finder {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	command := exec.Command("ip", "netns", "exec", namespace, self, "-test.run=^$")
	command.Env = append(os.Environ(), finderEnv+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := command.StdinPipe()
	must(t, err)
	out, err := command.StdoutPipe()
	must(t, err)
	log := &strings.Builder{}
	command.Stderr = log
	must(t, command.Start())
	t.Cleanup(func() {
		in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("finder: %v", err)
		}
		if t.Failed() {
			t.Logf("finder of %s: %s", namespace, log)
		}
	})
	return &finder{t, in, json.NewDecoder(out)}
}

// set gives it an interface.
func (f *finder) set(iface string) finding {
	f.t.Helper()
	_, err := fmt.Fprintln(f.in, iface)
	must(f.t, err)
	var got finding
	must(f.t, f.out.Decode(&got))
	return got
}

// waitRouter waits until the router of its interface is want and can be reached, without a problem.
func (f *finder) waitRouter(want string) {
	f.t.Helper()
	eventually(f.t, "router", func() string { got := f.set(""); return got.Router + got.Problem + got.Unreachable }, want)
}

func (f *finder) waitProblem(want string) {
	f.t.Helper()
	eventually(f.t, "problem with "+want, func() string {
		if got := f.set("").Problem; !strings.Contains(got, want) {
			return "it says: " + got
		}
		return ""
	}, "")
}

// linkLocal waits for the link-local address of an interface.
func linkLocal(t *testing.T, namespace, device string) netip.Addr {
	t.Helper()
	var found netip.Addr
	eventually(t, "link-local address of "+device, func() string {
		out, err := exec.Command("ip", "-n", namespace, "-j", "-6", "address", "show", "dev", device, "scope", "link", "-tentative").Output()
		if err != nil {
			return err.Error()
		}
		var links []struct {
			AddrInfo []struct{ Local netip.Addr } `json:"addr_info"`
		}
		if err := json.Unmarshal(out, &links); err != nil {
			return err.Error()
		}
		for _, l := range links {
			for _, a := range l.AddrInfo {
				if a.Local.IsValid() { // ip(8) leaves what it filters out as an empty object
					found = a.Local
					return ""
				}
			}
		}
		return "none"
	}, "")
	return found
}

// kernel is what the kernel of a namespace has of addresses and routes.
func kernel(t *testing.T, namespace string) string {
	t.Helper()
	var all []string
	for _, what := range []string{"address", "route"} {
		out, err := exec.Command("ip", "-n", namespace, "-6", "-o", what, "show").CombinedOutput()
		must(t, err)
		all = append(all, string(out))
	}
	return strings.Join(all, "")
}

func TestUnnumberedFRRAndANodeFindEachOther(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	own, theirs := linkLocal(t, n.namespace, r.device), linkLocal(t, r.namespace, "eth0")
	before := kernel(t, n.namespace)
	f := newFinder(t, n.namespace)
	f.set(r.device)
	f.waitProblem("no router")
	r.daemon("zebra", "")
	bgpd := func() {
		r.bgpd = r.daemon("bgpd", fmt.Sprintf(`router bgp %d
 no bgp ebgp-requires-policy
 neighbor eth0 interface remote-as external
 address-family ipv6 unicast
  neighbor eth0 activate
 exit-address-family
`, r.asn))
	}
	bgpd()
	neighborOf := func() string {
		var state map[string]struct{ BgpNeighborAddr string }
		r.show("bgp neighbors eth0", &state)
		return state["eth0"].BgpNeighborAddr
	}
	f.waitRouter(theirs.String() + "%" + r.device)
	eventually(t, "neighbor that FRR has found", neighborOf, own.String())
	if after := kernel(t, n.namespace); after != before {
		t.Errorf("the kernel's addresses and routes changed from\n%sto\n%s", before, after)
	}

	peer := announce.Peer{
		Name: "r1", MyASN: 64512, Dynamic: announce.External, Interface: r.device, Address: theirs.WithZone(r.device),
		IPv4: true, IPv6: true, NextHop4: r.node4, NextHop6: r.node6,
	}
	n.setPeers(peer)
	n.set("web", route("192.0.2.10/32", announce.Attributes{}, "r1"), route("2001:db8::10/128", announce.Attributes{}, "r1"))
	n.sync()
	n.waitState("r1", bgp.Established)
	r.waitPrefixes("192.0.2.10/32", "2001:db8::10/128")

	// A router that is gone stays found: the session says that it is gone.
	must(t, r.bgpd.Process.Kill())
	_ = r.bgpd.Wait()
	f.waitRouter(theirs.String() + "%" + r.device)
	bgpd()
	eventually(t, "neighbor that FRR has found after its restart", neighborOf, own.String())
	r.waitPrefixes("192.0.2.10/32", "2001:db8::10/128")

	// Another cable in the same socket.
	ip(t, "-n", n.namespace, "link", "delete", r.device)
	f.set(r.device) // as the speaker does when its interfaces change
	f.waitProblem("is not there")
	if got := f.set("").Router; got != "" {
		t.Errorf("%s is found though the interface is gone", got)
	}
	ip(t, "-n", n.namespace, "link", "add", r.device, "type", "veth", "peer", "name", "eth0", "netns", r.namespace)
	ip(t, "-n", n.namespace, "link", "set", r.device, "up")
	ip(t, "-n", r.namespace, "link", "set", "eth0", "up")
	own, theirs = linkLocal(t, n.namespace, r.device), linkLocal(t, r.namespace, "eth0")
	f.set(r.device)
	f.waitRouter(theirs.String() + "%" + r.device)
	eventually(t, "neighbor that FRR has found on the new link", neighborOf, own.String())
}

func TestUnnumberedTwoRoutersOnALinkAreAProblem(t *testing.T) {
	t.Parallel()
	lan := newNamespace(t, "lan")
	ip(t, "-n", lan, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
	ip(t, "-n", lan, "link", "set", "br0", "up")
	var namespaces []string
	var addresses []netip.Addr
	for i := range 3 {
		namespace, port := newNamespace(t, fmt.Sprintf("n%d", i)), fmt.Sprintf("p%d", i)
		ip(t, "-n", lan, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
		ip(t, "-n", lan, "link", "set", port, "master", "br0", "up")
		ip(t, "-n", namespace, "link", "set", "eth0", "up")
		namespaces, addresses = append(namespaces, namespace), append(addresses, linkLocal(t, namespace, "eth0"))
	}
	first, second := newFinder(t, namespaces[0]), newFinder(t, namespaces[1])
	first.set("eth0")
	second.set("eth0")
	first.waitRouter(addresses[1].String() + "%eth0")
	second.waitRouter(addresses[0].String() + "%eth0")
	third := newFinder(t, namespaces[2])
	third.set("eth0")
	first.waitProblem(addresses[1].String() + " and " + addresses[2].String())
	third.waitProblem("two routers")
	if got := first.set("").Router; got != addresses[1].String()+"%eth0" {
		t.Errorf("the router is now %s", got)
	}
}
