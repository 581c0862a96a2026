package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Health answers a kubelet's probes from the first moment: alive as long as the process is, ready once no check says why
// it is not. It is safe for concurrent use. Use NewHealth.
type Health struct {
	log    logr.Logger
	mu     sync.Mutex
	checks []healthCheck
}

// healthCheck is something to be ready for.
type healthCheck struct {
	name string
	why  func() error
}

// healthTimeout bounds reading a probe and answering it.
const healthTimeout = 5 * time.Second

// NewHealth returns a Health that is not ready: it starts.
func NewHealth(log logr.Logger) *Health {
	h := &Health{log: log}
	h.Check("start", func() error { return errors.New("it starts") })
	return h
}

// Check has readiness ask why, which returns nil once there is no reason to wait; it must not block. A check of the same
// name is replaced.
func (h *Health) Check(name string, why func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(slices.DeleteFunc(h.checks, func(c healthCheck) bool { return c.name == name }), healthCheck{name, why})
}

// Started says that the start is over: what there is to wait for has its own checks.
func (h *Health) Started() { h.Check("start", func() error { return nil }) }

// following returns a try that does what another does, of which the start says why it failed.
func (h *Health) following(try func() error) func() error {
	return func() error {
		err := try()
		h.Check("start", func() error {
			if err != nil {
				return fmt.Errorf("waiting for %w", err)
			}
			return errors.New("it starts")
		})
		return err
	}
}

// Why says why it is not ready; nil: it is.
func (h *Health) Why() error {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	var errs []error
	for _, c := range checks {
		if err := c.why(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// Serve answers at a TCP address until ctx ends; "0" and "" are off. It waits while a predecessor has the port.
func (h *Health) Serve(ctx context.Context, address string) {
	if address == "0" || address == "" {
		return
	}
	var l net.Listener
	err := Until(ctx, h.log, func() (err error) {
		if l, err = net.Listen("tcp", address); err != nil {
			return fmt.Errorf("the port of the health probes: %w", err)
		}
		return nil
	})
	if err != nil {
		return // ctx ended
	}
	server := &http.Server{Handler: h.handler(), ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, IdleTimeout: time.Minute}
	var ending sync.WaitGroup
	defer ending.Wait()
	ended := make(chan struct{})
	defer close(ended)
	ending.Go(func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		_ = server.Close() // there is nothing to be done about it
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		h.log.Error(err, "health probes ended")
	}
}

func (h *Health) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(why func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if err := why(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, strings.TrimSpace(err.Error())) // the probe may be gone
				return
			}
			_, _ = fmt.Fprintln(w, "ok")
		}
	}
	mux.Handle("GET /healthz", answer(func() error { return nil }))
	mux.Handle("GET /readyz", answer(h.Why))
	return mux
}
