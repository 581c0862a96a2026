package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// commandLimit bounds what a fault's beginning or end takes; the API server's start takes the longest.
const commandLimit = time.Minute

// Round runs one round of a plan and returns what was seen of it. All faults have ended when it returns, also when it
// fails or ctx ends.
func (b *Bed) Round(ctx context.Context, seed uint64, round int) (Observation, error) {
	faults, length := Plan(seed, round)
	began := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var o Observation
	var werr error
	var watcher sync.WaitGroup
	watcher.Go(func() { o, werr = b.watch(watching, began) })

	happenings := make([]Happening, len(faults))
	errs := make([]error, len(faults))
	var wg sync.WaitGroup
	for i, f := range faults {
		b.faults++
		d := driver{lab: b.lab, number: b.faults}
		wg.Go(func() { happenings[i], errs[i] = d.run(ctx, f, began) })
	}
	wg.Wait()
	// If commands took long, the calm is not shorter for it.
	var last time.Duration
	for _, h := range happenings {
		last = max(last, h.Ended)
	}
	sleepUntil(ctx, began.Add(max(length, last+calmTime)))
	seen := time.Since(began) // what follows takes a while in which nobody looks
	stop()
	watcher.Wait()
	o.Happenings, o.Length = happenings, seen
	return o, errors.Join(append(errs, werr, ctx.Err())...)
}

// run brings a fault about at its time and undoes it at its end.
func (d driver) run(ctx context.Context, f Fault, began time.Time) (Happening, error) {
	h := Happening{Fault: f}
	if !sleepUntil(ctx, began.Add(f.Begin)) {
		return h, nil
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.Length+2*commandLimit)
	defer cancel()
	h.Began = time.Since(began)
	err := d.begin(limited, f)
	h.InForce = time.Since(began)
	sleepUntil(ctx, began.Add(f.End()))
	h.Ending = time.Since(began)
	err = errors.Join(err, d.end(limited, f))
	h.Ended = time.Since(began)
	if err != nil {
		err = fmt.Errorf("%s: %w", f, err)
	}
	return h, err
}

// sleepUntil says whether ctx outlived the wait.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
