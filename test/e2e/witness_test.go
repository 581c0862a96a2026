//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// witness sees every version of every Service, in the order in which the API server wrote
// them, and notes each address that is held twice or that moved. Services of its test
// share no address and never ask for another.
type witness struct {
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	held   map[types.UID][]string
	owner  map[string]types.UID
	names  map[types.UID]string
	faults []string
}

// watchServices begins to watch; the test ends it, and fails if it saw a fault.
func (c *cluster) watchServices() *witness {
	c.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &witness{stop: stop, done: make(chan struct{}), held: map[types.UID][]string{}, owner: map[string]types.UID{}, names: map[types.UID]string{}}
	list, err := c.lab.Client().CoreV1().Services("").List(ctx, metav1.ListOptions{})
	c.must(err)
	for i := range list.Items {
		w.see(&list.Items[i])
	}
	events, err := c.lab.Client().CoreV1().Services("").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	c.must(err)
	go w.run(events)
	c.Cleanup(w.end)
	return w
}

func (w *witness) end() {
	w.stop()
	<-w.done
}

func (w *witness) run(events watch.Interface) {
	defer close(w.done)
	defer events.Stop()
	for e := range events.ResultChan() {
		s, ok := e.Object.(*corev1.Service)
		switch {
		case !ok:
			w.fault("the watch ended: %+v", e.Object)
			return
		case e.Type == watch.Deleted:
			w.forget(s)
		default:
			w.see(s)
		}
	}
}

func (w *witness) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *witness) forget(s *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.held[s.UID] {
		delete(w.owner, a)
	}
	delete(w.held, s.UID)
}

// see takes one version of a Service.
func (w *witness) see(s *corev1.Service) {
	var now []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		now = append(now, i.IP)
	}
	w.mu.Lock()
	before, names := w.held[s.UID], w.names
	names[s.UID] = s.Name
	w.held[s.UID] = now
	var faults []string
	if len(before) > 0 && !slices.Equal(before, now) {
		faults = append(faults, fmt.Sprintf("%s moved from %v to %v (%s)", s.Name, before, now, s.ResourceVersion))
	}
	for _, a := range now {
		if other, taken := w.owner[a]; taken && other != s.UID {
			faults = append(faults, fmt.Sprintf("%s is held by %s and by %s (%s)", a, names[other], s.Name, s.ResourceVersion))
		}
		w.owner[a] = s.UID
	}
	w.faults = append(w.faults, faults...)
	w.mu.Unlock()
}

// check fails if there was a fault.
func (w *witness) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) > 0 {
		t.Errorf("%d faults, the first: %v", len(w.faults), w.faults[:min(len(w.faults), 5)])
	}
}

// lacking names the Services that hold no address.
func (w *witness) lacking() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for uid, held := range w.held {
		if len(held) == 0 {
			names = append(names, w.names[uid])
		}
	}
	return names
}
