package config

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// Node reads what announcing needs to know of a Node; what its speaker knows is not in it.
func Node(n *corev1.Node, s Settings) announce.Node {
	_, labeled := n.Labels[corev1.LabelNodeExcludeBalancers]
	return announce.Node{
		Name: name.NodeName(n.Name), Labels: n.Labels, Addresses: InternalAddresses(n),
		Excluded: labeled && !s.IgnoreExcludeLabel,
		NetworkUnavailable: slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue
		}),
	}
}

// Nodes reads Nodes and their Speakers, sorted by name.
func Nodes(nodes []corev1.Node, speakers []v1alpha1.Speaker, s Settings) []announce.Node {
	byNode := map[string]*v1alpha1.Speaker{}
	for i := range speakers {
		byNode[speakers[i].Name] = &speakers[i]
	}
	var list []announce.Node
	for i := range nodes {
		n := Node(&nodes[i], s)
		if speaker := byNode[nodes[i].Name]; speaker != nil {
			Speaker(speaker, &n)
		}
		list = append(list, n)
	}
	slices.SortFunc(list, func(x, y announce.Node) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

// InternalAddresses returns a Node's addresses of type InternalIP.
func InternalAddresses(n *corev1.Node) []netip.Addr {
	var list []netip.Addr
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := ParseAddr(a.Address); err == nil {
			list = append(list, ip)
		}
	}
	return list
}

// Reserved returns what is never assigned: the nodes' addresses, pod CIDRs and Service CIDRs.
func Reserved(nodes []corev1.Node, serviceCIDRs []networkingv1.ServiceCIDR) []netip.Prefix {
	var list []netip.Prefix
	add := func(cidrs []string) {
		for _, s := range cidrs {
			if p, err := netip.ParsePrefix(s); err == nil {
				list = append(list, p.Masked())
			}
		}
	}
	for _, n := range nodes {
		for _, a := range n.Status.Addresses {
			if ip, err := ParseAddr(a.Address); err == nil {
				list = append(list, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
		add(n.Spec.PodCIDRs)
	}
	for _, c := range serviceCIDRs {
		add(c.Spec.CIDRs)
	}
	return list
}

// Speaker reads what a Speaker's status says of its node into n.
func Speaker(s *v1alpha1.Speaker, n *announce.Node) {
	n.Alive = slices.ContainsFunc(s.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionAlive && c.Status == metav1.ConditionTrue
	})
	n.Joined = slices.ContainsFunc(s.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue
	})
	n.Established = nil
	for _, p := range s.Status.Peers {
		if p.State == v1alpha1.PeerEstablished {
			n.Established = append(n.Established, name.PeerName(p.Name))
		}
	}
	slices.Sort(n.Established)
	n.Interfaces = nil
	if s.Status.Layer2 == nil {
		return
	}
	for _, i := range s.Status.Layer2.Interfaces {
		one := announce.Interface{Name: i.Name, Up: i.Up}
		for _, written := range i.Addresses {
			if p, err := netip.ParsePrefix(written); err == nil {
				one.Prefixes = append(one.Prefixes, p)
			}
		}
		n.Interfaces = append(n.Interfaces, one)
	}
}
