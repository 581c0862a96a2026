package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// routedSpec says which lab a section of the suite bgp needs.
type routedSpec struct {
	nodes, routers int
	bfd            lab.BFDTimers
}

// routed are the labs of the suite bgp, of which one is up at a time. FRR is on the routers; n1 has the
// only pod and, unless it is the only node, no sessions; the client is the host wan, behind the routers.
type routed struct {
	*bed // nil before the first lab
	spec routedSpec
	with peering // of the sessions that there are
}

func bgpSuite() suite {
	r := &routed{}
	// The timers that are BFD's defaults, and the shortest that a busy node bears.
	whole := routedSpec{nodes: failoverNodes, routers: 2, bfd: lab.BFDTimers{Receive: 300, Transmit: 300, Multiplier: 3}}
	quick := routedSpec{nodes: failoverNodes, routers: 2, bfd: lab.BFDTimers{Receive: 100, Transmit: 100, Multiplier: 3}}
	return suite{name: "bgp", close: r.close, sections: []section{
		{"load", r.load},
		{"paced", r.in(routedSpec{nodes: 1, routers: 1}, r.paced)},
		{"cut", r.in(quick, r.cuts)},
		{"drain", r.in(whole, r.drains)},
		{"stop", r.in(whole, r.stops)},
		{"reboot", r.in(whole, r.reboots)},
		{"poweroff", r.in(whole, r.powerOffs)},
		{"restart", r.in(whole, r.restarts)},
		{"router", r.in(whole, r.routerRestarts)},
	}}
}

// in runs a section in a lab.
func (r *routed) in(spec routedSpec, measure func(context.Context) (table, error)) func(context.Context, *bed) (table, error) {
	return func(ctx context.Context, b *bed) (table, error) {
		if err := r.use(ctx, b.settings, spec); err != nil {
			return table{}, err
		}
		t, err := measure(ctx)
		if err != nil {
			return t, r.explain(ctx, err)
		}
		return t, nil
	}
}

// use brings a lab up, unless the one that is up is the right one.
func (r *routed) use(ctx context.Context, o settings, spec routedSpec) error {
	if r.bed != nil && r.spec == spec {
		return nil
	}
	if err := r.close(); err != nil {
		return err
	}
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	l, err := lab.Up(up, lab.Options{
		Prefix: o.prefix, Nodes: spec.nodes, Routers: spec.routers, RouterKind: lab.FRR, BFD: spec.bfd,
		SpeakerArgs: []string{"--zap-time-encoding=rfc3339nano"}, // the section router reads them
		LogDir:      o.logs, BinDir: o.bin, DownOnSignal: true,
		Progress: func(message string) { progress("%s", message) },
	})
	if err != nil {
		return err
	}
	r.bed, r.spec, r.with = &bed{settings: o, lab: l, nodes: spec.nodes, stop: func() {}}, spec, peering{}
	if err := r.prepare(ctx); err != nil {
		return errors.Join(r.explain(ctx, fmt.Errorf("prepare the lab: %w", err)), r.close())
	}
	return nil
}

// close removes the lab that is up.
func (r *routed) close() error {
	if r.bed == nil {
		return nil
	}
	err := r.bed.close()
	r.bed = nil
	return err
}

// announcesLabel is on the nodes that have sessions.
const announcesLabel = "bench.ballast.dev/announces"

// routedManifests are for every section. The BFDProfile's timers are the routers'.
const routedManifests = `
---
apiVersion: ballast.dev/v1alpha1
kind: BGPAdvertisement
metadata: {name: bench}
spec: {ipAddressPools: [bench]}
---
apiVersion: ballast.dev/v1alpha1
kind: BFDProfile
metadata: {name: bench}
spec: {receiveInterval: %d, transmitInterval: %d, detectMultiplier: %d}
`

