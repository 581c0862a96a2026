//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

func cutNode(r *rig) {
	death(r, "cut",
		func(ctx context.Context, n *lab.Node) error { return n.Cut(ctx, "eth0") },
		func(ctx context.Context, n *lab.Node) error { return n.Restore(ctx, "eth0") })
}

func powerOffNode(r *rig) {
	death(r, "power",
		func(ctx context.Context, n *lab.Node) error { return n.PowerOff(ctx) },
		func(ctx context.Context, n *lab.Node) error { return n.PowerOn(ctx) })
}

func rebootNode(r *rig) {
	death(r, "reboot",
		func(ctx context.Context, n *lab.Node) error { return n.ShutDown(ctx) },
		func(ctx context.Context, n *lab.Node) error { return n.PowerOn(ctx) })
}

// death ends a node and lets it return. Its addresses find new owners and stay with them; an
// address of another node notices neither.
func death(r *rig, name string, end, begin func(context.Context, *lab.Node) error) {
	ctx := r.Context()
	addresses := r.serve(name, 8)
	victim, its, other := r.twoOwners(addresses...)
	n := r.node(victim)
	unaffected := r.watch(other)
	r.must(end(ctx, n))
	r.awaitOwners([]string{victim}, its...)
	for _, a := range its {
		r.reachSteadily("lan", web(a))
	}
	returning := r.watch(its...)
	r.must(begin(ctx, n))
	r.settle()
	returning.observe(500)
	returning.noneFailed()
	returning.nothingMoved()
	unaffected.allFine()
}

// manyAddresses takes a node away that has a good part of 200 addresses.
func manyAddresses(r *rig) {
	ctx := r.Context()
	const count = 200
	r.backend("many", backendNode)
	r.poolOf("many", v1alpha1.ReclaimRetain, "198.18.0.0/24")
	r.advertise("many", v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{"many"}})
	_, err := r.lab.Exec(ctx, "lan", "ip", "route", "replace", "198.18.0.0/24", "dev", "eth0")
	r.must(err)
	for i := range count {
		s := plain(fmt.Sprintf("many-%d", i), "many")
		s.Spec.Selector = map[string]string{"app": "many"}
		r.must(r.client.Create(ctx, s))
		r.Cleanup(func() { _ = r.client.Delete(context.Background(), s) })
	}
	var addresses []netip.Addr
	r.eventually("all have an address", func(ctx context.Context) error {
		addresses = addresses[:0]
		var list corev1.ServiceList
		if err := r.client.List(ctx, &list, client.InNamespace("default")); err != nil {
			return err
		}
		for _, s := range list.Items {
			if s.Spec.Selector["app"] == "many" && len(s.Status.LoadBalancer.Ingress) == 1 {
				addresses = append(addresses, netip.MustParseAddr(s.Status.LoadBalancer.Ingress[0].IP))
			}
		}
		if len(addresses) != count {
			return fmt.Errorf("%d of %d have one", len(addresses), count)
		}
		return nil
	})
	before := r.awaitOwners(nil, addresses...)
	victim, its, _ := split(before, addresses)
	r.must(r.node(victim).PowerOff(ctx))
	after := r.awaitOwners([]string{victim}, addresses...)
	for a, owner := range after {
		if before[a] != victim && owner != before[a] {
			r.Errorf("%s moved from %s to %s, though %s died", a, before[a], owner, victim)
		}
	}
	for _, a := range its[:min(5, len(its))] {
		r.reach("lan", web(a))
	}
}

// standsApart has a node share no network with the others: nobody is taken for dead for it, and its
// addresses are taken over when it is, after the grace period.
func standsApart(r *rig) {
	ctx := r.Context()
	const network = "198.18.1.0/28"
	r.gracePeriod(shortGrace)
	n := r.node("n3")
	r.Cleanup(func() {
		if err := n.Renumber(context.Background(), n.IPv4); err != nil {
			r.Error(err)
		}
	})
	r.backend("apart", backendNode)
	r.poolOf("apart", v1alpha1.ReclaimRetain, network)
	r.advertise("apart", v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{"apart"}})
	_, err := r.lab.Exec(ctx, "lan", "ip", "route", "replace", network, "dev", "eth0")
	r.must(err)
	expose := func(name string) netip.Addr {
		s := service(name, "apart")
		s.Spec.Selector = map[string]string{"app": "apart"}
		return r.expose(s, 1)[0]
	}
	its := []netip.Addr{expose("apart-0"), expose("apart-1"), expose("apart-2")}
	r.gather(n.Name, its...)
	others := []netip.Addr{expose("apart-3"), expose("apart-4")} // of those who own less
	r.awaitOwners([]string{n.Name}, others...)
	all := slices.Concat(its, others)
	r.must(n.StandApart(ctx))
	r.must(r.process("speaker-"+n.Name).Restart(ctx, syscall.SIGTERM)) // its connection to the API server came from elsewhere
	r.awaitOwners(nil, all...)
	for _, a := range all {
		r.reachSteadily("lan", web(a))
	}
	c := r.watch(all...)
	c.observe(500)
	c.allFine()
	r.awaitOwners(announcers(n.Name), its...)
	unaffected := r.watch(others...)
	r.must(n.PowerOff(ctx))
	r.awaitOwners([]string{n.Name}, its...)
	for _, a := range its {
		r.reachSteadily("lan", web(a))
	}
	unaffected.allFine()
}

