package kube

import (
	"context"
	"fmt"
	"time"

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
	// Spread takes what is to be told to the other speakers, before Apply; nil: there are none.
	// It must not block.
	Spread func(announce.News)
	// Learned takes what other speakers told that was news, before Apply, to be passed on; nil: nobody
	// passes it on. It must not block.
	Learned func(announce.News)
	// Measure takes the quorums that are to be measured, after each step; nil: none are. It must not
	// block.
	Measure func([]announce.Measurement)
	// First are facts to begin with, beside those that Gatherer gathers.
	First []announce.Fact
	Log   logr.Logger

	facts   chan []announce.Fact
	queries chan func(*announce.State)
}

// NewEngine returns an engine to be filled in and run.
func NewEngine() *Engine {
	return &Engine{facts: make(chan []announce.Fact), queries: make(chan func(*announce.State))}
}

// Tell hands facts to the engine; it blocks until the engine has taken them.
func (e *Engine) Tell(ctx context.Context, facts ...announce.Fact) error {
	select {
	case e.facts <- facts:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tell facts: %w", ctx.Err())
	}
}

// Ask has query look at the state, in the engine's goroutine; it blocks until that is done. What
// query keeps must not change with the state.
func (e *Engine) Ask(ctx context.Context, query func(*announce.State)) error {
	done := make(chan struct{})
	select {
	case e.queries <- func(s *announce.State) { query(s); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ask engine: %w", ctx.Err())
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
	e.step(state, true, append(initial, e.First...))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop()
		if again := state.Again(); !again.IsZero() {
			timer.Reset(max(time.Until(again), 0))
		}
		select {
		case <-ctx.Done():
			return nil
		case facts := <-e.facts:
			e.step(state, false, facts)
		case query := <-e.queries:
			query(state)
		case <-timer.C:
			e.step(state, false, nil)
		}
	}
}

// step learns facts and hands out what follows. What the others are to know leaves first.
func (e *Engine) step(state *announce.State, always bool, facts []announce.Fact) {
	before := state.Version()
	changes := state.Step(time.Now(), facts...)
	if news := state.Outbox(); e.Spread != nil && !news.Empty() {
		e.Spread(news)
	}
	if news := state.Learned(); e.Learned != nil && !news.Empty() {
		e.Learned(news)
	}
	if always || len(changes) > 0 || state.Version() != before {
		e.Apply(state, changes)
	}
	if e.Measure == nil {
		return
	}
	if due := state.Unmeasured(time.Now()); len(due) > 0 {
		e.Measure(due)
	}
}
