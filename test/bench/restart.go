package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const (
	// cleanTarget is from the start of the process to the first new address.
	cleanTarget = 5 * time.Second
	// crashTarget adds the lease, which a killed controller does not give back.
	crashTarget = cleanTarget + 6*time.Second
)

// restart stops and starts the controller with many Services present, cleanly and not, and
// times until a Service that was created meanwhile has its address.
func restart(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("restart: of the controller with %d Services present, %d rounds; process start until a waiting Service has its address", b.many, b.rounds),
		columns: []string{"median", "max"},
	}
	if err := b.fill(ctx, b.many); err != nil {
		return t, err
	}
	err := b.restarts(ctx, &t, ending{syscall.SIGTERM, cleanTarget, "a clean stop (SIGTERM)"})
	if err != nil {
		return t, err
	}
	return t, b.restarts(ctx, &t, ending{syscall.SIGKILL, crashTarget, "a crash (SIGKILL)"})
}

// ending is a way to end the controller, and what it may cost.
type ending struct {
	signal syscall.Signal
	target time.Duration
	name   string
}

// restarts runs the rounds of one ending.
func (b *bed) restarts(ctx context.Context, t *table, e ending) error {
	before, err := b.seen.present(filler)
	if err != nil {
		return err
	}
	var waits []time.Duration
	for round := range b.rounds {
		wait, err := b.restartOnce(ctx, e, fmt.Sprintf("restart-%d-%d-", e.signal, round))
		if err != nil {
			return err
		}
		progress("round %d: first address %s after the start that follows %s", round+1, seconds(wait), e.name)
		waits = append(waits, wait)
	}
	after, err := b.seen.present(filler)
	if err != nil {
		return err
	}
	worst, changed := quantile(waits, 1), rewritten(before, after)
	t.aim("<= "+seconds(e.target), worst <= e.target, "after "+e.name, seconds(median(waits)), seconds(worst))
	t.aim("0", changed == 0, fmt.Sprintf("of %d Services rewritten meanwhile", len(before)), "", count(changed))
	return nil
}

// restartOnce returns how long after its start the controller serves a Service that was
// created while it was down. It returns when all is at rest.
func (b *bed) restartOnce(ctx context.Context, e ending, prefix string) (time.Duration, error) {
	p, err := b.lab.Process(controller)
	if err != nil {
		return 0, err
	}
	if err := p.Stop(ctx, e.signal); err != nil {
		return 0, err
	}
	if err := b.create(ctx, b.service(prefix+"0")); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := p.Start(); err != nil {
		return 0, err
	}
	if err := b.served(ctx, prefix, 1); err != nil {
		return 0, err
	}
	wait, err := b.lag(prefix, began)
	if err != nil {
		return 0, err
	}
	if err := b.quiet(ctx); err != nil {
		return 0, err
	}
	return wait, b.remove(ctx, prefix)
}

// rewritten counts the Services that are no longer as they were: every write makes a new version.
func rewritten(before, after map[string]record) int {
	n := 0
	for name, r := range before {
		if after[name].version != r.version {
			n++
		}
	}
	return n
}
