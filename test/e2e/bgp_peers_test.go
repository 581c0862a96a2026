//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// configure gives a router a line for all of its neighbors. After the test the router starts anew
// without it: FRR 8.4 keeps the password of a range of neighbors on its listening socket when it
// is taken back.
func (r *bgpRig) configure(router, line string) {
	r.Helper()
	r.must(r.configureNow(r.Context(), router, line))
	r.Cleanup(func() {
		if err := r.lab.RestartRouter(context.Background(), router, syscall.SIGTERM); err != nil {
			r.Error(err)
		}
	})
}

func (r *bgpRig) configureNow(ctx context.Context, router, line string) error {
	out, err := r.lab.Vtysh(ctx, router, "configure terminal", fmt.Sprintf("router bgp %d", lab.RouterASN), line)
	if err == nil && len(out) > 0 {
		err = fmt.Errorf("configure %s: %s", router, out)
	}
	return err
}

// awaitNoSession waits until a router has lost all of its sessions.
func (r *bgpRig) awaitNoSession(router string) {
	r.Helper()
	r.eventually(router+" has no session", func(ctx context.Context) error {
		sessions, err := r.lab.RouterSessions(ctx, router)
		if err != nil {
			return err
		}
		for _, s := range sessions {
			if s.Established {
				return fmt.Errorf("it has %s", s)
			}
		}
		return nil
	})
}

// passwordRotation: r2 wants a password, gets it, and changes it. r1 and the processes notice nothing.
func passwordRotation(r *bgpRig) {
	ctx := r.Context()
	addresses := r.announce("password")
	pids := r.speakerPids()
	m, err := r.lab.MonitorRoutes("r1")
	r.must(err)
	r.Cleanup(func() { m.Stop() })

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "router2", Namespace: lab.Namespace}, Type: corev1.SecretTypeBasicAuth}
	secret.StringData = map[string]string{"password": "first"}
	r.create(secret)
	r.configure("r2", "neighbor nodes password first")
	r.awaitNoSession("r2")
	r.reconfigure(func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "router2"} }, "r2")
	r.awaitSessions("r2", true)

	r.must(r.configureNow(ctx, "r2", "neighbor nodes password second"))
	r.awaitNoSession("r2")
	r.must(r.client.Get(ctx, client.ObjectKeyFromObject(secret), secret))
	secret.Data = map[string][]byte{"password": []byte("second")}
	r.must(r.client.Update(ctx, secret))
	r.awaitSessions("r2", true)
	r.awaitRoutes(addresses, allAnnouncers...)
	for _, e := range m.Seen() {
		r.Errorf("r1 changed a route: %s", e)
	}
	r.samePids(pids)
}

func (r *bgpRig) speakerPids() map[string]int {
	r.Helper()
	pids := map[string]int{}
	for _, n := range r.lab.Nodes() {
		p, err := r.lab.Process("speaker-" + n.Name)
		r.must(err)
		pids[p.Name()] = p.Pid()
	}
	return pids
}

// samePids fails if a speaker was started again.
func (r *bgpRig) samePids(before map[string]int) {
	r.Helper()
	for name, pid := range r.speakerPids() {
		if pid != before[name] {
			r.Errorf("%s was started again", name)
		}
	}
}

// badPeer makes a host that is no use as a peer, and a BGPPeer that names it, for the time of the test.
func (r *bgpRig) badPeer(name string, bad lab.Badness) {
	r.Helper()
	h, err := r.lab.AddBadPeer(r.Context(), name, bad)
	r.must(err)
	r.Cleanup(func() {
		if err := r.lab.RemoveHost(context.Background(), name); err != nil {
			r.Error(err)
		}
	})
	for family, a := range map[string]netip.Addr{"v4": h.IPv4, "v6": h.IPv6} {
		p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + family}, Spec: peerSpec(a)}
		r.create(p)
		r.awaitCondition(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
}

// besideBadPeers: peers that are of no use come and go, and a Service is announced and withdrawn meanwhile.
func besideBadPeers(r *bgpRig) {
	addresses := r.announce("bad")
	pids := r.speakerPids()
	c := r.watch(addresses)
	for _, bad := range []lab.Badness{lab.BlackHole, lab.Silent, lab.Closing, lab.Garbage} {
		r.badPeer(string(bad), bad)
	}
	c.observe(500)
	late := r.announce("bad-late")
	r.must(r.delete(r.Context(), service("bad-late", "wan")))
	r.awaitRoutes(late)
	c.observe(300)
	c.allFine()
	r.settle()
	r.samePids(pids)
}
