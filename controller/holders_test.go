package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

const (
	wantPool  = v1alpha1.AnnotationAddressPool
	wantIPs   = v1alpha1.AnnotationLoadBalancerIPs
	shareKey  = v1alpha1.AnnotationAllowSharedIP
	shareFrom = v1alpha1.AnnotationAllowSharedIPFrom
	wantClaim = v1alpha1.AnnotationAddressClaim
)

// TestRequests is what users ask of Services, and change their minds about.
func TestRequests(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	a.create(pool("lan", "192.0.2.1-192.0.2.9"))
	manual := pool("manual", "198.51.100.1-198.51.100.9", "2001:db8::/64")
	manual.Spec.AutoAssign = new(bool)
	a.create(manual)
	web := service("web", nil)
	a.create(web)
	a.holds(web, "192.0.2.1", v1alpha1.ReasonAllocated)

	t.Run("naming another pool moves, and back", func(*testing.T) {
		a.annotate(web, wantPool, "manual")
		a.holds(web, "198.51.100.1", v1alpha1.ReasonAllocated)
		a.annotate(web, wantPool, "lan")
		a.holds(web, "192.0.2.1", v1alpha1.ReasonAllocated) // freed a moment ago, by itself
		a.annotate(web, wantPool, "")
		a.annotate(web, wantIPs, "198.51.100.7")
		a.holds(web, "198.51.100.7", v1alpha1.ReasonAllocated)
	})
	t.Run("what cannot be had loses nothing", func(*testing.T) {
		a.annotate(web, wantPool, "typo")
		a.holds(web, "198.51.100.7", v1alpha1.ReasonNoPool)
		a.annotate(web, wantPool, "lan")
		a.holds(web, "198.51.100.7", v1alpha1.ReasonAddressNotInPool)
		a.says(web, "not in the requested pool lan")
		a.annotate(web, wantPool, "")
		a.holds(web, "198.51.100.7", v1alpha1.ReasonAllocated)
	})
	t.Run("spec.loadBalancerIP asks, and must agree with the annotation", func(*testing.T) {
		a.edit(web, func() { web.Spec.LoadBalancerIP = "192.0.2.5" })
		a.holds(web, "198.51.100.7", v1alpha1.ReasonInvalidRequest)
		a.says(web, "they must agree")
		a.annotate(web, wantIPs, "")
		a.holds(web, "192.0.2.5", v1alpha1.ReasonAllocated)
	})
	t.Run("the address of another is refused with its name, and given when that goes", func(*testing.T) {
		other := annotated("other", wantIPs, "192.0.2.5")
		a.create(other)
		a.holds(other, "", v1alpha1.ReasonAddressInUse)
		a.says(other, "Service default/web")
		a.edit(web, func() { web.Spec.LoadBalancerIP = "" })
		a.holds(web, "192.0.2.5", v1alpha1.ReasonAllocated)
		a.remove(web)
		a.holds(other, "192.0.2.5", v1alpha1.ReasonAllocated)
	})
	t.Run("a Service goes from one family to two and to the other", func(*testing.T) {
		s := annotated("dual", wantPool, "manual")
		a.create(s)
		a.holds(s, "198.51.100.2", v1alpha1.ReasonAllocated)
		policy := func(p corev1.IPFamilyPolicy, families ...corev1.IPFamily) {
			a.edit(s, func() {
				s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &p, families
				s.Spec.ClusterIPs = s.Spec.ClusterIPs[:min(len(s.Spec.ClusterIPs), len(families))]
			})
		}
		policy(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol)
		a.holds(s, "198.51.100.2,2001:db8::1", v1alpha1.ReasonAllocated)
		policy(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol)
		a.holds(s, "198.51.100.2,2001:db8::1", v1alpha1.ReasonAllocated)
		policy(corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)
		a.holds(s, "198.51.100.2", v1alpha1.ReasonAllocated)
	})
	t.Run("a pool that gains a family gives it in place, and one that loses it takes nothing", func(*testing.T) {
		prefer, require := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack
		preferring := service("preferring", func(s *corev1.Service) {
			s.Spec.IPFamilyPolicy = &prefer
			s.Annotations = map[string]string{wantPool: "lan"}
		})
		requiring := service("requiring", func(s *corev1.Service) {
			s.Spec.IPFamilyPolicy = &require
			s.Annotations = map[string]string{wantPool: "lan"}
		})
		a.create(preferring)
		a.create(requiring)
		a.holds(preferring, "192.0.2.2", v1alpha1.ReasonAllocated)
		a.holds(requiring, "", v1alpha1.ReasonFamilyUnavailable)
		lan := pool("lan")
		a.edit(lan, func() { lan.Spec.Addresses = []string{"192.0.2.1-192.0.2.9", "2001:db8:1::/64"} })
		a.holds(preferring, "192.0.2.2,2001:db8:1::1", v1alpha1.ReasonAllocated)
		a.holds(requiring, "192.0.2.3,2001:db8:1::2", v1alpha1.ReasonAllocated)
		a.edit(lan, func() { lan.Spec.Addresses = []string{"192.0.2.1-192.0.2.9"} })
		a.notReady(lan, v1alpha1.ReasonRetained, "2001:db8:1::1")
		a.holds(requiring, "192.0.2.3,2001:db8:1::2", v1alpha1.ReasonAllocated)
	})
	t.Run("what is asked for while no controller runs is given afterwards, and nothing else moves", func(*testing.T) {
		s, kept := service("patient", nil), annotated("named", wantPool, "lan")
		a.create(s)
		a.create(kept)
		a.holds(s, "192.0.2.4", v1alpha1.ReasonAllocated)
		a.holds(kept, "192.0.2.6", v1alpha1.ReasonAllocated)
		a.stop()
		a.annotate(s, wantPool, "manual")
		lan := pool("lan")
		a.edit(lan, func() { lan.Spec.Addresses = []string{"192.0.2.1-192.0.2.5"} })
		a.create(pool("rival", "192.0.2.6-192.0.2.9"))
		a.start()
		a.holds(s, "198.51.100.1", v1alpha1.ReasonAllocated)
		a.eventually(lan, func() string {
			if !slices.Contains(lan.Status.Retained, "192.0.2.6") {
				return fmt.Sprintf("retains %v, want 192.0.2.6, which Service named holds", lan.Status.Retained)
			}
			return ""
		})
		a.holds(kept, "192.0.2.6", v1alpha1.ReasonAllocated)
	})
}

