package main

import (
	"context"
	"fmt"
	"time"
)

// burstTarget is the longest that a Service may be without address after the last of a
// burst was created.
const burstTarget = time.Second

// burst creates many Services at once and times until the last has an address.
func burst(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("burst: %d Services, created by %d clients at once, %d rounds", b.services, b.workers, b.rounds),
		columns: []string{"median", "max"},
	}
	var creates, lags []time.Duration
	for round := range b.rounds {
		prefix := fmt.Sprintf("burst-%d-", round)
		began := time.Now()
		last, err := b.createAll(ctx, prefix, 0, b.services)
		if err != nil {
			return t, err
		}
		if err := b.addressed(ctx, prefix, b.services); err != nil {
			return t, err
		}
		lag, err := b.lag(prefix, last)
		if err != nil {
			return t, err
		}
		progress("round %d: created in %s, the last address %s later", round+1, seconds(last.Sub(began)), seconds(lag))
		creates, lags = append(creates, last.Sub(began)), append(lags, lag)
		if err := b.remove(ctx, prefix); err != nil {
			return t, err
		}
	}
	worst := quantile(lags, 1)
	t.add("the API server takes all creates", seconds(median(creates)), seconds(quantile(creates, 1)))
	t.aim("<= "+seconds(burstTarget), worst <= burstTarget, "last create returned until last address seen", seconds(median(lags)), seconds(worst))
	return t, nil
}

// lag is how long after a time the last Service of a prefix was seen with an address; 0 if
// all had one by then.
func (b *bed) lag(prefix string, since time.Time) (time.Duration, error) {
	present, err := b.seen.present(prefix)
	var lag time.Duration
	for _, r := range present {
		lag = max(lag, r.addressed.Sub(since))
	}
	return lag, err
}
