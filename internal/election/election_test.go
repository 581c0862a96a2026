package election

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/name"
)

func unit(i uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xc0000200+i)))
}

func start() time.Time { return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC) }

func fit(n int) []Candidate {
	var all []Candidate
	for i := range n {
		all = append(all, Candidate{Node: name.NodeName(fmt.Sprintf("node-%d", i)), Since: start()})
	}
	return all
}

// cluster is nodes that decide about units of which all hear the same claims.
type cluster struct {
	candidates []Candidate
	claims     map[netip.Addr]Claim
	standing   map[name.NodeName]Standing // others are Fit
}

// decide lets every candidate decide once, at the same time, and spreads what they claim.
func (c *cluster) decide(u netip.Addr, since, now time.Time) []Outcome {
	var outcomes []Outcome
	before := c.claims[u]
	for _, self := range c.candidates {
		s := Situation{Self: self.Node, Unit: u, Claim: before, Candidates: c.candidates, Since: since, Now: now, Owner: Fit}
		if st, set := c.standing[before.Owner]; set {
			s.Owner = st
		}
		o := Decide(s)
		if o.Claim.Epoch > 0 && o.Claim.Beats(c.claims[u]) {
			c.claims[u] = o.Claim
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

func TestExactlyOneClaimsAUnitAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := cluster{candidates: fit(rapid.IntRange(1, 20).Draw(t, "nodes")), claims: map[netip.Addr]Claim{}}
		u := unit(rapid.Uint32Range(0, 1<<16).Draw(t, "unit"))
		claimed := 0
		for _, o := range c.decide(u, start(), start()) {
			if o.Claim.Epoch > 0 {
				claimed++
			}
		}
		if claimed != 1 {
			t.Fatalf("%d nodes claimed the unit, want 1", claimed)
		}
	})
}