// TestSharedAddresses is Services of one and of two namespaces at one address.
func TestSharedAddresses(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	a.create(pool("lan", "192.0.2.1"))
	a.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	first := annotated("first", shareKey, "web")
	a.create(first)
	a.holds(first, "192.0.2.1", v1alpha1.ReasonAllocated)
	second := annotated("second", shareKey, "web")
	a.create(second)
	a.holds(second, "", v1alpha1.ReasonSharingConflict)
	a.says(second, "Service default/first, which uses port 80 of TCP")

	a.edit(first, func() { first.Spec.Ports[0].Port = 81 })
	a.holds(second, "192.0.2.1", v1alpha1.ReasonAllocated)
	a.holds(first, "192.0.2.1", v1alpha1.ReasonAllocated)

	guest := annotated("guest", shareKey, "web", shareFrom, "default")
	guest.Namespace, guest.Spec.Ports[0].Port = "shop", 82
	a.create(guest)
	a.holds(guest, "", v1alpha1.ReasonSharingConflict)
	a.says(guest, "does not share with namespace shop")
	a.annotate(first, shareFrom, "shop")
	a.holds(guest, "", v1alpha1.ReasonSharingConflict) // the other holder has not consented
	a.annotate(second, shareFrom, "shop")
	a.holds(guest, "192.0.2.1", v1alpha1.ReasonAllocated)

	a.edit(second, func() { second.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	a.holds(second, "", v1alpha1.ReasonSharingConflict)
	a.says(second, "externalTrafficPolicy")
	a.holds(first, "192.0.2.1", v1alpha1.ReasonAllocated)
	a.holds(guest, "192.0.2.1", v1alpha1.ReasonAllocated)
}

// claimOf makes an AddressClaim in the namespace default.
func claimOf(name string, edit func(*v1alpha1.AddressClaimSpec)) *v1alpha1.AddressClaim {
	c := &v1alpha1.AddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if edit != nil {
		edit(&c.Spec)
	}
	return c
}

// claims waits until an AddressClaim has addresses, a Service and a reason.
func (a *api) claims(c *v1alpha1.AddressClaim, addresses, bound string, reason v1alpha1.Reason) {
	a.t.Helper()
	a.eventually(c, func() string {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != string(reason) || c.Status.BoundTo != bound || strings.Join(c.Status.Addresses, ",") != addresses {
			return fmt.Sprintf("status is %+v, want %q, bound to %q, %s", c.Status, addresses, bound, reason)
		}
		return ""
	})
}

// TestAddressClaims is addresses that outlive Services.
func TestAddressClaims(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	one := int32(1)
	lan.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{MaxPerNamespace: &one}
	a.create(lan)

	waiting := annotated("web", wantClaim, "ip")
	a.create(waiting)
	a.holds(waiting, "", v1alpha1.ReasonClaimMissing)
	c := claimOf("ip", func(s *v1alpha1.AddressClaimSpec) { s.Addresses = []string{"192.0.2.2"} })
	a.create(c)
	a.holds(waiting, "192.0.2.2", v1alpha1.ReasonAllocated)
	a.claims(c, "192.0.2.2", "web", v1alpha1.ReasonAllocated)
	a.event(c, v1alpha1.ReasonAllocated)

	other := service("other", nil)
	a.create(other)
	a.holds(other, "", v1alpha1.ReasonQuotaExceeded) // claim and Service count once, and fill it

	a.remove(waiting)
	a.claims(c, "192.0.2.2", "", v1alpha1.ReasonAllocated)
	again := annotated("web", wantClaim, "ip")
	a.create(again)
	a.holds(again, "192.0.2.2", v1alpha1.ReasonAllocated)
	a.claims(c, "192.0.2.2", "web", v1alpha1.ReasonAllocated)

	a.stop()
	a.start()
	a.holds(again, "192.0.2.2", v1alpha1.ReasonAllocated)
	a.eventually(lan, func() string {
		if lan.Status.IPv4 == nil || lan.Status.IPv4.Assigned != "1" {
			return fmt.Sprintf("counts %+v, want that claim and Service hold one address", lan.Status.IPv4)
		}
		return ""
	})

	a.remove(c)
	a.holds(again, "192.0.2.2", v1alpha1.ReasonAllocated) // the address stays with the Service
	a.remove(again)
	a.holds(other, "192.0.2.1", v1alpha1.ReasonAllocated)
	late := claimOf("late", nil)
	a.create(late)
	a.claims(late, "", "", v1alpha1.ReasonQuotaExceeded)
	a.event(late, v1alpha1.ReasonQuotaExceeded)
	a.annotate(other, wantClaim, "late") // the claim takes over what the Service holds
	a.claims(late, "192.0.2.1", "other", v1alpha1.ReasonAllocated)
	a.annotate(other, wantClaim, "shop/late")
	a.holds(other, "192.0.2.1", v1alpha1.ReasonInvalidRequest)
	a.says(other, "names another namespace")
}

// TestPoolRules is what owners of pools decide.
func TestPoolRules(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"203.0.113.128/25"}}}
	a.create(node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	if err := a.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	lan := pool("lan", "192.0.2.1-192.0.2.4")
	lan.Spec.ReclaimPolicy = v1alpha1.ReclaimReassign
	a.create(lan)
	a.notReady(lan, v1alpha1.ReasonReservedOverlap, "192.0.2.1")
	web := service("web", nil)
	a.create(web)
	a.holds(web, "192.0.2.2", v1alpha1.ReasonAllocated)

	t.Run("addresses of nodes, pods and Services are never assigned", func(*testing.T) {
		a.create(pool("cluster", "203.0.113.0/24", "10.96.0.0/24"))
		for address, reason := range map[string]v1alpha1.Reason{"192.0.2.1": v1alpha1.ReasonAddressReserved, "203.0.113.200": v1alpha1.ReasonAddressReserved, "10.96.0.77": v1alpha1.ReasonAddressReserved} {
			s := annotated("reserved", wantIPs, address)
			a.create(s)
			a.holds(s, "", reason)
			a.remove(s)
		}
		a.notReady(pool("cluster"), v1alpha1.ReasonReservedOverlap, "10.96.0.0-10.96.0.255")
		a.remove(pool("cluster"))
	})
	t.Run("Reassign gives another address of what is left", func(*testing.T) {
		a.edit(lan, func() { lan.Spec.Exclude = []string{"192.0.2.2"} })
		a.holds(web, "192.0.2.3", v1alpha1.ReasonAllocated)
		a.event(web, v1alpha1.ReasonAllocated)
	})
	t.Run("Reassign lets a deleted pool go, and who finds nothing waits with a reason", func(*testing.T) {
		next := pool("next", "198.51.100.1")
		next.Spec.ReclaimPolicy = v1alpha1.ReclaimReassign
		a.create(next)
		a.remove(lan)
		a.holds(web, "198.51.100.1", v1alpha1.ReasonAllocated)
		a.remove(next)
		a.holds(web, "", v1alpha1.ReasonNoPool)
	})
	t.Run("a namespace that gets other labels is admitted, the oldest Service first", func(*testing.T) {
		gold := pool("gold", "192.0.2.64")
		gold.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}}}
		a.create(gold)
		a.holds(web, "", v1alpha1.ReasonPoolNotAllowed)
		younger := service("a-younger", nil)
		a.create(younger)
		a.holds(younger, "", v1alpha1.ReasonPoolNotAllowed)
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		a.edit(ns, func() { ns.Labels["tier"] = "gold" })
		a.holds(web, "192.0.2.64", v1alpha1.ReasonAllocated)
		a.holds(younger, "", v1alpha1.ReasonPoolExhausted)
		a.remove(younger)
	})
	t.Run("two who hold one address: the older has it, and the other is told", func(t *testing.T) {
		a.stop()
		twin := service("twin", nil)
		a.create(twin)
		ours := metav1.Condition{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionTrue, Reason: "Allocated", LastTransitionTime: metav1.Now()}
		twin.Status.LoadBalancer.Ingress = web.Status.LoadBalancer.Ingress
		twin.Status.Conditions = []metav1.Condition{ours} // as a restored backup has it
		if err := a.Status().Update(t.Context(), twin); err != nil {
			t.Fatal(err)
		}
		a.start()
		a.holds(twin, "192.0.2.64", v1alpha1.ReasonDuplicate)
		a.says(twin, "Service default/web")
		a.holds(web, "192.0.2.64", v1alpha1.ReasonAllocated)
		a.remove(web)
		a.holds(twin, "192.0.2.64", v1alpha1.ReasonAllocated)
	})
}

