package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// routesBackTarget bounds the time from a router's last session until it forwards everything again.
const routesBackTarget = time.Second

// routerBack is one restart of a router.
type routerBack struct {
	sessions time.Duration // from its start until its last session
	routes   time.Duration // from then until its last route
}

// routerRestarts kills a router's bgpd and starts it again.
func (r *routed) routerRestarts(ctx context.Context) (table, error) {
	t := table{
		title:   fmt.Sprintf("router: bgpd is killed and started again, %d runs; %d routes by three nodes", r.runs, r.routes),
		columns: []string{"median", "max"},
	}
	if err := r.peer(ctx, watched()); err != nil {
		return t, err
	}
	if _, err := r.exposed(ctx, travelPrefix, r.routes, 1); err != nil {
		return t, err
	}
	var all []routerBack
	for run := range r.runs {
		one, err := r.routerRestart(ctx, r.routers()[run%len(r.routers())])
		if err != nil {
			return t, fmt.Errorf("run %d: %w", run+1, err)
		}
		progress("run %d: the last session after %s, the last route %s later", run+1, seconds(one.sessions), seconds(one.routes))
		all = append(all, one)
	}
	routes := collect(all, func(one routerBack) time.Duration { return one.routes })
	sessions := collect(all, func(one routerBack) time.Duration { return one.sessions })
	t.add("from the restart until the last of three sessions", seconds(median(sessions)), seconds(quantile(sessions, 1)))
	worst := quantile(routes, 1)
	t.aim("< "+seconds(routesBackTarget), worst < routesBackTarget, "from then until the router's kernel has every route to every node", seconds(median(routes)), seconds(worst))
	t.note("When a session began is by the speakers' logs, when a route was complete by the router's kernel.")
	return t, nil
}

// routerRestart is one run.
func (r *routed) routerRestart(ctx context.Context, router string) (one routerBack, err error) {
	m, err := r.lab.MonitorRoutes(router)
	if err != nil {
		return one, err
	}
	defer m.Stop()
	began := time.Now()
	if err := r.lab.RestartRouter(ctx, router, syscall.SIGKILL); err != nil {
		return one, err
	}
	if err := r.peered(ctx); err != nil {
		return one, err
	}
	var last time.Time
	for _, node := range r.announcers() {
		at, err := r.sessionUp(node, router, began)
		if err != nil {
			return one, err
		}
		if at.After(last) {
			last = at
		}
	}
	var complete time.Time
	err = lab.Poll(ctx, stepLimit, fmt.Sprintf("%s forwards %d routes to every node", router, r.routes), func(context.Context) error {
		done, have := completedAt(m.Seen(), len(r.announcers()))
		if have != r.routes {
			return fmt.Errorf("%d routes", have)
		}
		complete = done
		return nil
	})
	one.sessions = last.Sub(began.Round(0)) // the log has the wall clock's time
	one.routes = max(0, complete.Round(0).Sub(last))
	return one, errors.Join(err, r.settled(ctx))
}

// completedAt is how many of the pool's routes have that many next hops in the end, and when the last of them got the last.
func completedAt(events []lab.RouteEvent, hops int) (last time.Time, n int) {
	at := map[netip.Prefix]time.Time{}
	for _, e := range events {
		if !pool().Contains(e.Prefix.Addr()) {
			continue
		}
		if e.Deleted || len(e.NextHops) < hops {
			delete(at, e.Prefix)
		} else if _, known := at[e.Prefix]; !known {
			at[e.Prefix] = e.At
		}
	}
	for _, t := range at {
		if t.After(last) {
			last = t
		}
	}
	return last, len(at)
}

// sessionUp is when a node's speaker says that its session with a router last began, if that is after a moment.
func (r *routed) sessionUp(node, router string, since time.Time) (time.Time, error) {
	p, err := r.lab.Process("speaker-" + node)
	if err != nil {
		return time.Time{}, err
	}
	f, err := os.Open(p.LogPath())
	if err != nil {
		return time.Time{}, fmt.Errorf("read log of %s: %w", p.Name(), err)
	}
	defer func() { _ = f.Close() }()
	var last time.Time
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			TS        time.Time
			Msg, Peer string
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "BGP session up" && line.Peer == router && line.TS.After(since) {
			last = line.TS
		}
	}
	if last.IsZero() {
		return last, fmt.Errorf("read log of %s: it does not say when the session with %s began", p.Name(), router)
	}
	return last, lines.Err()
}
