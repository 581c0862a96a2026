package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// bulkLimit bounds how long Ballast may take to serve or forget any number of Services.
	bulkLimit = 25 * time.Minute
	// requestLimit bounds one request.
	requestLimit = 30 * time.Second
)

// service is a Service that wants an address and no node ports, of which there are too few.
func (b *bed) service(name string) *corev1.Service {
	no := false
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.AllocateLoadBalancerNodePorts = &no
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	if b.nodes > 0 {
		s.Spec.Selector = map[string]string{"app": app}
	}
	return s
}

func (b *bed) create(ctx context.Context, s *corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	if _, err := b.client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Service %s: %w", s.Name, err)
	}
	return nil
}

func (b *bed) delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	if err := b.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete Service %s: %w", name, err)
	}
	return nil
}

// createAll creates the Services prefix+from to prefix+to-1 as fast as the API server
// takes them, and returns when the last was taken.
func (b *bed) createAll(ctx context.Context, prefix string, from, to int) (time.Time, error) {
	err := each(ctx, b.workers, to-from, func(ctx context.Context, i int) error {
		return b.create(ctx, b.service(numbered(prefix, from+i)))
	})
	return time.Now(), err
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%05d", prefix, i) }

// filler is the prefix of the Services that are merely present.
const filler = "filler-"

// fill sees to it that n Services are present, served and at rest.
func (b *bed) fill(ctx context.Context, n int) error {
	present, err := b.seen.present(filler)
	if err != nil {
		return err
	}
	if have := len(present); have != n {
		progress("%d Services present, making it %d", have, n)
	}
	if _, err := b.createAll(ctx, filler, len(present), n); err != nil {
		return err
	}
	err = each(ctx, b.workers, len(present)-n, func(ctx context.Context, i int) error {
		return b.delete(ctx, numbered(filler, n+i))
	})
	if err != nil {
		return err
	}
	if err := b.served(ctx, filler, n); err != nil {
		return err
	}
	return b.quiet(ctx)
}

// remove deletes all Services of a prefix and waits until Ballast is at rest.
func (b *bed) remove(ctx context.Context, prefix string) error {
	present, err := b.seen.present(prefix)
	if err != nil {
		return err
	}
	var names []string
	for name := range present {
		names = append(names, name)
	}
	err = each(ctx, b.workers, len(names), func(ctx context.Context, i int) error { return b.delete(ctx, names[i]) })
	if err != nil {
		return err
	}
	if err := b.served(ctx, prefix, 0); err != nil {
		return err
	}
	return b.quiet(ctx)
}

// addressed waits until exactly n Services of a prefix are there and have an address.
func (b *bed) addressed(ctx context.Context, prefix string, n int) error {
	return b.await(ctx, prefix, n, "have an address", func(r record) bool { return r.status.ingress != "" })
}

// served waits until they have their condition Announced, too: True if there is a node.
func (b *bed) served(ctx context.Context, prefix string, n int) error {
	return b.await(ctx, prefix, n, "are served", func(r record) bool {
		said := r.status.announced.status
		return r.status.ingress != "" && (said == "True" || b.nodes == 0 && said != "")
	})
}

func (b *bed) await(ctx context.Context, prefix string, n int, verb string, ok func(record) bool) error {
	what := fmt.Sprintf("%d Services %s... %s", n, prefix, verb)
	return lab.Poll(ctx, bulkLimit, what, func(context.Context) error {
		present, err := b.seen.present(prefix)
		if err != nil {
			return err
		}
		good := 0
		for _, r := range present {
			if ok(r) {
				good++
			}
		}
		if len(present) != n || good != n {
			return fmt.Errorf("%d are there, of which %d %s", len(present), good, verb)
		}
		return nil
	})
}

// each calls fn for 0 to n-1 from that many goroutines at once, stops when one call
// fails, and returns when all have ended, with what failed.
func each(ctx context.Context, workers, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
