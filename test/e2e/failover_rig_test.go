//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
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

// clients are a client's new connections, one every 10 ms, and 60 that it keeps, while
// something happens; and what is said on the LAN of who has the addresses.
type clients struct {
	r      *rig
	prober *lab.Prober
	held   *lab.Held
	heard  *lab.Watcher
	owners map[netip.Addr]string // at the beginning
}

// watch starts clients of the addresses; the held connections go to the first.
func (r *rig) watch(addresses ...netip.Addr) *clients {
	r.Helper()
	c := &clients{r: r, owners: r.awaitOwners(nil, addresses...)}
	probe := lab.Probe{From: "lan"}
	for _, a := range addresses {
		probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
	}
	probe.Interval = time.Duration(len(addresses)) * 10 * time.Millisecond
	var err error
	c.held, err = r.lab.Hold(r.Context(), lab.Hold{From: "lan", Target: probe.Targets[0]})
	r.must(err)
	r.Cleanup(func() { c.held.Stop() })
	c.heard, err = r.lab.Watch("lan", addresses...)
	r.must(err)
	r.Cleanup(func() { c.heard.Stop() })
	c.prober, err = r.lab.StartProber(probe)
	r.must(err)
	r.Cleanup(func() { c.prober.Stop() })
	c.observe(20)
	return c
}

// observe waits for that many further new connections, 100 of which are made a second.
func (c *clients) observe(n int) {
	c.r.Helper()
	want := c.prober.Count() + n
	c.r.must(lab.Poll(c.r.Context(), 4*time.Minute, fmt.Sprintf("%d new connections were tried", want), func(context.Context) error {
		if got := c.prober.Count(); got < want {
			return fmt.Errorf("%d were", got)
		}
		return nil
	}))
}

// noneFailed ends the new connections and fails if some of them did. A single one of hundreds or
// thousands is told and let pass: one packet may get lost, and who answers nobody for a
// moment loses several in a row. `bin/bench failover` counts every one.
func (c *clients) noneFailed() {
	c.r.Helper()
	log := c.prober.Stop()
	log.Attempts = slices.DeleteFunc(log.Attempts, c.moved())
	report := log.Report(time.Time{}, time.Time{})
	for _, a := range log.Unwell(time.Time{}) {
		c.r.Log(a)
	}
	if report.Broken() > 1 {
		c.r.Errorf("new connections failed: %s", report)
	}
}

// moves are the nodes at which an address was said to be, unasked, after it was where it was at the beginning; without
// repetitions.
func (c *clients) moves(a netip.Addr) []string {
	var out []string
	last := c.owners[a]
	for _, s := range c.heard.Seen() {
		if name := c.r.lab.NameOf(s.Owner); s.Address == a && s.Unasked && name != last {
			out, last = append(out, name), name
		}
	}
	return out
}

// inFlight is how long a connection takes that neither fails nor is held up.
const inFlight = 20 * time.Millisecond

// moved says whether a connection failed that was under way at the moment when its address
// moved: begun at the old owner, it went on at the new one, which does not know it. A move
// in layer 2 breaks such connections as any other that exists by then.
func (c *clients) moved() func(lab.Attempt) bool {
	owner, moves := map[netip.Addr]string{}, map[netip.Addr][]time.Time{}
	for _, s := range c.heard.Seen() {
		if before, known := owner[s.Address]; s.Unasked && (known && before != s.Owner || !known && c.r.lab.NameOf(s.Owner) != c.owners[s.Address]) {
			moves[s.Address] = append(moves[s.Address], s.At)
		}
		if s.Unasked {
			owner[s.Address] = s.Owner
		}
	}
	return func(a lab.Attempt) bool {
		return a.Outcome != lab.Answered && slices.ContainsFunc(moves[a.Target.Addr()], func(at time.Time) bool {
			return a.Start.Before(at) && at.Sub(a.Start) < inFlight
		})
	}
}

// noneBroke ends the held connections and fails if one broke.
func (c *clients) noneBroke() {
	c.r.Helper()
	if report := c.held.Stop(); report.Broken > 0 {
		c.r.Errorf("%s", report)
	}
}

// nothingMoved fails if anybody has said of an address that it is not where it was at the
// beginning, or if it is not there now.
func (c *clients) nothingMoved() {
	c.r.Helper()
	c.r.sameOwners(c.owners)
	said := map[string]bool{}
	for _, s := range c.heard.Seen() {
		if name := c.r.lab.NameOf(s.Owner); name != c.owners[s.Address] {
			said[fmt.Sprintf("%s said that %s is at %s, not %s", c.r.lab.NameOf(s.Source), s.Address, name, c.owners[s.Address])] = true
		}
	}
	for one := range said {
		c.r.Error(one)
	}
}

// allFine is that a client noticed nothing at all.
func (c *clients) allFine() {
	c.r.Helper()
	c.noneFailed()
	c.noneBroke()
	c.nothingMoved()
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
