package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// routedFew is how many others are announced in the small case.
	routedFew = 10
	// routedRatio bounds the time with many others announced over that with few.
	routedRatio = 1.2
	// routedPrefix is of the Services that are merely announced, samplePrefix of those that are timed.
	routedPrefix = "routed-"
	samplePrefix = "sample-"
)

// paced adds one Service at a time beside few and many that are announced.
func (r *routed) paced(ctx context.Context) (table, error) {
	t := table{
		title:   fmt.Sprintf("paced: one Service more, %d times; from when a watch sees its address until the router's kernel has its route", r.samples),
		columns: []string{"median", "p99", "max"},
	}
	var cases [][]time.Duration
	for _, others := range []int{routedFew, r.routes} {
		if err := r.announced(ctx, others); err != nil {
			return t, err
		}
		progress("adding %d Services, one after the other, beside %d", r.samples+warmSamples, others)
		waits, err := r.addEach(ctx)
		if err != nil {
			return t, err
		}
		t.add(fmt.Sprintf("%d others announced", others), millis(median(waits)), millis(quantile(waits, pacedTail)), millis(quantile(waits, 1)))
		cases = append(cases, waits)
	}
	ratio := func(q float64) float64 { return float64(quantile(cases[1], q)) / float64(quantile(cases[0], q)) }
	middle, tail := ratio(0.5), ratio(pacedTail)
	t.aim("<= "+times(routedRatio), middle <= routedRatio, "ratio of medians, many over few", times(middle))
	t.aim("<= "+times(routedRatio), tail <= routedRatio, "ratio of p99, many over few", "", times(tail))
	return t, nil
}

// announced sees to it that so many Services are announced and the router has their routes, but kube-proxy nothing to do.
func (r *routed) announced(ctx context.Context, n int) error {
	if _, err := r.exposed(ctx, routedPrefix, n, 0); err != nil {
		return err
	}
	return r.quiet(ctx)
}

// addEach makes one Service after the other and deletes it again, and says how long each route took.
func (r *routed) addEach(ctx context.Context) ([]time.Duration, error) {
	m, err := r.lab.MonitorRoutes("r1")
	if err != nil {
		return nil, err
	}
	defer m.Stop()
	var waits []time.Duration
	for i := range r.samples + warmSamples {
		wait, err := r.addOne(ctx, m, numbered(samplePrefix, i))
		if err != nil {
			return nil, err
		}
		if i >= warmSamples {
			waits = append(waits, wait)
		}
	}
	return waits, r.remove(ctx, samplePrefix)
}

// addOne is one sample. An address may be one that an earlier sample had.
func (r *routed) addOne(ctx context.Context, m *lab.RouteMonitor, name string) (time.Duration, error) {
	before := len(m.Seen())
	s := r.service(name)
	s.Labels = map[string]string{proxyLabel: "none"}
	if err := r.create(ctx, s); err != nil {
		return 0, err
	}
	var addressed time.Time
	var prefix netip.Prefix
	var routed time.Time
	err := lab.Poll(ctx, stepLimit, "the router has the route of "+name, func(context.Context) error {
		one, err := r.seen.of(name)
		if err != nil {
			return err
		}
		if one.addressed.IsZero() {
			return errors.New("it has no address")
		}
		a, err := netip.ParseAddr(one.status.ingress)
		if err != nil {
			return err
		}
		addressed, prefix = one.addressed, netip.PrefixFrom(a, a.BitLen())
		routed = changedTo(m.Seen()[before:], prefix, false)
		if routed.IsZero() {
			return fmt.Errorf("%s is not there", prefix)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := r.delete(ctx, name); err != nil {
		return 0, err
	}
	return routed.Sub(addressed), lab.Poll(ctx, stepLimit, "the router has dropped "+prefix.String(), func(context.Context) error {
		if changedTo(m.Seen()[before:], prefix, true).IsZero() {
			return errors.New("it has it")
		}
		return nil
	})
}

// changedTo is when a route first came or went; the zero Time if it did not.
func changedTo(events []lab.RouteEvent, prefix netip.Prefix, deleted bool) time.Time {
	for _, e := range events {
		if e.Prefix == prefix && e.Deleted == deleted {
			return e.At
		}
	}
	return time.Time{}
}