// lostInterface cuts that of two interfaces on one LAN which announces.
func lostInterface(r *rig) {
	ctx := r.Context()
	a, owner, _ := r.onSecondCard("second", "10.10.0.200-10.10.0.204")
	n := r.node(owner)
	r.must(n.Cut(ctx, "eth1"))
	r.awaitOwners([]string{owner}, a)
	r.reachSteadily("lan", web(a))
}

// onSecondCard announces a Service on the second card of each node, and returns its address and owner.
// The gossip goes over the first.
func (r *rig) onSecondCard(name, addresses string) (netip.Addr, string, *corev1.Service) {
	r.Helper()
	ctx := r.Context()
	for _, n := range r.lab.Nodes() {
		r.must(n.Restore(ctx, "eth1"))
		r.Cleanup(func() {
			if err := errors.Join(n.Mend(context.Background(), "eth1"), n.Cut(context.Background(), "eth1")); err != nil {
				r.Error(err)
			}
		})
	}
	r.backend(name, backendNode)
	r.poolOf(name, v1alpha1.ReclaimRetain, addresses)
	r.advertise(name, v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{name}, Interfaces: []string{"eth1"}})
	s := service(name, name)
	a := r.expose(s, 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	answers, err := r.lab.Ask(ctx, witnessHost, askWindow, a)
	r.must(err)
	if got := answers.Owners(a); len(got) != 1 || got[0] != r.node(owner).MACOf("eth1") {
		r.Fatalf("%s is at %v, want eth1 of %s", a, got, owner)
	}
	r.reachSteadily("lan", web(a))
	return a, owner, s
}

// deafInterface loses all frames of the interface that announces, whose link stays up, while the
// gossip goes over another.
func deafInterface(r *rig) {
	r.deafen("deaf", "10.10.0.220-10.10.0.224", lab.LoseSent, lab.LoseReceived)
}

// muteInterface loses only what that interface sends.
func muteInterface(r *rig) { r.deafen("mute", "10.10.0.225-10.10.0.229", lab.LoseSent) }

// deafen has another node answer when the interface of the owner loses frames, and nobody give it
// back. When those of all nodes do, nothing moves, and the Service says why it is not there.
func (r *rig) deafen(name, addresses string, losses ...lab.Loss) {
	ctx := r.Context()
	a, owner, s := r.onSecondCard(name, addresses)
	lose := func(n *lab.Node) {
		for _, l := range losses {
			r.must(n.Lose(ctx, l, "eth1"))
		}
	}
	n := r.node(owner)
	lose(n)
	next := r.awaitOwners([]string{owner}, a)[a]
	r.reachSteadily("lan", web(a))
	r.awaitReason(s, v1alpha1.ReasonAnnounced, next)
	r.must(n.Mend(ctx, "eth1"))
	r.oneOwnerThatStays(a)
	r.awaitOwners(announcers(next), a)
	for _, n := range r.lab.Nodes() {
		lose(n)
	}
	r.awaitReason(s, v1alpha1.ReasonInterfaceDeaf, next, "eth1")
	for _, n := range r.lab.Nodes() {
		r.must(n.Mend(ctx, "eth1"))
	}
	r.awaitOwners(announcers(next), a)
	r.awaitReason(s, v1alpha1.ReasonAnnounced, next)
	r.reachSteadily("lan", web(a))
}

// bothFamilies takes the owner of a dual-stack Service away.
func bothFamilies(r *rig) {
	r.backend("dual", backendNode)
	r.poolOf("dual", v1alpha1.ReclaimRetain, "10.10.0.210-10.10.0.219", "fd00:10::210-fd00:10::219")
	r.advertise("dual", v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{"dual"}})
	got := r.expose(dualStack(service("dual", "dual")), 2)
	oneOwner := func(not ...string) string {
		owners := r.awaitOwners(not, got...)
		if owners[got[0]] != owners[got[1]] {
			r.Errorf("the families have different owners: %v", owners)
		}
		return owners[got[0]]
	}
	owner := oneOwner()
	for _, a := range got {
		r.reachSteadily("lan", web(a))
	}
	r.must(r.node(owner).PowerOff(r.Context()))
	oneOwner(owner)
	for _, a := range got {
		r.reachSteadily("lan", web(a))
	}
}
