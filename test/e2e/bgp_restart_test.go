//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/ballast-lb/ballast/test/lab"
)

func terminatedBGPSpeaker(r *bgpRig) { restartedBGPSpeaker(r, "term", syscall.SIGTERM) }

func killedBGPSpeaker(r *bgpRig) { restartedBGPSpeaker(r, "kill", syscall.SIGKILL) }

// restartedBGPSpeaker ends a speaker and starts it again at once.
func restartedBGPSpeaker(r *bgpRig, name string, signal syscall.Signal) {
	addresses := r.announce(name)
	c := r.watch(addresses)
	r.must(r.process("speaker-n1").Restart(r.Context(), signal))
	c.observe(100)
	r.settle()
	c.observe(500)
	c.allFine()
	r.awaitRoutes(addresses, allAnnouncers...)
}

// restartAll is what an update of the DaemonSet does.
func (r *bgpRig) restartAll(name string) {
	r.Helper()
	addresses := r.announce(name)
	c := r.watch(addresses)
	for _, n := range r.lab.Nodes() {
		r.must(r.process("speaker-"+n.Name).Restart(r.Context(), syscall.SIGTERM))
		c.observe(100)
		r.settle()
	}
	c.observe(500)
	c.allFine()
	r.awaitRoutes(addresses, allAnnouncers...)
}

// rollingBGPRestartBesideABlackHole: a speaker that starts must not wait for all of its peers.
func rollingBGPRestartBesideABlackHole(r *bgpRig) {
	r.badPeer("hole", lab.BlackHole)
	r.restartAll("beside")
}

// avoided returns nil if the node's path carries GRACEFUL_SHUTDOWN and is not used.
func avoided(r *bgpRig, routes lab.Routes, a netip.Addr, node string) error {
	paths := routes[netip.PrefixFrom(a, a.BitLen())]
	for _, p := range paths {
		if r.nodeAt(p.NextHop) != node || !slices.Contains(p.Communities, lab.GracefulShutdown) {
			continue
		}
		if p.Used {
			return errors.New("it uses the path nevertheless")
		}
		return nil
	}
	return fmt.Errorf("the paths to %s are %+v", a, paths)
}

// absent returns nil if no path leads to the node.
func absent(r *bgpRig, routes lab.Routes, addresses []netip.Addr, node string) error {
	for _, a := range addresses {
		for _, p := range routes[netip.PrefixFrom(a, a.BitLen())] {
			if r.nodeAt(p.NextHop) == node {
				return fmt.Errorf("it has %+v to %s", p, a)
			}
		}
	}
	return nil
}
