package config

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// Key names a Service.
func Key(s *corev1.Service) name.ServiceKey {
	return name.ServiceKey{Namespace: s.Namespace, Name: s.Name}
}

// Ours says whether a Service is for a Ballast that runs with a load balancer class; ""
// is the one for Services without a class.
func Ours(s *corev1.Service, class string) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if s.Spec.LoadBalancerClass == nil {
		return class == ""
	}
	return class != "" && *s.Spec.LoadBalancerClass == class
}

// Foreign says whether a Service has an ingress that another implementation wrote, or
// has won with a StatusConflict, and that its owner has not given to Ballast.
func Foreign(s *corev1.Service) bool {
	if len(s.Status.LoadBalancer.Ingress) == 0 || s.Annotations[v1alpha1.AnnotationAdopt] == "true" {
		return false
	}
	c := Condition(s, v1alpha1.ConditionAllocated)
	return c == nil || c.Reason == string(v1alpha1.ReasonStatusConflict)
}

// Condition returns a condition of a Service, or nil.
func Condition(s *corev1.Service, kind string) *metav1.Condition {
	i := slices.IndexFunc(s.Status.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &s.Status.Conditions[i]
}

// Ingress returns the addresses that a Service's status holds.
func Ingress(s *corev1.Service) []netip.Addr {
	var list []netip.Addr
	for _, i := range s.Status.LoadBalancer.Ingress {
		if a, err := ParseAddr(i.IP); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Service reads what announcing needs to know of a Service and its EndpointSlices.
func Service(s *corev1.Service, endpointSlices []discoveryv1.EndpointSlice) announce.Service {
	allocated, announced := Condition(s, v1alpha1.ConditionAllocated), Condition(s, v1alpha1.ConditionAnnounced)
	var owner name.NodeName
	if announced != nil && announced.Status == metav1.ConditionTrue {
		owner = name.NodeName(v1alpha1.Answering(announced.Message))
	}
	return announce.Service{
		Owner: owner,
		Key:   Key(s), UID: string(s.UID), Addresses: Ingress(s), Labels: s.Labels,
		Allocated: allocated != nil && allocated.Status == metav1.ConditionTrue,
		Announced: announced != nil && announced.Status == metav1.ConditionTrue,
		Local:     s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Endpoints: endpoints(endpointSlices),
	}
}

// endpoints counts by node; nil conditions mean what the EndpointSlice API says: ready,
// and serving as ready.
func endpoints(endpointSlices []discoveryv1.EndpointSlice) map[name.NodeName]announce.Endpoints {
	counts := map[name.NodeName]announce.Endpoints{}
	for _, slice := range endpointSlices {
		for _, e := range slice.Endpoints {
			var node name.NodeName
			if e.NodeName != nil {
				node = name.NodeName(*e.NodeName)
			}
			ready := orTrue(e.Conditions.Ready)
			serving := ready
			if e.Conditions.Serving != nil {
				serving = *e.Conditions.Serving
			}
			c := counts[node]
			switch {
			case ready:
				c.Ready++
			case serving:
				c.Serving++
			default:
				continue
			}
			counts[node] = c
		}
	}
	return counts
}
