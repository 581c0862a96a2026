package announce

import (
	"maps"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Quorum is what was measured on one interface of the own node.
type Quorum struct {
	// Has says that more than half of those answered that may own what is announced there, this
	// node among them, or half of them and a default gateway. Suspects count as silent. Witness says
	// that anybody but this node and the suspects answered.
	Has, Witness bool
	// Asked are the suspects. Answering are those of them that answered, and since when they have.
	Asked     []name.NodeName
	Answering map[name.NodeName]time.Time
	// At is when it was measured, Since since when Has was true at each measurement.
	At, Since time.Time
}

const (
	// quorumTime is how long a measurement counts.
	quorumTime = time.Second
	// quorumGap is the longest time between two measurements for Has to be true without a break.
	quorumGap = 3 * quorumTime
)

// QuorumKnown is the fact that the quorum on an interface was measured; see Quorum. Answered are the
// suspects that answered.
type QuorumKnown struct {
	Interface       string
	Has, Witness    bool
	Asked, Answered []name.NodeName
}

// Measurement is a quorum that is to be measured.
type Measurement struct {
	Interface string
	// Suspects are nodes that were found dead, are deaf or cut off, and own what others would claim.
	Suspects []name.NodeName
}

// QuorumMeasured is the fact that quorums are measured from now on: without it the own node has
// one everywhere.
type QuorumMeasured struct{}

func (QuorumMeasured) tell(s *State, _ time.Time, _ *touched) {
	if s.view.Quorum == nil {
		s.view.Quorum = map[string]Quorum{}
	}
}

func (f QuorumKnown) tell(s *State, now time.Time, t *touched) {
	QuorumMeasured{}.tell(s, now, t)
	before := s.view.Quorum[f.Interface]
	q := Quorum{Has: f.Has, Witness: f.Witness, Asked: f.Asked, Answering: map[name.NodeName]time.Time{}, At: now}
	unbroken := now.Sub(before.At) <= quorumGap
	if f.Has {
		q.Since = now
		if before.Has && unbroken {
			q.Since = before.Since
		}
	}
	for _, n := range f.Answered {
		q.Answering[n] = now
		if since, did := before.Answering[n]; did && unbroken {
			q.Answering[n] = since
		}
	}
	s.view.Quorum[f.Interface] = q
	for u := range s.measuring {
		if slices.Contains(u.measure, f.Interface) {
			t.units[u] = true
		}
	}
}

// quorum is what is known of the quorums on some interfaces, all of which count: the worst of
// them, since when all have been there, and when the oldest measurement is to be made again.
type quorum struct {
	is      election.Quorum
	witness bool
	since   time.Time
	expires time.Time
	// answering is since when the suspect has answered; zero: it does not.
	answering time.Time
}

// quorum sums up what is known of some interfaces; suspect is the dead owner of what would be
// claimed, or empty.
func (v *View) quorum(interfaces []string, suspect name.NodeName, now time.Time) quorum {
	sum := quorum{witness: true}
	if v.Quorum == nil {
		return sum
	}
	for _, i := range interfaces {
		q, known := v.Quorum[i]
		expires := q.At.Add(quorumTime)
		if !q.counts(suspect, now) {
			return quorum{is: election.Unmeasured, witness: known && q.Witness}
		}
		sum.answering = latest(sum.answering, q.Answering[suspect])
		sum.expires = earliest(sum.expires, expires)
		sum.witness = sum.witness && q.Witness
		if !q.Has {
			sum.is = election.Inquorate
		}
		if sum.is == election.Quorate && q.Since.After(sum.since) {
			sum.since = q.Since
		}
	}
	return sum
}

// counts says whether a measurement says something of a suspect; empty: of nobody in particular.
func (q Quorum) counts(suspect name.NodeName, now time.Time) bool {
	return now.Before(q.At.Add(quorumTime)) && (suspect == "" || slices.Contains(q.Asked, suspect))
}

// suspect is the owner of a unit if it was found dead, and may not know of it, or if it is deaf or cut off: one that
// answers all the same is about to hear again, as after an outage of the whole network.
func (v *View) suspect(owner name.NodeName) name.NodeName {
	n, known := v.node(owner)
	if known && n.Drain == "" && (n.Health == Dead || n.deafened()) {
		return owner
	}
	return ""
}

// history is what became of a unit before that matters for who may claim it.
type history struct {
	// usurped says that a claim of the own node with a quorum was the best, and the own node fit,
	// until one of the same term without a quorum was heard.
	usurped bool
	// lost counts how often in a row the own node lost it to another, though fit; lostAt is when it
	// last did, hold until when it leaves it to a live owner.
	lost         int
	lostAt, hold time.Time
	// heard is when the best claim was last another than before; zero: it never was.
	heard time.Time
}

// follow takes that the best claim for a unit is another, and whether the own node, which had the
// one before, was fit to own the unit; mine says whether the new one is the own node's. It says whether
// the own node has lost the unit to another though it was fit.
func (h *history) follow(before, best election.Claim, fit, mine bool, now time.Time) bool {
	if before.Epoch > 0 && (best.Epoch != before.Epoch || best.Owner != before.Owner) {
		h.heard = now
	}
	switch {
	case mine, best.Term() > before.Term():
		h.usurped = false
	case fit && best.Term() == before.Term() && best.Step() > before.Step() && before.Step() == 0:
		h.usurped = true
	}
	if !fit || mine {
		return false
	}
	if now.Sub(h.lostAt) > 2*election.HoldMax {
		h.lost = 0
	}
	h.hold, h.lostAt = now.Add(min(election.HoldFirst<<min(h.lost, 16), election.HoldMax)), now
	h.lost++
	return true
}

// Unmeasured returns what is to be measured, sorted by interface: a claim depends on it, and what is
// known is too old.
func (s *State) Unmeasured(now time.Time) []Measurement {
	suspects := map[string][]name.NodeName{}
	due := map[string]bool{}
	for u := range s.measuring {
		suspect := s.view.suspect(u.owner)
		for _, i := range u.measure {
			if suspect != "" && !slices.Contains(suspects[i], suspect) {
				suspects[i] = append(suspects[i], suspect)
			}
			due[i] = due[i] || !s.view.Quorum[i].counts(suspect, now)
		}
	}
	var list []Measurement
	for _, i := range slices.Sorted(maps.Keys(due)) {
		if due[i] {
			slices.Sort(suspects[i])
			list = append(list, Measurement{Interface: i, Suspects: suspects[i]})
		}
	}
	return list
}

// measure notes on which interfaces a unit waits for a measurement.
func (s *State) measure(u *unit, interfaces []string) {
	if u.measure = interfaces; len(interfaces) == 0 {
		delete(s.measuring, u)
		return
	}
	s.measuring[u] = true
}
