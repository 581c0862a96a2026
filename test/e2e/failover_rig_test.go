//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// rig is one scenario's view of the failover lab. Its backends run on n4, which announces
// nothing and never fails: what kube-proxy does with dead pods is not ours to test. n1 to n3
// announce on eth0; their eth1 is cut but in the scenario that needs it.
type rig struct{ *cluster }

const (
	backendNode  = "n4"
	labelExclude = "node.kubernetes.io/exclude-from-external-load-balancers"
	// witnessHost asks who answers, so that asking changes nothing that the client knows.
	witnessHost = "witness"
	// askWindow is for how long answers to one question are collected.
	askWindow = 150 * time.Millisecond
	// shortGrace is a grace period for scenarios that outlast it.
	shortGrace = 5 * time.Second
)

func newRig(t *testing.T, f *fixture) *rig {
	t.Helper()
	return &rig{f.cluster(t)}
}

// prepare makes what all scenarios share.
func (r *rig) prepare() {
	r.Helper()
	ctx := r.Context()
	_, err := r.lab.AddHost(ctx, witnessHost)
	r.must(err)
	for _, n := range r.lab.Nodes() {
		r.must(n.Cut(ctx, "eth1"))
	}
	r.kubectl("label", "node", backendNode, labelExclude+"=")
}

func (r *rig) kubectl(args ...string) string {
	r.Helper()
	out, err := r.lab.Kubectl(r.Context(), args...)
	r.must(err)
	return out
}

// settle waits until all nodes are Ready and all speakers are in touch.
func (r *rig) settle() {
	r.Helper()
	r.eventually("all nodes and speakers are ready", func(ctx context.Context) error {
		var nodes corev1.NodeList
		var speakers v1alpha1.SpeakerList
		if err := errors.Join(r.client.List(ctx, &nodes), r.client.List(ctx, &speakers)); err != nil {
			return err
		}
		ready := 0
		for _, n := range nodes.Items {
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		in := 0
		for i := range speakers.Items {
			for _, c := range conditions(&speakers.Items[i]) {
				if c.Type == v1alpha1.ConditionReady && c.Status == "True" {
					in++
				}
			}
		}
		if want := len(r.lab.Nodes()); ready != want || in != want {
			return fmt.Errorf("%d nodes and %d speakers of %d", ready, in, want)
		}
		return nil
	})
}

// serve runs one backend on n4 and n Services with it, and returns their addresses once each has
// one owner and serves.
func (r *rig) serve(name string, n int) []netip.Addr {
	r.Helper()
	r.backend(name, backendNode)
	var out []netip.Addr
	for i := range n {
		s := service(fmt.Sprintf("%s-%d", name, i), "lan")
		s.Spec.Selector = map[string]string{"app": name}
		out = append(out, r.expose(s, 1)[0])
	}
	r.awaitOwners(nil, out...)
	for _, a := range out {
		r.reachSteadily("lan", web(a))
	}
	return out
}

// ownersNow asks the LAN who has the addresses; it fails if that is not one node each.
func (r *rig) ownersNow(ctx context.Context, addresses ...netip.Addr) (map[netip.Addr]string, error) {
	answers, err := r.lab.Ask(ctx, witnessHost, askWindow, addresses...)
	if err != nil {
		return nil, err
	}
	owners := map[netip.Addr]string{}
	for _, a := range addresses {
		got := answers.Owners(a)
		if len(got) != 1 {
			return nil, fmt.Errorf("%s is said to be at %v", a, r.names(got))
		}
		owners[a] = r.lab.NameOf(got[0])
	}
	return owners, nil
}

func (r *rig) names(macs []string) []string {
	var out []string
	for _, m := range macs {
		out = append(out, r.lab.NameOf(m))
	}
	return out
}

// awaitOwners waits until each address has one owner that is not among the nodes in not.
func (r *rig) awaitOwners(not []string, addresses ...netip.Addr) map[netip.Addr]string {
	r.Helper()
	var owners map[netip.Addr]string
	r.eventually(fmt.Sprintf("each of %d addresses has one owner but %v", len(addresses), not), func(ctx context.Context) (err error) {
		if owners, err = r.ownersNow(ctx, addresses...); err != nil {
			return err
		}
		for a, owner := range owners {
			if slices.Contains(not, owner) {
				return fmt.Errorf("%s is at %s", a, owner)
			}
		}
		return nil
	})
	return owners
}

// sameOwners fails if an address has another owner than before.
func (r *rig) sameOwners(before map[netip.Addr]string) {
	r.Helper()
	now, err := r.ownersNow(r.Context(), slices.Collect(maps.Keys(before))...)
	if err != nil {
		r.Error(err)
	}
	for a, owner := range now {
		if owner != before[a] {
			r.Errorf("%s moved from %s to %s", a, before[a], owner)
		}
	}
}

// node finds a node by name. Whatever the scenario does to it, it is whole afterwards.
func (r *rig) node(name string) *lab.Node {
	r.Helper()
	n, err := r.lab.NodeNamed(name)
	r.must(err)
	r.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(n.PowerOn(ctx), n.Restore(ctx, "eth0"), n.Mend(ctx)); err != nil {
			r.Error(err)
		}
	})
	return n
}

