//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// bgpRig is one scenario's view of the lab of TestBGP. As in TestFailover, backends run on n4, which
// announces nothing and never fails.
type bgpRig struct{ *rig }

// routers are those of the lab, with a BGPPeer a family each: r1-v4, r1-v6, ...
var (
	routers        = []string{"r1", "r2"}
	allAnnouncers  = []string{"n1", "n2", "n3"}
	sessionsOfEach = 2 * 4 // from every node, also the one that announces nothing
)

func newBGPRig(t *testing.T, f *fixture) *bgpRig {
	t.Helper()
	return &bgpRig{newRig(t, f)}
}

// prepare makes what all scenarios share: sessions with BFD and graceful restart.
func (r *bgpRig) prepare() {
	r.Helper()
	r.kubectl("label", "node", backendNode, labelExclude+"=")
	r.kubectl("delete", "bgppeers", "--all")
	for _, router := range routers {
		for i, address := range r.addressesOf(router) {
			p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-v%d", router, []int{4, 6}[i])}}
			p.Spec = peerSpec(address)
			r.must(r.client.Create(r.Context(), p))
		}
	}
}

func (r *bgpRig) addressesOf(host string) []netip.Addr {
	r.Helper()
	h, err := r.lab.Host(host)
	r.must(err)
	return []netip.Addr{h.IPv4, h.IPv6}
}

// peerSpec is a session with BFD and graceful restart.
func peerSpec(address netip.Addr) v1alpha1.BGPPeerSpec {
	remote := int64(lab.RouterASN)
	return v1alpha1.BGPPeerSpec{
		MyASN: lab.NodeASN, PeerASN: &remote, PeerAddress: address.String(), BFDProfile: "lan",
		ConnectTime:     &metav1.Duration{Duration: time.Second},
		GracefulRestart: &v1alpha1.GracefulRestart{RestartTime: &metav1.Duration{Duration: 30 * time.Second}},
	}
}

// settle waits until all nodes, speakers and sessions are up.
func (r *bgpRig) settle() {
	r.Helper()
	r.rig.settle()
	for _, router := range routers {
		r.awaitSessions(router, r.bfdConfigured())
	}
}

// bfdConfigured says whether the peers have BFD just now.
func (r *bgpRig) bfdConfigured() bool {
	r.Helper()
	var peer v1alpha1.BGPPeer
	r.must(r.client.Get(r.Context(), client.ObjectKey{Name: "r1-v4"}, &peer))
	return peer.Spec.BFDProfile != ""
}

// awaitSessions waits until a router has all its sessions, with BFD up if they have it. After BFD
// found a router dead a speaker leaves it alone for a while.
func (r *bgpRig) awaitSessions(router string, bfd bool) {
	r.Helper()
	r.patiently(router+" has all its sessions", func(ctx context.Context) error {
		sessions, err := r.lab.RouterSessions(ctx, router)
		if err != nil {
			return err
		}
		up := 0
		for _, s := range sessions {
			if s.Established && (!bfd || s.BFD == "up") {
				up++
			}
		}
		if up != sessionsOfEach {
			return fmt.Errorf("it has %d of %d: %v", up, sessionsOfEach, sessions)
		}
		return nil
	})
}

// reconfigure changes the peers of some routers for the time of the test.
func (r *bgpRig) reconfigure(change func(*v1alpha1.BGPPeerSpec), names ...string) {
	r.Helper()
	for _, router := range names {
		for _, family := range []string{"v4", "v6"} {
			key := client.ObjectKey{Name: router + "-" + family}
			var before v1alpha1.BGPPeer
			r.must(r.client.Get(r.Context(), key, &before))
			r.must(r.editPeer(r.Context(), key, change))
			r.Cleanup(func() {
				err := r.editPeer(context.Background(), key, func(s *v1alpha1.BGPPeerSpec) { *s = before.Spec })
				if err != nil {
					r.Error(err)
				}
			})
		}
	}
}

func (r *bgpRig) editPeer(ctx context.Context, key client.ObjectKey, change func(*v1alpha1.BGPPeerSpec)) error {
	return r.lab.WaitFor(ctx, "BGPPeer "+key.Name+" is changed", func(ctx context.Context) error {
		var peer v1alpha1.BGPPeer
		if err := r.client.Get(ctx, key, &peer); err != nil {
			return err
		}
		change(&peer.Spec)
		return r.client.Update(ctx, &peer) // a conflict is tried again
	})
}

// announce runs a backend and a Service with an address of each family, and returns the addresses
// once both routers send them to all nodes and the client on the WAN is answered steadily.
func (r *bgpRig) announce(name string) []netip.Addr {
	r.Helper()
	r.backend(name, backendNode)
	addresses := r.expose(dualStack(service(name, "wan")), 2)
	r.awaitRoutes(addresses, allAnnouncers...)
	for _, a := range addresses {
		r.reachSteadily("wan", web(a))
	}
	return addresses
}

// awaitRoutes waits until the daemons and the kernels of both routers send the addresses to exactly
// these nodes.
func (r *bgpRig) awaitRoutes(addresses []netip.Addr, nodes ...string) {
	r.Helper()
	for _, router := range routers {
		r.awaitRoutesOf(router, addresses, nodes...)
	}
}

