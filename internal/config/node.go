package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
		Drain:    drainSignal(n, s.Drain),
		NetworkUnavailable: slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue
		}),
	}
}

// taintToBeDeleted is how the cluster autoscaler marks a Node that it is about to delete
// (its package utils/taints); kube-proxy heeds it too.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// drainSignal says, for people, what asks to take a Node out of service; "": nothing does.
func drainSignal(n *corev1.Node, s Drain) string {
	tainted := func(key string) bool {
		return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
	}
	switch {
	case n.DeletionTimestamp != nil:
		return "it is being deleted"
	case n.Annotations[v1alpha1.AnnotationDrain] == "true":
		return "annotation " + v1alpha1.AnnotationDrain
	case tainted(corev1.TaintNodeOutOfService):
		return "taint " + corev1.TaintNodeOutOfService
	case tainted(taintToBeDeleted):
		return "taint " + taintToBeDeleted
	case s.OnCordon && n.Spec.Unschedulable:
		return "cordoned"
	}
	return ""
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
	isTrue := func(kind string) bool {
		return slices.ContainsFunc(s.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == kind && c.Status == metav1.ConditionTrue
		})
	}
	n.Unknown = meta.IsStatusConditionPresentAndEqual(s.Status.Conditions, v1alpha1.ConditionAlive, metav1.ConditionUnknown)
	n.Health = announce.Dead
	if isTrue(v1alpha1.ConditionAlive) && isTrue(v1alpha1.ConditionReady) {
		n.Health = announce.Alive
	}
	n.Proxy, n.Rebalance = proxy(s), s.Annotations[v1alpha1.AnnotationRebalance]
	n.Established = nil
	for _, p := range s.Status.Peers {
		if p.State == v1alpha1.PeerEstablished {
			n.Established = append(n.Established, announce.Session{
				Peer: name.PeerName(p.Name), IPv4: carriage(p, corev1.IPv4Protocol), IPv6: carriage(p, corev1.IPv6Protocol),
			})
		}
	}
	slices.SortFunc(n.Established, func(x, y announce.Session) int { return cmp.Compare(x.Peer, y.Peer) })
	n.Interfaces = nil
	if s.Status.Layer2 == nil {
		return
	}
	for _, i := range s.Status.Layer2.Interfaces {
		one := announce.Interface{Name: i.Name, Up: i.Up}
		if mac, err := ParseMAC(i.MAC); err == nil {
			one.MAC = mac
		}
		for _, written := range i.Addresses {
			if p, err := netip.ParsePrefix(written); err == nil {
				one.Prefixes = append(one.Prefixes, p)
			}
		}
		n.Interfaces = append(n.Interfaces, one)
	}
}

// carriage reads whether a session carries a family.
func carriage(p v1alpha1.SpeakerPeer, f corev1.IPFamily) announce.Carriage {
	switch {
	case slices.Contains(p.IPFamilies, f):
		return announce.Carried
	case slices.Contains(p.NoNextHop, f):
		return announce.NoNextHop
	}
	return announce.NotCarried
}

// proxy reads what a Speaker says of its node's service proxy. One that says nothing has not
// heard it yet.
func proxy(s *v1alpha1.Speaker) announce.ProxyState {
	for _, c := range s.Status.Conditions {
		switch {
		case c.Type != v1alpha1.ConditionServiceProxyReady || c.Status != metav1.ConditionTrue:
		case c.Reason == string(v1alpha1.ReasonServiceProxyUnknown):
			return announce.ProxyUnknown
		default:
			return announce.ProxyReady
		}
	}
	return announce.ProxyNotReady
}

// ParseMAC reads an Ethernet address in the form 02:00:5e:10:00:01, in either case.
func ParseMAC(s string) (announce.MAC, error) {
	var mac announce.MAC
	digits := strings.ReplaceAll(s, ":", "")
	if len(s) != 17 || len(digits) != 12 {
		return mac, fmt.Errorf("parse MAC %q: it is not six pairs of digits with colons between", s)
	}
	for i := range mac {
		if i > 0 && s[3*i-1] != ':' {
			return announce.MAC{}, fmt.Errorf("parse MAC %q: it is not six pairs of digits with colons between", s)
		}
		b, err := strconv.ParseUint(s[3*i:3*i+2], 16, 8)
		if err != nil {
			return announce.MAC{}, fmt.Errorf("parse MAC %q: %w", s, err)
		}
		mac[i] = byte(b)
	}
	return mac, nil
}
