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
	// cutTarget bounds the gap with BFD of 100 ms x 3.
	cutTarget = 500 * time.Millisecond
	// travelPrefix is of the Services of the sections with clients.
	travelPrefix = "travel-"
)

// cuts pulls a node's cable.
func (r *routed) cuts(ctx context.Context) (table, error) {
	t := r.clientTable("cut: the cable of one of three nodes is pulled")
	without := peering{hold: 3 * time.Second}
	err := r.partings(ctx, &t, parting{name: "BFD 100 ms x 3", with: watched(), target: cutTarget, nodeEnding: cableLoss()})
	if err == nil {
		err = r.partings(ctx, &t, parting{name: "hold time 3 s", with: without, nodeEnding: cableLoss()})
	}
	return t, err
}

// stops stops the speaker of a node, which itself runs on.
func (r *routed) stops(ctx context.Context) (table, error) {
	t := r.clientTable("stop: the speaker of one of three nodes hangs (SIGSTOP)")
	on := func(do func(*lab.Process) error) func(context.Context, *lab.Node) error {
		return func(_ context.Context, n *lab.Node) error {
			p, err := r.lab.Process("speaker-" + n.Name)
			if err != nil {
				return err
			}
			return do(p)
		}
	}
	hang := nodeEnding{"SIGSTOP", on((*lab.Process).Pause), on((*lab.Process).Resume)}
	return t, r.partings(ctx, &t, parting{name: hang.name, with: watched(), nodeEnding: hang})
}

// reboots shuts a node down.
func (r *routed) reboots(ctx context.Context) (table, error) {
	t := r.clientTable("reboot: one of three nodes is shut down in order")
	return t, r.partings(ctx, &t, parting{
		name: orderlyReboot().name, with: watched(), target: restartTime + time.Second, nodeEnding: orderlyReboot(),
	})
}

// powerOffs takes a node's power. The cable comes first: the kernel of a machine without power does not tell the routers
// that its connections are closed, as it does when a process is killed.
func (r *routed) powerOffs(ctx context.Context) (table, error) {
	t := r.clientTable("poweroff: one of three nodes loses power")
	loss := nodeEnding{
		powerLoss().name,
		func(ctx context.Context, n *lab.Node) error { return errors.Join(n.Cut(ctx), n.PowerOff(ctx)) },
		func(ctx context.Context, n *lab.Node) error { return errors.Join(n.PowerOn(ctx), n.Restore(ctx)) },
	}
	return t, r.partings(ctx, &t, parting{name: loss.name, with: watched(), nodeEnding: loss})
}

func (r *routed) clientTable(title string) table {
	return table{
		title:   fmt.Sprintf("%s, %d runs each; two routers, behind them a client with a new connection every 10 ms and 60 established ones", title, r.runs),
		columns: []string{"median", "max"},
	}
}

// parting is a way in which routers lose a node, and how its sessions are watched.
type parting struct {
	name   string
	with   peering
	target time.Duration // of the gap; 0: none
	nodeEnding
}

// partings ends nodes in one way, run after run.
func (r *routed) partings(ctx context.Context, t *table, e parting) error {
	target, err := r.exposed(ctx, travelPrefix, 1, 1)
	if err != nil {
		return err
	}
	if err := r.peer(ctx, e.with); err != nil {
		return err
	}
	var away, back journeys
	disturbed := 0
	for run := 0; run < r.runs+disturbed; run++ {
		gone, returned, err := r.parting(ctx, e, target, run)
		if err != nil {
			return fmt.Errorf("%s, run %d: %w", e.name, run+1, err)
		}
		if gone.probed.Delay > tolerable && disturbed < r.runs {
			disturbed++
			progress("%s, run %d: done again, as the prober itself was late by %s", e.name, run+1, millis(gone.probed.Delay))
			continue
		}
		progress("%s, run %d: %s", e.name, run+1, gone)
		progress("%s, run %d, the return: %s", e.name, run+1, returned)
		away, back = append(away, gone), append(back, returned)
	}
	partingFigures(t, e, away, back)
	t.note("%s: the prober itself was late by %s at most; %d runs were done again for that", e.name, millis(max(away.delay(), back.delay())), disturbed)
	return nil
}

func partingFigures(t *table, e parting, away, back journeys) {
	gaps := collect(away, journey.gap)
	line := e.name + ": from then until the last new connection that failed was begun"
	if e.target > 0 {
		t.aim("< "+seconds(e.target), quantile(gaps, 1) < e.target, line, seconds(median(gaps)), seconds(quantile(gaps, 1)))
	} else {
		t.add(line, seconds(median(gaps)), seconds(quantile(gaps, 1)))
	}
	changes := collect(away, journey.lastChange)
	t.add(e.name+": until both routers had left it", seconds(median(changes)), seconds(quantile(changes, 1)))
	t.counted(e.name+": new connections failed", away.counts(func(j journey) int { return len(j.unwell()) }))
	t.counted(e.name+": established connections broken, of 60", away.counts(func(j journey) int { return j.held.Broken }))
	t.counted(e.name+": new connections failed while it returns", back.counts(func(j journey) int { return len(j.unwell()) }))
	t.none(e.name+": of them, not in flight when routes changed", back.counts(journey.unexcused))
	t.note("%s: gaps of every run in ms: %s", e.name, listed(gaps))
}

// parting is one run.
func (r *routed) parting(ctx context.Context, e parting, target netip.Addr, run int) (gone, returned journey, err error) {
	n, err := r.lab.NodeNamed(r.announcers()[run%len(r.announcers())])
	if err != nil {
		return gone, returned, err
	}
	if err := r.forwarded(ctx, target); err != nil {
		return gone, returned, err
	}
	c, err := r.travel(ctx, target)
	if err != nil {
		return gone, returned, err
	}
	err = e.end(ctx, n)
	if err == nil {
		err = r.left(ctx, target, n)
	}
	if err == nil {
		err = errors.Join(c.observe(ctx, 100), c.steady(ctx))
	}
	gone = c.arrive()
	if err != nil {
		return gone, returned, errors.Join(err, e.begin(ctx, n))
	}
	c, err = r.travel(ctx, target)
	if err != nil {
		return gone, returned, errors.Join(err, e.begin(ctx, n))
	}
	err = e.begin(ctx, n)
	if err == nil {
		err = r.recovered(ctx, target)
	}
	if err == nil {
		err = c.observe(ctx, 100)
	}
	return gone, c.arrive(), err
}

// recovered waits until all nodes are back, in the cluster and on the routers.
func (r *routed) recovered(ctx context.Context, target netip.Addr) error {
	if err := r.peered(ctx); err != nil {
		return err
	}
	if err := r.forwarded(ctx, target); err != nil {
		return err
	}
	return r.settled(ctx)
}
