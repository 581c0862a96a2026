package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/ipam"
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

// Foreign says whether a Service has an ingress that another implementation wrote and
// that its owner has not given to Ballast.
func Foreign(s *corev1.Service) bool {
	return len(s.Status.LoadBalancer.Ingress) > 0 && Condition(s, v1alpha1.ConditionAllocated) == nil &&
		s.Annotations[v1alpha1.AnnotationAdopt] != "true"
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

// Holder is a Service as a holder of addresses.
func Holder(s *corev1.Service) ipam.Holder {
	return ipam.Holder{Service: Key(s), UID: string(s.UID), Created: s.CreationTimestamp.Time}
}

// Request reads what a Service wants. A Service that makes no sense gives an error, whose
// text is for its owner; its reason is InvalidRequest.
func Request(s *corev1.Service, namespace labels.Set) (ipam.Request, error) {
	r := ipam.Request{Holder: Holder(s), Required: 1, Labels: s.Labels, NamespaceLabels: namespace}
	for _, f := range s.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			r.Families = append(r.Families, ipam.IPv6)
		} else {
			r.Families = append(r.Families, ipam.IPv4)
		}
	}
	if p := s.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		r.Required = len(r.Families)
	}
	r.Pool = name.PoolName(s.Annotations[v1alpha1.AnnotationAddressPool])
	var err error
	if r.Addresses, err = parseAddresses(s.Annotations[v1alpha1.AnnotationLoadBalancerIPs]); err != nil {
		return r, fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationLoadBalancerIPs, err)
	}
	if s.Spec.LoadBalancerIP == "" {
		return r, nil
	}
	old, err := ParseAddr(s.Spec.LoadBalancerIP)
	if err != nil {
		return r, fmt.Errorf("spec.loadBalancerIP: %w", err)
	}
	if len(r.Addresses) > 0 && !slices.Contains(r.Addresses, old) {
		return r, fmt.Errorf("spec.loadBalancerIP asks for %s, annotation %s for %s; they must agree", old, v1alpha1.AnnotationLoadBalancerIPs, s.Annotations[v1alpha1.AnnotationLoadBalancerIPs])
	}
	if len(r.Addresses) == 0 {
		r.Addresses = []netip.Addr{old}
	}
	return r, nil
}

// parseAddresses reads a comma list of addresses; blanks around them are allowed.
func parseAddresses(s string) ([]netip.Addr, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var list []netip.Addr
	for part := range strings.SplitSeq(s, ",") {
		a, err := ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, nil
}

// Service reads what announcing needs to know of a Service and its EndpointSlices.
func Service(s *corev1.Service, endpointSlices []discoveryv1.EndpointSlice) announce.Service {
	allocated := Condition(s, v1alpha1.ConditionAllocated)
	return announce.Service{
		Key: Key(s), UID: string(s.UID), Addresses: Ingress(s), Labels: s.Labels,
		Allocated: allocated != nil && allocated.Status == metav1.ConditionTrue,
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
