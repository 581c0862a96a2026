package kube

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

func TestOnlyWhatIsGatheredCounts(t *testing.T) {
	t.Parallel()
	node := func(edit func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"a": "b"}}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
		if edit != nil {
			edit(n)
		}
		return n
	}
	speaker := func(edit func(*v1alpha1.Speaker)) *v1alpha1.Speaker {
		s := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		s.Status.Layer2 = &v1alpha1.SpeakerLayer2{Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", Up: true, Addresses: []string{"10.0.0.1/24"}}}}
		s.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionAlive, Status: metav1.ConditionTrue, Message: "Refreshed at 1."},
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue},
		}
		if edit != nil {
			edit(s)
		}
		return s
	}
	pool := func(generation int64, retained ...string) *v1alpha1.IPAddressPool {
		return &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Generation: generation}, Status: v1alpha1.IPAddressPoolStatus{Retained: retained}}
	}
	for _, tc := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"a Node's heartbeat does not count", node(nil), node(func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(time.Unix(9, 0))}}
		}), false},
		{"a Node's labels count", node(nil), node(func(n *corev1.Node) { n.Labels = nil }), true},
		{"a Node's addresses count", node(nil), node(func(n *corev1.Node) { n.Status.Addresses[0].Address = "10.0.0.2" }), true},
		{"a Node's pod CIDRs do not count for announcing", node(nil), node(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.244.0.0/24"} }), false},
		{"a Node's network counts", node(nil), node(func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}}
		}), true},
		{"a Node's annotation to drain counts", node(nil), node(func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.AnnotationDrain: "true"} }), true},
		{"a Node's other annotations do not count", node(nil), node(func(n *corev1.Node) { n.Annotations = map[string]string{"a": "b"} }), false},
		{"a Node's cordon counts", node(nil), node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), true},
		{"a Node's taint that drains counts", node(nil), node(func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} }), true},
		{"a Node's other taints do not count", node(nil), node(func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady}} }), false},
		{"a Node's deletion counts", node(nil), node(func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }), true},
		{"a Speaker's refresh does not count", speaker(nil), speaker(func(s *v1alpha1.Speaker) { s.Status.Conditions[0].Message = "Refreshed at 2." }), false},
		{"a Speaker's death counts", speaker(nil), speaker(func(s *v1alpha1.Speaker) { s.Status.Conditions[0].Status = metav1.ConditionUnknown }), true},
		{"a Speaker's interfaces count", speaker(nil), speaker(func(s *v1alpha1.Speaker) { s.Status.Layer2.Interfaces[0].Up = false }), true},
		{"a Speaker's service proxy counts", speaker(nil), speaker(func(s *v1alpha1.Speaker) {
			s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionServiceProxyReady, Status: metav1.ConditionTrue})
		}), true},
		{"a request to rebalance counts", speaker(nil), speaker(func(s *v1alpha1.Speaker) { s.Annotations = map[string]string{v1alpha1.AnnotationRebalance: "now"} }), true},
		{"a pool's counts do not count", pool(1), pool(1), false},
		{"a pool's spec counts", pool(1), pool(2), true},
		{"what a pool retains counts", pool(1), pool(1, "192.0.2.1"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := differ(tc.before, tc.after); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}

func TestOnlyWhatPoolsMustNotContainHasThemCompiledAnew(t *testing.T) {
	t.Parallel()
	before := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"a": "b"}}}
	before.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	for _, tc := range []struct {
		name string
		edit func(*corev1.Node)
		want bool
	}{
		{"a label", func(n *corev1.Node) { n.Labels["a"] = "c" }, false},
		{"a taint that drains", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} }, false},
		{"a cordon", func(n *corev1.Node) { n.Spec.Unschedulable = true }, false},
		{"a heartbeat", func(n *corev1.Node) { n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}} }, false},
		{"an external address", func(n *corev1.Node) {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.1"})
		}, true},
		{"pod CIDRs", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.244.0.0/24"} }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			after := before.DeepCopy()
			tc.edit(after)
			if got := reserving().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
