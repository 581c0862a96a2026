package api

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/assets"
)

// overlay is a folder of manifests that installs Ballast in a namespace, as users write one.
func overlay(t *testing.T, ns string) string {
	t.Helper()
	base, err := filepath.Abs("../../config/default")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	written := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: %s\nresources: [%s]\n", ns, relative)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install starts an API server of the test's own and installs Ballast there in a namespace. It returns the folder that did.
func install(t *testing.T, ns string) (*cluster, string) {
	t.Helper()
	bin, err := assets.Dir()
	if err != nil {
		t.Fatal(err)
	}
	no := false
	env := &envtest.Environment{BinaryAssetsDirectory: bin, UseExistingCluster: &no}
	config, err := env.Start()
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop API server: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCluster(config, env.KubeConfig, bin, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.namespace = ns
	dir := overlay(t, ns)
	c.must(t, "apply", "-k", "../../config/crd")
	c.must(t, "apply", "-k", dir)
	return c, dir
}

func (c *cluster) must(t *testing.T, args ...string) {
	t.Helper()
	if out, err := c.kubectl(args...); err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
}

// loadBalancer makes a Service.
func (c *cluster) loadBalancer(t *testing.T, name string) *corev1.Service {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := c.admin.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// held makes a pool of which so many addresses are held that no other covers; "": it does not say.
func (c *cluster) held(t *testing.T, name, count string) *v1alpha1.IPAddressPool {
	t.Helper()
	p := &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/24"}}}
	if err := c.admin.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if count != "" {
		status := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"heldOnlyHere":%q}}`, count))
		if err := c.admin.Status().Patch(t.Context(), p, status); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestPoliciesHoldTheDaemonsInAnyNamespaceAndNobodyElseWhileUninstalling(t *testing.T) {
	t.Parallel()
	c, dir := install(t, "lb-system")
	s := c.loadBalancer(t, "web")
	eventually(t, func() error { return c.heldBack(t, s) })

	elsewhere := *c
	elsewhere.namespace = namespace // where nobody has installed it
	err := patchStatus(t.Context(), elsewhere.daemon(t, "speaker", "node-a"), s, condition(v1alpha1.ConditionAnnounced, "True"))
	if !apierrors.IsForbidden(err) || denied(err) == nil {
		t.Errorf("an account that nobody gave rights has written: %v", err)
	}

	// kubectl delete -k deletes the bindings before or after the policies, and other accounts go on.
	for _, binding := range []string{"ballast-speaker", "ballast-controller"} {
		c.must(t, "delete", "clusterrolebinding", binding)
	}
	eventually(t, func() error {
		gone := c.heldBack(t, s)
		if gone == nil || !strings.Contains(gone.Error(), "not refused by a policy") {
			return fmt.Errorf("the rights are not gone yet: %w", gone)
		}
		return nil
	})
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))
	if err := errors.Join(c.admin.Patch(t.Context(), s, label), patchStatus(t.Context(), c.admin, s, condition("example.com/Ready", "True"))); err != nil {
		t.Errorf("without Ballast's bindings others are held back: %v", err)
	}
	c.held(t, "lan", "3")
	c.must(t, "delete", "-k", dir, "--ignore-not-found", "--wait=false") // nobody here finishes namespaces
	eventually(t, func() error {
		out, err := c.kubectl("get", "crd", "-o", "name")
		if err != nil || strings.Contains(out, "ballast.dev") {
			return fmt.Errorf("kinds are still there: %v\n%s", err, out)
		}
		return nil
	})
}

func TestAPoolWhoseAddressesAreHeldIsNotDeleted(t *testing.T) {
	t.Parallel()
	awaitPolicies(t, assigned(t, "for-pools"))
	for _, tc := range []struct {
		name, held string
		refused    bool
	}{
		{"not-said", "", false},
		{"none", "0", false},
		{"some", "3", true},
		{"more-than-64-bits-count", "36893488147419103232", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := shared.held(t, "held-"+tc.name, tc.held)
			err := shared.admin.Delete(t.Context(), p)
			if !tc.refused {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if denied(err) != nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "hold "+tc.held+" of its addresses") ||
				!strings.Contains(err.Error(), "spec.drain") || !strings.Contains(err.Error(), "spec.reclaimPolicy to Reassign") {
				t.Errorf("got %v", err)
			}
			all := shared.admin.DeleteAllOf(t.Context(), &v1alpha1.IPAddressPool{}, client.MatchingFields{"metadata.name": p.Name})
			if err := denied(all); err != nil {
				t.Errorf("deleted with others of its kind: %v", err)
			}
			empty := client.RawPatch(types.MergePatchType, []byte(`{"status":{"heldOnlyHere":"0"}}`))
			if err := errors.Join(shared.admin.Status().Patch(t.Context(), p, empty), shared.admin.Delete(t.Context(), p)); err != nil {
				t.Errorf("once nobody holds them any more: %v", err)
			}
		})
	}
}

func TestTheControllerWritesOfAServiceWhatItHandsOut(t *testing.T) {
	t.Parallel()
	service := assigned(t, "by-the-controller")
	awaitPolicies(t, service)
	controller := shared.daemon(t, "controller", "")
	foreign := condition("example.com/Ready", "True")
	if err := patchStatus(t.Context(), shared.admin, service, foreign); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ says, patch, want string }{
		{"a condition of somebody else", condition("example.com/Ready", "False"), "no condition"},
		{"the end of a condition of somebody else", `{"status":{"conditions":[{"$patch":"delete","type":"example.com/Ready"}]}}`, "no condition"},
		{"no conditions at all", `{"status":{"conditions":null}}`, "no condition"},
		{"a new annotation", `{"metadata":{"annotations":{"example.com/a":"b"}}}`, "no annotation"},
		{"a request for an address", `{"metadata":{"annotations":{"ballast.dev/loadBalancerIPs":"192.0.2.66"}}}`, "no annotation"},
		{"a label", `{"metadata":{"labels":{"a":"b"}}}`, "metadata"},
		{"a finalizer", `{"metadata":{"finalizers":["example.com/hold"]}}`, "metadata"},
	} {
		t.Run("not "+tc.says, func(t *testing.T) {
			t.Parallel()
			err := patchStatus(t.Context(), controller, service, tc.patch, client.DryRunAll)
			if denied(err) != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a refusal that says %q", err, tc.want)
			}
		})
	}
	for _, tc := range []struct{ says, patch string }{
		{"another address", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.66","ipMode":"VIP"}]}}}`},
		{"no address", `{"metadata":{"annotations":{"ballast.dev/ip-allocated-from-pool":null}},"status":{"loadBalancer":{"ingress":[]}}}`},
		{"another pool", `{"metadata":{"annotations":{"ballast.dev/ip-allocated-from-pool":"wan"}}}`},
		{"Announced", condition(v1alpha1.ConditionAnnounced, "True")},
		{"Reachable", condition("ballast.dev/Reachable", "True")},
		{"the end of its conditions", `{"status":{"conditions":[{"$patch":"delete","type":"ballast.dev/Allocated"}]}}`},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			if err := patchStatus(t.Context(), controller, service, tc.patch, client.DryRunAll); err != nil {
				t.Errorf("held back: %v", err)
			}
		})
	}
}
