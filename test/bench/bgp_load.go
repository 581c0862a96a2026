package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// loadTurn is one turn of one program: times until all routers had the news, and what it cost.
type loadTurn struct {
	announced, withdrawn time.Duration
	cpu, router          time.Duration // of the announcing process, and of the busiest router
	idle, full           resident      // with the sessions up, and when all routers had all routes
	highest              int64         // resident bytes
}

// resident is the memory of a process in bytes, and of it what is not mapped from a file.
type resident struct{ all, anonymous int64 }

// load has Ballast's BGP and Debian's gobgpd announce the same routes to the same routers, by turns.
func (r *routed) load(ctx context.Context, b *bed) (t table, err error) {
	t = table{
		title:   fmt.Sprintf("load: %d routes to %d routers, %d turns each of Ballast's BGP and of Debian's gobgpd", b.routes, loadRouters, b.rounds),
		columns: []string{"Ballast median", "max", "gobgpd median", "max", "ratio of medians"},
	}
	if err := r.close(); err != nil { // it has the namespaces' names
		return t, err
	}
	n, err := newLoadNetwork(ctx, b.prefix)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	programs := []struct {
		name  string
		start func(context.Context, int) (*announcing, error)
	}{{"Ballast", n.startBallast}, {"gobgpd", n.startGoBGP}}
	turns := make([][]loadTurn, len(programs))
	for round := range b.rounds {
		for i, p := range programs {
			one, err := n.turn(ctx, b.routes, p.start)
			if err != nil {
				return t, fmt.Errorf("%s, turn %d: %w\n%s", p.name, round+1, err, n.lastLines())
			}
			progress("%s, turn %d: announced in %s, withdrawn in %s, CPU %s, resident %s idle, %s with all routes, %s at most",
				p.name, round+1, seconds(one.announced), seconds(one.withdrawn), seconds(one.cpu), megabytes(one.idle.all), megabytes(one.full.all), megabytes(one.highest))
			turns[i] = append(turns[i], one)
		}
	}
	loadFigures(&t, turns[0], turns[1])
	return t, nil
}

// turn starts a program, has it announce and withdraw, and ends it.
func (n *loadNetwork) turn(ctx context.Context, routes int, start func(context.Context, int) (*announcing, error)) (one loadTurn, err error) {
	if _, err := n.await(ctx, 0, false); err != nil {
		return one, err
	}
	a, err := start(ctx, routes)
	if err != nil {
		return one, err
	}
	defer func() {
		highest, ended := a.end()
		one.highest, err = highest, errors.Join(err, ended)
	}()
	pid := a.cmd.Process.Pid
	if _, err = n.await(ctx, 0, true); err != nil {
		return one, err
	}
	if one.idle, err = residentOf(pid); err != nil {
		return one, err
	}
	used, err := n.cpuTimes(pid)
	if err != nil {
		return one, err
	}
	if one.announced, err = n.timed(ctx, routes, a.announce); err != nil {
		return one, err
	}
	if one.full, err = residentOf(pid); err != nil {
		return one, err
	}
	if a.announced != nil {
		if err = a.announced(); err != nil {
			return one, err
		}
	}
	if one.withdrawn, err = n.timed(ctx, 0, a.withdraw); err != nil {
		return one, err
	}
	after, err := n.cpuTimes(pid)
	if err != nil {
		return one, err
	}
	one.cpu = after[0] - used[0]
	for i := range n.routers {
		one.router = max(one.router, after[i+1]-used[i+1])
	}
	return one, nil
}

// cpuTimes are those of a process and of the routers.
func (n *loadNetwork) cpuTimes(pid int) ([]time.Duration, error) {
	pids := []int{pid}
	for _, r := range n.routers {
		pids = append(pids, r.daemon.Process.Pid)
	}
	var all []time.Duration
	for _, pid := range pids {
		used, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		all = append(all, used)
	}
	return all, nil
}

// timed is how long it takes from asking until every router has that many prefixes.
func (n *loadNetwork) timed(ctx context.Context, prefixes int, ask func(context.Context) error) (time.Duration, error) {
	began := time.Now()
	asked := make(chan error, 1)
	go func() { asked <- ask(ctx) }()
	done, err := n.await(ctx, prefixes, true)
	return done.Sub(began), errors.Join(err, <-asked)
}

// residentOf reads proc_pid_statm(5), which counts pages.
func residentOf(pid int) (resident, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return resident{}, fmt.Errorf("read memory: %w", err)
	}
	var size, all, shared int64
	if _, err := fmt.Sscan(string(data), &size, &all, &shared); err != nil {
		return resident{}, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	page := int64(os.Getpagesize())
	return resident{all: all * page, anonymous: (all - shared) * page}, nil
}

// lastLines is what the programs said last.
func (n *loadNetwork) lastLines() string {
	data, err := os.ReadFile(n.log())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// loadFigures sets the two programs beside each other.
func loadFigures(t *table, ours, theirs []loadTurn) {
	duration := func(name string, of func(loadTurn) time.Duration) {
		a, b := collect(ours, of), collect(theirs, of)
		t.add(name, seconds(median(a)), seconds(quantile(a, 1)), seconds(median(b)), seconds(quantile(b, 1)), times(median(a).Seconds()/median(b).Seconds()))
	}
	memory := func(name string, of func(loadTurn) int64) {
		a, b := collect(ours, of), collect(theirs, of)
		middle := func(values []int64) int64 {
			return int64(median(collect(values, func(v int64) float64 { return float64(v) })))
		}
		most := func(values []int64) int64 {
			return int64(quantile(collect(values, func(v int64) float64 { return float64(v) }), 1))
		}
		t.add(name, megabytes(middle(a)), megabytes(most(a)), megabytes(middle(b)), megabytes(most(b)), times(float64(middle(a))/float64(middle(b))))
	}
	duration("until all routers had all routes", func(one loadTurn) time.Duration { return one.announced })
	duration("until all were withdrawn from all", func(one loadTurn) time.Duration { return one.withdrawn })
	duration("CPU of the announcing process for both", func(one loadTurn) time.Duration { return one.cpu })
	duration("CPU of the busiest router for both", func(one loadTurn) time.Duration { return one.router })
	memory("resident, sessions up and no routes", func(one loadTurn) int64 { return one.idle.all })
	memory("of it not from files", func(one loadTurn) int64 { return one.idle.anonymous })
	memory("resident, when all routers had all routes", func(one loadTurn) int64 { return one.full.all })
	memory("of it not from files", func(one loadTurn) int64 { return one.full.anonymous })
	memory("resident, the highest", func(one loadTurn) int64 { return one.highest })
	t.note("Ballast's process is bin/bench, with a Kubernetes client and more in the program's file: compare what is not from files.")
	t.note("The routers are FRR's bgpd without zebra. gobgpd gets its routes from `gobgp mrt inject`; the time of that client counts, its CPU does not.")
}

// collect is one value of each.
func collect[T, V any](all []T, of func(T) V) []V {
	out := make([]V, len(all))
	for i, one := range all {
		out[i] = of(one)
	}
	return out
}
