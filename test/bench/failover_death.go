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
	// deathTarget is the longest that an address may be gone in any run, deathMedian in half of them.
	deathTarget = time.Second
	deathMedian = 600 * time.Millisecond
	// sampled is how many of many addresses have a client.
	sampled = 20
	// sampleInterval is the time between two new connections to one of them.
	sampleInterval = 50 * time.Millisecond
	// probeInterval is the time between two new connections to a lone address.
	probeInterval = 10 * time.Millisecond
	// tolerable is how late the prober may be itself in a run that counts.
	tolerable = 100 * time.Millisecond
)

// nodeEnding is a way to end a node, and what brings it back.
type nodeEnding struct {
	name       string
	end, begin func(context.Context, *lab.Node) error
}

func powerOn(ctx context.Context, n *lab.Node) error { return n.PowerOn(ctx) }

func powerLoss() nodeEnding {
	return nodeEnding{"power lost", func(ctx context.Context, n *lab.Node) error { return n.PowerOff(ctx) }, powerOn}
}

func cableLoss() nodeEnding {
	return nodeEnding{
		"cables cut",
		func(ctx context.Context, n *lab.Node) error { return n.Cut(ctx) },
		func(ctx context.Context, n *lab.Node) error { return n.Restore(ctx) },
	}
}

func orderlyReboot() nodeEnding {
	end := func(ctx context.Context, n *lab.Node) error { return n.ShutDown(ctx) }
	return nodeEnding{"reboot (SIGTERM, dead 2 s later)", end, powerOn}
}

// death ends the node that has one address.
func death(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("death: the node that has an address dies, %d runs each; a new connection every 10 ms", b.runs),
		columns: []string{"median", "max"},
	}
	return t, b.withAddresses(ctx, "death-", 1, func(all []netip.Addr) error {
		return b.deaths(ctx, &t, all, powerLoss(), cableLoss())
	})
}

// reboots shuts the node down that has one address.
func reboots(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("reboot: the node that has an address is shut down in order, %d runs", b.runs),
		columns: []string{"median", "max"},
	}
	return t, b.withAddresses(ctx, "reboot-", 1, func(all []netip.Addr) error {
		return b.deaths(ctx, &t, all, orderlyReboot())
	})
}

// many ends a node that has many addresses.
func many(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("many: a node dies that has up to %d addresses, %d runs; a new connection to each of %d of them every 50 ms", b.addresses, b.runs, sampled),
		columns: []string{"median", "max"},
	}
	return t, b.withAddresses(ctx, "many-", b.addresses, func(all []netip.Addr) error {
		return b.deaths(ctx, &t, all, powerLoss(), cableLoss())
	})
}

// withoutAPI ends the node that has one address while the API server is away.
func withoutAPI(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("api: the API server is stopped, then the node that has an address dies, then both return, %d runs", b.runs),
		columns: []string{"median", "max"},
	}
	alone := nodeEnding{
		"power lost without API server",
		func(ctx context.Context, n *lab.Node) error { return errors.Join(b.lab.StopAPI(ctx), n.PowerOff(ctx)) },
		func(ctx context.Context, n *lab.Node) error {
			if err := b.lab.StartAPI(ctx); err != nil {
				return err
			}
			return errors.Join(b.reconnect(ctx), n.PowerOn(ctx))
		},
	}
	return t, b.withAddresses(ctx, "api-", 1, func(all []netip.Addr) error {
		return b.deaths(ctx, &t, all, alone)
	})
}

// withAddresses makes Services for the time of fn.
func (b *bed) withAddresses(ctx context.Context, prefix string, n int, fn func([]netip.Addr) error) error {
	if err := b.prepareFailover(ctx); err != nil {
		return err
	}
	all, err := b.expose(ctx, prefix, n, min(n, sampled))
	if err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	return errors.Join(fn(all), b.remove(ctx, prefix))
}

// died is one run: what clients saw, and when the LAN heard of a new owner.
type died struct {
	outcome
	had       int           // addresses of the dead node
	last      time.Duration // until the last of them was announced
	returning outcome       // while the node comes back
	tookBack  int           // addresses that moved then
}

// deaths ends nodes in each of some ways.
func (b *bed) deaths(ctx context.Context, t *table, all []netip.Addr, ways ...nodeEnding) error {
	for _, e := range ways {
		if err := b.deathsBy(ctx, t, e, all); err != nil {
			return err
		}
	}
	return nil
}

