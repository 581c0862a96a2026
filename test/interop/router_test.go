//go:build e2e

package interop

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

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
	join(n.t, end{n.namespace, r.device, r.node4, r.node6}, end{r.namespace, "eth0", r.own4, r.own6})
	return r
}

// end is one end of a link.
type end struct {
	namespace, device  string
	address4, address6 netip.Addr
}

// join joins two namespaces with a veth pair.
func join(t *testing.T, a, b end) {
	t.Helper()
	ip(t, "-n", a.namespace, "link", "add", a.device, "type", "veth", "peer", "name", b.device, "netns", b.namespace)
	for _, e := range []end{a, b} {
		ip(t, "-n", e.namespace, "address", "add", e.address4.String()+"/24", "dev", e.device)
		ip(t, "-n", e.namespace, "address", "add", e.address6.String()+"/64", "dev", e.device, "nodad")
		ip(t, "-n", e.namespace, "link", "set", e.device, "up")
	}
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
func (r *router) daemon(daemon, config string, more ...string) *exec.Cmd {
	r.t.Helper()
	args := []string{
		"-f", r.write(daemon+".conf", config), "-i", filepath.Join(r.dir, daemon+".pid"), "-z", filepath.Join(r.dir, "zserv.api"),
		"--vty_socket", r.dir, "-P", "0", "--log", "stdout",
	}
	command := r.run(filepath.Join(frrDir, daemon), append(args, more...)...)
	eventually(r.t, daemon, func() string {
		if _, err := r.try(daemon, "show version"); err != nil {
			return err.Error()
		}
		return ""
	}, "")
	return command
}

// write writes a file of the router's.
func (r *router) write(file, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, file)
	must(r.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// run starts a program in the router's namespace, which is killed when the test ends. What it said is
// shown when the test has failed.
func (r *router) run(program string, args ...string) *exec.Cmd {
	r.t.Helper()
	log, err := os.CreateTemp(r.dir, filepath.Base(program)+"-*.log")
	must(r.t, err)
	defer log.Close()
	command := exec.Command("ip", append([]string{"netns", "exec", r.namespace, program}, args...)...)
	command.Dir, command.Stdout, command.Stderr = r.dir, log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(r.t, command.Start())
	r.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && r.t.Failed() {
			r.t.Logf("%s of %s: %s", filepath.Base(program), r.name, text)
		}
	})
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

	Community, LargeCommunity, ExtendedCommunity struct{ String string }
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
		words = append(words, path.Community.String, path.LargeCommunity.String, path.ExtendedCommunity.String)
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