func TestOnlyWhatADeadNodeOwnedMoves(t *testing.T) {
	t.Parallel()
	const units = 300
	c := cluster{candidates: fit(5), claims: map[netip.Addr]Claim{}}
	for i := range uint32(units) {
		c.decide(unit(i), start(), start())
	}
	before := map[netip.Addr]Claim{}
	for u, claim := range c.claims {
		before[u] = claim
	}
	dead := c.candidates[2].Node
	c.standing = map[name.NodeName]Standing{dead: Unfit}
	c.candidates = slices.Delete(c.candidates, 2, 3)
	for i := range uint32(units) {
		c.decide(unit(i), start(), start())
	}
	for u, was := range before {
		now := c.claims[u]
		switch {
		case was.Owner != dead && now.Owner != was.Owner:
			t.Errorf("%s moved from %s, which lives, to %s", u, was.Owner, now.Owner)
		case was.Owner == dead && now.Owner != was.Successor:
			t.Errorf("%s moved to %s, not to the successor %s", u, now.Owner, was.Successor)
		case was.Owner == dead && (now.Term() != was.Term()+1 || now.Step() != 0):
			t.Errorf("%s has term %d, step %d after term %d", u, now.Term(), now.Step(), was.Term())
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	u := unit(1)
	three := fit(3)
	order := line(Claim{}, u, three)
	first, second, third := order[0].Node, order[1].Node, order[2].Node
	without := func(n name.NodeName) []Candidate {
		return slices.DeleteFunc(slices.Clone(three), func(c Candidate) bool { return c.Node == n })
	}
	prefer := func(n name.NodeName, since time.Time) []Candidate {
		list := slices.Clone(three)
		for i := range list {
			if list[i].Node == n {
				list[i].Preference, list[i].Since = 10, since
			}
		}
		return list
	}
	owned := Claim{Unit: u, Owner: first, Successor: second, Epoch: epoch(7, 0)}
	usurped := Claim{Unit: u, Owner: second, Successor: third, Epoch: epoch(7, 1)}
	now := start().Add(time.Hour)
	then := epoch(uint64(now.Unix()), 0)
	for name, tc := range map[string]struct {
		s    Situation
		want Outcome
	}{
		"a fit owner goes on answering": {
			Situation{Self: first, Claim: owned, Candidates: three, Owner: Fit},
			Outcome{Owner: first, Answers: true},
		},
		"others leave a fit owner alone": {
			Situation{Self: second, Claim: owned, Candidates: three, Owner: Fit},
			Outcome{Owner: first},
		},
		"an owner that is cut off is followed with a quorum": {
			Situation{Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Rival: true, Cut: true},
			Outcome{Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: then}},
		},
		"before that the quorum is measured": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-time.Hour), Rival: true, Cut: true,
				Quorum: Unmeasured,
			},
			Outcome{Owner: first, Measure: true},
		},
		"who has no quorum leaves an owner alone that is cut off": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-time.Hour), Rival: true, Cut: true,
				Quorum: Inquorate,
			},
			Outcome{Owner: first, Again: now.Add(CutAgain)},
		},
		"an owner that was cut off and answers again is left alone": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-time.Hour), Rival: true, Cut: true,
				Answering: now,
			},
			Outcome{Owner: first, Measure: true, Again: now.Add(Patience)},
		},
		"an owner whose successor is gone names another": {
			Situation{Self: first, Claim: owned, Candidates: without(second), Owner: Fit},
			Outcome{Owner: first, Answers: true, Claim: Claim{Unit: u, Owner: first, Successor: third, Epoch: then}},
		},
		"an owner that is alone names nobody": {
			Situation{Self: first, Claim: owned, Candidates: []Candidate{{Node: first}}, Owner: Fit},
			Outcome{Owner: first, Answers: true},
		},
		"the successor is the deputy of a resting owner": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Resting, Until: now.Add(time.Second),
			},
			Outcome{Owner: first, Deputy: second, Again: now.Add(time.Second)},
		},
		"a resting owner without anybody else keeps the unit": {
			Situation{Self: third, Claim: owned, Owner: Resting},
			Outcome{Owner: first},
		},
		"the successor follows a dead owner at once": {
			Situation{Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now},
			Outcome{Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: then}},
		},
		"the next in line waits a turn": {
			Situation{Self: third, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now},
			Outcome{Owner: first, Again: now.Add(Turn)},
		},
		"a silent successor is skipped after a turn": {
			Situation{Self: third, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-Turn)},
			Outcome{Owner: third, Answers: true, Claim: Claim{Unit: u, Owner: third, Successor: second, Epoch: then}},
		},
		"a drained owner answers until another claims": {
			Situation{Self: first, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now},
			Outcome{Owner: first, Answers: true, Again: now.Add(Handover)},
		},
		"a drained owner that nobody follows in time stops": {
			Situation{Self: first, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-Handover)},
			Outcome{Owner: first},
		},
		"nobody answers when nobody can": {
			Situation{Self: first, Claim: owned, Owner: Unfit, Since: now},
			Outcome{},
		},
		"a node that is no candidate only learns who is about to own a new unit": {
			Situation{Self: "elsewhere", Candidates: three, Since: now},
			Outcome{Owner: first},
		},
		"a preferred node waits until it has been fit for a while": {
			Situation{Self: third, Claim: owned, Candidates: prefer(third, now.Add(-time.Second)), Owner: Fit},
			Outcome{Owner: first, Again: now.Add(PreferAfter - time.Second)},
		},
		"a preferred node that has been fit for a while takes over": {
			Situation{Self: third, Claim: owned, Candidates: prefer(third, now.Add(-PreferAfter)), Owner: Fit},
			Outcome{Owner: third, Answers: true, Claim: Claim{Unit: u, Owner: third, Successor: second, Epoch: then}},
		},
		"an owner answers until the preferred node claims": {
			Situation{Self: first, Claim: owned, Candidates: prefer(third, now.Add(-PreferAfter)), Owner: Fit},
			Outcome{Owner: first, Answers: true},
		},
		"an owner claims the unit by its new name": {
			Situation{
				Self: first, Claim: Claim{Unit: unit(9), Owner: first, Successor: second, Epoch: epoch(7, 0)}, Candidates: three, Owner: Fit,
			},
			Outcome{Owner: first, Answers: true, Claim: Claim{Unit: u, Owner: first, Successor: second, Epoch: then}},
		},
		"a clock that is behind does not hinder the next term": {
			Situation{
				Self: second, Claim: Claim{Unit: u, Owner: first, Successor: second, Epoch: then + 5<<stepBits}, Candidates: without(first), Owner: Unfit, Since: now,
			},
			Outcome{
				Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: then + 6<<stepBits},
			},
		},
		"a quorum is measured before a claim": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Quorum: Unmeasured,
			},
			Outcome{Owner: first, Measure: true},
		},
		"the first owner of a new unit measures before it claims and answers": {
			Situation{Self: first, Candidates: three, Since: now, Quorum: Unmeasured},
			Outcome{Owner: first, Measure: true},
		},
		"without a quorum a successor waits": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Quorum: Inquorate,
			},
			Outcome{Owner: first, Measure: true, Again: now.Add(Patience)},
		},
		"without a quorum a successor claims the next step in the end": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-Patience), Quorum: Inquorate,
			},
			Outcome{
				Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: epoch(7, 1)},
			},
		},
		"without a quorum a new unit is claimed late, and so that any other claim wins": {
			Situation{Self: first, Candidates: three, Since: now.Add(-Patience), Quorum: Inquorate},
			Outcome{
				Owner: first, Answers: true, Claim: Claim{Unit: u, Owner: first, Successor: second, Epoch: epoch(1, 1)},
			},
		},
		"without a quorum nobody is preferred": {
			Situation{
				Self: third, Claim: owned, Candidates: prefer(third, now.Add(-PreferAfter)), Owner: Fit, Quorum: Inquorate,
			},
			Outcome{Owner: first, Measure: true},
		},
		"without a quorum an owner keeps the successor that it has named": {
			Situation{Self: first, Claim: owned, Candidates: without(second), Owner: Fit, Quorum: Inquorate},
			Outcome{Owner: first, Answers: true, Measure: true},
		},
		"an owner takes back what was claimed without a quorum": {
			Situation{Self: first, Claim: usurped, Usurped: true, Candidates: three, Owner: Fit, Rival: true},
			Outcome{Owner: first, Answers: true, Claim: Claim{Unit: u, Owner: first, Successor: third, Epoch: then}},
		},
		"it does not before it has a quorum": {
			Situation{
				Self: first, Claim: usurped, Usurped: true, Candidates: three, Owner: Fit, Rival: true, Quorum: Inquorate,
			},
			Outcome{Owner: second, Measure: true},
		},
		"who has claimed without a quorum measures for as long": {
			Situation{Self: second, Claim: usurped, Candidates: without(first), Owner: Fit, Quorum: Inquorate},
			Outcome{Owner: second, Answers: true, Measure: true},
		},
		"who has claimed without a quorum and has one now waits for rivals": {
			Situation{Self: second, Claim: usurped, Candidates: three, Owner: Fit, QuorateSince: now.Add(-time.Second)},
			Outcome{Owner: second, Answers: true, Measure: true, Again: now.Add(Settled - time.Second)},
		},
		"who has claimed without a quorum owns the unit once it had one for long": {
			Situation{Self: second, Claim: usurped, Candidates: three, Owner: Fit, QuorateSince: now.Add(-Settled)},
			Outcome{Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: then}},
		},
		"what was lost to a live rival is left to it for a while": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Rival: true, Hold: now.Add(time.Second),
			},
			Outcome{Owner: first, Again: now.Add(time.Second)},
		},
		"what has just been lost to a rival that seems dead is left to it for a moment": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Heard: now, Hold: now.Add(HoldMax),
			},
			Outcome{Owner: first, Again: now.Add(HoldFirst)},
		},
		"what was lost to a rival that has died since is claimed at once": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Heard: now.Add(-HoldFirst), Hold: now.Add(HoldMax),
			},
			Outcome{Owner: second, Answers: true, Claim: Claim{Unit: u, Owner: second, Successor: third, Epoch: then}},
		},
		"an owner that was found dead, and answers, has the time to be found alive": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now.Add(-time.Minute), Answering: now,
			},
			Outcome{Owner: first, Measure: true, Again: now.Add(Patience)},
		},
		"a node with a stale view takes nothing from a live owner": {
			Situation{
				Self: second, Claim: owned, Candidates: without(first), Owner: Unfit, Since: now, Rival: true, Stale: true,
			},
			Outcome{Owner: first},
		},
		"a claim of the version before has no steps": {
			Situation{
				Self: first, Claim: Claim{Unit: u, Owner: first, Successor: second, Epoch: 7}, Candidates: three, Owner: Fit,
			},
			Outcome{Owner: first, Answers: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.s.Unit, tc.s.Now = u, now
			if got := Decide(tc.s); got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestClaimsAreTotallyOrdered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Claim {
			node := rapid.SampledFrom([]name.NodeName{"a", "b", "c"})
			return Claim{Unit: unit(1), Owner: node.Draw(t, label), Successor: node.Draw(t, label), Epoch: rapid.Uint64Range(1, 3).Draw(t, label)}
		}
		x, y, z := draw("x"), draw("y"), draw("z")
		switch {
		case x == y && x.Beats(y):
			t.Fatalf("%+v beats itself", x)
		case x != y && x.Beats(y) == y.Beats(x):
			t.Fatalf("%+v and %+v are not ordered", x, y)
		case x.Beats(y) && y.Beats(z) && !x.Beats(z):
			t.Fatalf("%+v, %+v, %+v go in a circle", x, y, z)
		}
	})
}

func TestPlacedUnitsStayWithinTheBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "nodes")
		c := cluster{candidates: fit(n), claims: map[netip.Addr]Claim{}}
		units := rapid.IntRange(1, 200).Draw(t, "units")
		for i := range uint32(units) {
			c.decide(unit(i), start(), start())
			for k := range c.candidates {
				if c.candidates[k].Node == c.claims[unit(i)].Owner {
					c.candidates[k].Owned++
				}
			}
		}
		for _, k := range c.candidates {
			if most := (5*units + 4*n - 1) / (4 * n); k.Owned > most {
				t.Fatalf("%s owns %d of %d units, more than %d", k.Node, k.Owned, units, most)
			}
		}
	})
}

func TestRebalanceEvensOutAndEachMoveHasOneTaker(t *testing.T) {
	t.Parallel()
	const units, n = 100, 4
	candidates := fit(n)
	candidates[0].Owned = units
	var all []Situation
	for i := range uint32(units) {
		all = append(all, Situation{
			Unit: unit(i), Claim: Claim{Unit: unit(i), Owner: candidates[0].Node, Epoch: 1}, Candidates: slices.Clone(candidates), Owner: Fit,
		})
	}
	takers := map[netip.Addr]name.NodeName{}
	for _, c := range candidates {
		for _, u := range Rebalance(c.Node, all) {
			if other, taken := takers[u]; taken {
				t.Errorf("both %s and %s take %s", other, c.Node, u)
			}
			takers[u] = c.Node
		}
	}
	owned := map[name.NodeName]int{candidates[0].Node: units - len(takers)}
	for _, node := range takers {
		owned[node]++
	}
	for _, c := range candidates {
		if owned[c.Node] > (units*5+4*n-1)/(4*n) {
			t.Errorf("%s owns %d of %d afterwards", c.Node, owned[c.Node], units)
		}
	}
}
