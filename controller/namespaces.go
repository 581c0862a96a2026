package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// namespaces tells the ledger the labels of namespaces, which pools select by.
type namespaces struct {
	client client.Client
	ledger *ledger
}

func (r *namespaces) setUp(mgr manager.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("namespaces").For(&corev1.Namespace{}).Complete(r)
}

// Reconcile reads one namespace; one that is gone has no labels.
func (r *namespaces) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var ns corev1.Namespace
	if err := r.client.Get(ctx, req.NamespacedName, &ns); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("get Namespace: %w", err)
	}
	return reconcile.Result{}, r.ledger.relabel(ctx, req.Name, ns.Labels)
}
