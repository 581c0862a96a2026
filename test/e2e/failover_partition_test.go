//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"slices"

	"github.com/ballast-lb/ballast/test/lab"
)

// partition splits the LAN for ten seconds. The client, the backends and the control plane are
// on the one side, the owner and another node on the other.
func partition(r *rig) {
	ctx := r.Context()
	a := r.serve("partition", 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	island := []string{owner, announcers(owner)[0]}
	r.Cleanup(func() {
		if err := r.lab.Heal(context.Background()); err != nil {
			r.Error(err)
		}
	})
	r.must(r.lab.Partition(ctx, island...))
	during := r.awaitOwners(island, a)
	r.reachSteadily("lan", web(a))
	c := r.watch(a)
	c.observe(1000)
	if got := r.awaitOwners(nil, a); got[a] != during[a] {
		r.Errorf("%s moved from %s to %s in the partition", a, during[a], got[a])
	}
	r.must(r.lab.Heal(ctx))
	r.oneOwnerThatStays(a)
}

// oneOwnerThatStays waits until there is one owner, and fails if it changes from then on.
func (r *rig) oneOwnerThatStays(a netip.Addr) {
	r.Helper()
	r.awaitOwners(nil, a)
	r.settle()
	c := r.watch(a)
	c.observe(1000)
	c.allFine()
}

func sendingLost(r *rig) { oneWay(r, "sending", lab.LoseSent) }

func receivingLost(r *rig) { oneWay(r, "receiving", lab.LoseReceived) }

// oneWay loses what a node sends or what it receives, and mends it.
func oneWay(r *rig, name string, loss lab.Loss) {
	ctx := r.Context()
	addresses := r.serve("one-way-"+name, 6)
	victim, its, other := split(r.awaitOwners(nil, addresses...), addresses)
	if !other.IsValid() {
		r.Fatalf("all of %v are at %s: this test needs two owners", addresses, victim)
	}
	n := r.node(victim)
	unaffected := r.watch(other)
	r.must(n.Lose(ctx, loss, "eth0"))
	r.awaitOwners([]string{victim}, its...)
	for _, a := range its {
		r.reachSteadily("lan", web(a))
	}
	r.must(n.Mend(ctx, "eth0"))
	r.oneOwnerThatStays(its[0])
	unaffected.allFine()
}

// gossipBlocked blocks the gossip of the owner alone, for longer than the grace period.
func gossipBlocked(r *rig) {
	ctx := r.Context()
	addresses := r.serve("gossip", 3)
	owner := r.awaitOwners(nil, addresses...)[addresses[0]]
	n := r.node(owner)
	c := r.watch(addresses...)
	r.must(n.Lose(ctx, lab.LoseGossip, "eth0"))
	c.observe(4000)
	c.nothingMoved()
	r.must(n.Mend(ctx, "eth0"))
	r.settle()
	c.observe(500)
	c.allFine()
}

// withoutAPI stops the API server, and then a node.
func withoutAPI(r *rig) {
	ctx := r.Context()
	addresses := r.serve("without-api", 6)
	victim, its, other := split(r.awaitOwners(nil, addresses...), addresses)
	if !other.IsValid() {
		r.Fatalf("all of %v are at %s: this test needs two owners", addresses, victim)
	}
	n := r.node(victim)
	unaffected := r.watch(other)
	r.stopAPI()
	unaffected.observe(300)
	r.must(n.PowerOff(ctx))
	after := r.awaitOwners([]string{victim}, its...)
	for _, a := range its {
		r.reachSteadily("lan", web(a))
	}
	all := slices.Clone(its)
	c := r.watch(all...)
	r.must(r.lab.StartAPI(ctx))
	c.observe(1000)
	r.sameOwners(after)
	c.allFine()
	r.must(n.PowerOn(ctx))
	r.settle()
	unaffected.observe(300)
	r.sameOwners(after)
	unaffected.allFine()
}
