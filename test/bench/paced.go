package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// The targets are ratios: Ballast's time over the reference client's, in the same run.
	pacedMedianTarget = 1.5
	pacedTailTarget   = 3.0
	// pacedTail is the quantile of the second.
	pacedTail = 0.99
	// pacedLife is for how long a Service is left alone before it is deleted.
	pacedLife = 2 * time.Second
	// warmSamples of each kind come first and do not count.
	warmSamples = 10
)

// paced creates Services at a steady pace, by turns for Ballast and for the reference
// client, with few and with many others present.
func paced(ctx context.Context, b *bed) (table, error) {
	t := table{
		title: fmt.Sprintf("paced: %d creates a second, by turns for Ballast and for a reference client, %d each; create returned until address seen",
			b.rate, b.samples),
		columns: []string{"median", "p99", "max"},
	}
	for _, present := range []int{b.few, b.many} {
		if err := b.fill(ctx, present); err != nil {
			return t, err
		}
		progress("creating %d Services, %d a second, beside %d present", 2*(b.samples+warmSamples), b.rate, present)
		samples, err := b.race(ctx, fmt.Sprintf("paced-%d-", present))
		if err != nil {
			return t, err
		}
		pacedFigures(&t, samples, present)
	}
	return t, nil
}

// sample is one Service whose way to an address is timed.
type sample struct {
	name     string
	class    string    // of the implementation that is to serve it; "": Ballast
	returned time.Time // when the create had returned
	wait     time.Duration
}

// race runs the reference client beside Ballast and returns the samples that count.
func (b *bed) race(ctx context.Context, prefix string) ([]*sample, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := b.lab.Exec(ctx, "cp", self, referenceVerb) // ends with ctx
		stop(fmt.Errorf("run the reference client: %w", err))
	})
	defer wg.Wait()
	defer stop(nil)
	samples, err := b.pace(ctx, prefix)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return samples, err
}

// pace creates the samples by turns and returns, once all have an address and are
// deleted, those that count.
func (b *bed) pace(ctx context.Context, prefix string) ([]*sample, error) {
	first := &sample{name: prefix + "first", class: referenceClass}
	if err := b.createSample(ctx, first); err != nil {
		return nil, err
	}
	if err := b.addressed(ctx, first.name, 1); err != nil {
		return nil, err
	}
	var samples []*sample
	for i := range b.samples + warmSamples {
		samples = append(samples, &sample{name: numbered(prefix+"a-", i)}, &sample{name: numbered(prefix+"b-", i), class: referenceClass})
	}
	if err := b.createPaced(ctx, samples); err != nil {
		return nil, err
	}
	if err := b.timeSamples(ctx, samples); err != nil {
		return nil, err
	}
	return samples[2*warmSamples:], b.remove(ctx, prefix)
}

// createPaced creates one sample each tick, and deletes each after a while, so that the
// number of Services present stays about the same.
func (b *bed) createPaced(ctx context.Context, samples []*sample) error {
	ticker := time.NewTicker(time.Second / time.Duration(b.rate))
	defer ticker.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	spawn := func(fn func(context.Context) error) {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	behind := int(pacedLife.Seconds() * float64(b.rate))
	for i, s := range samples {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			spawn(func(ctx context.Context) error { return b.createSample(ctx, s) })
			if i >= behind {
				spawn(func(ctx context.Context) error { return b.deleteSample(ctx, samples[i-behind]) })
			}
		}
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *bed) createSample(ctx context.Context, s *sample) error {
	service := b.service(s.name)
	if s.class != "" {
		service.Spec.LoadBalancerClass = &s.class
	}
	err := b.create(ctx, service)
	s.returned = time.Now()
	return err
}

// deleteSample deletes a Service, unless it still waits for its address.
func (b *bed) deleteSample(ctx context.Context, s *sample) error {
	r, err := b.seen.of(s.name)
	if err != nil || r.addressed.IsZero() {
		return err
	}
	return b.delete(ctx, s.name)
}

// timeSamples waits until every sample has had an address, and says how long it took.
func (b *bed) timeSamples(ctx context.Context, samples []*sample) error {
	return lab.Poll(ctx, time.Minute, "every paced Service has had an address", func(context.Context) error {
		for _, s := range samples {
			r, err := b.seen.of(s.name)
			if err != nil {
				return err
			}
			if r.addressed.IsZero() {
				return fmt.Errorf("%s (class %q) has none", s.name, s.class)
			}
			s.wait = r.addressed.Sub(s.returned)
		}
		return nil
	})
}

// pacedFigures compares the two kinds of samples.
func pacedFigures(t *table, samples []*sample, present int) {
	var ours, theirs []time.Duration
	for _, s := range samples {
		if s.class == "" {
			ours = append(ours, s.wait)
		} else {
			theirs = append(theirs, s.wait)
		}
	}
	line := func(name string, waits []time.Duration) {
		t.add(fmt.Sprintf("%d present: %s", present, name), millis(median(waits)), millis(quantile(waits, pacedTail)), millis(quantile(waits, 1)))
	}
	line("Ballast", ours)
	line("reference client", theirs)
	ratio := func(q float64) float64 { return float64(quantile(ours, q)) / float64(quantile(theirs, q)) }
	middle, tail := ratio(0.5), ratio(pacedTail)
	t.aim("<= "+times(pacedMedianTarget), middle <= pacedMedianTarget, fmt.Sprintf("%d present: ratio of medians", present), times(middle))
	t.aim("<= "+times(pacedTailTarget), tail <= pacedTailTarget, fmt.Sprintf("%d present: ratio of p99", present), "", times(tail))
}
