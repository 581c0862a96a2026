package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// disturbance is something that happens to a healthy node, and of which clients should notice nothing.
type disturbance struct {
	name string
	// do does it to the owner of the address, and undoes it.
	do func(ctx context.Context, b *bed, owner string, c *clients) error
	// moves and breaks say that the address may move, and established connections break.
	moves, breaks bool
}

// speakerRestarts restarts speakers.
func speakerRestarts(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("restart: of speakers, %d runs each; a new connection every 10 ms, 60 established ones", b.runs),
		columns: []string{"median", "max"},
	}
	restart := func(signal syscall.Signal) func(context.Context, *bed, string, *clients) error {
		return func(ctx context.Context, b *bed, owner string, _ *clients) error {
			return b.restartProcess(ctx, "speaker-"+owner, signal)
		}
	}
	rolling := func(ctx context.Context, b *bed, _ string, c *clients) error {
		for _, n := range b.lab.Nodes() {
			err := b.restartProcess(ctx, "speaker-"+n.Name, syscall.SIGTERM)
			if err == nil {
				err = errors.Join(b.settled(ctx), c.observe(ctx, 100))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return t, b.disturbAll(ctx, &t,
		disturbance{name: "SIGTERM and start", do: restart(syscall.SIGTERM)},
		disturbance{name: "SIGKILL and start", do: restart(syscall.SIGKILL)},
		disturbance{name: "all of them, one by one", do: rolling})
}

func (b *bed) restartProcess(ctx context.Context, name string, signal syscall.Signal) error {
	p, err := b.lab.Process(name)
	if err != nil {
		return err
	}
	return p.Restart(ctx, signal)
}

// drains asks for a node to be left, and takes that back.
func drains(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("drain: the node that has an address is to be left, then is powered off and returns, %d runs each", b.runs),
		columns: []string{"median", "max"},
	}
	by := func(on, off func(ctx context.Context, n *lab.Node) error) func(context.Context, *bed, string, *clients) error {
		return func(ctx context.Context, b *bed, owner string, c *clients) error {
			return b.drain(ctx, owner, c, on, off)
		}
	}
	say := func(words ...string) func(context.Context, *lab.Node) error {
		return func(ctx context.Context, n *lab.Node) error {
			_, err := b.lab.Kubectl(ctx, append([]string{words[0], "--overwrite", "node", n.Name}, words[1:]...)...)
			return err
		}
	}
	return t, b.disturbAll(ctx, &t,
		disturbance{name: "exclude label", moves: true, breaks: true, do: by(say("label", excludeLabel+"="), say("label", excludeLabel+"-"))},
		disturbance{name: "drain annotation", moves: true, breaks: true, do: by(say("annotate", "ballast.dev/drain=true"), say("annotate", "ballast.dev/drain-"))},
		disturbance{name: "Node deleted", moves: true, breaks: true, do: by(
			func(ctx context.Context, n *lab.Node) error { return n.Deregister(ctx) },
			func(ctx context.Context, n *lab.Node) error { return n.Register(ctx) })})
}

// drain has a node be left, powers it off and on once it is, and takes that back.
func (b *bed) drain(ctx context.Context, owner string, c *clients, on, off func(context.Context, *lab.Node) error) (err error) {
	n, err := b.lab.NodeNamed(owner)
	if err != nil {
		return err
	}
	if err := on(ctx, n); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, off(ctx, n)) }()
	target := c.prober.Targets()[0].Addr()
	if _, err := b.awaitOwners(ctx, []string{owner}, []netip.Addr{target}); err != nil {
		return err
	}
	if err := c.observe(ctx, 100); err != nil {
		return err
	}
	err = n.PowerOff(ctx)
	if err == nil {
		err = c.observe(ctx, 200)
	}
	return errors.Join(err, n.PowerOn(ctx))
}

// gossipTime is for how long gossip is blocked: longer than the grace period of a speaker that is away.
const gossipTime = 40 * time.Second

