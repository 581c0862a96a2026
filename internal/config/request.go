package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// Holder is a Service as a holder of addresses. What it says that makes no sense is left
// out; Request tells.
func Holder(s *corev1.Service) ipam.Holder {
	sharing, _ := sharing(s)
	claim, _ := claimName(s)
	return ipam.Holder{
		Key: ipam.ServiceKey(Key(s)), UID: string(s.UID), Created: s.CreationTimestamp.Time,
		Sharing: sharing, Claim: claim,
	}
}

// Held is a Service as a holder of what its ingress says, for a Ballast that runs with a
// load balancer class.
func Held(s *corev1.Service, class string) ipam.Holder {
	h := Holder(s)
	h.Foreign = !Ours(s, class) || Foreign(s)
	return h
}

// ClaimHolder is an AddressClaim as a holder of addresses.
func ClaimHolder(c *v1alpha1.AddressClaim) ipam.Holder {
	return ipam.Holder{Key: ipam.ClaimKey(c.Namespace, c.Name), UID: string(c.UID), Created: c.CreationTimestamp.Time}
}

// Request reads what a Service wants. One that makes no sense says so in Invalid.
func Request(s *corev1.Service) ipam.Request {
	r := ipam.Request{
		Holder: Holder(s), Families: familiesOf(s.Spec.IPFamilies), Required: 1,
		Pool:   name.PoolName(strings.TrimSpace(s.Annotations[v1alpha1.AnnotationAddressPool])),
		Labels: s.Labels,
	}
	if p := s.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		r.Required = len(r.Families)
	}
	var err error
	r.Addresses, err = requestedAddresses(s)
	_, noSharing := sharing(s)
	_, noClaim := claimName(s)
	r.Invalid = sentence(errors.Join(err, noSharing, noClaim))
	return r
}

// ClaimRequest reads what an AddressClaim wants: all of its families, which are by
// default those of its addresses, and IPv4 without any.
func ClaimRequest(c *v1alpha1.AddressClaim) ipam.Request {
	r := ipam.Request{
		Holder: ClaimHolder(c), Families: familiesOf(c.Spec.IPFamilies),
		Pool: name.PoolName(c.Spec.Pool), Labels: c.Labels,
	}
	var err error
	r.Addresses, err = parseAddresses(strings.Join(c.Spec.Addresses, ","))
	r.Invalid = sentence(err)
	if len(r.Families) == 0 {
		for _, a := range r.Addresses {
			if f := ipam.FamilyOf(a); !slices.Contains(r.Families, f) {
				r.Families = append(r.Families, f)
			}
		}
	}
	if len(r.Families) == 0 {
		r.Families = []ipam.Family{ipam.IPv4}
	}
	r.Required = len(r.Families)
	return r
}

// Claimed returns the addresses that an AddressClaim's status holds.
func Claimed(c *v1alpha1.AddressClaim) []netip.Addr {
	var list []netip.Addr
	for _, written := range c.Status.Addresses {
		if a, err := ParseAddr(written); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// sentence makes one of errors, each of which is about one field; "" of none.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ") + "."
}

func familiesOf(list []corev1.IPFamily) []ipam.Family {
	var families []ipam.Family
	for _, f := range list {
		if f == corev1.IPv6Protocol {
			families = append(families, ipam.IPv6)
		} else {
			families = append(families, ipam.IPv4)
		}
	}
	return families
}

// requestedAddresses are those of the annotation and of spec.loadBalancerIP, which must agree.
func requestedAddresses(s *corev1.Service) ([]netip.Addr, error) {
	annotation := s.Annotations[v1alpha1.AnnotationLoadBalancerIPs]
	addresses, err := parseAddresses(annotation)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationLoadBalancerIPs, err)
	}
	if s.Spec.LoadBalancerIP == "" {
		return addresses, nil
	}
	old, err := ParseAddr(s.Spec.LoadBalancerIP)
	if err != nil {
		return nil, fmt.Errorf("spec.loadBalancerIP: %w", err)
	}
	if len(addresses) == 0 {
		return []netip.Addr{old}, nil
	}
	if !slices.Contains(addresses, old) {
		return nil, fmt.Errorf("spec.loadBalancerIP asks for %s, annotation %s for %s; they must agree", old, v1alpha1.AnnotationLoadBalancerIPs, annotation)
	}
	return addresses, nil
}

// sharing reads on which terms a Service shares its addresses.
func sharing(s *corev1.Service) (ipam.Sharing, error) {
	terms := ipam.Sharing{
		Key:      strings.TrimSpace(s.Annotations[v1alpha1.AnnotationAllowSharedIP]),
		Local:    s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Selector: labels.Set(s.Spec.Selector).String(),
	}
	for _, p := range s.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		terms.Ports = append(terms.Ports, ipam.Port{Protocol: string(protocol), Number: p.Port})
	}
	var bad []error
	for _, namespace := range items(s.Annotations[v1alpha1.AnnotationAllowSharedIPFrom]) {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			bad = append(bad, fmt.Errorf("annotation %s: %q is no name of a namespace", v1alpha1.AnnotationAllowSharedIPFrom, namespace))
			continue
		}
		terms.From = append(terms.From, namespace)
	}
	return terms, errors.Join(bad...)
}

// claimName reads the AddressClaim that a Service names.
func claimName(s *corev1.Service) (string, error) {
	claim := strings.TrimSpace(s.Annotations[v1alpha1.AnnotationAddressClaim])
	switch {
	case claim == "" || len(validation.IsDNS1123Subdomain(claim)) == 0:
		return claim, nil
	case strings.Contains(claim, "/"):
		return "", fmt.Errorf("annotation %s: %q names another namespace; an AddressClaim serves its own namespace alone", v1alpha1.AnnotationAddressClaim, claim)
	}
	return "", fmt.Errorf("annotation %s: %q is no name of an AddressClaim", v1alpha1.AnnotationAddressClaim, claim)
}

// parseAddresses reads a comma list of addresses; blanks around them are allowed.
func parseAddresses(s string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, item := range items(s) {
		a, err := ParseAddr(item)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, nil
}

// items splits a comma list; blanks around its items are allowed, and a blank list has none.
func items(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
