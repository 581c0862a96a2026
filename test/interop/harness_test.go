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
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
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
	for tool, install := range map[string]string{
		"ip": "apt-get install iproute2", "vtysh": "apt-get install frr",
		filepath.Join(frrDir, "zebra"): "apt-get install frr", filepath.Join(frrDir, "bgpd"): "apt-get install frr",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("find %s: %w: install it with: %s", tool, err, install)
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

// request is one call of a method of bgp.Server.
type request struct {
	// Call is the method's name; Many is Set for each route as a Service of its own.
	Call   string
	Peers  []announce.Peer
	Key    name.ServiceKey
	Routes []announce.Route
	// Address and Why are for Down and Up.
	Address netip.Addr
	Why     string
}

// child is a speaker that is driven over stdin, in the namespace of a node.
func child() int {
	log := funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, prefix, args) }, funcr.Options{LogTimestamp: true})
	server := bgp.New(bgp.Config{NodeName: "node", RouterID: netip.MustParseAddr("10.77.0.1"), Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		if in.Decode(&r) != nil {
			break
		}
		switch r.Call {
		case "SetPeers":
			server.SetPeers(r.Peers)
		case "Set":
			server.Set(r.Key, r.Routes)
		case "Many":
			for _, route := range r.Routes {
				server.Set(name.ServiceKey{Namespace: "many", Name: route.Prefix.String()}, []announce.Route{route})
			}
		case "Sync":
			server.Sync()
		case "Restarting":
			server.Restarting()
		case "Down":
			server.Down(r.Address, r.Why)
		case "Up":
			server.Up(r.Address)
		}
		_ = out.Encode(server.Peers())
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
	self, err := os.Executable()
	must(t, err)
	n.command = exec.Command("ip", "netns", "exec", n.namespace, self)
	n.command.Env = append(os.Environ(), childEnv+"=1")
	n.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.in, err = n.command.StdinPipe()
	must(t, err)
	out, err := n.command.StdoutPipe()
	must(t, err)
	n.out = json.NewDecoder(out)
	stderr, err := n.command.StderrPipe()
	must(t, err)
	must(t, n.command.Start())
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			t.Log("speaker:", lines.Text())
		}
	}()
	t.Cleanup(func() {
		n.in.Close()
		timer := time.AfterFunc(patience, func() { _ = n.command.Process.Kill() })
		defer timer.Stop()
		<-logged
		if err := n.command.Wait(); err != nil {
			t.Errorf("speaker: %v", err)
		}
	})
	return n
}

// call calls a method, and returns the state of the peers afterwards.
func (n *node) call(r request) []bgp.PeerState {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	must(n.t, json.NewEncoder(n.in).Encode(r))
	var states []bgp.PeerState
	must(n.t, n.out.Decode(&states))
	return states
}

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

// router is a link to another namespace, with FRR in it after start.
type router struct {
	t                    *testing.T
	name, namespace, dir string
	// device is the node's end of the link.
	device                   string
	node4, node6, own4, own6 netip.Addr
	asn                      uint32
	bgpd                     *exec.Cmd
}

// router makes a namespace that is joined to the node.
func (n *node) router(asn uint32) *router {
	n.t.Helper()
	n.links++
	r := &router{
		t: n.t, name: fmt.Sprintf("r%d", n.links), device: fmt.Sprintf("veth%d", n.links), asn: asn, dir: frrHome(n.t),
		node4: netip.AddrFrom4([4]byte{10, 77, byte(n.links), 1}), own4: netip.AddrFrom4([4]byte{10, 77, byte(n.links), 2}),
		node6: netip.MustParseAddr(fmt.Sprintf("fd77:%d::1", n.links)), own6: netip.MustParseAddr(fmt.Sprintf("fd77:%d::2", n.links)),
	}
	r.namespace = newNamespace(n.t, r.name)
	ip(n.t, "-n", n.namespace, "link", "add", r.device, "type", "veth", "peer", "name", "eth0", "netns", r.namespace)
	for _, end := range []struct {
		namespace, device string
		addresses         []netip.Addr
	}{{n.namespace, r.device, []netip.Addr{r.node4, r.node6}}, {r.namespace, "eth0", []netip.Addr{r.own4, r.own6}}} {
		for _, address := range end.addresses {
			bits, flags := "/24", []string{}
			if address.Is6() {
				bits, flags = "/64", []string{"nodad"}
			}
			ip(n.t, append([]string{"-n", end.namespace, "address", "add", address.String() + bits, "dev", end.device}, flags...)...)
		}
		ip(n.t, "-n", end.namespace, "link", "set", end.device, "up")
	}
	return r
}

// frrHome makes a directory for FRR's files. Its daemons run as the user frr, who cannot enter a t.TempDir.
func frrHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", namespacePrefix+"-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	frr, err := user.Lookup("frr")
	must(t, err)
	uid, _ := strconv.Atoi(frr.Uid)
	gid, _ := strconv.Atoi(frr.Gid)
	must(t, os.Chown(dir, uid, gid))
	return dir
}

