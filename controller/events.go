package main

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientevents "k8s.io/client-go/tools/events"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/kube"
)

// events says on objects what happened to them: once a transition.
type events struct {
	recorder clientevents.EventRecorder
}

// allocated tells of a decision that was written, if it changes anything for the Service.
func (e events) allocated(s *corev1.Service, before *metav1.Condition, d ipam.Decision) {
	switch {
	case d.Reason != "" && (before == nil || before.Reason != string(d.Reason)):
		kube.Event(e.recorder, s, corev1.EventTypeWarning, d.Reason, "Allocate", d.Message)
	case d.Reason == "" && !sameAddresses(s, d):
		kube.Event(e.recorder, s, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Allocate", assigned(d))
	}
}

// claimed tells of a decision on an AddressClaim that was written, if it changes anything.
func (e events) claimed(c *v1alpha1.AddressClaim, before *metav1.Condition, d ipam.Decision) {
	switch {
	case d.Reason != "" && (before == nil || before.Reason != string(d.Reason)):
		kube.Event(e.recorder, c, corev1.EventTypeWarning, d.Reason, "Allocate", d.Message)
	case d.Reason == "" && !slices.Equal(config.Claimed(c), d.Addresses):
		kube.Event(e.recorder, c, corev1.EventTypeNormal, v1alpha1.ReasonAllocated, "Allocate", assigned(d))
	}
}

func assigned(d ipam.Decision) string {
	return fmt.Sprintf("Assigned %v from IPAddressPool %s.", d.Addresses, d.Pool)
}

func sameAddresses(s *corev1.Service, d ipam.Decision) bool {
	ingress := s.Status.LoadBalancer.Ingress
	if len(ingress) != len(d.Addresses) {
		return false
	}
	for i := range ingress {
		if ingress[i].IP != d.Addresses[i].String() {
			return false
		}
	}
	return true
}

// foreign tells of a Service that another implementation serves.
func (e events) foreign(s *corev1.Service) {
	kube.Event(e.recorder, s, corev1.EventTypeNormal, "ServedByAnother", "Allocate", "Another implementation wrote the ingress of this Service, so Ballast leaves it alone. Annotate it with ballast.dev/adopt=true to hand it over.")
}

// contested tells of a Service whose ingress another writer has won.
func (e events) contested(s *corev1.Service, message string) {
	kube.Event(e.recorder, s, corev1.EventTypeWarning, v1alpha1.ReasonStatusConflict, "Allocate", message)
}

// problem tells of a configuration object that is not ready.
func (e events) problem(o runtime.Object, c metav1.Condition) {
	kube.Event(e.recorder, o, corev1.EventTypeWarning, v1alpha1.Reason(c.Reason), "Compile", c.Message)
}
