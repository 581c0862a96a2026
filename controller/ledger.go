package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/name"
)

// importTimeout bounds the list of all Services that a new leader begins with.
const importTimeout = 30 * time.Second

// ledger owns the allocator: one goroutine, in Start, runs every decision, one after the
// other. It decides nothing before it has imported what every Service holds and has
// heard of the pools.
type ledger struct {
	reader client.Reader // live, not the cache
	class  string
	log    logr.Logger
	// wake takes Services whose decision has changed; it returns at the latest when ctx ends.
	wake func(context.Context, name.ServiceKey)
	// used is told after every change of what is held; it must not block.
	used func()

	pools    chan []ipam.Pool
	requests chan func()

	// Owned by the goroutine of Start.
	allocator *ipam.Allocator
	waiting   map[name.ServiceKey]waiter
	holders   map[name.ServiceKey]ipam.Holder // of what is held, as it was last told
	ctx       context.Context                 // Start's, for wake
}

// waiter is a Service that has not got all that it could have.
type waiter struct {
	request ipam.Request
	got     ipam.Decision
}

func newLedger(reader client.Reader, class string, log logr.Logger) *ledger {
	return &ledger{
		reader: reader, class: class, log: log,
		wake: func(context.Context, name.ServiceKey) {}, used: func() {},
		pools: make(chan []ipam.Pool), requests: make(chan func()),
		allocator: ipam.New(), waiting: map[name.ServiceKey]waiter{}, holders: map[name.ServiceKey]ipam.Holder{},
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
	case pools := <-l.pools:
		l.allocator.SetPools(pools)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case pools := <-l.pools:
			l.allocator.SetPools(pools)
			l.retry()
		case request := <-l.requests:
			request()
		}
	}
}

// load imports what every Service holds, whoever it belongs to, the oldest first.
func (l *ledger) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	var list corev1.ServiceList
	if err := l.reader.List(ctx, &list); err != nil {
		return fmt.Errorf("the list of Services, to import what they hold: %w", err)
	}
	slices.SortFunc(list.Items, func(x, y corev1.Service) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	held, others := 0, 0
	for i := range list.Items {
		s := &list.Items[i]
		addresses := config.Ingress(s)
		if len(addresses) == 0 {
			continue
		}
		h := config.Holder(s)
		h.Foreign = !config.Ours(s, l.class) || config.Foreign(s)
		l.note(h, addresses)
		if h.Foreign {
			others++
		} else {
			held++
		}
	}
	l.log.Info("imported held addresses", "services", held, "servicesOfOthers", others)
	return nil
}

