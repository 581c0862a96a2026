package kube

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/internal/config"
)

// TestWhatIsTrimmedDecidesNothing makes Services and EndpointSlices with every field that
// decides something, and checks that they are read alike before and after.
func TestWhatIsTrimmedDecidesNothing(t *testing.T) {
	t.Parallel()
	class, node, yes := "example.com/class", "n1", true
	policy := corev1.IPFamilyPolicyRequireDualStack
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "1", ResourceVersion: "7", Labels: map[string]string{"app": "web"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
			Annotations: map[string]string{"ballast.dev/address-pool": "wan", "ballast.dev/allow-shared-ip": "k", "ballast.dev/address-claim": "c", corev1.LastAppliedConfigAnnotation: "{}"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, LoadBalancerIP: "192.0.2.1", IPFamilyPolicy: &policy,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, Selector: map[string]string{"app": "web"},
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30000}},
		},
		Status: corev1.ServiceStatus{
			LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}},
			Conditions:   []metav1.Condition{{Type: "ballast.dev/Allocated", Status: metav1.ConditionTrue}},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web", "x": "y"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.1"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
	}
	read := func() []any {
		return []any{
			config.Ours(s, class), config.Foreign(s), config.Request(s), config.Held(s, class),
			config.Service(s, []discoveryv1.EndpointSlice{*slice}), serviceOf(t.Context(), slice), s.Status, s.ResourceVersion,
		}
	}
	before := read()
	for _, trim := range []func(any) (any, error){trimService, trimEndpointSlice, trimNode} {
		for _, o := range []any{s, slice, &corev1.Pod{}} {
			if _, err := trim(o); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, after := range read() {
		if !reflect.DeepEqual(before[i], after) {
			t.Errorf("read %+v before, and %+v after", before[i], after)
		}
	}
	if len(s.ManagedFields) > 0 || s.Spec.ClusterIP != "" || len(slice.Endpoints[0].Addresses) > 0 {
		t.Errorf("nothing was dropped: %+v, %+v", s, slice)
	}
}
