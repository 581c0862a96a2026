package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// firstConnections are opened to each new address, firstPause apart.
	firstConnections = 40
	firstPause       = time.Millisecond
	// firstSlow is the longest that a connection may take: a SYN that was lost comes again after 1 s (RFC 6298 section 2),
	// and may find the address then; connections that conntrack keeps lost never succeed.
	firstSlow = 1500 * time.Millisecond
	// firstTimeout bounds one connection.
	firstTimeout = 5 * time.Second
	// firstLook is the pause between two looks whether the address or its route is there.
	firstLook   = time.Millisecond
	firstPrefix = "first-"
)

// firstSuite is about connections that are opened as soon as clients can know of an address. Each section has a lab of its
// own.
func firstSuite() suite {
	r := &routed{}
	spec := routedSpec{nodes: failoverNodes, routers: 1, bfd: lab.BFDTimers{Receive: 300, Transmit: 300, Multiplier: 3}}
	return suite{name: "first", close: r.close, sections: []section{
		{"layer2", firstInLayer2},
		{"bgp", r.in(spec, r.firstByBGP)},
	}}
}

// firstRun is what became of the first connections to one address.
type firstRun struct {
	attempts []lab.Attempt
	// waited is from when the status held the address until the first connection was opened, spread from then until the last
	// change of the router's routes to it; 0: there was none, or there is no router.
	waited, spread time.Duration
}

// bad counts those that failed or were slow.
func (f firstRun) bad() int {
	n := 0
	for _, a := range f.attempts {
		if a.Outcome != lab.Answered || a.Answered > firstSlow {
			n++
		}
	}
	return n
}

// longest is how long the slowest took that was answered.
func (f firstRun) longest() time.Duration {
	var d time.Duration
	for _, a := range f.attempts {
		d = max(d, a.Answered)
	}
	return d
}

// firstInLayer2 opens connections on the LAN the moment that an address is in its Service's status.
func firstInLayer2(ctx context.Context, o *bed) (t table, err error) {
	b, err := newBed(ctx, failoverNodes, o.settings)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepareFailover(ctx); err != nil {
		return t, b.explain(ctx, err)
	}
	t, err = b.firsts(ctx, "layer2", func(ctx context.Context, name string) (firstRun, error) {
		return b.first(ctx, name, "lan", func(netip.Addr) bool { return true })
	})
	if err != nil {
		return t, b.explain(ctx, err)
	}
	return t, nil
}

// firstByBGP opens connections behind the router the moment that its kernel has the route.
func (r *routed) firstByBGP(ctx context.Context) (table, error) {
	m, err := r.lab.MonitorRoutes("r1")
	if err != nil {
		return table{}, err
	}
	defer m.Stop()
	t, err := r.firsts(ctx, "bgp", func(ctx context.Context, name string) (firstRun, error) {
		before := len(m.Seen())
		var prefix netip.Prefix
		run, err := r.first(ctx, name, "wan", func(a netip.Addr) bool {
			prefix = netip.PrefixFrom(a, a.BitLen())
			return !changedTo(m.Seen()[before:], prefix, false).IsZero()
		})
		if err != nil {
			return run, err
		}
		events := slices.DeleteFunc(m.Seen()[before:], func(e lab.RouteEvent) bool { return e.Prefix != prefix })
		run.spread = events[len(events)-1].At.Sub(events[0].At)
		err = r.delete(ctx, name)
		if err != nil {
			return run, err
		}
		return run, lab.Poll(ctx, stepLimit, "the router has dropped "+prefix.String(), func(context.Context) error {
			if changedTo(m.Seen()[before:], prefix, true).IsZero() {
				return errors.New("it has it")
			}
			return nil
		})
	})
	t.note("spread: from the router's first route to the address until its last change: while it is not 0, flows are spread anew")
	return t, err
}

// firsts runs once for each Service, and sums up.
func (b *bed) firsts(ctx context.Context, where string, once func(context.Context, string) (firstRun, error)) (table, error) {
	t := table{
		title:   fmt.Sprintf("first: %s: %d connections the moment a new address can be known, %d times", where, firstConnections, b.runs),
		columns: []string{"sum", "median", "max"},
	}
	var all []firstRun
	for i := range b.runs {
		if err := b.lab.ForgetConnections(ctx); err != nil {
			return t, err
		}
		run, err := once(ctx, numbered(firstPrefix, i))
		if err != nil {
			return t, err
		}
		progress("run %d: %d of %d failed or were slow, longest %s, begun after %s, spread %s",
			i+1, run.bad(), len(run.attempts), millis(run.longest()), millis(run.waited), millis(run.spread))
		all = append(all, run)
	}
	bad := collect(all, firstRun.bad)
	sum := 0
	for _, n := range bad {
		sum += n
	}
	t.aim("0", sum == 0, fmt.Sprintf("failed, or took more than %s", seconds(firstSlow)), count(sum), count(median(bad)), count(slices.Max(bad)))
	for _, f := range []struct {
		name string
		of   func(firstRun) time.Duration
	}{
		{"the longest that was answered", firstRun.longest},
		{"from the status until the first connection", func(f firstRun) time.Duration { return f.waited }},
		{"spread", func(f firstRun) time.Duration { return f.spread }},
	} {
		values := collect(all, f.of)
		t.add(f.name, "", millis(median(values)), millis(slices.Max(values)))
	}
	return t, b.remove(ctx, firstPrefix)
}

// first makes a Service and opens connections to it once it has an address that can be used.
func (b *bed) first(ctx context.Context, name, from string, usable func(netip.Addr) bool) (firstRun, error) {
	s := b.service(name)
	s.Spec.Ports[0].TargetPort = intstr.FromInt32(lab.BackendPort)
	if err := b.create(ctx, s); err != nil {
		return firstRun{}, err
	}
	address, addressed, err := b.awaitUsable(ctx, name, usable)
	if err != nil {
		return firstRun{}, err
	}
	began := time.Now()
	prober, err := b.lab.StartProber(lab.Probe{
		From: from, Targets: []netip.AddrPort{netip.AddrPortFrom(address, 80)}, Interval: firstPause, Timeout: firstTimeout,
	})
	if err != nil {
		return firstRun{}, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * firstConnections * firstPause): // some attempts may have been skipped
	}
	attempts := prober.Stop().Attempts
	slices.SortFunc(attempts, func(a, b lab.Attempt) int { return a.Start.Compare(b.Start) })
	return firstRun{attempts: attempts[:min(len(attempts), firstConnections)], waited: began.Sub(addressed)}, ctx.Err()
}

// awaitUsable waits until a Service has an address that can be used, looking often.
func (b *bed) awaitUsable(ctx context.Context, name string, usable func(netip.Addr) bool) (netip.Addr, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	look := time.NewTicker(firstLook)
	defer look.Stop()
	for {
		one, err := b.seen.of(name)
		if err != nil {
			return netip.Addr{}, time.Time{}, err
		}
		if !one.addressed.IsZero() {
			a, err := netip.ParseAddr(one.status.ingress)
			if err != nil {
				return netip.Addr{}, time.Time{}, fmt.Errorf("read ingress of %s: %w", name, err)
			}
			if usable(a) {
				return a, one.addressed, nil
			}
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, time.Time{}, fmt.Errorf("wait for the address of %s: %w", name, ctx.Err())
		case <-look.C:
		}
	}
}
