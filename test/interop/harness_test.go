//go:build e2e

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/peering"
)

const (
	// patience bounds every wait for something to happen.
	patience = 20 * time.Second
	// namespaces of these tests are called prefix-PID-NUMBER-NAME.
	namespacePrefix = "blstbgp"
	// childEnv makes the test binary the speaker in a node's namespace.
	childEnv = "BLSTBGP_CHILD"
	frrDir   = "/usr/lib/frr"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	if os.Getenv(finderEnv) != "" {
		os.Exit(finderChild())
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare looks for what the tests need, and removes what dead test runs have left.
func prepare() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("these tests make network namespaces: run them as root")
	}
	for tool, from := range map[string]string{
		"ip": "iproute2", "vtysh": "frr", filepath.Join(frrDir, "zebra"): "frr", filepath.Join(frrDir, "bgpd"): "frr", filepath.Join(frrDir, "bfdd"): "frr",
		"bird": "bird2", "birdc": "bird2", "/usr/sbin/bgpd": "openbgpd", "bgpctl": "openbgpd", "gobgpd": "gobgpd", "gobgp": "gobgpd",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("find %s: %w: install it with: apt-get install --no-install-recommends %s", tool, err, from)
		}
	}
	left, _ := filepath.Glob("/run/netns/" + namespacePrefix + "-*")
	for _, path := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namespacePrefix+"-"), "-")
		if n, err := strconv.Atoi(pid); err == nil && syscall.Kill(n, 0) != nil {
			_ = exec.Command("ip", "netns", "delete", filepath.Base(path)).Run()
		}
	}
	return nil
}

// request is one call of a method of the speaker in a node.
type request struct {
	// Call is the method's name; Many is Set for each route as a Service of its own.
	Call   string
	Peers  []announce.Peer
	Key    name.ServiceKey
	Routes []announce.Route
	// Sessions are for Watch, which is BFD without BGP.
	Sessions []bfd.Session
	// Address and Why are for Down and Up.
	Address netip.Addr
	Why     string
}

// answer is how things are after a call.
type answer struct {
	Peers []bgp.PeerState
	BFD   []bfd.Status
}

// child is a speaker that is driven over stdin, in the namespace of a node.
func child() int {
	log := funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, prefix, args) }, funcr.Options{LogTimestamp: true})
	server := bgp.New(bgp.Config{NodeName: "node", RouterID: netip.MustParseAddr("10.77.0.1"), Log: log})
	watch := bfd.New(bfd.Config{Log: log})
	began := time.Now()
	both := peering.New(peering.Config{BGP: server, BFD: watch, Changed: func() {}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- both.Run(ctx) }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		if in.Decode(&r) != nil {
			break
		}
		switch r.Call {
		case "SetPeers":
			both.Set(r.Peers, func(netip.Addr) bool { return true })
		case "Set":
			server.Set(r.Key, r.Routes)
		case "Many":
			for _, route := range r.Routes {
				server.Set(name.ServiceKey{Namespace: "many", Name: route.Prefix.String()}, []announce.Route{route})
			}
		case "Watch":
			watch.Set(r.Sessions)
		case "Sync": // as late as the speaker does
			if rest := time.Until(began.Add(both.Detection())); rest > 0 {
				time.AfterFunc(rest, server.Sync)
			} else {
				server.Sync() // before the answer: a peer that is set after it was not there at the start
			}
		case "Restarting":
			server.Restarting()
		case "Down":
			server.Down(r.Address, r.Why)
		case "Up":
			server.Up(r.Address)
		}
		_ = out.Encode(answer{server.Peers(), watch.Sessions()})
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// node is a node with a speaker.
type node struct {
	t         *testing.T
	namespace string
	links     int
	command   *exec.Cmd
	in        io.WriteCloser
	logged    chan struct{}
	mu        sync.Mutex
	out       *json.Decoder
}

var number atomic.Int64

func newNamespace(t *testing.T, kind string) string {
	t.Helper()
	namespace := fmt.Sprintf("%s-%d-%d-%s", namespacePrefix, os.Getpid(), number.Add(1), kind)
	ip(t, "netns", "add", namespace)
	t.Cleanup(func() { ip(t, "netns", "delete", namespace) })
	// Addresses are there at once, and only those that the test gives: FRR advertises its prefix where it uses RFC 8950.
	ip(t, "netns", "exec", namespace, "sh", "-c", "cd /proc/sys/net/ipv6/conf/default && echo 0 >accept_dad && echo 0 >accept_ra")
	ip(t, "-n", namespace, "link", "set", "lo", "up")
	return namespace
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, namespace: newNamespace(t, "node")}
	n.start()
	t.Cleanup(n.stop)
	return n
}

// start starts a speaker, which knows nothing yet.
func (n *node) start() {
	n.t.Helper()
	self, err := os.Executable()
	must(n.t, err)
	n.command = exec.Command("ip", "netns", "exec", n.namespace, self)
	n.command.Env = append(os.Environ(), childEnv+"=1")
	n.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.in, err = n.command.StdinPipe()
	must(n.t, err)
	out, err := n.command.StdoutPipe()
	must(n.t, err)
	n.out = json.NewDecoder(out)
	stderr, err := n.command.StderrPipe()
	must(n.t, err)
	must(n.t, n.command.Start())
	logged := make(chan struct{})
	n.logged = logged
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			n.t.Log("speaker:", lines.Text())
		}
	}()
}

// stop has the speaker end, if there is one, and waits for that.
func (n *node) stop() {
	if n.command == nil {
		return
	}
	n.in.Close()
	timer := time.AfterFunc(patience, func() { _ = n.command.Process.Kill() })
	defer timer.Stop()
	<-n.logged
	if err := n.command.Wait(); err != nil {
		n.t.Errorf("speaker: %v", err)
	}
	n.command = nil
}

// ask calls a method, and returns how things are afterwards.
func (n *node) ask(r request) answer {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	must(n.t, json.NewEncoder(n.in).Encode(r))
	var a answer
	must(n.t, n.out.Decode(&a))
	return a
}

// call calls a method, and returns the state of the peers afterwards.
func (n *node) call(r request) []bgp.PeerState { n.t.Helper(); return n.ask(r).Peers }

func (n *node) setPeers(peers ...announce.Peer) {
	n.t.Helper()
	n.call(request{Call: "SetPeers", Peers: peers})
}

func (n *node) set(service string, routes ...announce.Route) {
	n.t.Helper()
	n.call(request{Call: "Set", Key: name.ServiceKey{Namespace: "shop", Name: service}, Routes: routes})
}

func (n *node) sync() { n.t.Helper(); n.call(request{Call: "Sync"}) }

func (n *node) peer(peer name.PeerName) bgp.PeerState {
	n.t.Helper()
	for _, state := range n.call(request{Call: "Peers"}) {
		if state.Name == peer {
			return state
		}
	}
	n.t.Fatalf("no peer %s", peer)
	return bgp.PeerState{}
}

func (n *node) waitState(peer name.PeerName, want bgp.State) {
	n.t.Helper()
	eventually(n.t, "session with "+string(peer), func() string { return string(n.peer(peer).State) }, string(want))
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until got is as wanted.
func eventually(t *testing.T, what string, got func() string, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := got()
		if last == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s:\ngot  %s\nwant %s", what, last, want)
		case <-tick.C:
		}
	}
}

func route(prefix string, attributes announce.Attributes, peers ...name.PeerName) announce.Route {
	return announce.Route{Prefix: netip.MustParsePrefix(prefix), Peers: peers, Attributes: attributes}
}
