package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/name"
)

// identifyTimeout bounds one attempt to read what a speaker must know of itself.
const identifyTimeout = 5 * time.Second

// identify waits until the Node is there and has an internal address.
func identify(ctx context.Context, reader client.Reader, node name.NodeName, log logr.Logger) (identity, error) {
	var self identity
	err := kube.Until(ctx, log, func() error {
		ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
		defer cancel()
		var n corev1.Node
		if err := reader.Get(ctx, types.NamespacedName{Name: string(node)}, &n); err != nil {
			return fmt.Errorf("the Node of this speaker: %w", err)
		}
		var system corev1.Namespace
		if err := reader.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, &system); err != nil {
			return fmt.Errorf("the namespace that tells clusters apart: %w", err)
		}
		addresses := config.InternalAddresses(&n)
		if len(addresses) == 0 {
			return fmt.Errorf("the Node %s to have an address of type InternalIP", node)
		}
		var speaker v1alpha1.Speaker
		if err := client.IgnoreNotFound(reader.Get(ctx, types.NamespacedName{Name: string(node)}, &speaker)); err != nil {
			return fmt.Errorf("the Speaker of an earlier run: %w", err)
		}
		self = identity{
			node: node, addresses: addresses, cluster: string(system.UID),
			proxyUnknown: foundSilent(speaker.Status.Conditions, booted(time.Now())),
		}
		return nil
	})
	return self, err
}

// foundSilent says whether an earlier run of the speaker has found, since the node booted, that
// nobody speaks for its service proxy. To wait for one again would move addresses with each
// restart; after a boot there may be one that has not started yet.
func foundSilent(conditions []metav1.Condition, booted time.Time) bool {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionServiceProxyReady)
	return c != nil && c.Status == metav1.ConditionTrue && c.Reason == string(v1alpha1.ReasonServiceProxyUnknown) && c.LastTransitionTime.After(booted)
}

// booted is when the kernel started; now, if that cannot be told.
func booted(now time.Time) time.Time {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return now
	}
	return now.Add(-time.Duration(since.Nano()))
}
