package election

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// Standing is how the owner of a unit stands.
type Standing uint8

// The standings of an owner.
const (
	// Unfit: it is dead, drained or not eligible, or its speaker has been away for too long.
	Unfit Standing = iota
	// Resting: its speaker is away, but its node lives and forwards.
	Resting
	// Fit: it can own the unit.
	Fit
)

// Quorum is whether a node hears more than half of those who may answer on the network of a unit.
type Quorum uint8

// What may be known of a quorum.
const (
	// Quorate: the node has one, or nobody measures.
	Quorate Quorum = iota
	// Unmeasured: nobody knows at this moment.
	Unmeasured
	// Inquorate: the node has none.
	Inquorate
)

// Situation is what one node knows of one unit.
type Situation struct {
	Self name.NodeName
	// Unit names the unit; Claim is the best known claim for any of its addresses.
	Unit  netip.Addr
	Claim Claim
	// Candidates are all nodes that may own the unit, Self and the owner among them if so.
	Candidates []Candidate
	// Owner is how the claim's owner stands.
	Owner Standing
	// Until is when a resting owner ceases to be one; zero: not known to.
	Until time.Time
	// Since is when the unit was first without a claim or with an unfit owner, though there was
	// a candidate.
	Since time.Time
	Now   time.Time
	// Quorum is whether Self has one where it would answer. It is measured only before a claim; see
	// Outcome.Measure.
	Quorum Quorum
	// Usurped says that a claim of Self with a quorum was the best until one without was heard.
	Usurped bool
	// QuorateSince is since when Self, which owns the unit by a claim without a quorum, has had
	// one without a break; zero: it has none.
	QuorateSince time.Time
	// Rival says that the claim's owner is alive. Stale says that Self has not reached the API
	// server for so long that it does not know what the owner knows.
	Rival, Stale bool
	// Cut says that the owner lives, and is unfit only because it does not answer on the LAN. Where Self
	// has no quorum, it may be Self that is on the smaller side of a cut.
	Cut bool
	// Answering is since when the owner's node, though it was found dead, has answered on the LAN;
	// zero: it does not.
	Answering time.Time
	// Heard is when the claim was heard; zero: long ago. Hold is until when Self, which lost the unit to
	// another though it was fit, leaves it to a live owner.
	Heard, Hold time.Time
	// Contested says that a node that Self does not hear answers for the unit, too.
	Contested bool
}

// Outcome is what a node makes of a Situation.
type Outcome struct {
	// Owner answers for the unit, or is about to: who it is stays the same until another
	// claims. Empty: nobody can.
	Owner name.NodeName
	// Deputy answers in a resting owner's place.
	Deputy name.NodeName
	// Answers says that Self answers as the owner.
	Answers bool
	// Claim is one to make now, or the zero value.
	Claim Claim
	// Measure says that the decision depends on a quorum that is to be measured, now or again.
	Measure bool
	// Again is when to decide again though nothing was heard; zero: never.
	Again time.Time
}

