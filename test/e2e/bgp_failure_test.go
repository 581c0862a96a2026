//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// loses takes a node away, waits until both routers have stopped using it, and fails if a new
// connection that begins after that is not answered. What breaks before that is for the
// benchmarks to count.
func (r *bgpRig) loses(name, node string, fail, mend func(context.Context) error) {
	r.Helper()
	ctx := r.Context()
	addresses := r.announce(name)
	c := r.watch(addresses)
	r.must(fail(ctx))
	mended := false
	defer func() {
		if !mended {
			if err := mend(context.Background()); err != nil {
				r.Error(err)
			}
		}
	}()
	r.awaitRoutes(addresses, announcers(node)...)
	c.observe(1)
	left := time.Now()
	c.observe(500)
	c.noneFailed(left)
	r.Logf("held connections: %s", c.held.Stop())
	mended = true
	r.must(mend(ctx))
	r.awaitRoutes(addresses, allAnnouncers...)
	for _, a := range addresses {
		r.reachSteadily("wan", web(a))
	}
}

// cutWithBFD: within the 30 s of the restart time and the 90 s of the hold time only BFD can
// have taken the routes away.
func cutWithBFD(r *bgpRig) {
	n := r.node("n1")
	r.loses("cut", "n1", func(ctx context.Context) error { return n.Cut(ctx) }, func(ctx context.Context) error { return n.Restore(ctx) })
}

// cutWithoutBFD has no graceful restart either, which would keep the routes.
func cutWithoutBFD(r *bgpRig) {
	r.reconfigure(func(s *v1alpha1.BGPPeerSpec) {
		s.BFDProfile, s.GracefulRestart = "", nil
		s.HoldTime = &metav1.Duration{Duration: 3 * time.Second}
	}, routers...)
	r.settle()
	n := r.node("n2")
	r.loses("hold", "n2", func(ctx context.Context) error { return n.Cut(ctx) }, func(ctx context.Context) error { return n.Restore(ctx) })
}

func powerOffWithBFD(r *bgpRig) {
	n := r.node("n3")
	r.loses("power", "n3", n.PowerOff, n.PowerOn)
}

// hungSpeaker stands still; its kernel goes on forwarding, but nobody can know.
func hungSpeaker(r *bgpRig) {
	p := r.process("speaker-n1")
	r.loses("hang", "n1",
		func(context.Context) error { return p.Pause() },
		func(context.Context) error { return p.Resume() })
}

// rebootOverBGP: a speaker that is told to stop, and nothing more, is expected back. The routers keep its routes for the
// restart time, and no longer.
func rebootOverBGP(r *bgpRig) {
	r.reconfigure(func(s *v1alpha1.BGPPeerSpec) {
		s.GracefulRestart = &v1alpha1.GracefulRestart{RestartTime: &metav1.Duration{Duration: 5 * time.Second}}
	}, routers...)
	r.settle()
	n := r.node("n2")
	r.loses("reboot", "n2", n.ShutDown, n.PowerOn)
}

// announcedReboot: kubelet says in the Node that it shuts down, and gives pods time. The speaker leaves.
func announcedReboot(r *bgpRig) {
	ctx := r.Context()
	addresses := r.announce("shutdown")
	n, speaker := r.node("n1"), r.process("speaker-n1")
	c := r.watch(addresses)
	n.StopHeartbeat()
	patch := `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"node is shutting down"}]}}`
	r.kubectl("patch", "node", "n1", "--subresource=status", "--patch", patch)
	r.must(speaker.Stop(ctx, syscall.SIGTERM)) // it takes its time, as the settings say
	r.awaitGone(addresses, "n1")
	r.awaitRoutes(addresses, announcers("n1")...)
	r.must(n.ShutDown(ctx))
	c.observe(300)
	c.noneFailed(time.Time{})
	r.Logf("held connections: %s", c.held.Stop())
	r.must(errors.Join(n.PowerOn(ctx), speaker.Start()))
	r.awaitRoutes(addresses, allAnnouncers...)
}

// bgpWithoutAPI: nothing happens, and then a node fails.
func bgpWithoutAPI(r *bgpRig) {
	ctx := r.Context()
	addresses := r.announce("no-api")
	c := r.watch(addresses)
	r.stopAPI()
	c.observe(1000)
	c.allFine()
	n := r.node("n2")
	r.must(n.Cut(ctx))
	r.awaitRoutes(addresses, announcers("n2")...)
	again := r.watch(addresses)
	again.observe(300)
	again.noneFailed(time.Time{})
	again.held.Stop()
	r.must(errors.Join(n.Restore(ctx), r.lab.StartAPI(ctx)))
	r.awaitRoutes(addresses, allAnnouncers...)
}

// restartedRouter: bgpd of r1 is killed, and started again. r2 keeps its routes throughout.
func restartedRouter(r *bgpRig) {
	addresses := r.announce("router")
	c := r.watch(addresses)
	r.must(r.lab.RestartRouter(r.Context(), "r1", syscall.SIGKILL))
	r.awaitRoutes(addresses, allAnnouncers...)
	c.observe(1)
	back := time.Now()
	c.observe(300)
	c.noneFailed(back)
	for _, e := range c.monitors["r2"].Seen() {
		if e.Prefix.Addr() == addresses[0] || e.Prefix.Addr() == addresses[1] {
			r.Errorf("r2 changed a route: %s", e)
		}
	}
	r.settle()
}

// drainOverBGP: first the router is asked to prefer others (RFC 8326), then the routes are withdrawn.
func drainOverBGP(r *bgpRig) {
	addresses := r.announce("drain")
	c := r.watch(addresses)
	r.kubectl("annotate", "--overwrite", "node", "n1", v1alpha1.AnnotationDrain+"=true")
	ended := false
	end := func() {
		if !ended {
			ended = true
			r.kubectl("annotate", "node", "n1", v1alpha1.AnnotationDrain+"-")
		}
	}
	defer end()
	for _, router := range routers {
		for _, a := range addresses {
			r.awaitAvoided(router, a, "n1")
		}
	}
	r.awaitRoutes(addresses, announcers("n1")...)
	r.awaitGone(addresses, "n1")
	c.observe(300)
	c.noneFailed(time.Time{})
	r.Logf("held connections: %s", c.held.Stop())
	end()
	r.awaitRoutes(addresses, allAnnouncers...)
	for _, a := range addresses {
		r.reachSteadily("wan", web(a))
	}
}

// awaitAvoided waits until a router has seen GRACEFUL_SHUTDOWN on a node's path.
func (r *bgpRig) awaitAvoided(router string, a netip.Addr, node string) {
	r.Helper()
	r.eventually(router+" sees GRACEFUL_SHUTDOWN from "+node, func(ctx context.Context) error {
		routes, err := r.lab.RouterRoutes(ctx, router)
		if err != nil {
			return err
		}
		return avoided(r, routes, a, node)
	})
}

// awaitGone waits until neither router has any path to the node, used or not.
func (r *bgpRig) awaitGone(addresses []netip.Addr, node string) {
	r.Helper()
	for _, router := range routers {
		r.eventually(router+" has no path through "+node, func(ctx context.Context) error {
			routes, err := r.lab.RouterRoutes(ctx, router)
			if err != nil {
				return err
			}
			return absent(r, routes, addresses, node)
		})
	}
}
