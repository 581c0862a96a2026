package kube

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
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
	Log   logr.Logger

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
	var initial []announce.Fact
	err := Until(ctx, e.Log, func() (err error) {
		initial, err = e.Gatherer.Initial(ctx)
		return err
	})
	if err != nil {
		return nil // ctx ended
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
