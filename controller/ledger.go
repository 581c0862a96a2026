package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/name"
)

// importTimeout bounds the lists of all holders that a new leader begins with.
const importTimeout = 30 * time.Second

// pageSize bounds how many objects are in memory at once during the import.
const pageSize = 500

// ledger owns the allocator: one goroutine, in Start, runs every decision, one after the
// other. It decides nothing before it has imported what every Service and AddressClaim
// holds and has heard of the pools.
type ledger struct {
	reader client.Reader // live, not the cache
	cache  client.Reader
	class  string
	log    logr.Logger
	// wake takes holders for which something has changed; it returns at the latest when ctx ends.
	wake func(context.Context, ipam.Key)
	// used is told after every change of what is held; it must not block.
	used func()

	pools    chan poolSet
	requests chan func()

	// Owned by the goroutine of Start.
	allocator *ipam.Allocator
	observed  map[name.PoolName][]string // the entries of spec.addresses that pools were compiled from
	ctx       context.Context            // Start's, for wake
}

// poolSet is all pools, and the entries of spec.addresses that each was compiled from.
type poolSet struct {
	pools    []ipam.Pool
	observed map[name.PoolName][]string
	claims   int // how many AddressClaims of one namespace may have addresses
}

func newLedger(reader, cache client.Reader, class string, log logr.Logger) *ledger {
	return &ledger{
		reader: reader, cache: cache, class: class, log: log,
		wake: func(context.Context, ipam.Key) {}, used: func() {},
		pools: make(chan poolSet), requests: make(chan func()), allocator: ipam.New(),
	}
}

// Start imports, then decides until ctx ends; it is a manager.Runnable that needs leadership.
func (l *ledger) Start(ctx context.Context) error {
	l.ctx = ctx
	if err := kube.Until(ctx, l.log, func() error { return l.load(ctx) }); err != nil {
		return nil // ctx ended
	}
	select {
	case <-ctx.Done():
		return nil
	case set := <-l.pools:
		l.replace(set)
		l.allocator.Retry(time.Now()) // the oldest choose first
		for key := range l.allocator.Keys() {
			l.wake(ctx, key) // one that is gone since then may be so without an event
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case set := <-l.pools:
			l.replace(set)
		case request := <-l.requests:
			l.overdue()
			request()
		case <-l.next():
		}
		l.retry()
	}
}

// next fires when the allocator is to be asked again though nothing has happened.
func (l *ledger) next() <-chan time.Time {
	at, some := l.allocator.Next()
	if !some {
		return nil
	}
	return time.After(time.Until(at))
}

// overdue lets those who wait have what time has brought before anybody who comes now.
func (l *ledger) overdue() {
	if at, some := l.allocator.Next(); some && !at.After(time.Now()) {
		l.retry()
	}
}

func (l *ledger) replace(set poolSet) {
	l.allocator.SetPools(set.pools)
	l.allocator.LimitClaims(set.claims)
	l.observed = set.observed
}

// retry wakes those for whom what has happened changed something, and the claims that may
// be bound to others now. What they get is reserved by then.
func (l *ledger) retry() {
	changed := l.allocator.Retry(time.Now())
	for _, key := range changed {
		l.wake(l.ctx, key)
		if h, known := l.allocator.Known(key); known && h.Claim != "" {
			l.wake(l.ctx, ipam.ClaimKey(h.Namespace, h.Claim))
		}
	}
	if len(changed) > 0 {
		l.used()
	}
}

// load imports what every Service and AddressClaim holds, whoever it belongs to, and asks for.
func (l *ledger) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	var (
		services   corev1.ServiceList
		claims     v1alpha1.AddressClaimList
		namespaces corev1.NamespaceList
		imported   = ipam.New() // anew when a page fails
		ours, all  = 0, 0
	)
	for _, list := range []client.ObjectList{&services, &claims, &namespaces} {
		for more := true; more; more = list.GetContinue() != "" {
			if err := l.reader.List(ctx, list, client.Limit(pageSize), client.Continue(list.GetContinue())); err != nil {
				return fmt.Errorf("a list, to import who holds what: %w", err)
			}
			page := config.Holders{Services: services.Items, Claims: claims.Items, Namespaces: namespaces.Items}
			o, f := page.Import(imported, l.class, time.Now())
			ours, all = ours+o, all+o+f
			services.Items, claims.Items, namespaces.Items = nil, nil, nil
		}
	}
	l.allocator = imported
	l.log.Info("imported held addresses", "services", ours, "servicesOfOthers", all-ours)
	return nil
}

// do runs f in the ledger's goroutine and waits for it.
func (l *ledger) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case l.requests <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ask the ledger: %w", ctx.Err())
	}
}

// relabel takes the labels of a namespace and retries those of it who wait.
func (l *ledger) relabel(ctx context.Context, namespace string, now labels.Set) error {
	return l.do(ctx, func() { l.allocator.Relabel(namespace, now) })
}

// setPools replaces the pools and retries those who wait.
func (l *ledger) setPools(ctx context.Context, set poolSet) error {
	select {
	case l.pools <- set:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tell the ledger the pools: %w", ctx.Err())
	}
}

// decide reserves what a Service of ours gets. What the Service gives up stays reserved
// until settle is called: its status still holds it. A Service with an ingress of another
// implementation is foreign: nothing is decided.
func (l *ledger) decide(ctx context.Context, s *corev1.Service, r ipam.Request) (d ipam.Decision, foreign bool, err error) {
	err = l.do(ctx, func() {
		if foreign = l.foreign(s); !foreign {
			d = l.allocate(r, config.Ingress(s))
		}
	})
	return d, foreign, err
}

