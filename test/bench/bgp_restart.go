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

// upset is something that happens to a node that has sessions, and of which clients should notice nothing.
type upset struct {
	name string
	// do does it, and returns when everything is as before.
	do func(ctx context.Context, n *lab.Node, t *travelers) error
	// moves says that routes change, which may break what is in flight, and established connections.
	moves bool
}

// restarts restarts speakers: with one route, then with many and a router that cannot be reached.
func (r *routed) restarts(ctx context.Context) (table, error) {
	t := r.clientTable("restart: of speakers, with graceful restart and BFD 300 ms x 3")
	restart := func(signal syscall.Signal) func(context.Context, *lab.Node, *travelers) error {
		return func(ctx context.Context, n *lab.Node, _ *travelers) error {
			return r.restartSpeaker(ctx, n.Name, signal)
		}
	}
	rolling := func(ctx context.Context, _ *lab.Node, t *travelers) error {
		for _, node := range r.announcers() {
			if err := r.restartSpeaker(ctx, node, syscall.SIGTERM); err != nil {
				return err
			}
			if err := t.observe(ctx, 100); err != nil {
				return err
			}
		}
		return nil
	}
	lonely := watched()
	lonely.unreachable = true
	for _, one := range []struct {
		routes int
		with   peering
		suffix string
	}{{1, watched(), ""}, {r.routes, lonely, fmt.Sprintf(", %d routes, a router unreachable", r.routes)}} {
		if err := r.peer(ctx, one.with); err != nil {
			return t, err
		}
		target, err := r.exposed(ctx, travelPrefix, one.routes, 1)
		if err != nil {
			return t, err
		}
		for _, u := range []upset{
			{name: "SIGTERM and start" + one.suffix, do: restart(syscall.SIGTERM)},
			{name: "SIGKILL and start" + one.suffix, do: restart(syscall.SIGKILL)},
			{name: "all three, one by one" + one.suffix, do: rolling},
		} {
			if err := r.upsets(ctx, &t, u, target); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// restartSpeaker returns when the routers have the new one's sessions and the cluster is at rest.
func (r *routed) restartSpeaker(ctx context.Context, node string, signal syscall.Signal) error {
	began := time.Now()
	if err := r.restartProcess(ctx, "speaker-"+node, signal); err != nil {
		return err
	}
	if err := r.again(ctx, node, began); err != nil {
		return err
	}
	return r.settled(ctx)
}

// drains has nodes left by the annotation.
func (r *routed) drains(ctx context.Context) (table, error) {
	t := r.clientTable("drain: one of three nodes is to be left, then is powered off and returns")
	target, err := r.exposed(ctx, travelPrefix, 1, 1)
	if err == nil {
		err = r.peer(ctx, watched())
	}
	if err != nil {
		return t, err
	}
	return t, r.upsets(ctx, &t, upset{name: "drain annotation", moves: true, do: func(ctx context.Context, n *lab.Node, c *travelers) error {
		return r.leave(ctx, n, c, target)
	}}, target)
}

// leave asks for a node to be left, takes its power once it is, and takes everything back.
func (r *routed) leave(ctx context.Context, n *lab.Node, c *travelers, target netip.Addr) (err error) {
	if _, err := r.lab.Kubectl(ctx, "annotate", "--overwrite", "node", n.Name, "ballast.dev/drain=true"); err != nil {
		return err
	}
	if err := r.withdrawn(ctx, target, n); err != nil {
		return err
	}
	if err := c.observe(ctx, 100); err != nil {
		return err
	}
	if err := n.PowerOff(ctx); err != nil {
		return errors.Join(err, n.PowerOn(ctx))
	}
	err = c.observe(ctx, 200)
	if err := errors.Join(err, n.PowerOn(ctx)); err != nil {
		return err
	}
	if err := r.settled(ctx); err != nil {
		return err
	}
	if _, err := r.lab.Kubectl(ctx, "annotate", "node", n.Name, "ballast.dev/drain-"); err != nil {
		return err
	}
	return r.recovered(ctx, target)
}

// withdrawn waits until the routers have no path to an address by a node, not even one that they do not use.
func (r *routed) withdrawn(ctx context.Context, target netip.Addr, n *lab.Node) error {
	if err := r.left(ctx, target, n); err != nil {
		return err
	}
	for _, router := range r.routers() {
		err := lab.Poll(ctx, stepLimit, fmt.Sprintf("%s has no path by %s", router, n.Name), func(ctx context.Context) error {
			routes, err := r.lab.RouterRoutes(ctx, router)
			if err != nil {
				return err
			}
			for _, p := range routes[netip.PrefixFrom(target, target.BitLen())] {
				if p.From == n.IPv4 {
					return errors.New("it has one")
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// upsets does one thing run after run.
func (r *routed) upsets(ctx context.Context, t *table, u upset, target netip.Addr) error {
	var all journeys
	for run := range r.runs {
		j, err := r.upset(ctx, u, target, run)
		if err != nil {
			return fmt.Errorf("%s, run %d: %w", u.name, run+1, err)
		}
		progress("%s, run %d: %s", u.name, run+1, j)
		all = append(all, j)
	}
	unwell := all.counts(func(j journey) int { return len(j.unwell()) })
	broken := all.counts(func(j journey) int { return j.held.Broken })
	if u.moves {
		t.none(u.name+": new connections failed that were not in flight when routes changed", all.counts(journey.unexcused))
		t.counted(u.name+": new connections failed in all", unwell)
		t.counted(u.name+": established connections broken, of 60", broken)
	} else {
		t.none(u.name+": new connections failed", unwell)
		t.none(u.name+": established connections broken, of 60", broken)
		t.none(u.name+": routes deleted, on both routers", all.counts(journey.deleted))
		t.counted(u.name+": changes of routes, on both routers", all.counts(func(j journey) int { return len(j.events) }))
	}
	t.note("%s: the prober itself was late by %s at most", u.name, millis(all.delay()))
	return nil
}

// upset is one run.
func (r *routed) upset(ctx context.Context, u upset, target netip.Addr, run int) (journey, error) {
	n, err := r.lab.NodeNamed(r.announcers()[run%len(r.announcers())])
	if err != nil {
		return journey{}, err
	}
	if err := r.forwarded(ctx, target); err != nil {
		return journey{}, err
	}
	c, err := r.travel(ctx, target)
	if err != nil {
		return journey{}, err
	}
	err = u.do(ctx, n, c)
	if err == nil {
		err = c.observe(ctx, 200)
	}
	return c.arrive(), err
}
