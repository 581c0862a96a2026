package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/name"
)

// claims gives each AddressClaim its addresses.
type claims struct {
	client client.Client
	ledger *ledger
	events events
	log    logr.Logger
	woken  chan event.GenericEvent
	hold   func(context.Context, name.PoolName) (bool, error) // as of services
}

func (r *claims) setUp(mgr manager.Manager) error {
	r.woken = make(chan event.GenericEvent, wakeBuffer)
	return ctrl.NewControllerManagedBy(mgr).Named("claims").
		For(&v1alpha1.AddressClaim{}).
		WatchesRawSource(source.Channel(r.woken, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// Reconcile gathers one AddressClaim, asks the ledger what it gets and writes that.
func (r *claims) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var c v1alpha1.AddressClaim
	err := r.client.Get(ctx, req.NamespacedName, &c)
	if apierrors.IsNotFound(err) {
		gone, err := r.ledger.gone(ctx, ipam.ClaimKey(req.Namespace, req.Name), &v1alpha1.AddressClaim{})
		if err != nil || !gone {
			return reconcile.Result{RequeueAfter: unknownPause}, err
		}
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("get AddressClaim: %w", err)
	}
	request := config.ClaimRequest(&c)
	d, bound, err := r.ledger.decideClaim(ctx, &c, request)
	if err != nil {
		return reconcile.Result{}, err
	}
	if held, err := r.hold(ctx, d.Pool); err != nil || !held {
		return reconcile.Result{RequeueAfter: holdPause}, err
	}
	err = r.write(ctx, &c, claimStatus(&c, d, bound.Name), d)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // a newer version exists, and its event comes
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, r.ledger.settle(ctx, request.Key, d)
}

// claimStatus is what the status of an AddressClaim should be.
func claimStatus(c *v1alpha1.AddressClaim, d ipam.Decision, bound string) v1alpha1.AddressClaimStatus {
	status := *c.Status.DeepCopy()
	status.Addresses, status.BoundTo, status.Pool = nil, bound, string(d.Pool)
	for _, a := range d.Addresses {
		status.Addresses = append(status.Addresses, a.String())
	}
	reason, message := d.Reason, d.Message
	if reason == "" {
		reason, message = v1alpha1.ReasonAllocated, describe(d)
	}
	want := kube.NewCondition(meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady), v1alpha1.ConditionReady, d.Reason == "", reason, message)
	want.ObservedGeneration = c.Generation
	meta.SetStatusCondition(&status.Conditions, want)
	return status
}

func (r *claims) write(ctx context.Context, c *v1alpha1.AddressClaim, status v1alpha1.AddressClaimStatus, d ipam.Decision) error {
	if equality.Semantic.DeepEqual(c.Status, status) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	after := c.DeepCopy()
	after.Status = status
	if err := r.client.Status().Patch(ctx, after, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("write status of AddressClaim %s/%s: %w", c.Namespace, c.Name, err)
	}
	r.log.Info("wrote AddressClaim", "claim", client.ObjectKeyFromObject(c), "addresses", d.Addresses, "boundTo", status.BoundTo, "reason", d.Reason)
	r.events.claimed(c, meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady), d)
	return nil
}

// wake enqueues an AddressClaim, unless ctx ends.
func (r *claims) wake(ctx context.Context, key ipam.Key) {
	wake(ctx, r.woken, &v1alpha1.AddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
}

// wake enqueues an object, unless ctx ends.
func wake(ctx context.Context, woken chan<- event.GenericEvent, o client.Object) {
	select {
	case woken <- event.GenericEvent{Object: o}:
	case <-ctx.Done():
	}
}
