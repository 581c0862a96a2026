package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

const (
	// reachEvery is how often the API server is asked whether it is there, reachTimeout how long its
	// answer is waited for.
	reachEvery, reachTimeout = 3 * time.Second, 2 * time.Second
	// staleAfter is how long the API server may be away before what this node knows of Services,
	// nodes and endpoints is taken for old.
	staleAfter = 10 * time.Second
)

// reach finds out whether the API server can be reached. Watches do not tell: one whose packets are
// dropped looks like one to which nothing happens.
type reach struct {
	url     string
	client  *http.Client
	changed func()
	log     logr.Logger

	stale atomic.Bool
}

// run asks until ctx ends.
func (r *reach) run(ctx context.Context) error {
	ask := time.NewTicker(reachEvery)
	defer ask.Stop()
	for answered := time.Now(); ; {
		err := r.ask(ctx)
		if err == nil {
			answered = time.Now()
		}
		if stale := time.Since(answered) >= staleAfter; r.stale.Swap(stale) != stale {
			if stale {
				r.log.Info("the API server is out of reach: this node takes nothing from owners that live", "error", err.Error())
			} else {
				r.log.Info("the API server is back in reach")
			}
			r.changed()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ask.C:
		}
	}
}

// ask returns an error unless the API server answers, and has what it needs itself.
func (r *reach) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.url, "/")+"/livez", nil)
	if err != nil {
		return fmt.Errorf("ask API server: %w", err)
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask API server: %w", err)
	}
	if err := answer.Body.Close(); err != nil {
		return fmt.Errorf("ask API server: %w", err)
	}
	if answer.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("ask API server: %s", answer.Status)
	}
	return nil
}
