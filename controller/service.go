package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
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

// holdPause is how long to wait when somebody else wrote a pool at the same time.
const holdPause = 20 * time.Millisecond

// unknownPause is how long to wait for the cache to hear of what the API server knows.
const unknownPause = 200 * time.Millisecond

// wakeBuffer is how many holders the ledger can wake before somebody looks.
const wakeBuffer = 1024

// services gives each Service its addresses.
type services struct {
	client client.Client
	class  string
	ledger *ledger
	events events
	log    logr.Logger
	woken  chan event.GenericEvent
	brake  *brake
	// hold makes sure that a pool is not deleted as if nobody held an address of it; false: try again.
	hold func(context.Context, name.PoolName) (bool, error)
	// reader reads live, not from the cache.
	reader client.Reader
	// written is what the status of each Service of ours was made to hold.
	written sync.Map // name.ServiceKey to written
	// foreign are the Services of which an event has said that another implementation serves them.
	foreign sync.Map // of name.ServiceKey
}

// written is what a Service's status held after it was looked at or written last.
type written struct {
	uid       types.UID
	version   string
	addresses []netip.Addr
}

func (r *services) setUp(mgr manager.Manager) error {
	r.woken = make(chan event.GenericEvent, wakeBuffer)
	return ctrl.NewControllerManagedBy(mgr).Named("services").
		For(&corev1.Service{}).
		WatchesRawSource(source.Channel(r.woken, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: parallelWrites,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](20*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// wake enqueues a Service, unless ctx ends.
func (r *services) wake(ctx context.Context, key ipam.Key) {
	wake(ctx, r.woken, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
}

// Reconcile gathers one Service, asks the ledger what it gets and writes that, in one patch.
func (r *services) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var s corev1.Service
	err := r.client.Get(ctx, req.NamespacedName, &s)
	switch {
	case apierrors.IsNotFound(err):
		return r.gone(ctx, name.ServiceKey(req.NamespacedName))
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("get Service: %w", err)
	case r.stale(&s):
		return reconcile.Result{}, nil // the event of what was written comes
	case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		r.forget(config.Key(&s))
		return reconcile.Result{}, r.lose(ctx, &s)
	case !config.Ours(&s, r.class):
		return reconcile.Result{}, r.ledger.hold(ctx, &s)
	case config.Foreign(&s):
		r.forget(config.Key(&s))
		return reconcile.Result{}, r.leave(ctx, &s)
	}
	return r.serve(ctx, &s)
}

// gone forgets a Service that the cache does not know.
func (r *services) gone(ctx context.Context, key name.ServiceKey) (reconcile.Result, error) {
	gone, err := true, error(nil)
	if _, seen := r.written.Load(key); seen {
		err = r.ledger.release(ctx, ipam.ServiceKey(key))
	} else {
		gone, err = r.ledger.gone(ctx, ipam.ServiceKey(key), &corev1.Service{})
	}
	if err != nil || !gone {
		return reconcile.Result{RequeueAfter: unknownPause}, err
	}
	r.forget(key)
	r.foreign.Delete(key)
	return reconcile.Result{}, nil
}

func (r *services) forget(key name.ServiceKey) {
	r.written.Delete(key)
	r.brake.forget(key)
}

// last is what the status of a Service held when it was looked at or written last.
func (r *services) last(s *corev1.Service) (written, bool) {
	v, known := r.written.Load(config.Key(s))
	if !known {
		return written{}, false
	}
	w, ok := v.(written)
	return w, ok && w.uid == s.UID
}

// stale says whether the cache does not know yet what was written to a Service.
func (r *services) stale(s *corev1.Service) bool {
	w, known := r.last(s)
	if !known {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(s.ResourceVersion, w.version)
	return err == nil && order < 0
}

// serve decides and writes one Service of ours.
func (r *services) serve(ctx context.Context, s *corev1.Service) (reconcile.Result, error) {
	request := config.Request(s)
	d, foreign, err := r.ledger.decide(ctx, s, request)
	if err != nil {
		return reconcile.Result{}, err
	}
	if foreign {
		r.forget(config.Key(s))
		return reconcile.Result{}, r.leave(ctx, s)
	}
	if r.contested(s, d) {
		if wait, lost := r.brake.wait(config.Key(s)); lost {
			return reconcile.Result{RequeueAfter: wait}, r.surrender(ctx, s)
		} else if wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
		r.log.Info("somebody else overwrote the ingress", "service", client.ObjectKeyFromObject(s), "ingress", s.Status.LoadBalancer.Ingress)
	}
	if held, err := r.hold(ctx, d.Pool); err != nil || !held {
		return reconcile.Result{RequeueAfter: holdPause}, err
	}
	version, err := r.write(ctx, s, d)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // a newer version exists, and its event comes
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	r.written.Store(config.Key(s), written{s.UID, version, d.Addresses})
	return reconcile.Result{}, r.ledger.settle(ctx, request.Key, d)
}

// write makes a Service's status say what was decided, and returns the version that does.
func (r *services) write(ctx context.Context, s *corev1.Service, d ipam.Decision) (version string, err error) {
	before := config.Condition(s, v1alpha1.ConditionAllocated)
	metadata, status := patch(s, before, d)
	if status == nil {
		return s.ResourceVersion, nil
	}
	version, err = kube.PatchServiceStatus(ctx, r.client, s, s.ResourceVersion, metadata, status)
	if err != nil {
		return "", err
	}
	r.log.Info("wrote Service", "service", client.ObjectKeyFromObject(s), "addresses", d.Addresses, "pool", d.Pool, "reason", d.Reason)
	r.events.allocated(s, before, d)
	return version, nil
}

// leave takes note of what a Service holds that another implementation serves.
func (r *services) leave(ctx context.Context, s *corev1.Service) error {
	if _, told := r.foreign.LoadOrStore(config.Key(s), s.UID); !told {
		r.events.foreign(s)
	}
	return r.ledger.hold(ctx, s)
}

// contested says whether somebody else changed the ingress of a Service for which nothing
// else has changed.
func (r *services) contested(s *corev1.Service, d ipam.Decision) bool {
	w, known := r.last(s)
	return known && len(d.Addresses) > 0 && slices.Equal(w.addresses, d.Addresses) && !sameAddresses(s, d)
}

// surrender says that somebody else keeps changing the ingress of a Service, and leaves it
// to them.
func (r *services) surrender(ctx context.Context, s *corev1.Service) error {
	before := config.Condition(s, v1alpha1.ConditionAllocated)
	if before != nil && before.Reason == string(v1alpha1.ReasonStatusConflict) {
		return nil
	}
	message := fmt.Sprintf("%s keeps changing status.loadBalancer.ingress, so Ballast has stopped. End that, then annotate the Service with %s=true.", r.rival(ctx, s), v1alpha1.AnnotationAdopt)
	want := kube.NewCondition(before, v1alpha1.ConditionAllocated, false, v1alpha1.ReasonStatusConflict, message)
	conditions := []any{want}
	if config.Condition(s, v1alpha1.ConditionAnnounced) != nil {
		conditions = append(conditions, map[string]any{"type": v1alpha1.ConditionAnnounced, "$patch": "delete"})
	}
	_, err := kube.PatchServiceStatus(ctx, r.client, s, s.ResourceVersion, nil, map[string]any{"conditions": conditions})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // a newer version exists, and its event comes
	}
	if err == nil {
		r.events.contested(s, message)
	}
	return err
}

// rival names who changed the ingress of a Service last, as far as the API server knows.
func (r *services) rival(ctx context.Context, s *corev1.Service) string {
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	live := &corev1.Service{}
	if err := r.reader.Get(ctx, client.ObjectKeyFromObject(s), live); err != nil {
		return "Another writer"
	}
	for _, f := range live.ManagedFields {
		if f.Subresource == "status" && f.FieldsV1 != nil && strings.Contains(f.FieldsV1.GetRawString(), `"f:ingress"`) {
			return fmt.Sprintf("Another writer (field manager %s)", f.Manager)
		}
	}
	return "Another writer"
}

// lose tidies up after a Service whose type is no longer LoadBalancer: the API server has
// wiped its ingress already.
func (r *services) lose(ctx context.Context, s *corev1.Service) error {
	if err := r.ledger.release(ctx, ipam.ServiceKey(config.Key(s))); err != nil {
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
	_, err := kube.PatchServiceStatus(ctx, r.client, s, s.ResourceVersion, metadata, map[string]any{"conditions": conditions})
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
