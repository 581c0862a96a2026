package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	toolswatch "k8s.io/client-go/tools/watch"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// record is what was seen of one Service. It outlives the Service.
type record struct {
	version   string
	addressed time.Time // when the first address was seen; zero: none yet
	gone      bool
	status    status
	// How many versions after the first changed what Allocated stands for, only Announced,
	// or neither.
	allocated, announced, other int
}

// status is what Ballast writes to a Service.
type status struct {
	ingress, pool        string
	allocated, announced condition
}

type condition struct{ status, reason, message string }

func conditionOf(s *corev1.Service, kind string) condition {
	c := meta.FindStatusCondition(s.Status.Conditions, kind)
	if c == nil {
		return condition{}
	}
	return condition{string(c.Status), c.Reason, c.Message}
}

func statusOf(s *corev1.Service) status {
	var ingress []string
	for _, one := range s.Status.LoadBalancer.Ingress {
		ingress = append(ingress, one.IP)
	}
	return status{
		ingress: strings.Join(ingress, ","), pool: s.Annotations[v1alpha1.AnnotationPool],
		allocated: conditionOf(s, v1alpha1.ConditionAllocated), announced: conditionOf(s, v1alpha1.ConditionAnnounced),
	}
}

// observer watches the Services of the namespace and notes when each got what. It sees
// every version: a watch skips none.
type observer struct {
	mu      sync.Mutex
	records map[string]*record
	err     error
}

// watchServices begins an observer; it ends with ctx, and done is then closed.
func watchServices(ctx context.Context, c kubernetes.Interface) (o *observer, done chan struct{}, err error) {
	list, err := c.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list Services: %w", err)
	}
	w, err := toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, watcher{c})
	if err != nil {
		return nil, nil, fmt.Errorf("watch Services: %w", err)
	}
	o, done = &observer{records: map[string]*record{}}, make(chan struct{})
	for i := range list.Items {
		o.take(watch.Event{Type: watch.Added, Object: &list.Items[i]}, time.Now())
	}
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			o.take(e, time.Now())
		}
	}()
	return o, done, nil
}

// watcher opens the watch, anew when the API server ends it.
type watcher struct{ client kubernetes.Interface }

// WatchWithContext is what a RetryWatcher asks for.
func (w watcher) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return w.client.CoreV1().Services(namespace).Watch(ctx, o)
}

// take notes one event.
func (o *observer) take(e watch.Event, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := e.Object.(*corev1.Service)
	switch {
	case e.Type == watch.Error:
		o.err = fmt.Errorf("watch Services: %w", apierrors.FromObject(e.Object))
	case !ok || e.Type == watch.Bookmark:
	case e.Type == watch.Deleted:
		if r := o.records[s.Name]; r != nil {
			r.gone = true
		}
	default:
		r := o.records[s.Name]
		if e.Type == watch.Added || r == nil {
			r = &record{}
			o.records[s.Name] = r
		} else {
			r.count(statusOf(s))
		}
		r.see(s, now)
	}
}

func (r *record) see(s *corev1.Service, now time.Time) {
	r.version, r.status = s.ResourceVersion, statusOf(s)
	if r.addressed.IsZero() && r.status.ingress != "" {
		r.addressed = now
	}
}

// count notes what a new version changed.
func (r *record) count(after status) {
	before := r.status
	switch {
	case before.ingress != after.ingress || before.pool != after.pool || before.allocated != after.allocated:
		r.allocated++
	case before.announced != after.announced:
		r.announced++
	default:
		r.other++
	}
}

// present returns copies of the records of the Services of that prefix that exist.
func (o *observer) present(prefix string) (map[string]record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := map[string]record{}
	for name, r := range o.records {
		if strings.HasPrefix(name, prefix) && !r.gone {
			m[name] = *r
		}
	}
	return m, o.err
}

// of returns a copy of what was seen of a Service, whether it still exists or not.
func (o *observer) of(name string) (record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.records[name]; r != nil {
		return *r, o.err
	}
	return record{}, o.err
}
