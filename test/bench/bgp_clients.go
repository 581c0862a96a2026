package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// wanTimeout is how long a new connection may take, and its question.
	wanTimeout = 3 * time.Second
	// inFlight is how long before a change of routes a connection may have begun that the change may break: routers
	// that choose by a hash of the flow then send the rest of it to another node.
	inFlight = 100 * time.Millisecond
)

// pool is the bench's addresses.
func pool() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/15") }

// travelers are the client's new and kept connections, and what becomes of routes meanwhile.
type travelers struct {
	*clients
	monitors []*lab.RouteMonitor
	began    time.Time
}

// travel starts clients behind the routers: new connections every 10 ms and 60 kept ones.
func (r *routed) travel(ctx context.Context, target netip.Addr) (*travelers, error) {
	to := netip.AddrPortFrom(target, 80)
	t := &travelers{clients: &clients{bed: r.bed}}
	err := r.lab.ForgetConnections(ctx) // of earlier runs
	if err == nil {
		err = lab.Poll(ctx, stepLimit, "the client reaches "+to.String(), func(ctx context.Context) error {
			_, err := r.lab.HTTP(ctx, "wan", "http://"+to.String()+"/")
			return err
		})
	}
	if err == nil {
		t.held, err = r.lab.Hold(ctx, lab.Hold{From: "wan", Target: to})
	}
	for _, router := range r.routers() {
		if err == nil {
			var m *lab.RouteMonitor
			if m, err = r.lab.MonitorRoutes(router); err == nil {
				t.monitors = append(t.monitors, m)
			}
		}
	}
	if err == nil {
		t.prober, err = r.lab.StartProber(lab.Probe{From: "wan", Targets: []netip.AddrPort{to}, Interval: probeInterval, Timeout: wanTimeout})
	}
	if err == nil {
		err = t.observe(ctx, 50)
	}
	if err != nil {
		t.arrive()
		return nil, err
	}
	t.began = time.Now()
	return t, nil
}

// journey is what became of the clients of one run.
type journey struct {
	outcome
	log    lab.ProbeLog
	events []lab.RouteEvent // of both routers, of the pool's prefixes, by time
	began  time.Time
}

// arrive ends all and reports.
func (t *travelers) arrive() journey {
	j := journey{outcome: t.stop(), began: t.began}
	if t.prober != nil {
		j.log = t.prober.Log()
	}
	for _, m := range t.monitors {
		for _, e := range m.Stop() {
			if pool().Contains(e.Prefix.Addr()) {
				j.events = append(j.events, e)
			}
		}
	}
	slices.SortFunc(j.events, func(a, b lab.RouteEvent) int { return a.At.Compare(b.At) })
	return j
}

// unwell are the new connections that failed or were slow.
func (j journey) unwell() []lab.Attempt { return j.log.Unwell(time.Time{}) }

// gap is from what was done until the last new connection was begun that failed or was slow.
func (j journey) gap() time.Duration {
	var last time.Duration
	for _, a := range j.unwell() {
		last = max(last, a.Start.Sub(j.began))
	}
	return last
}

// unexcused are how many of them were not in flight when routes changed.
func (j journey) unexcused() int {
	n := 0
	for _, a := range j.unwell() {
		excused := slices.ContainsFunc(j.events, func(e lab.RouteEvent) bool {
			before := e.At.Sub(a.Start)
			return before >= 0 && before <= inFlight
		})
		if !excused {
			n++
		}
	}
	return n
}

// deleted is how many routes the routers deleted.
func (j journey) deleted() int {
	n := 0
	for _, e := range j.events {
		if e.Deleted {
			n++
		}
	}
	return n
}

// lastChange is how long after what was done a router last changed a route; 0 if none did.
func (j journey) lastChange() time.Duration {
	if len(j.events) == 0 {
		return 0
	}
	return max(0, j.events[len(j.events)-1].At.Sub(j.began))
}

// String is one line for a run.
func (j journey) String() string {
	return fmt.Sprintf("gap %s, %d failed or slow of which %d not at a change of routes, %d changes of routes, the last after %s, %d deletions; %s; %s",
		seconds(j.gap()), len(j.unwell()), j.unexcused(), len(j.events), seconds(j.lastChange()), j.deleted(), j.probed, j.held)
}

// journeys are those of all runs.
type journeys []journey

func (all journeys) counts(of func(journey) int) []int { return collect(all, of) }

func (all journeys) delay() time.Duration {
	return quantile(collect(all, func(j journey) time.Duration { return j.probed.Delay }), 1)
}

// counted adds a line with the median and the largest of a count.
func (t *table) counted(name string, values []int) {
	t.add(name, count(median(values)), count(quantile(values, 1)))
}

// none is counted with the target 0 for the largest.
func (t *table) none(name string, values []int) {
	t.aim("0", quantile(values, 1) == 0, name, count(median(values)), count(quantile(values, 1)))
}

// again waits until a node's speaker says that its sessions with the routers began after a moment, and the routers
// say so, too.
func (r *routed) again(ctx context.Context, node string, since time.Time) error {
	since = since.Truncate(time.Second) // what the API tells
	const peers = `jsonpath={range .status.peers[*]}{.name} {.state} {.since}{"\n"}{end}`
	err := lab.Poll(ctx, stepLimit, "the sessions of "+node+" are back", func(ctx context.Context) error {
		out, err := r.lab.Kubectl(ctx, "get", "speaker", node, "-o", peers)
		if err != nil {
			return err
		}
		for _, router := range r.routers() {
			if err := begunSince(out, router, since); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, r.peered(ctx))
}

// begunSince looks for a peer's line.
func begunSince(lines, peer string, since time.Time) error {
	for line := range strings.Lines(lines) {
		var name, state, at string
		if n, _ := fmt.Sscan(line, &name, &state, &at); n != 3 || name != peer {
			continue
		}
		began, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return fmt.Errorf("read when a session began: %w", err)
		}
		if state != "Established" || began.Before(since) {
			return fmt.Errorf("with %s: %s since %s", peer, state, at)
		}
		return nil
	}
	return fmt.Errorf("with %s: unknown", peer)
}
