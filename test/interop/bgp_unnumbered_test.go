//go:build e2e

package interop

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
)

// inKernel is where the kernel of the router sends what is for a prefix.
func (r *router) inKernel(prefix string) string {
	r.t.Helper()
	family := "-4"
	if netip.MustParsePrefix(prefix).Addr().Is6() {
		family = "-6"
	}
	out, err := exec.Command("ip", family, "-n", r.namespace, "-o", "route", "show", "proto", "bgp", prefix).CombinedOutput()
	if err != nil {
		return err.Error() + string(out)
	}
	_, words, _ := strings.Cut(string(out), " via ")
	words, _, _ = strings.Cut(words, " proto ")
	words, _, _ = strings.Cut(words, " metric ")
	return strings.TrimSpace(words)
}

// valid says for a prefix whether FRR takes it for a path that can be used, and whose.
func (r *router) valid(prefix string) string {
	r.t.Helper()
	family := "ipv4"
	if netip.MustParsePrefix(prefix).Addr().Is6() {
		family = "ipv6"
	}
	var entry struct {
		Paths []struct {
			Valid  bool
			AsPath struct{ String string }
			Peer   struct{ Interface string }
		}
	}
	r.show("bgp "+family+" unicast "+prefix, &entry)
	var all []string
	for _, path := range entry.Paths {
		all = append(all, fmt.Sprintf("valid %t path %s from %s", path.Valid, path.AsPath.String, path.Peer.Interface))
	}
	return strings.Join(all, "; ")
}

// A link without any address of ours: the router is found by its advertisements, and everything goes over
// the link-local session, IPv4 with an IPv6 next hop (RFC 8950).
func TestUnnumberedSessionCarriesBothFamilies(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	for namespace, device := range map[string]string{n.namespace: r.device, r.namespace: "eth0"} {
		ip(t, "-n", namespace, "address", "flush", "dev", device, "scope", "global")
	}
	own, theirs := linkLocal(t, n.namespace, r.device), linkLocal(t, r.namespace, "eth0")
	r.daemon("zebra", "")
	r.bgpd = r.daemon("bgpd", fmt.Sprintf(`router bgp %d
 bgp router-id 10.88.0.1
 no bgp ebgp-requires-policy
 neighbor eth0 interface remote-as external
 neighbor eth0 timers 3 9
 address-family ipv4 unicast
  neighbor eth0 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
 exit-address-family
`, r.asn))
	f := newFinder(t, n.namespace)
	f.set(r.device)
	peer := announce.Peer{
		Name: "r1", MyASN: 64512, Dynamic: announce.External, Interface: r.device, IPv4: true, IPv6: true,
		Hold: 9 * time.Second, Connect: 2 * time.Second, GracefulRestart: 30 * time.Second,
	}
	n.setPeers(peer)
	n.set("a", route("192.0.2.1/32", announce.Attributes{}, "r1"), route("2001:db8:1::1/128", announce.Attributes{}, "r1"))
	n.sync()
	if got := n.peer("r1"); got.State != bgp.Idle || got.LastError == "" {
		t.Errorf("without a router: %+v", got)
	}
	f.waitRouter(theirs.String() + "%" + r.device)
	peer.Address = theirs.WithZone(r.device)
	n.setPeers(peer)
	routes := func(what string) {
		t.Helper()
		for _, prefix := range []string{"192.0.2.1/32", "2001:db8:1::1/128"} {
			eventually(t, what+": "+prefix, func() string { return r.valid(prefix) }, "valid true path 64512 from eth0")
		}
		eventually(t, what+": IPv4 in the kernel", func() string { return r.inKernel("192.0.2.1/32") },
			fmt.Sprintf("inet6 %s dev eth0", own))
		eventually(t, what+": IPv6 in the kernel", func() string { return r.inKernel("2001:db8:1::1/128") },
			fmt.Sprintf("%s dev eth0", own))
	}
	routes("start")
	if got := n.peer("r1").ASN; got != 64513 {
		t.Errorf("AS number of the router: %d", got)
	}

	// A restart of ours loses no route.
	m := r.monitor()
	n.again(false)
	n.begin([]announce.Route{route("192.0.2.1/32", announce.Attributes{}, "r1"), route("2001:db8:1::1/128", announce.Attributes{}, "r1")}, peer)
	n.waitState("r1", bgp.Established)
	routes("restart")
	if lost := m.lost(); len(lost) > 0 {
		t.Errorf("left during the restart: %s", strings.Join(lost, "; "))
	}

	must(t, r.bgpd.Process.Kill())
	_ = r.bgpd.Wait()
	n.waitError("r1", "connection lost")
}
