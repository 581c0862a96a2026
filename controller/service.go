package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// parallelWrites is how many Services are written at once.
const parallelWrites = 16

// services gives each Service its addresses.
type services struct {
	client client.Client
	class  string
	ledger *ledger
	events events
	log    logr.Logger
	woken  chan event.GenericEvent
	brake  *brake
	// foreign are the Services of which an event has said that another implementation serves them.
	foreign sync.Map // of name.ServiceKey
}

func (r *services) setUp(mgr manager.Manager) error {
	r.woken = make(chan event.GenericEvent, 1024)
	return ctrl.NewControllerManagedBy(mgr).Named("services").
		For(&corev1.Service{}).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.unservedIn)).
		WatchesRawSource(source.Channel(r.woken, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: parallelWrites,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// wake enqueues a Service, unless ctx ends.
func (r *services) wake(ctx context.Context, key name.ServiceKey) {
	e := event.GenericEvent{Object: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}}
	select {
	case r.woken <- e:
	case <-ctx.Done():
	}
}

// unservedIn finds the Services of a namespace whose labels may have changed.
func (r *services) unservedIn(ctx context.Context, ns client.Object) []reconcile.Request {
	var list corev1.ServiceList
	if err := r.client.List(ctx, &list, client.InNamespace(ns.GetName())); err != nil {
		r.log.Error(err, "cannot list the Services of a namespace", "namespace", ns.GetName())
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		s := &list.Items[i]
		if c := config.Condition(s, v1alpha1.ConditionAllocated); c != nil && c.Status == metav1.ConditionFalse {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(s)})
		}
	}
	return requests
}

// Reconcile gathers one Service, asks the ledger what it gets and writes that, in one patch.
func (r *services) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var s corev1.Service
	err := r.client.Get(ctx, req.NamespacedName, &s)
	switch {
	case apierrors.IsNotFound(err):
		r.foreign.Delete(name.ServiceKey(req.NamespacedName))
		r.brake.forget(name.ServiceKey(req.NamespacedName))
		return reconcile.Result{}, r.ledger.release(ctx, name.ServiceKey(req.NamespacedName))
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("get Service: %w", err)
	case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return reconcile.Result{}, r.lose(ctx, &s)
	case !config.Ours(&s, r.class):
		return reconcile.Result{}, r.ledger.hold(ctx, &s)
	case config.Foreign(&s):
		return reconcile.Result{}, r.leave(ctx, &s)
	}
	return r.serve(ctx, &s)
}

// serve decides and writes one Service of ours.
func (r *services) serve(ctx context.Context, s *corev1.Service) (reconcile.Result, error) {
	var ns corev1.Namespace
	if err := r.client.Get(ctx, types.NamespacedName{Name: s.Namespace}, &ns); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("get Namespace: %w", err)
	}
	request, invalid := config.Request(s, ns.Labels)
	d, foreign, err := r.ledger.decide(ctx, s, request, invalid)
	if err != nil {
		return reconcile.Result{}, err
	}
	if foreign {
		return reconcile.Result{}, r.leave(ctx, s)
	}
	before := config.Condition(s, v1alpha1.ConditionAllocated)
	metadata, status := patch(s, before, d)
	if overwritten(s, before, d) {
		if wait := r.brake.wait(config.Key(s)); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
		r.log.Info("somebody else overwrote the ingress", "service", client.ObjectKeyFromObject(s), "ingress", s.Status.LoadBalancer.Ingress)
	}
	if status != nil {
		err = kube.PatchServiceStatus(ctx, r.client, s, s.ResourceVersion, metadata, status)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{}, nil // a newer version exists, and its event comes
		}
		if err != nil {
			return reconcile.Result{}, err
		}
		r.log.Info("wrote Service", "service", client.ObjectKeyFromObject(s), "addresses", d.Addresses, "pool", d.Pool, "reason", d.Reason)
		r.events.allocated(s, before, d)
	}
	return reconcile.Result{}, r.ledger.settle(ctx, request.Holder)
}

// leave takes note of what a Service holds that another implementation serves.
func (r *services) leave(ctx context.Context, s *corev1.Service) error {
	if _, told := r.foreign.LoadOrStore(config.Key(s), s.UID); !told {
		r.events.foreign(s)
	}
	return r.ledger.hold(ctx, s)
}

// overwritten says whether somebody else wrote the ingress of a Service for which nothing
// else has changed.
func overwritten(s *corev1.Service, before *metav1.Condition, d ipam.Decision) bool {
	return before != nil && before.Status == metav1.ConditionTrue && d.Reason == "" && before.Message == describe(d) &&
		len(s.Status.LoadBalancer.Ingress) > 0 && !sameAddresses(s, d)
}

// lose tidies up after a Service whose type is no longer LoadBalancer: the API server has
// wiped its ingress already.
func (r *services) lose(ctx context.Context, s *corev1.Service) error {
	if err := r.ledger.release(ctx, config.Key(s)); err != nil {
		return err
	}
	_, annotated := s.Annotations[v1alpha1.AnnotationPool]
	if !annotated && config.Condition(s, v1alpha1.ConditionAllocated) == nil && config.Condition(s, v1alpha1.ConditionAnnounced) == nil {
		return nil
	}
	conditions := []map[string]any{
		{"type": v1alpha1.ConditionAllocated, "$patch": "delete"},
		{"type": v1alpha1.ConditionAnnounced, "$patch": "delete"},
	}
	metadata := map[string]any{"annotations": map[string]any{v1alpha1.AnnotationPool: nil}}
	err := kube.PatchServiceStatus(ctx, r.client, s, s.ResourceVersion, metadata, map[string]any{"conditions": conditions})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the cache is about to tell
	}
	return err
}

// patch returns what differs between a Service and a decision; a nil status says nothing does.
func patch(s *corev1.Service, before *metav1.Condition, d ipam.Decision) (metadata, status map[string]any) {
	reason, message := d.Reason, d.Message
	if reason == "" {
		reason, message = v1alpha1.ReasonAllocated, describe(d)
	}
	want := kube.NewCondition(before, v1alpha1.ConditionAllocated, d.Reason == "", reason, message)
	ingress := ingressOf(d.Addresses)
	if kube.Same(before, want) && slices.EqualFunc(s.Status.LoadBalancer.Ingress, ingress, sameIngress) && s.Annotations[v1alpha1.AnnotationPool] == string(d.Pool) {
		return nil, nil
	}
	annotation := any(string(d.Pool))
	if d.Pool == "" {
		annotation = nil
	}
	metadata = map[string]any{"annotations": map[string]any{v1alpha1.AnnotationPool: annotation}}
	status = map[string]any{
		"conditions":   []metav1.Condition{want},
		"loadBalancer": map[string]any{"ingress": ingress},
	}
	return metadata, status
}

func describe(d ipam.Decision) string {
	if d.Pool == "" {
		return "The addresses are held; no IPAddressPool covers them any more."
	}
	return fmt.Sprintf("From IPAddressPool %s.", d.Pool)
}

// ingressOf writes addresses as VIPs: they are on no node. It is never nil, so that none
// is written as an empty list, which clears.
func ingressOf(addresses []netip.Addr) []corev1.LoadBalancerIngress {
	vip := corev1.LoadBalancerIPModeVIP
	list := []corev1.LoadBalancerIngress{}
	for _, a := range addresses {
		list = append(list, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
	}
	return list
}

func sameIngress(x, y corev1.LoadBalancerIngress) bool {
	return x.IP == y.IP && x.Hostname == y.Hostname && x.IPMode != nil && y.IPMode != nil && *x.IPMode == *y.IPMode
}
