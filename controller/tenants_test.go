package main

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// anyAddress makes an AddressClaim that takes any address.
func anyAddress(ns, name string) *v1alpha1.AddressClaim {
	return &v1alpha1.AddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
}

// claimed waits until an AddressClaim is ready, or not, for a reason.
func (a *api) claimed(c *v1alpha1.AddressClaim, reason v1alpha1.Reason) {
	a.t.Helper()
	a.eventually(c, func() string {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != string(reason) || (len(c.Status.Addresses) > 0) != (reason == v1alpha1.ReasonAllocated) {
			return fmt.Sprintf("holds %v, and Ready is %+v, want %s", c.Status.Addresses, ready, reason)
		}
		return ""
	})
}

func TestANamespaceClaimsAsManyAddressesAsSettingsSay(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	a.create(pool("lan", "192.0.2.0/24"))
	a.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "evil"}})
	for i := range 5 {
		c := anyAddress("evil", fmt.Sprintf("c%d", i))
		a.create(c)
		a.claimed(c, v1alpha1.ReasonAllocated)
	}
	sixth, elsewhere := anyAddress("evil", "c5"), anyAddress("default", "c")
	a.create(sixth)
	a.create(elsewhere)
	a.claimed(sixth, v1alpha1.ReasonQuotaExceeded)
	a.claimed(elsewhere, v1alpha1.ReasonAllocated)
	a.remove(anyAddress("evil", "c0"))
	a.claimed(sixth, v1alpha1.ReasonAllocated)

	limit := int32(2)
	settings := &v1alpha1.Settings{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingsName}}
	settings.Spec.AddressClaims = &v1alpha1.AddressClaimSettings{MaxPerNamespace: &limit}
	a.create(settings)
	seventh := anyAddress("evil", "c6")
	a.create(seventh)
	a.claimed(seventh, v1alpha1.ReasonQuotaExceeded)
	a.stop()
	a.start() // what is held stays, though it is more than may be claimed
	a.claimed(sixth, v1alpha1.ReasonAllocated)
	limit = 6
	a.edit(settings, func() { settings.Spec.AddressClaims.MaxPerNamespace = &limit })
	a.claimed(seventh, v1alpha1.ReasonAllocated)
}