// deathsBy ends nodes in one way, run after run.
func (b *bed) deathsBy(ctx context.Context, t *table, e nodeEnding, all []netip.Addr) error {
	var seen, back outcomes
	var had, tookBack []int
	var last []time.Duration
	disturbed := 0
	for run := 0; run < b.runs+disturbed; run++ {
		one, err := b.die(ctx, e, all, run)
		if err != nil {
			return fmt.Errorf("%s, run %d: %w", e.name, run+1, err)
		}
		if one.probed.Delay > tolerable && disturbed < b.runs {
			disturbed++
			progress("%s, run %d: done again, as the prober itself was late by %s", e.name, run+1, millis(one.probed.Delay))
			continue
		}
		progress("%s, run %d: %d addresses, gap %s, last announced after %s, %s; %s; while it returns: %d failed, %d moved",
			e.name, run+1, one.had, seconds(one.probed.Gap), seconds(one.last), one.probed, one.held, one.returning.probed.Broken(), one.tookBack)
		seen, back = append(seen, one.outcome), append(back, one.returning)
		had, last, tookBack = append(had, one.had), append(last, one.last), append(tookBack, one.tookBack)
	}
	gaps := seen.gaps()
	worst := quantile(gaps, 1)
	t.aim(fmt.Sprintf("< %s, median < %s", seconds(deathTarget), seconds(deathMedian)), worst < deathTarget && median(gaps) < deathMedian,
		e.name+": longest gap between answered connections", seconds(median(gaps)), seconds(worst))
	t.add(e.name+": addresses of that node", count(median(had)), count(quantile(had, 1)))
	t.add(e.name+": until the last of them was announced", seconds(median(last)), seconds(quantile(last, 1)))
	t.add(e.name+": new connections failed", count(median(seen.failed())), count(quantile(seen.failed(), 1)))
	t.add(e.name+": established connections broken, of 60", count(median(seen.broken())), count(quantile(seen.broken(), 1)))
	t.aim("0", quantile(back.failed(), 1) == 0, e.name+": new connections failed while it returns", count(median(back.failed())), count(quantile(back.failed(), 1)))
	t.aim("0", quantile(tookBack, 1) == 0, e.name+": addresses moved by its return", count(median(tookBack)), count(quantile(tookBack, 1)))
	t.note("%s: gaps of every run in ms: %s; the prober itself was late by %s at most; %d runs were done again for that",
		e.name, listed(gaps), millis(max(seen.delay(), back.delay())), disturbed)
	return nil
}

// die is one run.
func (b *bed) die(ctx context.Context, e nodeEnding, all []netip.Addr, run int) (died, error) {
	var one died
	victim, its, err := b.victim(ctx, all, run)
	if err != nil {
		return one, err
	}
	n, err := b.lab.NodeNamed(victim)
	if err != nil {
		return one, err
	}
	one.had = len(its)
	targets, interval := its[:min(len(its), sampled)], sampleInterval
	if len(all) == 1 {
		interval = probeInterval
	} else {
		targets = b.reachable(its, all)
	}
	c, err := b.watch(ctx, targets, interval)
	if err != nil {
		return one, err
	}
	began := time.Now()
	err = e.end(ctx, n)
	var after map[netip.Addr]string
	if err == nil { // asking for all would keep the speakers busy
		_, err = b.awaitOwners(ctx, []string{victim}, targets[:1])
	}
	if err == nil {
		err = errors.Join(c.observe(ctx, 100), c.steady(ctx))
	}
	one.outcome = c.stop()
	if err == nil {
		after, err = b.awaitOwners(ctx, []string{victim}, all)
	}
	if err != nil {
		return one, errors.Join(err, e.begin(ctx, n))
	}
	one.last = lastFirst(one.heard, its, n.MAC(), began)
	one.returning, err = b.comeBack(ctx, e, n, targets)
	if err != nil {
		return one, err
	}
	now, err := b.awaitOwners(ctx, nil, all)
	for a, owner := range now {
		if owner != after[a] {
			one.tookBack++
		}
	}
	return one, err
}

// victim chooses the node of a run. A lone address has its owner; many are brought together
// on one node first, another one each run.
func (b *bed) victim(ctx context.Context, all []netip.Addr, run int) (string, []netip.Addr, error) {
	node := announcers()[run%len(announcers())]
	if len(all) > 1 {
		if err := b.gather(ctx, node, all); err != nil {
			return "", nil, err
		}
	}
	owners, err := b.awaitOwners(ctx, nil, all)
	if err != nil {
		return "", nil, err
	}
	if len(all) == 1 {
		node = owners[all[0]]
	}
	var its []netip.Addr
	for _, a := range all { // in order: those that kube-proxy knows come first
		if owners[a] == node {
			its = append(its, a)
		}
	}
	if len(its) == 0 {
		return "", nil, fmt.Errorf("choose a node to end: %s has none of %d addresses", node, len(all))
	}
	return node, its, nil
}

// reachable are those of a node's addresses that kube-proxy knows: of the first of all.
func (b *bed) reachable(its, all []netip.Addr) []netip.Addr {
	known := map[netip.Addr]bool{}
	for _, a := range all[:min(len(all), sampled)] {
		known[a] = true
	}
	var out []netip.Addr
	for _, a := range its {
		if known[a] {
			out = append(out, a)
		}
	}
	return out
}

// comeBack lets the node return under the eyes of new clients.
func (b *bed) comeBack(ctx context.Context, e nodeEnding, n *lab.Node, targets []netip.Addr) (outcome, error) {
	c, err := b.watch(ctx, targets, sampleInterval)
	if err != nil {
		return outcome{}, errors.Join(err, e.begin(ctx, n))
	}
	err = e.begin(ctx, n)
	if err == nil {
		err = b.settled(ctx)
	}
	if err == nil {
		err = c.observe(ctx, 100)
	}
	return c.stop(), err
}

// lastFirst is how long after a moment the last of the addresses was first announced by
// somebody else than the dead node; 0 if one never was.
func lastFirst(heard []lab.Sighting, addresses []netip.Addr, dead string, since time.Time) time.Duration {
	first := map[netip.Addr]time.Duration{}
	for _, s := range heard {
		after := s.At.Sub(since.Round(0)) // the kernel's stamps are its wall clock's
		if _, known := first[s.Address]; !known && s.Unasked && s.Owner != dead && after > 0 {
			first[s.Address] = after
		}
	}
	var last time.Duration
	for _, a := range addresses {
		after, known := first[a]
		if !known {
			return 0
		}
		last = max(last, after)
	}
	return last
}