// Decide says who owns a unit, and what the node does about it. The rules, in order:
//
//  0. An owner that lost the unit to a claim without a quorum claims it once it has one itself.
//  1. A unit without a claim goes to the best placed candidate, and each turn that nobody
//     claims it to the next in line.
//  2. An owner that is fit stays, unless a candidate that has been fit for PreferAfter is
//     preferred; that one takes over.
//  3. A resting owner stays; the first in line is its deputy.
//  4. An unfit owner is followed by the first in line or, after each turn of silence, by
//     the next. While there is one to follow it, it goes on answering for as long as Handover.
//
// Whoever claims needs a quorum, and then begins a new term. Without one only a unit that nobody
// owns, or whose owner is unfit, is claimed: after Patience more, with the next step of its term. One whose
// owner lives and is only cut off is not.
// Nobody claims from a live owner what it has just lost to one, nor while its view is stale.
func Decide(s Situation) Outcome {
	if s.Usurped && s.Claim.Owner != s.Self && s.fit() {
		if s.Quorum != Inquorate {
			return s.claimed(line(s.Claim, s.Unit, s.Candidates), Outcome{Owner: s.Claim.Owner}, time.Time{})
		}
		s.Usurped = false
		o := Decide(s)
		o.Measure = true
		return o
	}
	if s.Claim.Epoch == 0 {
		return s.take(place(s.Unit, s.Candidates), Outcome{})
	}
	o := Outcome{Owner: s.Claim.Owner, Answers: s.Claim.Owner == s.Self}
	if s.Owner == Fit && !s.changes(o.Answers) {
		return o
	}
	others := slices.DeleteFunc(slices.Clone(s.Candidates), func(c Candidate) bool { return c.Node == s.Claim.Owner })
	following := line(s.Claim, s.Unit, others)
	switch s.Owner {
	case Fit:
		return s.stay(following, o)
	case Resting:
		o.Answers, o.Again = false, s.Until
		if len(following) > 0 {
			o.Deputy = following[0].Node
		}
		return o
	}
	if len(following) == 0 {
		return Outcome{}
	}
	if o.Answers {
		until := s.Since.Add(Handover)
		if o.Answers = s.Now.Before(until); o.Answers {
			o.Again = until
		}
		return o
	}
	return s.take(following, o)
}

// changes says whether there is anything to do about a fit owner: most often there is not, and
// nobody needs to be ranked.
func (s Situation) changes(answers bool) bool {
	preference := s.preference()
	return answers && (!s.named() || s.Claim.Unit != s.Unit || s.Claim.Step() > 0) ||
		slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Preference > preference })
}

// preference is the owner's.
func (s Situation) preference() int {
	for _, c := range s.Candidates {
		if c.Node == s.Claim.Owner {
			return c.Preference
		}
	}
	return 0
}

// named says whether the successor that the claim names could follow.
func (s Situation) named() bool {
	return slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Node == s.Claim.Successor })
}

// stay is rule 2.
func (s Situation) stay(following []Candidate, o Outcome) Outcome {
	preference := s.preference()
	for _, c := range following {
		if c.Preference <= preference {
			break
		}
		if due := c.Since.Add(PreferAfter); s.Now.Before(due) {
			o.Again = earliest(o.Again, due)
			continue
		}
		if c.Node == s.Self {
			return s.claimed(following, o, time.Time{})
		}
		break
	}
	if !o.Answers {
		return o
	}
	again := s.Claim.Unit != s.Unit || !s.named() && len(following) > 0
	if s.Claim.Step() > 0 {
		again = s.settle(&o) // a new term before that would beat the owner that comes back
	}
	if again {
		return s.claimed(following, o, time.Time{})
	}
	return o
}

// settle is about a unit that Self owns by a claim without a quorum. It says whether Self has had a
// quorum for long enough to own it like any other.
func (s Situation) settle(o *Outcome) bool {
	o.Measure = true
	if s.QuorateSince.IsZero() || s.Contested {
		return false // the other may be the owner that comes back
	}
	due := s.QuorateSince.Add(Settled)
	if s.Now.Before(due) {
		o.Again = earliest(o.Again, due)
		return false
	}
	return true
}

// fit says whether Self may own the unit.
func (s Situation) fit() bool {
	return slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Node == s.Self })
}

// take makes Self the owner when its turn in line has come.
func (s Situation) take(line []Candidate, o Outcome) Outcome {
	if len(line) == 0 {
		return Outcome{}
	}
	if o.Owner == "" {
		o.Owner = line[0].Node
	}
	position := slices.IndexFunc(line, func(c Candidate) bool { return c.Node == s.Self })
	if position < 0 {
		return o
	}
	due := s.Since.Add(time.Duration(position) * Turn)
	if s.Now.Before(due) {
		o.Again = due
		return o
	}
	return s.claimed(line, o, due.Add(Patience))
}

