package main

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

func TestAnswering(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"Node n1 answers on eth0.": "n1",
		"Node n1.example.com answers on eth0, eth1. Announced by BGP to router1.": "n1.example.com",
		"Node n1 answers on eth0. Not announced: 2001:db8::1. No node can.":       "n1",
		"Announced by BGP to router1.":                                            "",
		"Node n2 (02:00:00:00:00:01) answers for 192.0.2.1 though it should not.": "",
		"The nodeSelectors of the advertisements select no node.":                 "",
		"": "",
	} {
		if got := v1alpha1.Answering(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}

func TestSharedAddressesCountOnce(t *testing.T) {
	t.Parallel()
	list := answersOf([]corev1.Service{
		announced(service("b", "192.0.2.1", "2001:db8::1"), "n1"), announced(service("a", "192.0.2.1"), "n1"), announced(service("c", "192.0.2.3"), "n2"),
		announced(service("d", "192.0.2.4"), ""), service("e", "192.0.2.5"),
	})
	if got := counts(owners(list)); len(got) != 2 || got["n1"] != 2 || got["n2"] != 1 {
		t.Errorf("got %v", got)
	}
	if got := amount(list[:2]); got != "2 addresses of 2 Services" || list[0].service != "shop/a" {
		t.Errorf("got %s of %+v", got, list)
	}
}

func FuzzAnswering(f *testing.F) {
	f.Add("Node n1 answers on eth0.")
	f.Add("Node  answers on ")
	f.Fuzz(func(t *testing.T, message string) {
		if node := v1alpha1.Answering(message); node != "" && !strings.HasPrefix(message, "Node "+node+" answers on ") {
			t.Fatalf("%q names %q", message, node)
		}
	})
}

// announced has a node answer for a Service, or BGP announce it for "".
func announced(s corev1.Service, node string) corev1.Service {
	message := "Announced by BGP to router1."
	if node != "" {
		message = "Node " + node + " answers on eth0."
	}
	conditions := []metav1.Condition{{Type: v1alpha1.ConditionAnnounced, Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonAnnounced), Message: message}}
	for _, c := range s.Status.Conditions {
		if c.Type != v1alpha1.ConditionAnnounced {
			conditions = append(conditions, c)
		}
	}
	s.Status.Conditions = conditions
	return s
}

func TestOwnersAreByAddress(t *testing.T) {
	t.Parallel()
	got := owners(answersOf([]corev1.Service{announced(service("a", "192.0.2.1"), "n1"), announced(service("b", "192.0.2.2"), "")}))
	if len(got) != 1 || got[netip.MustParseAddr("192.0.2.1")] != "n1" {
		t.Errorf("got %v", got)
	}
}