// note records that a Service holds exactly these addresses.
func (l *ledger) note(h ipam.Holder, addresses []netip.Addr) {
	l.allocator.Release(h.Service, time.Now())
	l.allocator.Hold(h, addresses, time.Now())
	l.holders[h.Service] = h
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

// setPools replaces the pools and retries those who wait.
func (l *ledger) setPools(ctx context.Context, pools []ipam.Pool) error {
	select {
	case l.pools <- pools:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tell the ledger the pools: %w", ctx.Err())
	}
}

// decide reserves what a Service of ours gets; one whose request is invalid keeps what its
// status holds. What the Service gives up stays reserved until settle is called: its status
// still holds it. A Service with an ingress of another implementation is foreign: nothing
// is decided.
func (l *ledger) decide(ctx context.Context, s *corev1.Service, r ipam.Request, invalid error) (d ipam.Decision, foreign bool, err error) {
	err = l.do(ctx, func() {
		key, status := r.Service, config.Ingress(s)
		if foreign = l.foreign(s); foreign {
			return
		}
		if before, known := l.holders[key]; known && (before.UID != r.UID || before.Foreign) {
			l.allocator.Release(key, time.Now()) // an earlier Service's, or another implementation's
		}
		if len(l.allocator.Held(key)) == 0 && len(status) > 0 {
			l.note(r.Holder, status)
		}
		l.holders[key] = r.Holder
		if invalid != nil {
			delete(l.waiting, key) // nothing but an edit of the Service helps
			d = ipam.Decision{Addresses: l.allocator.Held(key), Reason: v1alpha1.ReasonInvalidRequest, Message: invalid.Error() + "."}
			if len(d.Addresses) > 0 {
				d.Pool = l.allocator.Pool(d.Addresses[0])
			}
			return
		}
		d = l.allocate(r)
		if d.Reason != "" || len(d.Addresses) < len(r.Families) {
			l.waiting[key] = waiter{r, d}
		} else {
			delete(l.waiting, key)
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
	before, known := l.holders[config.Key(s)]
	return known && before.UID == string(s.UID) && (before.Foreign || len(l.allocator.Held(before.Service)) == 0)
}

func (l *ledger) allocate(r ipam.Request) ipam.Decision {
	now := time.Now()
	before := l.allocator.Held(r.Service)
	d := l.allocator.Allocate(r, now)
	leaving := slices.DeleteFunc(slices.Clone(before), func(a netip.Addr) bool { return slices.Contains(d.Addresses, a) })
	if len(leaving) > 0 {
		l.allocator.Hold(leaver(r.Holder), append(leaving, l.allocator.Held(leaver(r.Holder).Service)...), now)
	}
	if !slices.Equal(before, d.Addresses) {
		l.used()
	}
	return d
}

// leaver holds what a Service gives up, until its status no longer holds it. Its name is
// none that a Service can have.
func leaver(h ipam.Holder) ipam.Holder {
	h.Service.Name += " (leaving)"
	return h
}

// settle says that a Service's status holds what was decided.
func (l *ledger) settle(ctx context.Context, h ipam.Holder) error {
	return l.do(ctx, func() { l.free(leaver(h).Service) })
}

// hold records what a Service holds that Ballast does not serve.
func (l *ledger) hold(ctx context.Context, s *corev1.Service) error {
	h, addresses := config.Holder(s), config.Ingress(s)
	h.Foreign = true
	return l.do(ctx, func() {
		delete(l.waiting, h.Service)
		l.free(leaver(h).Service)
		if l.holders[h.Service] == h && slices.Equal(l.allocator.Held(h.Service), addresses) {
			return
		}
		l.note(h, addresses)
		l.used()
		l.retry()
	})
}

// release frees all that a Service holds.
func (l *ledger) release(ctx context.Context, key name.ServiceKey) error {
	return l.do(ctx, func() {
		delete(l.waiting, key)
		delete(l.holders, key)
		l.free(leaver(ipam.Holder{Service: key}).Service)
		l.free(key)
	})
}

func (l *ledger) free(key name.ServiceKey) {
	if freed := l.allocator.Release(key, time.Now()); len(freed) > 0 {
		l.used()
		l.retry()
	}
}

// retry decides anew for those who wait, the oldest first, and wakes those for whom
// something changed. What they get is reserved by then.
func (l *ledger) retry() {
	keys := slices.SortedFunc(maps.Keys(l.waiting), func(x, y name.ServiceKey) int {
		return cmp.Or(l.waiting[x].request.Created.Compare(l.waiting[y].request.Created), cmp.Compare(x.String(), y.String()))
	})
	for _, key := range keys {
		w := l.waiting[key]
		d := l.allocate(w.request)
		if slices.Equal(d.Addresses, w.got.Addresses) && d.Reason == w.got.Reason && d.Message == w.got.Message {
			continue
		}
		l.waiting[key] = waiter{w.request, d}
		l.wake(l.ctx, key)
	}
}

// usage counts a pool.
type usage struct {
	v4, v6   ipam.Usage
	retained []netipx.IPRange
}

func (l *ledger) usage(ctx context.Context, pool name.PoolName) (usage, error) {
	var u usage
	err := l.do(ctx, func() {
		u = usage{l.allocator.Usage(pool, ipam.IPv4), l.allocator.Usage(pool, ipam.IPv6), l.allocator.Retained(pool)}
	})
	return u, err
}
