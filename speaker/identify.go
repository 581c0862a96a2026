package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
		self = identity{node: node, addresses: addresses, cluster: string(system.UID)}
		return nil
	})
	return self, err
}
