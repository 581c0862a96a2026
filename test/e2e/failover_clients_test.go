//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// clients are a client's new connections, one every 10 ms, and 60 that it keeps, while
// something happens; and what is said on the LAN of who has the addresses.
type clients struct {
	r      *rig
	prober *lab.Prober
	held   *lab.Held
	heard  *lab.Watcher
	owners map[netip.Addr]string // at the beginning
}

// watch starts clients of the addresses; the held connections go to the first.
func (r *rig) watch(addresses ...netip.Addr) *clients {
	r.Helper()
	c := &clients{r: r, owners: r.awaitOwners(nil, addresses...)}
	probe := lab.Probe{From: "lan"}
	for _, a := range addresses {
		probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
	}
	probe.Interval = time.Duration(len(addresses)) * 10 * time.Millisecond
	var err error
	c.held, err = r.lab.Hold(r.Context(), lab.Hold{From: "lan", Target: probe.Targets[0]})
	r.must(err)
	r.Cleanup(func() { c.held.Stop() })
	c.heard, err = r.lab.Watch("lan", addresses...)
	r.must(err)
	r.Cleanup(func() { c.heard.Stop() })
	c.prober, err = r.lab.StartProber(probe)
	r.must(err)
	r.Cleanup(func() { c.prober.Stop() })
	c.observe(20)
	return c
}

// observe waits for that many further new connections, 100 of which are made a second.
func (c *clients) observe(n int) {
	c.r.Helper()
	want := c.prober.Count() + n
	c.r.must(lab.Poll(c.r.Context(), 4*time.Minute, fmt.Sprintf("%d new connections were tried", want), func(context.Context) error {
		if got := c.prober.Count(); got < want {
			return fmt.Errorf("%d were", got)
		}
		return nil
	}))
}

// noneFailed ends the new connections and fails if some of them did. A single one of hundreds or
// thousands is told and let pass: one packet may get lost, and who answers nobody for a
// moment loses several in a row. `bin/bench failover` counts every one.
func (c *clients) noneFailed() {
	c.r.Helper()
	log := c.prober.Stop()
	log.Attempts = slices.DeleteFunc(log.Attempts, c.moved())
	report := log.Report(time.Time{}, time.Time{})
	for _, a := range log.Unwell(time.Time{}) {
		c.r.Log(a)
	}
	if report.Broken() > 1 {
		c.r.Errorf("new connections failed: %s", report)
	}
}

// moves are the nodes at which an address was said to be, unasked, after it was where it was at the beginning; without
// repetitions.
func (c *clients) moves(a netip.Addr) []string {
	var out []string
	last := c.owners[a]
	for _, s := range c.heard.Seen() {
		if name := c.r.lab.NameOf(s.Owner); s.Address == a && s.Unasked && name != last {
			out, last = append(out, name), name
		}
	}
	return out
}

// inFlight is how long a connection takes that neither fails nor is held up.
const inFlight = 20 * time.Millisecond

// moved says whether a connection failed that was under way at the moment when its address
// moved: begun at the old owner, it went on at the new one, which does not know it. A move
// in layer 2 breaks such connections as any other that exists by then.
func (c *clients) moved() func(lab.Attempt) bool {
	owner, moves := map[netip.Addr]string{}, map[netip.Addr][]time.Time{}
	for _, s := range c.heard.Seen() {
		if before, known := owner[s.Address]; s.Unasked && (known && before != s.Owner || !known && c.r.lab.NameOf(s.Owner) != c.owners[s.Address]) {
			moves[s.Address] = append(moves[s.Address], s.At)
		}
		if s.Unasked {
			owner[s.Address] = s.Owner
		}
	}
	return func(a lab.Attempt) bool {
		return a.Outcome != lab.Answered && slices.ContainsFunc(moves[a.Target.Addr()], func(at time.Time) bool {
			return a.Start.Before(at) && at.Sub(a.Start) < inFlight
		})
	}
}

// noneBroke ends the held connections and fails if one broke.
func (c *clients) noneBroke() {
	c.r.Helper()
	if report := c.held.Stop(); report.Broken > 0 {
		c.r.Errorf("%s", report)
	}
}

// nothingMoved fails if anybody has said of an address that it is not where it was at the
// beginning, or if it is not there now.
func (c *clients) nothingMoved() {
	c.r.Helper()
	c.r.sameOwners(c.owners)
	said := map[string]bool{}
	for _, s := range c.heard.Seen() {
		if name := c.r.lab.NameOf(s.Owner); name != c.owners[s.Address] {
			said[fmt.Sprintf("%s said that %s is at %s, not %s", c.r.lab.NameOf(s.Source), s.Address, name, c.owners[s.Address])] = true
		}
	}
	for one := range said {
		c.r.Error(one)
	}
}

// allFine is that a client noticed nothing at all.
func (c *clients) allFine() {
	c.r.Helper()
	c.noneFailed()
	c.noneBroke()
	c.nothingMoved()
}