// prepare makes what the sections share.
func (r *routed) prepare(ctx context.Context) error {
	timers := r.spec.bfd
	if timers == (lab.BFDTimers{}) {
		timers = lab.BFDTimers{Receive: 300, Transmit: 300, Multiplier: 3}
	}
	text := manifests + fmt.Sprintf(routedManifests, timers.Receive, timers.Transmit, timers.Multiplier)
	if err := r.lab.Apply(ctx, text); err != nil {
		return err
	}
	for _, node := range r.announcers() {
		if _, err := r.lab.Kubectl(ctx, "label", "node", node, announcesLabel+"=true"); err != nil {
			return err
		}
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	if _, err := r.lab.AddBackend(ctx, lab.Backend{Namespace: namespace, App: app, Node: "n1"}); err != nil {
		return err
	}
	return r.peer(ctx, watched())
}

// announcers are the nodes that have sessions.
func (r *routed) announcers() []string {
	if r.nodes == 1 {
		return []string{"n1"}
	}
	return announcers()
}

func (r *routed) routers() []string {
	var names []string
	for i := range r.spec.routers {
		names = append(names, fmt.Sprintf("r%d", i+1))
	}
	return names
}

// peering is how sessions are watched. The zero value is that there are none.
type peering struct {
	bfd, gracefulRestart bool
	hold                 time.Duration
	// unreachable adds a BGPPeer that nobody is.
	unreachable bool
}

// restartTime is what `gracefulRestart: {}` asks routers for.
const restartTime = 30 * time.Second

// watched is with everything that this suite is about.
func watched() peering { return peering{bfd: true, gracefulRestart: true, hold: 90 * time.Second} }

// nobody is an address of the LAN that no host has.
const nobody = "10.10.0.200"

// peer makes the BGPPeers, if those that there are are others, and waits until all sessions are up.
func (r *routed) peer(ctx context.Context, p peering) error {
	if p == r.with {
		return r.peered(ctx)
	}
	if r.with != (peering{}) { // so that what was before is not taken for what is to be
		if _, err := r.lab.Kubectl(ctx, "delete", "bgppeers", "--all"); err != nil {
			return err
		}
		for _, router := range r.routers() {
			if err := r.lab.AwaitSessions(ctx, router, 0); err != nil {
				return err
			}
		}
	}
	var text strings.Builder
	one := func(name, address string) {
		fmt.Fprintf(&text, `---
apiVersion: ballast.dev/v1alpha1
kind: BGPPeer
metadata: {name: %s}
spec:
  {myASN: %d, peerASN: %d, peerAddress: %s, holdTime: %s, connectTime: 1s, nodeSelectors: [{matchLabels: {%s: "true"}}]%s%s}
`, name, lab.NodeASN, lab.RouterASN, address, p.hold, announcesLabel, onlyIf(p.bfd, ", bfdProfile: bench"), onlyIf(p.gracefulRestart, ", gracefulRestart: {}"))
	}
	for _, router := range r.routers() {
		h, err := r.lab.Host(router)
		if err != nil {
			return err
		}
		one(router, h.IPv4.String())
	}
	if p.unreachable {
		one("nobody", nobody)
	}
	if err := r.lab.Apply(ctx, text.String()); err != nil {
		return err
	}
	r.with = p
	return r.peered(ctx)
}

func onlyIf(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

// peered waits until every announcing node has its session with every router, and BFD if it is to.
func (r *routed) peered(ctx context.Context) error {
	want := len(r.announcers())
	for _, router := range r.routers() {
		err := lab.Poll(ctx, stepLimit, fmt.Sprintf("%s has %d sessions", router, want), func(ctx context.Context) error {
			sessions, err := r.lab.RouterSessions(ctx, router)
			if err != nil {
				return err
			}
			good := 0
			for _, s := range sessions {
				if s.Established && (s.BFD == "up") == r.with.bfd {
					good++
				}
			}
			if good != want {
				return fmt.Errorf("%d are as they are to be: %v", good, sessions)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exposed makes Services of a prefix up to a number, of which kube-proxy knows those that are to have clients, and
// returns the first one's address once every router forwards it to every node.
func (r *routed) exposed(ctx context.Context, prefix string, n, proxied int) (netip.Addr, error) {
	present, err := r.seen.present(prefix)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(present) != n {
		progress("making %d Services", n)
		if err := r.remove(ctx, prefix); err != nil {
			return netip.Addr{}, err
		}
		if err := r.createUnowned(ctx, prefix, n, proxied); err != nil {
			return netip.Addr{}, err
		}
		if err := r.served(ctx, prefix, n); err != nil {
			return netip.Addr{}, err
		}
		if err := r.quiet(ctx); err != nil {
			return netip.Addr{}, err
		}
	}
	all, err := r.addressesOf(ctx, prefix)
	if err != nil {
		return netip.Addr{}, err
	}
	return all[0], r.forwarded(ctx, all...)
}

// forwarded waits until every router forwards all of the addresses to every announcing node.
func (r *routed) forwarded(ctx context.Context, all ...netip.Addr) error {
	for _, router := range r.routers() {
		err := lab.Poll(ctx, stepLimit, fmt.Sprintf("%s forwards %d addresses to every node", router, len(all)), func(ctx context.Context) error {
			routes, err := r.lab.RouterFIB(ctx, router)
			if err != nil {
				return err
			}
			for _, a := range all {
				if hops := routes[netip.PrefixFrom(a, a.BitLen())]; len(hops) != len(r.announcers()) {
					return fmt.Errorf("%s goes to %v", a, hops)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// left waits until no router forwards an address to a node.
func (r *routed) left(ctx context.Context, a netip.Addr, n *lab.Node) error {
	for _, router := range r.routers() {
		err := lab.Poll(ctx, stepLimit, fmt.Sprintf("%s has left %s", router, n.Name), func(ctx context.Context) error {
			routes, err := r.lab.RouterFIB(ctx, router)
			if err != nil {
				return err
			}
			for _, hop := range routes[netip.PrefixFrom(a, a.BitLen())] {
				if hop == n.IPv4 {
					return errors.New("it has not")
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
