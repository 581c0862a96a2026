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
	// watchRetry is the longest pause of client-go between two attempts to take up a watch again: once
	// the API server is back, what this node knows is old for as long as it was away, and for no longer.
	watchRetry = 30 * time.Second
)

// reach finds out whether the API server can be reached. Watches do not tell: one whose packets are
// dropped looks like one to which nothing happens.
type reach struct {
	url string
	// client has connections of its own: after a question without an answer they are given up.
	client *http.Client
	// changed is called when stale is another, back when the API server answers again.
	changed, back func()
	log           logr.Logger

	stale atomic.Bool
}

// run asks until ctx ends.
func (r *reach) run(ctx context.Context) error {
	ask := time.NewTicker(reachEvery)
	defer ask.Stop()
	for a := (absence{answered: time.Now()}); ; {
		err := r.ask(ctx)
		a.note(err == nil, time.Now())
		if a.back {
			r.back()
		}
		if stale := a.stale(time.Now()); r.stale.Swap(stale) != stale {
			if stale {
				r.log.Info("the API server was out of reach for long: this node takes nothing from owners that live", "error", err)
			} else {
				r.log.Info("the API server is back in reach, and what this node knows of it is new")
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

// absence is since when the API server has been away, and what that means. It is pure.
type absence struct {
	// answered is when the API server last answered; fresh is when the watches that it cost are surely
	// taken up again.
	answered, fresh time.Time
	// away says that the last question was not answered, back that the one before was not, but the last.
	away, back bool
}

// note takes whether a question was answered.
func (a *absence) note(answered bool, now time.Time) {
	a.back = answered && a.away
	if a.away = !answered; a.away {
		return
	}
	if gone := now.Sub(a.answered); gone >= staleAfter {
		a.fresh = now.Add(min(gone, watchRetry))
	}
	a.answered = now
}

// stale says whether what this node knows may be old.
func (a *absence) stale(now time.Time) bool {
	return now.Sub(a.answered) >= staleAfter || now.Before(a.fresh)
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
		r.client.CloseIdleConnections()
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