// foreign says whether a Service of ours has an ingress that another implementation gave
// it: it is known as foreign, or it is known and holds nothing of ours.
func (l *ledger) foreign(s *corev1.Service) bool {
	if len(s.Status.LoadBalancer.Ingress) == 0 || s.Annotations[v1alpha1.AnnotationAdopt] == "true" {
		return false
	}
	key := ipam.ServiceKey(config.Key(s))
	before, known := l.allocator.Known(key)
	return known && before.UID == string(s.UID) &&
		(before.Foreign || len(l.allocator.Held(key)) == 0 && len(l.allocator.Leaving(key)) == 0)
}

// decideClaim reserves what an AddressClaim gets, and says which Service is bound to it.
func (l *ledger) decideClaim(ctx context.Context, c *v1alpha1.AddressClaim, r ipam.Request) (d ipam.Decision, bound name.ServiceKey, err error) {
	err = l.do(ctx, func() {
		d = l.allocate(r, config.Claimed(c))
		bound, _ = l.allocator.Bound(r.Key)
	})
	return d, bound, err
}

// allocate decides. A holder that was not known has what its status holds.
func (l *ledger) allocate(r ipam.Request, status []netip.Addr) (d ipam.Decision) {
	l.meet(r.Namespace)
	l.rebind(r.Holder, func() {
		if before, known := l.allocator.Known(r.Key); !known || before.UID != r.UID || before.Foreign {
			l.allocator.Hold(r.Holder, status, time.Now())
		}
		held := l.allocator.Held(r.Key)
		d = l.allocator.Allocate(r, time.Now())
		if !slices.Equal(held, d.Addresses) {
			l.used()
		}
	})
	return d
}

// meet tells the allocator of a namespace so new that its own event is still to come.
func (l *ledger) meet(namespace string) {
	var ns corev1.Namespace
	if !l.allocator.Labeled(namespace) && l.cache.Get(l.ctx, client.ObjectKey{Name: namespace}, &ns) == nil {
		l.allocator.Relabel(namespace, ns.Labels)
	}
}

// rebind makes a change to a holder, and wakes the claims that it names, or named, if
// they are now bound to another Service.
func (l *ledger) rebind(h ipam.Holder, change func()) {
	claims := []string{h.Claim}
	if before, known := l.allocator.Known(h.Key); known && before.Claim != h.Claim {
		claims = append(claims, before.Claim)
	}
	bound := func() (list []name.ServiceKey) {
		for _, claim := range claims {
			s, _ := l.allocator.Bound(ipam.ClaimKey(h.Namespace, claim))
			list = append(list, s)
		}
		return list
	}
	before := bound()
	change()
	for i, after := range bound() {
		if after != before[i] {
			l.wake(l.ctx, ipam.ClaimKey(h.Namespace, claims[i]))
		}
	}
}

// settle says that a holder's status holds what was decided, and nothing else.
func (l *ledger) settle(ctx context.Context, key ipam.Key, d ipam.Decision) error {
	return l.do(ctx, func() {
		if len(l.allocator.Leaving(key)) > 0 {
			l.allocator.Settle(key, d.Addresses, time.Now())
			l.used()
		}
	})
}

// hold records what a Service holds that Ballast does not serve.
func (l *ledger) hold(ctx context.Context, s *corev1.Service) error {
	h, addresses := config.Held(s, l.class), config.Ingress(s)
	h.Foreign = true
	return l.do(ctx, func() {
		before, known := l.allocator.Known(h.Key)
		if known && before.Foreign && before.UID == h.UID && slices.Equal(l.allocator.Held(h.Key), addresses) {
			return
		}
		l.rebind(h, func() { l.allocator.Hold(h, addresses, time.Now()) })
		l.used()
	})
}

// gone frees all that a holder has that the cache does not know. Who was imported may not
// have come to the cache yet, so the API server is asked: it says whether o is gone.
func (l *ledger) gone(ctx context.Context, key ipam.Key, o client.Object) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	known := false
	if err := l.do(ctx, func() { _, known = l.allocator.Known(key) }); err != nil || !known {
		return err == nil, err
	}
	err := l.reader.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, o)
	if err == nil {
		return false, nil
	}
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("look whether %s is gone: %w", key, err)
	}
	return true, l.release(ctx, key)
}

// release frees all that a holder has.
func (l *ledger) release(ctx context.Context, key ipam.Key) error {
	return l.do(ctx, func() {
		if _, known := l.allocator.Known(key); !known {
			return
		}
		l.rebind(ipam.Holder{Key: key}, func() { l.allocator.Release(key, time.Now()) })
		l.used()
	})
}

// usage is what is used of a pool.
type usage struct {
	v4, v6   ipam.Usage
	taken    int // held addresses that are from it
	retained []netipx.IPRange
	observed []string // the entries of spec.addresses that count
}

func (l *ledger) usage(ctx context.Context, pool name.PoolName) (usage, error) {
	var u usage
	err := l.do(ctx, func() {
		u = usage{l.allocator.Usage(pool, ipam.IPv4), l.allocator.Usage(pool, ipam.IPv6), l.allocator.Taken(pool), l.allocator.Retained(pool), l.observed[pool]}
	})
	return u, err
}

// holders returns the oldest n holders of addresses of a pool, and how many there are.
func (l *ledger) holders(ctx context.Context, pool name.PoolName, n int) (oldest []ipam.Key, all int, err error) {
	err = l.do(ctx, func() { oldest, all = l.allocator.Holders(pool, n) })
	return oldest, all, err
}