func (r *bgpRig) awaitRoutesOf(router string, addresses []netip.Addr, nodes ...string) {
	r.Helper()
	r.eventually(fmt.Sprintf("%s routes %v to %v", router, addresses, nodes), func(ctx context.Context) error {
		routes, err1 := r.lab.RouterRoutes(ctx, router)
		fib, err2 := r.lab.RouterFIB(ctx, router)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		for _, a := range addresses {
			prefix := netip.PrefixFrom(a, a.BitLen())
			if got := r.nodesAt(routes.NextHops(prefix)); !slices.Equal(got, nodes) {
				return fmt.Errorf("its daemon routes %s to %v", a, got)
			}
			if got := r.nodesAt(fib[prefix]); !slices.Equal(got, nodes) {
				return fmt.Errorf("its kernel routes %s to %v", a, got)
			}
		}
		return nil
	})
}

func (r *bgpRig) nodesAt(hops []netip.Addr) []string {
	var nodes []string
	for _, hop := range hops {
		nodes = append(nodes, r.nodeAt(hop))
	}
	slices.Sort(nodes)
	return nodes
}

// wanClients are a WAN client's new connections, one every 10 ms, and 60 that it keeps, while
// something happens; and the changes of both routers' kernels.
type wanClients struct {
	r         *bgpRig
	addresses []netip.Addr
	prober    *lab.Prober
	held      *lab.Held
	monitors  map[string]*lab.RouteMonitor
}

// watch starts clients of the addresses; the held connections go to the first.
func (r *bgpRig) watch(addresses []netip.Addr) *wanClients {
	r.Helper()
	c := &wanClients{r: r, addresses: addresses, monitors: map[string]*lab.RouteMonitor{}}
	for _, router := range routers {
		m, err := r.lab.MonitorRoutes(router)
		r.must(err)
		r.Cleanup(func() { m.Stop() })
		c.monitors[router] = m
	}
	probe := lab.Probe{From: "wan", Timeout: 3 * time.Second, Interval: time.Duration(len(addresses)) * 10 * time.Millisecond}
	for _, a := range addresses {
		probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
	}
	var err error
	c.held, err = r.lab.Hold(r.Context(), lab.Hold{From: "wan", Target: probe.Targets[0]})
	r.must(err)
	r.Cleanup(func() { c.held.Stop() })
	c.prober, err = r.lab.StartProber(probe)
	r.must(err)
	r.Cleanup(func() { c.prober.Stop() })
	c.observe(50)
	return c
}

// observe waits for that many further new connections, 100 of which are made a second.
func (c *wanClients) observe(n int) {
	c.r.Helper()
	want := c.prober.Count() + n
	c.r.patiently(fmt.Sprintf("%d new connections were tried", want), func(context.Context) error {
		if got := c.prober.Count(); got < want {
			return fmt.Errorf("%d were", got)
		}
		return nil
	})
}

// noneFailed ends the new connections and fails if more than one did that began at or after a time
// (the zero Time: ever) and was not under way when a router changed its routes: those may be sent to a node
// that does not know them. A single one of hundreds is told and let pass, as a packet may get lost.
func (c *wanClients) noneFailed(from time.Time) {
	c.r.Helper()
	log := c.prober.Stop()
	changes := c.changes()
	moved := func(a lab.Attempt) bool {
		return a.Outcome != lab.Answered && slices.ContainsFunc(changes, func(e lab.RouteEvent) bool {
			return e.Prefix.Addr() == a.Target.Addr() && a.Start.Before(e.At) && e.At.Sub(a.Start) < inFlight
		})
	}
	total := len(log.Attempts)
	log.Attempts = slices.DeleteFunc(log.Attempts, moved)
	report := log.Report(from, time.Time{})
	c.r.Logf("%d were under way when a route changed; %s", total-len(log.Attempts), report)
	for i, a := range log.Unwell(from) {
		if i < 10 {
			c.r.Logf("%s\n%s", a, describe(around(changes, a.Start)))
		}
	}
	if report.Broken() > 1 {
		c.r.Errorf("new connections failed: %s\n%s", report, describe(changes))
	}
}

// around are the changes of the seconds before and after a time.
func around(changes []lab.RouteEvent, at time.Time) []lab.RouteEvent {
	return slices.DeleteFunc(slices.Clone(changes), func(e lab.RouteEvent) bool { return e.At.Sub(at).Abs() > 2*time.Second })
}

// noneBroke ends the held connections and fails if one broke.
func (c *wanClients) noneBroke() {
	c.r.Helper()
	report := c.held.Stop()
	c.r.Log(report)
	if report.Broken > 0 {
		c.r.Errorf("%s", report)
	}
}

// changes are those of the routes to the addresses, in either router.
func (c *wanClients) changes() []lab.RouteEvent {
	var out []lab.RouteEvent
	for _, m := range c.monitors {
		for _, e := range m.Seen() {
			if slices.Contains(c.addresses, e.Prefix.Addr()) {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b lab.RouteEvent) int { return a.At.Compare(b.At) })
	return out
}

// noRouteChanged fails if a route to one of the addresses was deleted, or for a moment led to fewer nodes.
func (c *wanClients) noRouteChanged() {
	c.r.Helper()
	changes := slices.DeleteFunc(c.changes(), func(e lab.RouteEvent) bool {
		return !e.Deleted && len(e.NextHops) == len(allAnnouncers)
	})
	if len(changes) > 0 {
		c.r.Errorf("routes changed:\n%s", describe(changes))
	}
}

func describe(changes []lab.RouteEvent) string {
	var b strings.Builder
	for _, e := range changes {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// allFine is that neither client nor routers noticed anything.
func (c *wanClients) allFine() {
	c.r.Helper()
	c.noneFailed(time.Time{})
	c.noneBroke()
	c.noRouteChanged()
}
