package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
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

// statusInterval is how often, at most, pool status is written.
const statusInterval = time.Second

// pools writes how much of each pool is in use.
type pools struct {
	client client.Client
	ledger *ledger
	dirty  chan event.GenericEvent
	// ready says in the Ready condition of a pool that is being deleted who holds it.
	ready func(context.Context, *v1alpha1.IPAddressPool) error
	// addresses is a metric of this instance; main registers it.
	addresses *prometheus.GaugeVec
}

func newPools(c client.Client, l *ledger) *pools {
	return &pools{
		client: c, ledger: l, dirty: make(chan event.GenericEvent, 1),
		ready: func(context.Context, *v1alpha1.IPAddressPool) error { return nil },
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ballast_pool_addresses", Help: "Addresses of an IPAddressPool: total may be handed out, assigned are held.",
		}, []string{"pool", "family", "state"}),
	}
}

// gauge sets the metric of one pool. Beyond 2^53 a float is near enough.
func (r *pools) gauge(pool string, u usage) {
	for family, one := range map[ipam.Family]ipam.Usage{ipam.IPv4: u.v4, ipam.IPv6: u.v6} {
		for state, n := range map[string]*big.Int{"total": one.Total, "assigned": one.Assigned} {
			value, _ := new(big.Float).SetInt(n).Float64()
			r.addresses.WithLabelValues(pool, family.String(), state).Set(value)
		}
	}
}

// changed says that pools may count anew. It never blocks: one notice is enough for all.
func (r *pools) changed() {
	select {
	case r.dirty <- event.GenericEvent{Object: &v1alpha1.IPAddressPool{}}:
	default:
	}
}

func (r *pools) setUp(mgr manager.Manager) error {
	later := handler.Funcs{GenericFunc: func(_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: "all"}}, statusInterval)
	}}
	return ctrl.NewControllerManagedBy(mgr).Named("pool-status").
		WatchesRawSource(source.Channel(r.dirty, later)).
		Complete(r)
}

// Reconcile writes the status of every pool that counts otherwise than its status says.
func (r *pools) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var list v1alpha1.IPAddressPoolList
	if err := r.client.List(ctx, &list); err != nil {
		return reconcile.Result{}, fmt.Errorf("list IPAddressPools: %w", err)
	}
	r.addresses.Reset() // of pools that are gone
	var errs []error
	for i := range list.Items {
		errs = append(errs, r.write(ctx, &list.Items[i]))
	}
	return reconcile.Result{}, errors.Join(errs...)
}

func (r *pools) write(ctx context.Context, p *v1alpha1.IPAddressPool) error {
	u, err := r.ledger.usage(ctx, name.PoolName(p.Name))
	if err != nil {
		return err
	}
	r.gauge(p.Name, u)
	if err := r.keep(ctx, p, u); err != nil {
		return err
	}
	if !p.DeletionTimestamp.IsZero() {
		if err := r.ready(ctx, p); err != nil {
			return err
		}
	}
	after := p.DeepCopy()
	after.Status.IPv4, after.Status.IPv6 = counts(u.v4), counts(u.v6)
	after.Status.Retained = config.FormatRanges(u.retained)
	if u.observed != nil {
		after.Status.ObservedAddresses = u.observed
	}
	if reflect.DeepEqual(p.Status.IPv4, after.Status.IPv4) && reflect.DeepEqual(p.Status.IPv6, after.Status.IPv6) &&
		slices.Equal(p.Status.Retained, after.Status.Retained) && slices.Equal(p.Status.ObservedAddresses, after.Status.ObservedAddresses) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	if err := r.client.Status().Patch(ctx, after, client.MergeFrom(p)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write status of IPAddressPool %s: %w", p.Name, err)
	}
	return nil
}

// hold makes sure that a pool has the finalizer before the first Service or claim is told
// that it holds an address of it. False: somebody else wrote the pool at the same time.
func (r *pools) hold(ctx context.Context, pool name.PoolName) (bool, error) {
	if pool == "" {
		return true, nil
	}
	var p v1alpha1.IPAddressPool
	if err := r.client.Get(ctx, types.NamespacedName{Name: string(pool)}, &p); err != nil {
		return true, client.IgnoreNotFound(err)
	}
	err := r.addFinalizer(ctx, &p)
	if apierrors.IsConflict(err) {
		return false, nil
	}
	return true, err
}

func (r *pools) addFinalizer(ctx context.Context, p *v1alpha1.IPAddressPool) error {
	after := p.DeepCopy()
	if !p.DeletionTimestamp.IsZero() || !controllerutil.AddFinalizer(after, v1alpha1.FinalizerHeld) {
		return nil // the API server takes no new finalizer for what is being deleted
	}
	return r.writeFinalizers(ctx, p, after)
}

// keep holds a pool back from deletion by a finalizer for as long as Services hold
// addresses of it, and no longer.
func (r *pools) keep(ctx context.Context, p *v1alpha1.IPAddressPool, u usage) error {
	if u.taken > 0 {
		return r.addFinalizer(ctx, p)
	}
	after := p.DeepCopy()
	if !controllerutil.RemoveFinalizer(after, v1alpha1.FinalizerHeld) {
		return nil
	}
	return r.writeFinalizers(ctx, p, after)
}

// writeFinalizers writes what after has to the pool p, and lets p know.
func (r *pools) writeFinalizers(ctx context.Context, p, after *v1alpha1.IPAddressPool) error {
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	if err := r.client.Patch(ctx, after, client.MergeFromWithOptions(p, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write finalizer of IPAddressPool %s: %w", p.Name, err)
	}
	p.ResourceVersion, p.Finalizers = after.ResourceVersion, after.Finalizers
	return nil
}

func counts(u ipam.Usage) *v1alpha1.AddressCounts {
	return &v1alpha1.AddressCounts{Total: u.Total.String(), Assigned: u.Assigned.String(), Available: u.Available.String()}
}
