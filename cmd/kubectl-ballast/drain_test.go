package main

import (
	"context"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// speakers moves what Services say, once an object carries an annotation other than before:
// as speakers do, which do not run here. It ends with the test.
func (a *api) speakers(o client.Object, annotation string, to map[string]string) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	var done sync.WaitGroup
	a.t.Cleanup(func() { cancel(); done.Wait() })
	before := a.annotation(ctx, o, annotation)
	done.Go(func() {
		for a.annotation(ctx, o, annotation) == before {
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		for name, node := range to {
			a.move(ctx, name, node)
		}
	})
}

// annotation returns an annotation of an object as it is now.
func (a *api) annotation(ctx context.Context, o client.Object, key string) string {
	if err := a.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		if ctx.Err() == nil {
			a.t.Errorf("get %T: %v", o, err)
		}
		return ""
	}
	return o.GetAnnotations()[key]
}

// move has another node answer for a Service.
func (a *api) move(ctx context.Context, name, node string) {
	var s corev1.Service
	err := a.Get(ctx, client.ObjectKey{Namespace: "shop", Name: name}, &s)
	if err == nil {
		s = announced(s, node)
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastTransitionTime = metav1.Now()
		}
		err = a.Status().Update(ctx, &s)
	}
	if err != nil {
		a.t.Errorf("move Service %s: %v", name, err)
	}
}

func node(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }

func TestDrainAndRebalance(t *testing.T) {
	a := startAPI(t)
	a.create(node("n1"))
	n2 := node("n2")
	n2.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	a.create(n2)
	a.service(announced(service("api", "192.0.2.1"), "n1"))
	a.service(announced(service("web", "192.0.2.2"), "n1"))
	a.service(announced(service("far", "192.0.2.3"), "")) // by BGP alone
	a.service(service("new"))

	t.Run("without Speakers there is nothing to rebalance", func(t *testing.T) {
		a.kubectl(nil, "", "rebalance", "--yes").says(t, 1, nil, []string{"error: there is no Speaker"})
	})
	for _, n := range []string{"n1", "n2"} {
		a.create(&v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
	t.Run("nothing is rebalanced before the user says yes", func(t *testing.T) {
		for _, typed := range []string{"", "\n", "no\n"} {
			a.kubectl(nil, typed, "rebalance").says(t, 1,
				[]string{"NODE ADDRESSES\nn1 2\nn2 0\nEstablished connections to an address that moves break.\nSpread the addresses now? [y/N]"},
				[]string{"error: nothing was changed: answer y, or give --yes"})
		}
		if got := a.annotation(t.Context(), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, v1alpha1.AnnotationRebalance); got != "" {
			t.Errorf("got annotation %q", got)
		}
	})
	t.Run("a rebalancing asks all Speakers and says what moved", func(t *testing.T) {
		a.speakers(&v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, v1alpha1.AnnotationRebalance, map[string]string{"web": "n2"})
		a.kubectl(nil, "y\n", "rebalance").says(t, 0, []string{"1 address moved.\nNODE BEFORE NOW\nn1 2 1\nn2 0 1\n"}, nil)
		var said []string
		for _, n := range []string{"n1", "n2"} {
			said = append(said, a.annotation(t.Context(), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: n}}, v1alpha1.AnnotationRebalance))
		}
		if at, err := time.Parse(time.RFC3339Nano, said[0]); err != nil || said[0] != said[1] || time.Since(at) > time.Hour {
			t.Errorf("got annotations %q, %v", said, err)
		}
	})
	t.Run("a rebalancing need not be asked for nor watched", func(t *testing.T) {
		a.kubectl(nil, "", "rebalance", "--yes", "--timeout", "0").says(t, 0, []string{"n1 1\nn2 1\n", "![y/N]", "!moved"}, nil)
	})
	t.Run("a drain waits until others have taken over, and says who", func(t *testing.T) {
		a.speakers(node("n1"), v1alpha1.AnnotationDrain, map[string]string{"api": "n2"})
		a.kubectl(nil, "", "drain", "n1").says(t, 0, []string{
			"Node n1 answers for 1 address of 1 Service. Others take over, and established connections to these addresses break.",
			"SERVICE ADDRESSES NODE REASON\nshop/api 192.0.2.1 n2 -\n", "Node n1 is drained.", "!shop/web",
		}, nil)
		if got := a.annotation(t.Context(), node("n1"), v1alpha1.AnnotationDrain); got != "true" {
			t.Errorf("got annotation %q", got)
		}
	})
	t.Run("a node that is drained already stays so", func(t *testing.T) {
		a.kubectl(nil, "", "drain", "n1").says(t, 0, []string{"Node n1 answers for no address in layer 2.", "has been asked to hand over before", "Node n1 is drained."}, nil)
	})
	t.Run("a drain that nobody heeds ends in an error", func(t *testing.T) {
		a.kubectl(nil, "", "drain", "n2", "--timeout", "100ms").says(t, 1, []string{"2 addresses of 2 Services", "shop/api 192.0.2.1 n2", "!is drained"}, []string{
			"error: after 100ms Node n2 still answers for 2 addresses of 2 Services; is its speaker running? It stays asked to hand over",
		})
	})
	t.Run("undrain lets it announce again, and says what else keeps it from that", func(t *testing.T) {
		a.kubectl(nil, "", "undrain", "n1").says(t, 0, []string{"Node n1 may announce again."}, nil)
		a.kubectl(nil, "", "undrain", "n1").says(t, 0, []string{"Node n1 is not drained by kubectl ballast."}, nil)
		a.kubectl(nil, "", "drain", "n2", "--undo").says(t, 0, []string{"Node n2 may announce again."}, []string{"warning: Node n2 has the label node.kubernetes.io/exclude-from-external-load-balancers"})
		if got := a.annotation(t.Context(), node("n1"), v1alpha1.AnnotationDrain); got != "" {
			t.Errorf("got annotation %q", got)
		}
		n := node("n1")
		a.annotation(t.Context(), n, "")
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
		if err := a.Update(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		a.kubectl(nil, "", "undrain", "n1").says(t, 0, []string{"not drained by"}, []string{"warning: Node n1 is still being taken out of service: taint node.kubernetes.io/out-of-service"})
	})
	t.Run("what makes no sense is an error", func(t *testing.T) {
		for _, row := range []struct {
			args []string
			want string
		}{
			{[]string{"drain"}, "error: give one NODE; see kubectl ballast drain --help"},
			{[]string{"undrain", "n1", "n2"}, "error: give one NODE; see kubectl ballast undrain --help"},
			{[]string{"drain", "typo"}, "error: there is no Node typo"},
			{[]string{"rebalance", "n1"}, "unknown command"},
		} {
			a.kubectl(nil, "", row.args...).says(t, 1, nil, []string{row.want})
		}
	})
	t.Run("who may not change a Node is told so", func(t *testing.T) {
		viewing := []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes", "services"}, Verbs: []string{"get", "list"}},
			{APIGroups: []string{"ballast.dev"}, Resources: []string{"ipaddresspools"}, Verbs: []string{"list"}},
		}
		a.kubectl(a.user("operator", viewing), "", "drain", "n2").says(t, 1, []string{"2 addresses"}, []string{`error: drain Node n2: nodes "n2" is forbidden`})
	})
}
