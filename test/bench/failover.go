package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ballast-lb/ballast/test/lab"
)

// The failover lab: n1 has the only pod and announces nothing, n2 to n4 announce. The client is
// the host lan; the host witness asks who answers, so that asking tells the client nothing.
const (
	failoverNodes = 4
	witness       = "witness"
	excludeLabel  = "node.kubernetes.io/exclude-from-external-load-balancers"
	// proxyLabel keeps kube-proxy out: its rules for thousands of Services are not measured.
	proxyLabel = "service.kubernetes.io/service-proxy-name"
	// askWindow is for how long answers are collected after the last question.
	askWindow = 200 * time.Millisecond
	// stepLimit bounds each wait for a change that is one step of a run.
	stepLimit = time.Minute
)

func announcers(but ...string) []string {
	return slices.DeleteFunc([]string{"n2", "n3", "n4"}, func(n string) bool { return slices.Contains(but, n) })
}

// prepareFailover makes what the sections share; it may be called again.
func (b *bed) prepareFailover(ctx context.Context) error {
	if _, err := b.lab.Host(witness); err == nil {
		return nil
	}
	if _, err := b.lab.AddHost(ctx, witness); err != nil {
		return err
	}
	for _, host := range []string{"lan", witness} {
		if _, err := b.lab.Exec(ctx, host, "ip", "route", "replace", "198.18.0.0/15", "dev", "eth0"); err != nil {
			return err
		}
	}
	return b.exclude(ctx, true, "n1")
}

// exclude sets or removes the label that keeps nodes from announcing.
func (b *bed) exclude(ctx context.Context, on bool, nodes ...string) error {
	if len(nodes) == 0 {
		return nil
	}
	word := excludeLabel + "-"
	if on {
		word = excludeLabel + "="
	}
	_, err := b.lab.Kubectl(ctx, append(append([]string{"label", "--overwrite", "node"}, nodes...), word)...)
	return err
}

// expose makes n Services of a prefix and returns their addresses, sorted, once each is at one
// node. kube-proxy knows the first few only.
func (b *bed) expose(ctx context.Context, prefix string, n, proxied int) ([]netip.Addr, error) {
	if err := b.createUnowned(ctx, prefix, n, proxied); err != nil {
		return nil, err
	}
	all, err := b.addressesOf(ctx, prefix)
	if err != nil {
		return nil, err
	}
	_, err = b.awaitOwners(ctx, nil, all)
	return all, err
}

// createUnowned makes the Services and waits for their addresses alone.
func (b *bed) createUnowned(ctx context.Context, prefix string, n, proxied int) error {
	err := each(ctx, b.workers, n, func(ctx context.Context, i int) error {
		s := b.service(numbered(prefix, i))
		s.Spec.Ports[0].TargetPort = intstr.FromInt32(lab.BackendPort)
		if i >= proxied {
			s.Labels = map[string]string{proxyLabel: "none"}
		}
		return b.create(ctx, s)
	})
	if err != nil {
		return err
	}
	return b.addressed(ctx, prefix, n)
}

