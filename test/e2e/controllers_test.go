//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/test/lab"
)

// duo is a control plane without nodes and with two controllers.
var duo = &fixture{options: lab.Options{Prefix: "e2eduo", Controllers: 2}}

// plain is a Service without ports on nodes: there are not enough for hundreds.
func plain(name, pool string) *corev1.Service {
	s := service(name, pool)
	s.Spec.AllocateLoadBalancerNodePorts = new(bool)
	return s
}

// poolOf makes a pool for the time of the test, from which only those who name it take.
// What is taken back may be taken again at once.
func (c *cluster) poolOf(name string, policy v1alpha1.ReclaimPolicy, addresses ...string) {
	c.Helper()
	p := &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Addresses, p.Spec.AutoAssign, p.Spec.ReclaimPolicy, p.Spec.ReuseDelay = addresses, new(bool), policy, &metav1.Duration{}
	c.create(p)
}

// leader is the controller that leads: the holder of the lease names its process.
func (c *cluster) leader(ctx context.Context) (*lab.Process, error) {
	lease, err := c.lab.Client().CoordinationV1().Leases(lab.Namespace).Get(ctx, "ballast-controller", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	holder := ""
	if lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	for i := 1; i <= 2 && holder != ""; i++ {
		p, err := c.lab.Process(fmt.Sprintf("controller-%d", i))
		if err != nil {
			return nil, err
		}
		if strings.Contains(holder, fmt.Sprintf("_%d_", p.Pid())) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the lease is held by %q", holder)
}

// leads waits until one of the controllers leads, and returns it.
func (c *cluster) leads() *lab.Process {
	c.Helper()
	var p *lab.Process
	c.eventually("a controller leads", func(ctx context.Context) (err error) {
		p, err = c.leader(ctx)
		return err
	})
	return p
}

// allServed waits until every Service holds an address with Allocated True.
func (c *cluster) allServed(w *witness, names map[string]bool) {
	c.Helper()
	c.eventually("all Services hold an address", func(ctx context.Context) error {
		var list corev1.ServiceList
		if err := c.client.List(ctx, &list, client.InNamespace("default")); err != nil {
			return err
		}
		left := len(names)
		for i := range list.Items {
			s := &list.Items[i]
			allocated := config.Condition(s, v1alpha1.ConditionAllocated)
			if names[s.Name] && len(s.Status.LoadBalancer.Ingress) == 1 && allocated != nil && allocated.Status == metav1.ConditionTrue {
				left--
			}
		}
		if left > 0 {
			return fmt.Errorf("%d Services are not served; without an address: %v", left, w.lacking())
		}
		return nil
	})
}

// churn creates and deletes Services until ctx ends, and returns the names of those left.
func (c *cluster) churn(ctx context.Context, prefix, pool string, random *rand.Rand) (map[string]bool, error) {
	names := map[string]bool{}
	for i := 0; ctx.Err() == nil; i++ {
		if len(names) > 20 && random.IntN(2) == 0 {
			for victim := range names {
				if err := c.client.Delete(context.WithoutCancel(ctx), plain(victim, pool)); err != nil {
					return names, err
				}
				delete(names, victim)
				break
			}
			continue
		}
		s := plain(fmt.Sprintf("%s-%d", prefix, i), pool)
		if err := c.client.Create(context.WithoutCancel(ctx), s); err != nil {
			return names, err
		}
		names[s.Name] = true
	}
	return names, nil
}

// tidy deletes the Services of a test.
func (c *cluster) tidy(names map[string]bool) {
	for n := range names {
		if err := c.client.Delete(context.Background(), plain(n, "")); client.IgnoreNotFound(err) != nil {
			c.Error(err)
		}
	}
}

// TestControllersAreKilledAtAnyMoment kills whoever leads, again and again, in the middle
// of creations and deletions.
func TestControllersAreKilledAtAnyMoment(t *testing.T) {
	c := duo.cluster(t)
	c.poolOf("killed", v1alpha1.ReclaimRetain, "198.18.0.0/16")
	w := c.watchServices()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	type result struct {
		names map[string]bool
		err   error
	}
	results := make(chan result, 1)
	go func() {
		names, err := c.churn(ctx, "killed", "killed", rand.New(rand.NewPCG(seed, 2)))
		results <- result{names, err}
	}()
	kills := 0
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(random.IntN(3000)) * time.Millisecond):
			if p, err := c.leader(ctx); err == nil && p.Kill() == nil {
				kills++
			}
		}
	}
	r := <-results
	t.Cleanup(func() { c.tidy(r.names) })
	c.must(r.err)
	c.allServed(w, r.names)
	w.check(t)
	t.Logf("%d kills, %d Services left", kills, len(r.names))
	if kills < 3 {
		t.Errorf("a leader was killed %d times only", kills)
	}
}

// TestFrozenLeaderGivesNothingTwice stops the leader in the middle of a burst until the
// other leads, and lets it go on at that moment.
func TestFrozenLeaderGivesNothingTwice(t *testing.T) {
	c := duo.cluster(t)
	c.poolOf("frozen", v1alpha1.ReclaimRetain, "198.19.0.0/16")
	w := c.watchServices()
	names := map[string]bool{}
	t.Cleanup(func() { c.tidy(names) })
	for round := range 3 {
		frozen := c.leads()
		pid := frozen.Pid()
		for i := range 150 {
			s := plain(fmt.Sprintf("frozen-%d-%d", round, i), "frozen")
			names[s.Name] = true
			c.must(c.client.Create(t.Context(), s))
			if i == 50+20*round {
				c.must(frozen.Pause())
			}
		}
		c.eventually("the other leads", func(ctx context.Context) error {
			p, err := c.leader(ctx)
			if err == nil && p.Pid() == pid {
				err = errors.New("the frozen one holds the lease")
			}
			return err
		})
		c.must(frozen.Resume())
		c.allServed(w, names)
		c.eventually("the one that was frozen has ended", func(context.Context) error {
			if frozen.Pid() == pid {
				return errors.New("it goes on")
			}
			return nil
		})
	}
	w.check(t)
}

