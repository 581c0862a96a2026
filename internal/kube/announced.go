package kube

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/name"
)

// announcedWriters is how many conditions are written at once.
const announcedWriters = 4

// firstRepair and lastRepair bound for how long another's condition stands before it is
// overwritten; it doubles each time. It is what keeps processes that disagree over who is
// to write from a race.
const (
	firstRepair = 200 * time.Millisecond
	lastRepair  = 10 * time.Minute
)

// Announced writes the condition of that name on Services. It has its own queue and
// workers, so that nothing that is announced waits for the API server.
type Announced struct {
	client client.Client
	class  string
	log    logr.Logger
	// writes says whether this process is the one to write a decision.
	writes   func(announce.Decision) bool
	recorder events.EventRecorder
	queue    workqueue.TypedRateLimitingInterface[name.ServiceKey]
	repairs  workqueue.TypedRateLimiter[name.ServiceKey]

	mu      sync.Mutex                           // guards desired
	desired map[name.ServiceKey]announce.Verdict // of those that are this process's to write
}

// AnnouncedConfig are the parts of an Announced; see there.
type AnnouncedConfig struct {
	Client   client.Client
	Class    string
	Log      logr.Logger
	Writes   func(announce.Decision) bool
	Recorder events.EventRecorder
}

// NewAnnounced returns an Announced that writes once it is started.
func NewAnnounced(c AnnouncedConfig) *Announced {
	return &Announced{
		client: c.Client, class: c.Class, log: c.Log, writes: c.Writes, recorder: c.Recorder,
		desired: map[name.ServiceKey]announce.Verdict{},
		repairs: workqueue.NewTypedItemExponentialFailureRateLimiter[name.ServiceKey](firstRepair, lastRepair),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[name.ServiceKey](100*time.Millisecond, 30*time.Second)),
	}
}

// Put takes changes of what is announced. It does not block.
func (a *Announced) Put(changes []announce.Change) {
	for _, c := range changes {
		mine := !c.Gone && a.writes(c.Decision)
		a.mu.Lock()
		if mine {
			a.desired[c.Service.Key] = c.Decision.Verdict
		} else {
			delete(a.desired, c.Service.Key)
		}
		a.mu.Unlock()
		a.repairs.Forget(c.Service.Key)
		if mine {
			a.queue.Add(c.Service.Key)
		}
	}
}

// SetUp makes Announced look at each Service that changes: speaker and controller decide by
// views that differ for a moment, and the one whose turn it is may have written first.
func (a *Announced) SetUp(mgr manager.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("announced").For(&corev1.Service{}).Complete(reconcile.Func(a.repair))
}

// repair enqueues a Service whose condition is not what it should be.
func (a *Announced) repair(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	key := name.ServiceKey(r.NamespacedName)
	var s corev1.Service
	if err := a.client.Get(ctx, r.NamespacedName, &s); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if v, ok := a.verdict(key); ok && a.due(&s, v) != nil {
		a.queue.AddAfter(key, a.repairs.When(key))
	}
	return reconcile.Result{}, nil
}

// Retry has what could not be written tried again now: the API server is back.
func (a *Announced) Retry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.desired {
		a.queue.Forget(key)
		a.queue.Add(key)
	}
}

func (a *Announced) verdict(key name.ServiceKey) (announce.Verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.desired[key]
	return v, ok
}

// Start writes until ctx ends; it is a manager.Runnable.
func (a *Announced) Start(ctx context.Context) error {
	var workers sync.WaitGroup
	for range announcedWriters {
		workers.Go(func() {
			for a.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	a.queue.ShutDown()
	workers.Wait()
	return nil
}

// next writes one condition; it returns false when the queue has shut down.
func (a *Announced) next(ctx context.Context) bool {
	key, shutdown := a.queue.Get()
	if shutdown {
		return false
	}
	defer a.queue.Done(key)
	v, ok := a.verdict(key)
	if !ok {
		a.queue.Forget(key)
		return true
	}
	if err := a.write(ctx, key, v); err != nil {
		a.log.Error(err, "cannot write the condition Announced; trying again", "service", key)
		a.queue.AddRateLimited(key)
		return true
	}
	a.queue.Forget(key)
	return true
}

// due returns the condition that a Service should have if it has another one. A Service
// that is not Ballast's, or was never announced because it never had an address, needs none.
func (a *Announced) due(s *corev1.Service, v announce.Verdict) *metav1.Condition {
	if !config.Ours(s, a.class) || config.Foreign(s) {
		return nil
	}
	before := config.Condition(s, v1alpha1.ConditionAnnounced)
	if v == (announce.Verdict{}) {
		if before == nil {
			return nil // Allocated says why
		}
		v = announce.Verdict{Reason: v1alpha1.ReasonNotAllocated, Message: "The Service holds no address with Allocated True."}
	}
	want := NewCondition(before, v1alpha1.ConditionAnnounced, v.Announced, v.Reason, v.Message)
	if Same(before, want) {
		return nil
	}
	return &want
}

// write writes the condition of one Service, if it is due. A Service that is gone, or
// another one by now, is left alone.
func (a *Announced) write(ctx context.Context, key name.ServiceKey, v announce.Verdict) error {
	var s corev1.Service
	if err := a.client.Get(ctx, types.NamespacedName(key), &s); err != nil {
		return client.IgnoreNotFound(err)
	}
	want := a.due(&s, v)
	if want == nil {
		return nil
	}
	_, err := PatchServiceStatus(ctx, a.client, &s, "", nil, map[string]any{"conditions": []metav1.Condition{*want}})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // another Service by now; its own facts follow
	}
	if err != nil {
		return err
	}
	a.tell(&s, config.Condition(&s, v1alpha1.ConditionAnnounced), *want)
	return nil
}

// tell makes an event of a Service that begins or ceases to be announced.
func (a *Announced) tell(s *corev1.Service, before *metav1.Condition, now metav1.Condition) {
	kind := corev1.EventTypeNormal
	if now.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	if before == nil || before.Status != now.Status || before.Reason != now.Reason {
		Event(a.recorder, s, kind, v1alpha1.Reason(now.Reason), "Announce", now.Message)
	}
}