// addressesOf lists the addresses of a prefix's Services, those that kube-proxy knows first.
func (b *bed) addressesOf(ctx context.Context, prefix string) ([]netip.Addr, error) {
	list, err := b.client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	services := slices.DeleteFunc(list.Items, func(s corev1.Service) bool {
		return !strings.HasPrefix(s.Name, prefix) || len(s.Status.LoadBalancer.Ingress) == 0
	})
	slices.SortFunc(services, func(a, b corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	var out []netip.Addr
	for _, s := range services {
		a, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
		if err != nil {
			return nil, fmt.Errorf("read ingress of %s: %w", s.Name, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// owners asks the LAN who has the addresses; those without exactly one owner are missing.
func (b *bed) owners(ctx context.Context, all []netip.Addr) (map[netip.Addr]string, error) {
	answers, err := b.lab.Ask(ctx, witness, askWindow, all...)
	if err != nil {
		return nil, err
	}
	owners := map[netip.Addr]string{}
	for _, a := range all {
		if got := answers.Owners(a); len(got) == 1 {
			owners[a] = b.lab.NameOf(got[0])
		}
	}
	return owners, nil
}

// awaitOwners waits until each address has one owner that is not among the nodes in not.
func (b *bed) awaitOwners(ctx context.Context, not []string, all []netip.Addr) (map[netip.Addr]string, error) {
	var owners map[netip.Addr]string
	what := fmt.Sprintf("%d addresses have one owner each but %v", len(all), not)
	err := lab.Poll(ctx, stepLimit, what, func(ctx context.Context) (err error) {
		if owners, err = b.owners(ctx, all); err != nil {
			return err
		}
		good := 0
		for _, owner := range owners {
			if !slices.Contains(not, owner) {
				good++
			}
		}
		if good < len(all) {
			return fmt.Errorf("%d have", good)
		}
		return nil
	})
	return owners, err
}

// gather brings the addresses to one node by excluding the others, whose label it takes away
// again. Whether they stay then is for the caller to see.
func (b *bed) gather(ctx context.Context, node string, all []netip.Addr) error {
	others := announcers(node)
	if err := b.exclude(ctx, true, others...); err != nil {
		return err
	}
	if _, err := b.awaitOwners(ctx, others, all); err != nil {
		return err
	}
	if err := b.exclude(ctx, false, others...); err != nil {
		return err
	}
	return b.settled(ctx)
}

// settled waits until all nodes are Ready and all speakers are in touch, and Ballast is at rest.
func (b *bed) settled(ctx context.Context) error {
	err := lab.Poll(ctx, stepLimit, "all nodes and speakers are ready", func(ctx context.Context) error {
		for _, what := range []string{"nodes", "speakers"} {
			out, err := b.lab.Kubectl(ctx, "get", what, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
			if err != nil {
				return err
			}
			if n := strings.Count(out, "True"); n != b.nodes {
				return fmt.Errorf("%d %s of %d", n, what, b.nodes)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.quiet(ctx)
}

// clients are a client's new and kept connections, and what the LAN says meanwhile.
type clients struct {
	bed    *bed
	prober *lab.Prober
	held   *lab.Held
	heard  *lab.Watcher
}

// watch starts clients: new connections to each of the targets in turn, 60 kept ones to the first.
// The witness hears what is said of all addresses.
func (b *bed) watch(ctx context.Context, targets []netip.Addr, interval time.Duration) (*clients, error) {
	c := &clients{bed: b}
	probe := lab.Probe{From: "lan", Interval: interval}
	for _, a := range targets {
		probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
	}
	err := lab.Poll(ctx, stepLimit, "the client reaches every target", func(ctx context.Context) error {
		for _, target := range probe.Targets {
			if _, err := b.lab.HTTP(ctx, "lan", "http://"+target.String()+"/"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.held, err = b.lab.Hold(ctx, lab.Hold{From: "lan", Target: probe.Targets[0]})
	if err == nil {
		c.heard, err = b.lab.Watch(witness)
	}
	if err == nil {
		c.prober, err = b.lab.StartProber(probe)
	}
	if err == nil {
		err = c.observe(ctx, 50)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// observe waits until that many further new connections have ended.
func (c *clients) observe(ctx context.Context, n int) error {
	want := c.prober.Count() + n
	return lab.Poll(ctx, stepLimit, fmt.Sprintf("%d further new connections", n), func(context.Context) error {
		if got := c.prober.Count(); got < want {
			return fmt.Errorf("%d to go", want-got)
		}
		return nil
	})
}

// steady waits until the newest attempts that have ended were all answered.
func (c *clients) steady(ctx context.Context) error {
	const newest = 100
	return lab.Poll(ctx, stepLimit, "new connections are answered again", func(context.Context) error {
		attempts := c.prober.Log().Attempts
		for _, a := range attempts[max(0, len(attempts)-newest):] {
			if a.Outcome != lab.Answered {
				return errors.New(string(a.Outcome))
			}
		}
		return nil
	})
}

// outcome is what became of the clients.
type outcome struct {
	probed lab.ProbeReport
	held   lab.HeldReport
	heard  []lab.Sighting
}

// stop ends all and reports.
func (c *clients) stop() outcome {
	var o outcome
	if c.prober != nil {
		o.probed = c.prober.Stop().Report(time.Time{}, time.Time{})
	}
	if c.held != nil {
		o.held = c.held.Stop()
	}
	if c.heard != nil {
		o.heard = c.heard.Stop()
	}
	return o
}

// each run's outcome, added up.
type outcomes []outcome

func (all outcomes) gaps() []time.Duration {
	var out []time.Duration
	for _, o := range all {
		out = append(out, o.probed.Gap)
	}
	return out
}

func (all outcomes) broken() []int {
	var out []int
	for _, o := range all {
		out = append(out, o.held.Broken)
	}
	return out
}

func (all outcomes) failed() []int {
	var out []int
	for _, o := range all {
		out = append(out, o.probed.Broken())
	}
	return out
}

// delay is the longest time for which a prober was late.
func (all outcomes) delay() time.Duration {
	var d time.Duration
	for _, o := range all {
		d = max(d, o.probed.Delay)
	}
	return d
}

// listed prints the gaps of every run.
func listed(gaps []time.Duration) string {
	var words []string
	for _, g := range gaps {
		words = append(words, fmt.Sprintf("%.0f", float64(g)/float64(time.Millisecond)))
	}
	return strings.Join(words, " ")
}