// TestStatusConflict is a fight with another writer, which Ballast ends.
func TestStatusConflict(t *testing.T) {
	t.Parallel()
	statusConflict(t, "", v1alpha1.ReasonAllocated)
}

// TestStatusConflictOfAServiceThatWaits is the same where a request cannot be met.
func TestStatusConflictOfAServiceThatWaits(t *testing.T) {
	t.Parallel()
	statusConflict(t, "typo", v1alpha1.ReasonNoPool)
}

func statusConflict(t *testing.T, wanted string, reason v1alpha1.Reason) {
	t.Helper()
	a := startAPI(t)
	a.create(pool("lan", "192.0.2.0/24"))
	s := service("web", nil)
	a.create(s)
	a.holds(s, "192.0.2.1", v1alpha1.ReasonAllocated)
	a.annotate(s, wantPool, wanted)
	a.holds(s, "192.0.2.1", reason)
	a.eventually(s, func() string { // the other writes whenever Ballast has
		c := config.Condition(s, v1alpha1.ConditionAllocated)
		if c != nil && c.Reason == string(v1alpha1.ReasonStatusConflict) {
			return ""
		}
		if i := s.Status.LoadBalancer.Ingress; len(i) == 1 && i[0].IP == "192.0.2.1" {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.99"}}
			if err := a.Status().Update(t.Context(), s, client.FieldOwner("rival")); err != nil {
				return err.Error()
			}
		}
		return fmt.Sprintf("Allocated is %+v", c)
	})
	a.holds(s, "203.0.113.99", v1alpha1.ReasonStatusConflict)
	a.says(s, "rival")
	a.event(s, v1alpha1.ReasonStatusConflict)
	a.eventually(s, func() string {
		if c := config.Condition(s, v1alpha1.ConditionAnnounced); c != nil {
			return fmt.Sprintf("nobody announces it, and Announced is %+v", c)
		}
		return ""
	})
	other := service("other", nil) // the address that was given up is free
	a.create(other)
	a.holds(other, "192.0.2.2", v1alpha1.ReasonAllocated)

	a.annotate(s, v1alpha1.AnnotationAdopt, "true")
	a.eventually(s, func() string {
		if c := config.Condition(s, v1alpha1.ConditionAllocated); c == nil || c.Reason == string(v1alpha1.ReasonStatusConflict) {
			return fmt.Sprintf("was adopted, and Allocated is still %+v", c)
		}
		return ""
	})
}
