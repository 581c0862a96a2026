package api

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// defaulted returns what the API server makes of an object with the given spec.
func defaulted[T any](t *testing.T, kind, spec string) T {
	t.Helper()
	object, err := create(t, kind, "default", spec)
	if err != nil {
		t.Fatal(err)
	}
	return typed[T](t, object)
}

func typed[T any](t *testing.T, object *unstructured.Unstructured) T {
	t.Helper()
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnEmptySettingsObjectMeansTheSameAsNone(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{`null`, `{}`, `{layer2: {}, membership: {}, serviceProxy: {}, drain: {}, addressClaims: {}}`} {
		got := defaulted[v1alpha1.Settings](t, "Settings", spec).Spec
		if want := v1alpha1.DefaultSettingsSpec(); !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("spec %s became %+v, want %+v", spec, got, want)
		}
	}
}

func TestDefaultsOfAPool(t *testing.T) {
	t.Parallel()
	got := defaulted[v1alpha1.IPAddressPool](t, "IPAddressPool", `{addresses: [192.0.2.0/24]}`).Spec
	if !*got.AvoidBuggyIPs || !*got.AutoAssign || got.Drain || got.ReclaimPolicy != v1alpha1.ReclaimRetain ||
		got.ReuseDelay.Duration != time.Minute || got.ServiceAllocation != nil {
		t.Errorf("got %+v", got)
	}
}

func TestDefaultsOfABGPAdvertisement(t *testing.T) {
	t.Parallel()
	got := defaulted[v1alpha1.BGPAdvertisement](t, "BGPAdvertisement", `{}`).Spec
	if *got.AggregationLength != 32 || *got.AggregationLengthV6 != 128 || got.LocalPref != nil || got.MED != nil ||
		got.ASPathPrepend != nil || got.WeightByEndpoints != v1alpha1.WeightOff {
		t.Errorf("got %+v", got)
	}
}

func TestDefaultsOfABGPPeer(t *testing.T) {
	t.Parallel()
	got := defaulted[v1alpha1.BGPPeer](t, "BGPPeer", peer(``)).Spec
	if *got.PeerPort != 179 || got.HoldTime.Duration != 90*time.Second || got.KeepaliveTime != nil || got.ConnectTime != nil ||
		got.TTLSecurity != nil || got.PasswordSecret != nil || got.GracefulRestart != nil || got.IPFamilies != nil {
		t.Errorf("got %+v", got)
	}
	restart := defaulted[v1alpha1.BGPPeer](t, "BGPPeer", peer(`gracefulRestart: {}`)).Spec.GracefulRestart
	if restart.RestartTime.Duration != 30*time.Second {
		t.Errorf("restart time is %v", restart.RestartTime)
	}
}

func TestDefaultsOfABFDProfile(t *testing.T) {
	t.Parallel()
	got := defaulted[v1alpha1.BFDProfile](t, "BFDProfile", `null`).Spec
	if *got.ReceiveInterval != 300 || *got.TransmitInterval != 300 || *got.DetectMultiplier != 3 || got.PassiveMode || *got.MinimumTTL != 254 {
		t.Errorf("got %+v", got)
	}
}