// gracePeriod sets how long owners may be silent, for the time of the scenario.
func (r *rig) gracePeriod(d time.Duration) {
	r.Helper()
	set := func(ctx context.Context, value string) error {
		_, err := r.lab.Kubectl(ctx, "patch", "settings", "default", "--type", "merge",
			"-p", fmt.Sprintf(`{"spec":{"layer2":{"gracePeriod":%s}}}`, value))
		return err
	}
	r.Cleanup(func() {
		if err := set(context.Background(), "null"); err != nil {
			r.Error(err)
		}
	})
	r.must(set(r.Context(), fmt.Sprintf("%q", d)))
}

// stopAPI stops the API server, at most until the end of the scenario.
func (r *rig) stopAPI() {
	r.Helper()
	r.Cleanup(func() {
		if err := r.lab.StartAPI(context.Background()); err != nil {
			r.Error(err)
		}
	})
	r.must(r.lab.StopAPI(r.Context()))
}

// split returns the addresses of one owner, that of the first, and one address of another.
func split(owners map[netip.Addr]string, addresses []netip.Addr) (owner string, its []netip.Addr, other netip.Addr) {
	owner = owners[addresses[0]]
	for _, a := range addresses {
		if owners[a] == owner {
			its = append(its, a)
		} else {
			other = a
		}
	}
	return owner, its, other
}

// twoOwners are an owner, those of some addresses that it owns, and one that another node owns. If one node
// has them all, as the others heard of their Services late, they are rebalanced.
func (r *rig) twoOwners(addresses ...netip.Addr) (owner string, its []netip.Addr, other netip.Addr) {
	r.Helper()
	owner, its, other = split(r.awaitOwners(nil, addresses...), addresses)
	if other.IsValid() {
		return owner, its, other
	}
	said := r.rebalance()
	r.eventually("two nodes own something", func(ctx context.Context) error {
		owners, err := r.ownersNow(ctx, addresses...)
		if err != nil {
			return err
		}
		if _, _, other := split(owners, addresses); !other.IsValid() {
			return fmt.Errorf("all of %v are at %s; rebalance said: %s", addresses, owner, said)
		}
		return nil
	})
	return split(r.awaitOwners(nil, addresses...), addresses)
}

// rebalance has all units rebalanced, and returns what the plugin said.
func (r *rig) rebalance() string {
	r.Helper()
	program := filepath.Join(r.lab.BinDir(), "kubectl-ballast")
	if _, err := os.Stat(program); err != nil {
		r.Fatalf("%v: make build makes it", err)
	}
	out, err := r.lab.Exec(r.Context(), "cp", program, "rebalance", "--yes")
	r.must(err)
	return out
}

// announcers are the nodes that may own an address, without those given.
func announcers(but ...string) []string {
	return slices.DeleteFunc([]string{"n1", "n2", "n3"}, func(n string) bool { return slices.Contains(but, n) })
}

// gather moves all addresses to one node, by excluding the others for the while.
func (r *rig) gather(node string, addresses ...netip.Addr) {
	r.Helper()
	others := announcers(node)
	for _, n := range others {
		r.kubectl("label", "--overwrite", "node", n, labelExclude+"=")
	}
	r.Cleanup(func() {
		for _, n := range others {
			if _, err := r.lab.Kubectl(context.Background(), "label", "node", n, labelExclude+"-"); err != nil {
				r.Error(err)
			}
		}
	})
	r.awaitOwners(others, addresses...)
	for _, n := range others {
		r.kubectl("label", "node", n, labelExclude+"-")
	}
}

// awaitReason waits until Announced has this reason, whatever its status, and a message with these words,
// and returns the message.
func (r *rig) awaitReason(s *corev1.Service, reason v1alpha1.Reason, words ...string) string {
	r.Helper()
	var message string
	r.patiently(fmt.Sprintf("%s has the reason %s, with %v", s.Name, reason, words), func(ctx context.Context) error {
		if err := r.get(ctx, s); err != nil {
			return err
		}
		for _, c := range s.Status.Conditions {
			lacks := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(c.Message, w) })
			if c.Type == v1alpha1.ConditionAnnounced && c.Reason == string(reason) && !lacks {
				message = c.Message
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v", s.Status.Conditions)
	})
	return message
}

// patiently waits for what takes a minute or two by design.
func (r *rig) patiently(what string, check func(context.Context) error) {
	r.Helper()
	r.must(lab.Poll(r.Context(), 4*time.Minute, what, check))
}

// mentions fails if a message does not contain a word.
func (r *rig) mentions(message, word string) {
	r.Helper()
	if !strings.Contains(message, word) {
		r.Errorf("the message %q does not mention %s", message, word)
	}
}

// advertise makes an L2Advertisement for the time of the test.
func (r *rig) advertise(name string, spec v1alpha1.L2AdvertisementSpec) {
	r.Helper()
	ad := &v1alpha1.L2Advertisement{Spec: spec}
	ad.Name = name
	r.create(client.Object(ad))
}
