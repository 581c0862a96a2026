package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// Engine owns the announce.State: one goroutine, in Run, learns facts and hands out changes.
type Engine struct {
	// Self is the node to plan for; "": none.
	Self name.NodeName
	// Gatherer gathers the facts that the engine begins with.
	Gatherer *Gatherer
	// Cache is waited for before anything is decided: a half-known cluster is planned wrongly.
	Cache cache.Cache
	// Apply takes the changes of each step, in the engine's goroutine; it must not block.
	// The first step is about all that is known at the start. Changes are empty if the view
	// changed and no decision did.
	Apply func(*announce.State, []announce.Change)
	// First are facts to begin with, beside those that Gatherer gathers.
	First []announce.Fact

	facts chan []announce.Fact
}

// NewEngine returns an engine to be filled in and run.
func NewEngine() *Engine { return &Engine{facts: make(chan []announce.Fact)} }

// Tell hands facts to the engine; it blocks until the engine has taken them.
func (e *Engine) Tell(ctx context.Context, facts ...announce.Fact) error {
	select {
	case e.facts <- facts:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tell facts: %w", ctx.Err())
	}
}

// Start runs the engine until ctx ends; it is a manager.Runnable.
func (e *Engine) Start(ctx context.Context) error {
	if !e.Cache.WaitForCacheSync(ctx) {
		return nil // ctx ended
	}
	initial, err := e.initial(ctx)
	if err != nil {
		return err
	}
	state := announce.NewState(e.Self)
	e.Apply(state, state.Step(append(initial, e.First...)...))
	for {
		select {
		case <-ctx.Done():
			return nil
		case facts := <-e.facts:
			before := state.Version()
			if changes := state.Step(facts...); len(changes) > 0 || state.Version() != before {
				e.Apply(state, changes)
			}
		}
	}
}

// initial reads the caches; that fails only while they are not filled.
func (e *Engine) initial(ctx context.Context) ([]announce.Fact, error) {
	b := backoff()
	for {
		facts, err := e.Gatherer.Initial(ctx)
		if err == nil {
			return facts, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(b.Step()):
		}
	}
}