// TestLeasePassesOn stops the leader; the other goes on, and rewrites nothing.
func TestLeasePassesOn(t *testing.T) {
	c := duo.cluster(t)
	c.poolOf("passes", v1alpha1.ReclaimRetain, "198.51.100.0/26")
	w := c.watchServices()
	before := plain("passes-before", "passes")
	c.create(before)
	names := map[string]bool{before.Name: true}
	c.allServed(w, names)
	c.awaitCondition(before, v1alpha1.ConditionAnnounced, metav1.ConditionFalse, v1alpha1.ReasonNoAdvertisement)
	first := c.process(c.leads().Name())
	c.must(first.Stop(t.Context(), syscall.SIGTERM))
	if tail := first.LogTail(50); strings.Contains(tail, "controller ended") {
		t.Errorf("it did not end well:\n%s", tail)
	}
	after := plain("passes-after", "passes")
	c.create(after)
	names[after.Name] = true
	c.allServed(w, names)
	c.unchanged(before)
	w.check(t)
}

// TestWhoMayClaimAddressesInANamespace is about Kubernetes' own roles, into which only what reads is
// aggregated, and the one for tenants.
func TestWhoMayClaimAddressesInANamespace(t *testing.T) {
	c := duo.cluster(t)
	const binding = `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: tenant-%[1]s, namespace: default},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}, subjects: [{kind: User, name: tenant-%[1]s}]}`
	for role, may := range map[string]map[string]bool{
		"view":  {"get addressclaims": true, "create addressclaims": false},
		"edit":  {"get addressclaims": true, "create addressclaims": false, "delete addressclaims": false},
		"admin": {"get addressclaims": true, "create addressclaims": false},

		"ballast-claims": {"get addressclaims": true, "create addressclaims": true, "delete addressclaims": true},
	} {
		manifest := fmt.Sprintf(binding, role)
		c.must(c.lab.Apply(t.Context(), manifest))
		t.Cleanup(func() {
			if err := c.lab.Delete(context.Background(), manifest); err != nil {
				t.Error(err)
			}
		})
		for what, want := range may {
			verb, resource, _ := strings.Cut(what, " ")
			c.eventually(fmt.Sprintf("%s may %s: %t", role, what, want), func(ctx context.Context) error {
				out, err := c.lab.Kubectl(ctx, "auth", "can-i", verb, resource+".ballast.dev", "-n", "default", "--as=tenant-"+role)
				if got := strings.TrimSpace(out); got != map[bool]string{true: "yes", false: "no"}[want] {
					return errors.Join(fmt.Errorf("it says %q", got), err)
				}
				return nil
			})
		}
	}
}

// TestPlanIsWhatTheControllerDoes asks the plugin what an edit would do, does it, and looks.
func TestPlanIsWhatTheControllerDoes(t *testing.T) {
	c := duo.cluster(t)
	c.poolOf("planned", v1alpha1.ReclaimReassign, "198.51.100.64-198.51.100.67")
	var services []*corev1.Service
	for i := range 6 { // four are served, two wait
		s := plain(fmt.Sprintf("planned-%d", i), "planned")
		c.create(s)
		want := metav1.ConditionTrue
		reason := v1alpha1.ReasonAllocated
		if i >= 4 {
			want, reason = metav1.ConditionFalse, v1alpha1.ReasonPoolExhausted
		}
		c.awaitCondition(s, v1alpha1.ConditionAllocated, want, reason)
		services = append(services, s)
	}
	const edited = `{apiVersion: ballast.dev/v1alpha1, kind: IPAddressPool, metadata: {name: planned},
 spec: {addresses: ["198.51.100.66-198.51.100.68", "198.51.100.80"], autoAssign: false, reclaimPolicy: Reassign, reuseDelay: 0s}}`
	root, err := lab.RepositoryRoot()
	c.must(err)
	out, err := c.lab.Exec(t.Context(), "cp", "sh", "-c", fmt.Sprintf("echo '%s' | %s plan -f - -o json --all", edited, filepath.Join(root, "bin", "kubectl-ballast")))
	c.must(err)
	var plan struct {
		Holders []struct {
			Name string
			Then struct{ Addresses []string }
		}
		Summary map[string]int
	}
	c.must(json.Unmarshal([]byte(out), &plan))
	if plan.Summary["changes"] != 2 || plan.Summary["keeps"] < 2 {
		t.Errorf("the plan says %v, want 2 changes and 2 that are kept", plan.Summary)
	}
	c.must(c.lab.Apply(t.Context(), edited))
	for _, s := range services {
		i := slices.IndexFunc(plan.Holders, func(h struct {
			Name string
			Then struct{ Addresses []string }
		},
		) bool {
			return h.Name == s.Name
		})
		if i < 0 {
			t.Fatalf("the plan does not speak of %s: %s", s.Name, out)
		}
		c.eventually(fmt.Sprintf("%s holds what the plan says: %v", s.Name, plan.Holders[i].Then.Addresses), func(ctx context.Context) error {
			var has []string
			err := c.get(ctx, s)
			for _, ingress := range s.Status.LoadBalancer.Ingress {
				has = append(has, ingress.IP)
			}
			if err == nil && !slices.Equal(has, plan.Holders[i].Then.Addresses) {
				err = fmt.Errorf("it holds %v", has)
			}
			return err
		})
	}
}
