package main

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// TestUndoneRequestsMoveNobody edits and edits back, faster than anything is written.
func TestUndoneRequestsMoveNobody(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	const n = 30
	a.create(pool("a", "192.0.2.0/24"))
	b := pool("b", "198.51.100.0/24")
	b.Spec.ReclaimPolicy = v1alpha1.ReclaimReassign
	a.create(b)
	name := func(i int) string { return fmt.Sprintf("s%02d", i) }
	address := func(i int) string { return fmt.Sprintf("198.51.100.%d", i+1) }
	for i := range n {
		s := annotated(name(i), wantPool, "b")
		a.create(s)
		a.holds(s, address(i), v1alpha1.ReasonAllocated)
	}
	annotate := func(s *corev1.Service, to string) {
		body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, wantPool, to)
		if err := a.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", body)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name(i)}}
		annotate(s, "a")
		annotate(s, "b")
	}
	last := annotated("last", wantPool, "a") // seen after all of these
	a.create(last)
	a.eventually(last, func() string {
		if len(last.Status.LoadBalancer.Ingress) == 0 {
			return "has no address yet"
		}
		return ""
	})
	for i := range n {
		a.holds(service(name(i), nil), address(i), v1alpha1.ReasonAllocated)
	}
	t.Run("an address that a Node lists stays, also with Reassign", func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		a.create(node)
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: address(0)}}
		if err := a.Status().Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		a.notReady(b, v1alpha1.ReasonReservedOverlap, address(0))
		a.holds(service(name(0), nil), address(0), v1alpha1.ReasonAllocated)
	})
}
