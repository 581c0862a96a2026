package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// patchStatus sends a strategic merge patch of a Service's status.
func patchStatus(ctx context.Context, c client.Client, service *corev1.Service, patch string, opts ...client.SubResourcePatchOption) error {
	return c.Status().Patch(ctx, service.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(patch)), opts...)
}

// condition returns a strategic merge patch that sets one condition.
func condition(kind, status string) string {
	return fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q,"reason":"Test","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, kind, status)
}

// assigned makes a Service that holds an address, with the condition Allocated.
func assigned(t *testing.T, name string) *corev1.Service {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := shared.admin.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	controller := shared.daemon(t, "controller", "")
	allocate := `{"metadata":{"annotations":{"ballast.dev/ip-allocated-from-pool":"lan"}},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"}]}}}`
	for _, patch := range []string{allocate, condition(v1alpha1.ConditionAllocated, "True")} {
		if err := patchStatus(t.Context(), controller, service, patch); err != nil {
			t.Fatalf("the controller is held back: %v", err)
		}
	}
	if err := shared.admin.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
		t.Fatal(err)
	}
	if len(service.Status.LoadBalancer.Ingress) != 1 || service.Annotations["ballast.dev/ip-allocated-from-pool"] != "lan" {
		t.Fatalf("the controller's patch is lost: %+v", service)
	}
	return service
}

// awaitPolicies waits until the policies are in force, which takes seconds after their creation.
func awaitPolicies(t *testing.T, service *corev1.Service) {
	t.Helper()
	eventually(t, func() error { return shared.heldBack(t, service) })
}

// heldBack returns nil if speakers and controller may not do what they should not.
func (c *cluster) heldBack(t *testing.T, service *corev1.Service) error {
	t.Helper()
	speaker, controller := c.daemon(t, "speaker", "node-a"), c.daemon(t, "controller", "")
	other := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "node-b"}}
	return errors.Join(
		denied(patchStatus(t.Context(), speaker, service, condition(v1alpha1.ConditionAllocated, "False"), client.DryRunAll)),
		denied(speaker.Create(t.Context(), other, client.DryRunAll)),
		denied(patchStatus(t.Context(), controller, service, condition("example.com/Ready", "True"), client.DryRunAll)),
	)
}

// denied returns nil if err is an admission policy's refusal.
func denied(err error) error {
	if err == nil {
		return errors.New("admitted")
	}
	if !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'ballast-") {
		return fmt.Errorf("not refused by a policy: %w", err)
	}
	return nil
}

