package main

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

func TestWhatAnEarlierRunFoundCountsUntilTheNodeBoots(t *testing.T) {
	t.Parallel()
	booted := time.Unix(1e9, 0)
	found := func(status metav1.ConditionStatus, reason v1alpha1.Reason, at time.Time) []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.ConditionServiceProxyReady, Status: status, Reason: string(reason), LastTransitionTime: metav1.NewTime(at)}}
	}
	for name, tc := range map[string]struct {
		conditions []metav1.Condition
		want       bool
	}{
		"there was no earlier run":               {nil, false},
		"nobody spoke, since the boot":           {found(metav1.ConditionTrue, v1alpha1.ReasonServiceProxyUnknown, booted.Add(time.Second)), true},
		"nobody spoke, before the boot":          {found(metav1.ConditionTrue, v1alpha1.ReasonServiceProxyUnknown, booted.Add(-time.Second)), false},
		"a proxy spoke":                          {found(metav1.ConditionTrue, v1alpha1.ReasonReady, booted.Add(time.Second)), false},
		"a proxy said that it could not deliver": {found(metav1.ConditionFalse, v1alpha1.ReasonServiceProxyNotReady, booted.Add(time.Second)), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := foundSilent(tc.conditions, booted); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestTheBootIsPast(t *testing.T) {
	t.Parallel()
	if now := time.Now(); !booted(now).Before(now) {
		t.Errorf("the node booted at %v, and now it is %v", booted(now), now)
	}
}
