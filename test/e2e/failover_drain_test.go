//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

func excludeLabel(r *rig) {
	drain(r, "exclude",
		func(node string) { r.kubectl("label", "--overwrite", "node", node, labelExclude+"=") },
		func(node string) { r.kubectl("label", "node", node, labelExclude+"-") })
}

func drainAnnotation(r *rig) {
	const annotation = "ballast.dev/drain"
	drain(r, "annotation",
		func(node string) { r.kubectl("annotate", "--overwrite", "node", node, annotation+"=true") },
		func(node string) { r.kubectl("annotate", "node", node, annotation+"-") })
}

func deletedNode(r *rig) {
	drain(r, "deleted",
		func(node string) { r.must(r.node(node).Deregister(r.Context())) },
		func(node string) { r.must(r.node(node).Register(r.Context())) })
}

// drain asks for a node to be left, waits until it is, turns it off, and lets it return: no
// new connection fails at any time, and nothing moves a second time.
func drain(r *rig, name string, signal, withdraw func(node string)) {
	ctx := r.Context()
	a := r.serve("drain-"+name, 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	node := r.node(owner)
	c := r.watch(a)
	signal(owner)
	ended := false
	end := func() {
		if !ended {
			ended = true
			withdraw(owner)
		}
	}
	defer end()
	after := r.awaitOwners([]string{owner}, a)
	c.observe(200)
	r.must(node.PowerOff(ctx))
	c.observe(300)
	r.sameOwners(after)
	r.must(node.PowerOn(ctx))
	c.observe(300)
	end()
	r.settle()
	c.observe(500)
	r.sameOwners(after)
	c.noneFailed()
}

// localRollingUpdate replaces the only pod of a Local Service by one on another node. The old
// one serves while it terminates, as pods should.
func localRollingUpdate(r *rig) {
	ctx := r.Context()
	old := r.backend("rolling-local", "n1")
	a := r.expose(local(service("rolling-local", "lan")), 1)[0]
	if owner := r.awaitOwners(nil, a)[a]; owner != "n1" {
		r.Fatalf("%s is at %s, where there is no pod", a, owner)
	}
	r.reachSteadily("lan", web(a))
	c := r.watch(a)
	r.backend("rolling-local", "n2")
	c.observe(100)
	r.must(old.Terminate(ctx, 30*time.Second))
	r.awaitOwners([]string{"n1"}, a)
	c.observe(200)
	r.must(old.Remove(ctx))
	c.observe(300)
	if owner := r.awaitOwners(nil, a)[a]; owner != "n2" {
		r.Errorf("%s is at %s, where there is no pod", a, owner)
	}
	c.noneFailed()
}

// localWithoutAPI moves the only pod of a Local Service to another node while the owner has no API server, and so does
// not hear of it: each of the two is the only one that can own the address, by what it knows.
func localWithoutAPI(r *rig) {
	ctx := r.Context()
	const block, movesMax = "local_api", 10
	old := r.backend("unaware", "n1")
	a := r.expose(local(service("unaware", "lan")), 1)[0]
	r.awaitOwners(announcers("n1"), a)
	r.reachSteadily("lan", web(a))
	r.Cleanup(func() {
		if err := r.lab.Unblock(context.Background(), block); err != nil {
			r.Error(err)
		}
	})
	cable := r.lab.Cables(lab.FirstLAN, "n1")
	r.must(r.lab.Block(ctx, block, lab.Lane{From: cable, Match: "tcp dport 6443"}, lab.Lane{To: cable, Match: "tcp sport 6443"}))
	c := r.watch(a)
	r.backend("unaware", "n2")
	r.must(old.Remove(ctx))
	r.awaitOwners(announcers("n2"), a)
	c.observe(2000)
	if got := c.moves(a); len(got) > movesMax || len(got) == 0 {
		r.Errorf("%s moved %d times: %v", a, len(got), got)
	}
	stays := r.watch(a)
	if stays.owners[a] != "n2" {
		r.Errorf("%s is at %s, where there is no pod", a, stays.owners[a])
	}
	stays.observe(500)
	r.must(r.lab.Unblock(ctx, block))
	r.settle()
	stays.observe(500)
	stays.allFine()
}

// preference lets a preferred node return: it gets its addresses back, but not at once.
func preference(r *rig) {
	const preferred = "n2"
	r.backend("preferred", backendNode)
	r.poolOf("preferred", v1alpha1.ReclaimRetain, "10.10.0.220-10.10.0.229")
	r.advertise("preferred", v1alpha1.L2AdvertisementSpec{
		IPAddressPools: []string{"preferred"},
		PreferredNodeSelectors: []v1alpha1.PreferredNodeSelector{{
			Weight: 10, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/hostname": preferred}},
		}},
	})
	node := r.node(preferred)
	r.must(node.PowerOff(r.Context()))
	a := r.expose(service("preferred", "preferred"), 1)[0]
	r.awaitOwners([]string{preferred}, a)
	r.reachSteadily("lan", web(a))
	c := r.watch(a)
	r.must(node.PowerOn(r.Context()))
	r.settle()
	c.observe(200)
	c.nothingMoved()
	r.patiently(preferred+" has its address back", func(ctx context.Context) error {
		owners, err := r.ownersNow(ctx, a)
		if err == nil && owners[a] != preferred {
			err = fmt.Errorf("it is at %s", owners[a])
		}
		return err
	})
	c.observe(200)
	c.noneFailed()
}

// rebalance moves addresses away from a node that has all of them.
func rebalance(r *rig) {
	addresses := r.serve("rebalance", 9)
	r.gather("n3", addresses...)
	r.settle()
	for a, owner := range r.awaitOwners(nil, addresses...) {
		if owner != "n3" {
			r.Errorf("%s moved from n3 to %s by itself", a, owner)
		}
	}
	c := r.watch(addresses...)
	out := r.rebalance()
	r.eventually("no node has more than half", func(ctx context.Context) error {
		owners, err := r.ownersNow(ctx, addresses...)
		if err != nil {
			return err
		}
		count := map[string]int{}
		for _, owner := range owners {
			count[owner]++
		}
		for node, n := range count {
			if n > len(addresses)/2 {
				return fmt.Errorf("%s has %d of %d; rebalance said: %s", node, n, len(addresses), out)
			}
		}
		return nil
	})
	c.observe(300)
	c.noneFailed()
}