func TestASpeakerWritesNothingOfAServiceButAnnounced(t *testing.T) {
	t.Parallel()
	service := assigned(t, "refused")
	awaitPolicies(t, service)
	speaker := shared.daemon(t, "speaker", "node-a")
	for _, tc := range []struct{ says, patch, want string }{
		{"another address", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.66","ipMode":"VIP"}]}}}`, "nothing in a Service's status"},
		{"no address", `{"status":{"loadBalancer":{"ingress":[]}}}`, "nothing in a Service's status"},
		{"no load balancer", `{"status":{"loadBalancer":null}}`, "nothing in a Service's status"},
		{"the condition Allocated", condition(v1alpha1.ConditionAllocated, "False"), "no condition"},
		{"a condition of somebody else", condition("example.com/Ready", "True"), "no condition"},
		{"the end of the condition Allocated", `{"status":{"conditions":[{"$patch":"delete","type":"ballast.dev/Allocated"}]}}`, "no condition"},
		{"no conditions at all", `{"status":{"conditions":null}}`, "no condition"},
		{"a new annotation", `{"metadata":{"annotations":{"example.com/a":"b"}}}`, "metadata"},
		{"a changed annotation", `{"metadata":{"annotations":{"ballast.dev/ip-allocated-from-pool":"wan"}}}`, "metadata"},
		{"no annotations", `{"metadata":{"annotations":null}}`, "metadata"},
		{"a label", `{"metadata":{"labels":{"a":"b"}}}`, "metadata"},
		{"a finalizer", `{"metadata":{"finalizers":["example.com/hold"]}}`, "metadata"},
		{"an owner", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"a","uid":"1"}]}}`, "metadata"},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			err := patchStatus(t.Context(), speaker, service, tc.patch)
			if denied(err) != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a refusal that says %q", err, tc.want)
			}
		})
	}
	t.Run("its spec through the status", func(t *testing.T) {
		t.Parallel()
		if err := patchStatus(t.Context(), speaker, service, `{"spec":{"externalTrafficPolicy":"Local"}}`); err != nil {
			return // refused is as good as ignored
		}
		var got corev1.Service
		if err := shared.admin.Get(t.Context(), client.ObjectKeyFromObject(service), &got); err != nil {
			t.Fatal(err)
		}
		if got.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyCluster {
			t.Error("the spec changed")
		}
	})
	t.Run("itself", func(t *testing.T) {
		t.Parallel()
		err := speaker.Patch(t.Context(), service.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"externalTrafficPolicy":"Local"}}`)))
		if !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestASpeakerWritesAnnounced(t *testing.T) {
	t.Parallel()
	service := assigned(t, "admitted")
	awaitPolicies(t, service)
	speaker := shared.daemon(t, "speaker", "node-a")
	apply := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"admitted","namespace":"default"},` + condition(v1alpha1.ConditionAnnounced, "False")[1:]
	steps := []struct {
		says  string
		write func() error
		want  metav1.ConditionStatus // empty: gone
	}{
		{"sets it", func() error {
			return patchStatus(t.Context(), speaker, service, condition(v1alpha1.ConditionAnnounced, "True"))
		}, metav1.ConditionTrue},
		{"changes it by server-side apply", func() error {
			return speaker.Status().Patch(t.Context(), service.DeepCopy(), client.RawPatch(types.ApplyPatchType, []byte(apply)), client.FieldOwner("speaker"), client.ForceOwnership)
		}, metav1.ConditionFalse},
		{"removes it", func() error {
			return patchStatus(t.Context(), speaker, service, `{"status":{"conditions":[{"$patch":"delete","type":"ballast.dev/Announced"}]}}`)
		}, ""},
	}
	for _, step := range steps {
		if err := step.write(); err != nil {
			t.Fatalf("a speaker %s: %v", step.says, err)
		}
		var got corev1.Service
		if err := shared.admin.Get(t.Context(), client.ObjectKeyFromObject(service), &got); err != nil {
			t.Fatal(err)
		}
		announced := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAnnounced)
		if (announced == nil) != (step.want == "") || (announced != nil && announced.Status != step.want) {
			t.Errorf("a speaker %s: condition is %+v", step.says, announced)
		}
		if !meta.IsStatusConditionTrue(got.Status.Conditions, v1alpha1.ConditionAllocated) || len(got.Status.LoadBalancer.Ingress) != 1 {
			t.Errorf("a speaker %s: status became %+v", step.says, got.Status)
		}
	}
}

func TestASpeakerWritesTheSpeakerOfItsOwnNode(t *testing.T) {
	t.Parallel()
	service := assigned(t, "for-speakers")
	awaitPolicies(t, service)
	object := func(name string) *v1alpha1.Speaker {
		return &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	status := client.RawPatch(types.MergePatchType, []byte(`{"status":{"version":"v0","conditions":[{"type":"Ready","status":"True","reason":"Ready","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`))
	own, other, nobody := shared.daemon(t, "speaker", "own"), shared.daemon(t, "speaker", "other"), shared.daemon(t, "speaker", "")
	if err := own.Create(t.Context(), object("own")); err != nil {
		t.Fatalf("creates its own: %v", err)
	}
	if err := own.Status().Patch(t.Context(), object("own"), status); err != nil {
		t.Errorf("writes the status of its own: %v", err)
	}
	if err := shared.daemon(t, "controller", "").Status().Patch(t.Context(), object("own"), status); err != nil {
		t.Errorf("the controller is held back: %v", err)
	}
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))
	for says, err := range map[string]error{
		"creates another's":               other.Create(t.Context(), object("third")),
		"creates one of a generated name": own.Create(t.Context(), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{GenerateName: "own"}}),
		"labels another's":                other.Patch(t.Context(), object("own"), label),
		"writes the status of another's":  other.Status().Patch(t.Context(), object("own"), status),
		"creates one without a node":      nobody.Create(t.Context(), object("fourth")),
		"writes a status without a node":  nobody.Status().Patch(t.Context(), object("own"), status),
	} {
		if err := denied(err); err != nil {
			t.Errorf("a speaker %s: %v", says, err)
		}
	}
}

// The name of the node that a policy sees comes from the token of the speaker's pod.
func TestTheTokenOfASpeakersPodNamesItsNode(t *testing.T) {
	t.Parallel()
	awaitPolicies(t, assigned(t, "for-token"))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "real-node"}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "speaker-real"},
		Spec: corev1.PodSpec{
			NodeName: node.Name, ServiceAccountName: "speaker",
			Containers: []corev1.Container{{Name: "speaker", Image: "ballast:dev"}},
		},
	}
	for _, object := range []client.Object{node, pod} {
		if err := shared.admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "speaker"}}
	if err := shared.admin.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(shared.config)
	config.BearerToken = request.Status.Token
	speaker, err := shared.client(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := speaker.Create(t.Context(), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "real-node"}}); err != nil {
		t.Errorf("creates its own: %v", err)
	}
	err = speaker.Create(t.Context(), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "real-node-2"}})
	if err := denied(err); err != nil {
		t.Errorf("creates another's: %v", err)
	}
}
