package lab

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// parallel runs all functions at once, cancels their context when one fails, and returns
// when all have ended, with the first error.
func parallel(ctx context.Context, fns ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, fn := range fns {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// waitLimit bounds every wait of Up and of WaitFor.
const waitLimit = 60 * time.Second

// pollInterval is short against anything a person or a test waits for.
const pollInterval = 100 * time.Millisecond

// Poll calls check until it returns nil: at least once, and at most until ctx ends or
// limit has passed. The error then says what was awaited and what check said last.
func Poll(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // what was true before the deadline tells more than the deadline
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: gave up after %s: %w (%w)", what, time.Since(began).Round(time.Second), last, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
