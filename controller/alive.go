package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/kube"
)

// silence is how long a Speaker may go without a refresh, of which there is one every 30 s.
const silence = 90 * time.Second

// alive sets the Alive condition of Speakers that fell silent to Unknown. It measures by
// its own clock from when it saw the last refresh, so that clocks need not agree.
type alive struct {
	client client.Client
	now    func() time.Time
	seen   map[string]sighting // owned by the one worker of Reconcile
}

// sighting is a version of a Speaker and when it was first seen.
type sighting struct {
	version string
	at      time.Time
}

func newAlive(c client.Client) *alive {
	return &alive{client: c, now: time.Now, seen: map[string]sighting{}}
}

func (r *alive) setUp(mgr manager.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("alive").For(&v1alpha1.Speaker{}).Complete(r)
}

// Reconcile looks at one Speaker, and again when its silence would be over.
func (r *alive) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var s v1alpha1.Speaker
	if err := r.client.Get(ctx, req.NamespacedName, &s); err != nil {
		delete(r.seen, req.Name)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	condition := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAlive)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		return reconcile.Result{}, nil
	}
	last := r.seen[s.Name]
	if last.version != s.ResourceVersion {
		last = sighting{s.ResourceVersion, r.now()}
		r.seen[s.Name] = last
	}
	if left := silence - r.now().Sub(last.at); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	after := s.DeepCopy()
	meta.SetStatusCondition(&after.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionAlive, Status: metav1.ConditionUnknown, Reason: string(v1alpha1.ReasonSilent),
		Message: fmt.Sprintf("The speaker has not refreshed its status for %s.", silence),
	})
	if err := r.client.Status().Patch(ctx, after, client.MergeFromWithOptions(&s, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write Alive of Speaker %s: %w", s.Name, err)
	}
	return reconcile.Result{}, nil
}