// peer4 and peer6 are the session with the router over IPv4 and IPv6, both with both families.
func (r *router) peer4(myASN uint32) announce.Peer {
	return announce.Peer{
		Name: name.PeerName(r.name), MyASN: myASN, PeerASN: r.asn, Address: r.own4, IPv4: true, IPv6: true,
		NextHop4: r.node4, NextHop6: r.node6, Hold: 9 * time.Second, Connect: 2 * time.Second,
	}
}

func (r *router) peer6(myASN uint32) announce.Peer {
	p := r.peer4(myASN)
	p.Address = r.own6
	return p
}

// start starts FRR with one neighbor, the node, and lines more in the router block and at the end of it in both address families.
func (r *router) start(neighbor netip.Addr, nodeASN uint32, lines ...string) *router {
	r.t.Helper()
	config := fmt.Sprintf(`router bgp %d
 bgp router-id 10.88.0.%s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor %[3]s remote-as %[4]d
 neighbor %[3]s timers 3 9
%[5]s
 address-family ipv4 unicast
  neighbor %[3]s activate
  network 203.0.113.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor %[3]s activate
  network 2001:db8:ffff::/48
 exit-address-family
`, r.asn, r.name[1:], neighbor, nodeASN, strings.Join(lines, "\n"))
	r.daemon("zebra", "")
	r.bgpd = r.daemon("bgpd", config)
	return r
}

// daemon starts a daemon of FRR in the foreground and waits until it answers.
func (r *router) daemon(daemon, config string) *exec.Cmd {
	r.t.Helper()
	file := filepath.Join(r.dir, daemon+".conf")
	must(r.t, os.WriteFile(file, []byte(config), 0o644))
	log, err := os.Create(filepath.Join(r.dir, daemon+".log"))
	must(r.t, err)
	defer log.Close()
	command := exec.Command("ip", "netns", "exec", r.namespace, filepath.Join(frrDir, daemon),
		"-f", file, "-i", filepath.Join(r.dir, daemon+".pid"), "-z", filepath.Join(r.dir, "zserv.api"),
		"--vty_socket", r.dir, "-P", "0", "--log", "stdout")
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(r.t, command.Start())
	r.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && r.t.Failed() {
			r.t.Logf("%s of %s: %s", daemon, r.name, text)
		}
	})
	eventually(r.t, daemon, func() string {
		if _, err := r.try(daemon, "show version"); err != nil {
			return err.Error()
		}
		return ""
	}, "")
	return command
}

func (r *router) try(daemon, command string) ([]byte, error) {
	out, err := exec.Command("vtysh", "--vty_socket", r.dir, "-d", daemon, "-c", command).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return out, nil
}

// show reads the answer to a show command, without the word json at its end.
func (r *router) show(command string, into any) {
	r.t.Helper()
	out, err := r.try("bgpd", "show "+command+" json")
	must(r.t, err)
	if err := json.Unmarshal(out, into); err != nil {
		r.t.Fatalf("show %s: %v: %s", command, err, out)
	}
}

// frrPath is one path in FRR's words.
type frrPath struct {
	Valid    bool
	AsPath   struct{ String string }
	Metric   *uint32
	LocPrf   *uint32
	Nexthops []struct{ IP, Scope string }

	Community, LargeCommunity struct{ String string }
}

// prefixes are those that the node has announced to the router.
func (r *router) prefixes() string {
	r.t.Helper()
	var all []string
	for _, family := range []string{"ipv4", "ipv6"} {
		var table struct {
			Routes map[string][]struct{ PeerID string }
		}
		r.show("bgp "+family+" unicast", &table)
		for prefix, paths := range table.Routes {
			for _, path := range paths {
				if path.PeerID != "(unspec)" { // the router's own
					all = append(all, prefix)
				}
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// route describes what the router knows of a prefix.
func (r *router) route(prefix string) string {
	r.t.Helper()
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	var entry struct{ Paths []frrPath }
	r.show("bgp "+family+" unicast "+prefix, &entry)
	var all []string
	for _, path := range entry.Paths {
		var words []string
		for _, hop := range path.Nexthops {
			if hop.Scope != "link-local" {
				words = append(words, "via "+hop.IP)
			}
		}
		words = append(words, "path "+path.AsPath.String)
		if path.Metric != nil {
			words = append(words, fmt.Sprintf("med %d", *path.Metric))
		}
		if path.LocPrf != nil {
			words = append(words, fmt.Sprintf("pref %d", *path.LocPrf))
		}
		words = append(words, path.Community.String, path.LargeCommunity.String)
		if !path.Valid {
			words = append(words, "invalid")
		}
		all = append(all, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	return strings.Join(all, "; ")
}

func (r *router) waitPrefixes(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	eventually(r.t, "prefixes of "+r.name, r.prefixes, strings.Join(want, " "))
}

func (r *router) waitRoute(prefix, want string) {
	r.t.Helper()
	eventually(r.t, "route "+prefix+" of "+r.name, func() string { return r.route(prefix) }, want)
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