// gossipLosses blocks the gossip of the owner alone.
func gossipLosses(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("gossip: nobody hears the gossip and heartbeats of the node that has an address for %s, %d runs", gossipTime, b.runs),
		columns: []string{"median", "max"},
	}
	block := func(ctx context.Context, b *bed, owner string, _ *clients) error {
		n, err := b.lab.NodeNamed(owner)
		if err != nil {
			return err
		}
		err = n.Lose(ctx, lab.LoseGossip, "eth0")
		if err == nil {
			err = rest(ctx, gossipTime)
		}
		return errors.Join(err, n.Mend(ctx, "eth0"))
	}
	return t, b.disturbAll(ctx, &t, disturbance{name: "gossip blocked", do: block})
}

// disturbAll runs each disturbance on the owner of one address.
func (b *bed) disturbAll(ctx context.Context, t *table, all ...disturbance) error {
	return b.withAddresses(ctx, "disturbed-", 1, func(addresses []netip.Addr) error {
		for _, d := range all {
			if err := b.disturb(ctx, t, d, addresses); err != nil {
				return err
			}
		}
		return nil
	})
}

// disturb runs one disturbance several times.
func (b *bed) disturb(ctx context.Context, t *table, d disturbance, addresses []netip.Addr) error {
	var seen outcomes
	var moves []int
	for run := range b.runs {
		o, err := b.disturbOnce(ctx, d, addresses)
		if err != nil {
			return fmt.Errorf("%s, run %d: %w", d.name, run+1, err)
		}
		moved := changes(o.heard, addresses[0])
		progress("%s, run %d: %s; %s; the address moved %d times", d.name, run+1, o.probed, o.held, moved)
		seen, moves = append(seen, o), append(moves, moved)
	}
	failed, broken := seen.failed(), seen.broken()
	t.aim("0", quantile(failed, 1) == 0, d.name+": new connections failed", count(median(failed)), count(quantile(failed, 1)))
	if d.breaks {
		t.add(d.name+": established connections broken, of 60", count(median(broken)), count(quantile(broken, 1)))
	} else {
		t.aim("0", quantile(broken, 1) == 0, d.name+": established connections broken, of 60", count(median(broken)), count(quantile(broken, 1)))
	}
	allowed := 0
	if d.moves {
		allowed = 1
	}
	t.aim(count(allowed), quantile(moves, 1) <= allowed, d.name+": moves of the address", count(median(moves)), count(quantile(moves, 1)))
	gaps := seen.gaps()
	t.add(d.name+": longest gap between answered connections", seconds(median(gaps)), seconds(quantile(gaps, 1)))
	t.note("%s: gaps of every run in ms: %s; the prober itself was late by %s at most", d.name, listed(gaps), millis(seen.delay()))
	return nil
}

// disturbOnce is one run.
func (b *bed) disturbOnce(ctx context.Context, d disturbance, addresses []netip.Addr) (outcome, error) {
	owners, err := b.awaitOwners(ctx, nil, addresses)
	if err != nil {
		return outcome{}, err
	}
	c, err := b.watch(ctx, addresses, probeInterval)
	if err != nil {
		return outcome{}, err
	}
	// The witness asks once, so that the first owner is on record.
	_, err = b.owners(ctx, addresses)
	if err == nil {
		err = d.do(ctx, b, owners[addresses[0]], c)
	}
	if err == nil {
		err = errors.Join(b.settled(ctx), c.observe(ctx, 200))
	}
	return c.stop(), err
}

// changes counts how often everybody was told that an address is elsewhere than before. Who is asked while it hands over
// may answer still.
func changes(heard []lab.Sighting, a netip.Addr) int {
	n, owner := 0, ""
	for _, s := range heard {
		if s.Address != a || owner != "" && !s.Unasked {
			continue
		}
		if owner != "" && s.Owner != owner {
			n++
		}
		owner = s.Owner
	}
	return n
}