// claimed is the outcome that Self claims the unit now or, if it may not, that it waits. A claim
// without a quorum is due at some time, or never if that is zero.
func (s Situation) claimed(line []Candidate, waiting Outcome, due time.Time) Outcome {
	taking := s.Claim.Owner != s.Self && !s.Usurped
	switch hold := s.hold(); {
	case taking && s.Rival && s.Stale:
		return waiting
	case taking && s.Now.Before(hold):
		waiting.Again = earliest(waiting.Again, hold)
		return waiting
	case s.Quorum == Quorate && (s.Answering.IsZero() || due.IsZero()):
		return Outcome{Owner: s.Self, Answers: true, Claim: s.next(line)}
	case s.Quorum == Quorate:
		if due = s.Answering.Add(Patience); !s.Now.Before(due) {
			return Outcome{Owner: s.Self, Answers: true, Claim: s.next(line)}
		}
	}
	if s.Cut && s.Quorum == Inquorate {
		waiting.Again = earliest(waiting.Again, s.Now.Add(CutAgain))
		return waiting
	}
	waiting.Measure = true
	if s.Quorum == Unmeasured || due.IsZero() {
		return waiting
	}
	if s.Now.Before(due) {
		waiting.Again = earliest(waiting.Again, due)
		return waiting
	}
	return Outcome{Owner: s.Self, Answers: true, Claim: s.follow(line, s.Claim.nextStep())}
}

// hold is until when Self leaves the unit to its owner. One that seems dead, and whose claim has only just
// been heard, lives: Self has not found that yet.
func (s Situation) hold() time.Time {
	if s.Rival || s.Heard.IsZero() {
		return s.Hold
	}
	return s.Heard.Add(HoldFirst)
}

// next is a claim of Self that follows the known one in a new term.
func (s Situation) next(line []Candidate) Claim {
	return s.follow(line, epoch(max(s.Claim.Term()+1, uint64(max(s.Now.Unix(), 0))), 0))
}

// follow is a claim of Self. It names who else is first in line.
func (s Situation) follow(line []Candidate, epoch uint64) Claim {
	c := Claim{Unit: s.Unit, Owner: s.Self, Epoch: epoch}
	for _, other := range line {
		if other.Node != s.Self {
			c.Successor = other.Node
			break
		}
	}
	return c
}

func earliest(x, y time.Time) time.Time {
	if x.IsZero() || !y.IsZero() && y.Before(x) {
		return y
	}
	return x
}

// Rebalance says which units Self takes over to even out how many each node owns, given all
// units and who may own each, in the same order on all nodes. Nodes that own more than 1.25
// times the mean give to those that own less. All nodes that know the same decide alike, and
// each takes what falls to it.
func Rebalance(self name.NodeName, units []Situation) []netip.Addr {
	owned := map[name.NodeName]int{}
	for _, u := range units {
		for _, c := range u.Candidates {
			owned[c.Node] = c.Owned
		}
	}
	var mine []netip.Addr
	for _, u := range units {
		u.Candidates = slices.Clone(u.Candidates)
		for i := range u.Candidates {
			u.Candidates[i].Owned = owned[u.Candidates[i].Node]
		}
		to := u.relief()
		if to == "" {
			continue
		}
		owned[u.Claim.Owner]--
		owned[to]++
		if to == self {
			mine = append(mine, u.Unit)
		}
	}
	return mine
}

// relief is who should take the unit from an owner that owns too much; empty: nobody.
func (s Situation) relief() name.NodeName {
	i := slices.IndexFunc(s.Candidates, func(c Candidate) bool { return c.Node == s.Claim.Owner })
	most := bound(s.Candidates, 0)
	if i < 0 || s.Candidates[i].Owned <= most {
		return ""
	}
	for _, c := range line(Claim{}, s.Unit, s.Candidates) {
		if c.Owned < most && c.Preference >= s.Candidates[i].Preference {
			return c.Node
		}
	}
	return ""
}

// Take is the claim that makes Self the owner of a unit because somebody asked for it.
func Take(s Situation) Claim { return s.next(line(Claim{}, s.Unit, s.Candidates)) }
