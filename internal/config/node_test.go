package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
)

func TestDrainSignals(t *testing.T) {
	t.Parallel()
	annotated := func(value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.AnnotationDrain: value} }
	}
	tainted := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	deleted := func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }
	onCordon := config.Settings{Drain: config.Drain{OnCordon: true}}
	for _, tc := range []struct {
		name     string
		edits    []func(*corev1.Node)
		settings config.Settings
		want     string
	}{
		{name: "a plain node is not drained", want: ""},
		{name: "the annotation drains", edits: []func(*corev1.Node){annotated("true")}, want: "annotation ballast.dev/drain"},
		{name: "the annotation with another value does not", edits: []func(*corev1.Node){annotated("false")}, want: ""},
		{name: "a node that is out of service is drained", edits: []func(*corev1.Node){tainted("node.kubernetes.io/out-of-service")}, want: "taint node.kubernetes.io/out-of-service"},
		{name: "a node that the autoscaler is about to delete is drained", edits: []func(*corev1.Node){tainted("ToBeDeletedByClusterAutoscaler")}, want: "taint ToBeDeletedByClusterAutoscaler"},
		{name: "other taints mean nothing", edits: []func(*corev1.Node){tainted("DeletionCandidateOfClusterAutoscaler"), tainted(corev1.TaintNodeNotReady)}, want: ""},
		{name: "a node that is being deleted is drained", edits: []func(*corev1.Node){deleted, annotated("true")}, want: "it is being deleted"},
		{name: "a cordon alone means nothing", edits: []func(*corev1.Node){cordoned, tainted(corev1.TaintNodeUnschedulable)}, want: ""},
		{name: "a cordon drains if the settings say so", edits: []func(*corev1.Node){cordoned}, settings: onCordon, want: "cordoned"},
		{name: "settings drain no node that is not cordoned", settings: onCordon, want: ""},
		{name: "the exclude label is no drain", edits: []func(*corev1.Node){func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""} }}, want: ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			for _, edit := range tc.edits {
				edit(n)
			}
			if got := config.Node(n, tc.settings).Drain; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTheExcludeLabelCountsUnlessSettingsIgnoreIt(t *testing.T) {
	t.Parallel()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelNodeExcludeBalancers: ""}}}
	for _, ignore := range []bool{false, true} {
		if got := config.Node(n, config.Settings{IgnoreExcludeLabel: ignore}).Excluded; got == ignore {
			t.Errorf("ignored %t: got excluded %t", ignore, got)
		}
	}
}

func TestSpeakersSayWhetherTheServiceProxyIsReady(t *testing.T) {
	t.Parallel()
	condition := func(status metav1.ConditionStatus, reason v1alpha1.Reason) []metav1.Condition {
		return []metav1.Condition{
			{Type: v1alpha1.ConditionAlive, Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonRefreshed)},
			{Type: v1alpha1.ConditionServiceProxyReady, Status: status, Reason: string(reason)},
		}
	}
	for _, tc := range []struct {
		name       string
		conditions []metav1.Condition
		want       announce.ProxyState
	}{
		{"a speaker that says nothing has not heard it", condition(metav1.ConditionTrue, "")[:1], announce.ProxyNotReady},
		{"True is ready", condition(metav1.ConditionTrue, v1alpha1.ReasonReady), announce.ProxyReady},
		{"True with a warning is unknown", condition(metav1.ConditionTrue, v1alpha1.ReasonServiceProxyUnknown), announce.ProxyUnknown},
		{"False is not ready", condition(metav1.ConditionFalse, v1alpha1.ReasonServiceProxyNotReady), announce.ProxyNotReady},
		{"False is not ready for any reason", condition(metav1.ConditionFalse, v1alpha1.ReasonServiceProxyUnknown), announce.ProxyNotReady},
		{"Unknown is not ready", condition(metav1.ConditionUnknown, v1alpha1.ReasonReady), announce.ProxyNotReady},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := announce.Node{Proxy: announce.ProxyUnknown}
			config.Speaker(&v1alpha1.Speaker{Status: v1alpha1.SpeakerStatus{Conditions: tc.conditions}}, &n)
			if n.Proxy != tc.want {
				t.Errorf("got %v, want %v", n.Proxy, tc.want)
			}
		})
	}
}

func TestSpeakersSayTheirInterfacesAndWhoAskedThemToRebalance(t *testing.T) {
	t.Parallel()
	s := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationRebalance: "now"}}}
	s.Status.Layer2 = &v1alpha1.SpeakerLayer2{Interfaces: []v1alpha1.SpeakerInterface{
		{Name: "eth0", Up: true, MAC: "02:00:5E:10:00:0b"}, {Name: "eth1", MAC: "infiniband"}, {Name: "eth2"},
	}}
	var n announce.Node
	config.Speaker(s, &n)
	want := []announce.Interface{{Name: "eth0", Up: true, MAC: announce.MAC{2, 0, 0x5e, 0x10, 0, 0xb}}, {Name: "eth1"}, {Name: "eth2"}}
	if !reflect.DeepEqual(n.Interfaces, want) || n.Rebalance != "now" {
		t.Errorf("got %+v and %q, want %+v", n.Interfaces, n.Rebalance, want)
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"02:00:5e:10:00:01", "02-00-5e-10-00-01", "::::::::::::::::", "02:00:5e:10:00:0+", "02:00:5e:10:00:01:02:03", "0:20:05:e1:00:00:1", "é:00:5e:10:00:01", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mac, err := config.ParseMAC(s)
		written := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
		switch {
		case err == nil && written != strings.ToLower(s):
			t.Fatalf("%q was read as %s", s, written)
		case err != nil && mac != announce.MAC{}:
			t.Fatalf("%q gave %v and %v", s, mac, err)
		}
	})
}
