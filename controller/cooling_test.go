package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// TestNobodyLiesInWait lets a neighbor wait for the address of a Service that is replaced.
func TestNobodyLiesInWait(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	a.create(pool("lan", "192.0.2.0/24"))
	short := pool("short", "198.51.100.1")
	short.Spec.AutoAssign, short.Spec.ReuseDelay = new(bool), &metav1.Duration{}
	a.create(short)
	for _, namespace := range []string{"bank", "evil"} {
		a.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	in := func(namespace string, s *corev1.Service) *corev1.Service { s.Namespace = namespace; return s }

	a.create(in("bank", annotated("web", wantIPs, "192.0.2.10")))
	a.holds(in("bank", service("web", nil)), "192.0.2.10", v1alpha1.ReasonAllocated)
	claim := claimOf("wait", func(s *v1alpha1.AddressClaimSpec) { s.Addresses = []string{"192.0.2.10"} })
	claim.Namespace = "evil"
	a.create(claim)
	a.claims(claim, "", "", v1alpha1.ReasonAddressInUse)
	thief := in("evil", annotated("wait", wantIPs, "192.0.2.10"))
	a.create(thief)
	a.holds(thief, "", v1alpha1.ReasonAddressInUse)

	a.remove(in("bank", service("web", nil)))
	a.create(in("bank", service("other", nil))) // decided after the deletion
	a.holds(in("bank", service("other", nil)), "192.0.2.1", v1alpha1.ReasonAllocated)
	a.claims(claim, "", "", v1alpha1.ReasonAddressInUse)
	a.holds(thief, "", v1alpha1.ReasonAddressInUse)

	a.create(in("bank", service("web", nil))) // made anew, and it names no address
	a.holds(in("bank", service("web", nil)), "192.0.2.10", v1alpha1.ReasonAllocated)

	t.Run("a lowered reuseDelay lets those have it who wait", func(*testing.T) {
		a.remove(in("bank", service("web", nil)))
		lan := pool("lan")
		a.edit(lan, func() { lan.Spec.ReuseDelay = &metav1.Duration{} })
		a.claims(claim, "192.0.2.10", "", v1alpha1.ReasonAllocated)
	})
	t.Run("what has cooled is given without another event", func(*testing.T) {
		a.edit(short, func() { short.Spec.ReuseDelay = &metav1.Duration{Duration: 2e9} })
		first := in("bank", annotated("first", wantPool, "short"))
		a.create(first)
		a.holds(first, "198.51.100.1", v1alpha1.ReasonAllocated)
		second := in("evil", annotated("second", wantPool, "short"))
		a.create(second)
		a.holds(second, "", v1alpha1.ReasonPoolExhausted)
		a.remove(first)
		a.holds(second, "198.51.100.1", v1alpha1.ReasonAllocated)
	})
}
