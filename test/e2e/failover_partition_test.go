//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"slices"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
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

// shortCut cuts a node off for three seconds, together with a host that answers it, so that it does not know
// that it is the one that is cut off.
func shortCut(r *rig) {
	ctx := r.Context()
	addresses := r.serve("short-cut", 12)
	r.stranger("companion", netip.MustParseAddr("10.10.0.149"))
	before := r.awaitOwners(nil, addresses...)
	alone := before[addresses[0]]
	r.Cleanup(func() {
		if err := r.lab.Heal(context.Background()); err != nil {
			r.Error(err)
		}
	})
	c := r.watch(addresses...)
	r.must(r.lab.Partition(ctx, alone, "companion"))
	c.observe(300)
	r.must(r.lab.Heal(ctx))
	r.settle()
	c.observe(1000)
	after := r.awaitOwners(nil, addresses...)
	for a, owner := range before {
		if owner != alone && after[a] != owner {
			r.Errorf("%s moved from %s to %s, though only %s was cut off", a, owner, after[a], alone)
		}
		if moves := c.moves(a); len(moves) > 1 || owner != alone && len(moves) > 0 {
			r.Errorf("%s was at %s, and then %v in turn", a, owner, moves)
		}
	}
	for _, a := range addresses {
		r.reachSteadily("lan", web(a))
	}
}

// gossipRejected has a firewall of the owner refuse the gossip, and restarts its speaker, which then
// cannot know what the others own.
func gossipRejected(r *rig) {
	ctx := r.Context()
	r.gracePeriod(shortGrace)
	addresses := r.serve("rejected", 6)
	before := r.awaitOwners(nil, addresses...)
	victim, its, _ := split(before, addresses)
	n := r.node(victim)
	speaker := r.process("speaker-" + victim)
	r.Cleanup(func() {
		if err := n.AcceptGossip(context.Background()); err != nil {
			r.Error(err)
		}
	})
	r.must(n.RejectGossip(ctx))
	c := r.watch(addresses...)
	r.must(speaker.Restart(ctx, syscall.SIGTERM))
	r.awaitCondition(&v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: victim}}, v1alpha1.ConditionReady,
		metav1.ConditionFalse, v1alpha1.ReasonNotJoined)
	r.neverTwo(addresses)
	r.awaitOwners([]string{victim}, its...)
	r.neverTwo(addresses)
	r.must(n.AcceptGossip(ctx))
	r.settle()
	c.observe(500)
	r.awaitOwners([]string{victim}, its...)
	for _, a := range addresses {
		moves := c.moves(a)
		if want := before[a] == victim; len(moves) > 1 || !want && len(moves) > 0 {
			r.Errorf("%s was at %s, and then %v in turn", a, before[a], moves)
		}
	}
	c.noneFailed()
}

// neverTwo asks for some seconds who has the addresses. An owner answers until it has heard of the next one, so two
// answers in a row from two do not count.
func (r *rig) neverTwo(addresses []netip.Addr) {
	r.Helper()
	const rows, allowed = 30, 2
	row := map[netip.Addr]int{}
	for range rows {
		answers, err := r.lab.Ask(r.Context(), witnessHost, askWindow, addresses...)
		r.must(err)
		for _, a := range addresses {
			got := answers.Owners(a)
			if row[a]++; len(got) < 2 {
				row[a] = 0
			}
			if row[a] > allowed {
				r.Fatalf("%s has two owners: %v", a, r.names(got))
			}
		}
	}
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
	victim, its, other := r.twoOwners(addresses...)
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
	victim, its, other := r.twoOwners(addresses...)
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
