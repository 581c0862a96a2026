// Package election says which node owns an address in layer 2, and keeps it the owner: only
// an owner that is dead, drained or not eligible any more loses what it owns, unless somebody
// asked for the move.
//
// Ownership stands in claims, which all nodes tell each other. The package is pure: it knows
// claims and candidates, not how they were found, takes the time as an argument, and never
// talks to anybody.
package election

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// Turn is how long the next in line waits for the one before it to claim a unit.
	Turn = 300 * time.Millisecond
	// Handover is how long an owner that may not go on answers for a successor to come.
	Handover = 5 * time.Second
	// PreferAfter is how long a preferred node must have been fit before it takes a unit over.
	PreferAfter = 60 * time.Second
)

// Claim is what a node says of a unit that it owns. The zero value is no claim.
type Claim struct {
	// Unit is named by the lowest of its addresses.
	Unit netip.Addr `json:"u"`
	// Owner answers for the unit. Successor is who is first to follow it and answers in its
	// place while its speaker is away; empty: there was nobody else.
	Owner     name.NodeName `json:"o"`
	Successor name.NodeName `json:"s,omitempty"`
	// Epoch is 1 for the first claim of a unit, and greater by one for each that follows.
	Epoch uint64 `json:"e"`
}

// Beats says whether c replaces o: the higher epoch does, then the rank of the owner, so that
// all who hear of both agree.
func (c Claim) Beats(o Claim) bool {
	return cmp.Or(cmp.Compare(c.Epoch, o.Epoch), -byRank(c.Unit, c.Owner, o.Owner), cmp.Compare(c.Successor, o.Successor)) > 0
}

// Candidate is a node that may own a unit: eligible, with a speaker that lives and has joined.
type Candidate struct {
	Node name.NodeName
	// Preference is the sum of the weights of the preferences that the node meets.
	Preference int
	// Owned is how many units it owns.
	Owned int
	// Since is since when nothing of it has changed.
	Since time.Time
}

// byRank orders two nodes for a unit by rendezvous hashing (Thaler and Ravishankar, "Using
// name-based mappings to increase hit rates", 1998), the better one first: negative if that
// is x. When a node goes, what others own does not move, and what it owned spreads over all.
func byRank(unit netip.Addr, x, y name.NodeName) int {
	return cmp.Or(cmp.Compare(weight(unit, y), weight(unit, x)), cmp.Compare(x, y))
}

// weight hashes a unit and a node; the last steps are the finalizer of SplitMix64,
// because FNV alone leaves the weights of similar names alike.
func weight(unit netip.Addr, node name.NodeName) uint64 {
	h := fnv.New64a()
	b := unit.As16()
	h.Write(b[:])
	h.Write([]byte(node))
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// line orders candidates to follow an owner: the preferred first, then the one that the claim
// names, then by rank.
func line(c Claim, unit netip.Addr, candidates []Candidate) []Candidate {
	type ranked struct {
		Candidate
		named  bool
		weight uint64
	}
	list := make([]ranked, len(candidates))
	for i, x := range candidates {
		list[i] = ranked{x, x.Node == c.Successor, weight(unit, x.Node)}
	}
	slices.SortFunc(list, func(x, y ranked) int {
		switch {
		case x.Preference != y.Preference:
			return cmp.Compare(y.Preference, x.Preference)
		case x.named != y.named && x.named:
			return -1
		case x.named != y.named:
			return 1
		}
		return cmp.Or(cmp.Compare(y.weight, x.weight), cmp.Compare(x.Node, y.Node))
	})
	ordered := make([]Candidate, len(list))
	for i, x := range list {
		ordered[i] = x.Candidate
	}
	return ordered
}

// bound returns how many units a node may own when one is placed or all are rebalanced: 1.25
// times the mean, rounded up, with placed units more than there are.
func bound(candidates []Candidate, placed int) int {
	owned := placed
	for _, c := range candidates {
		owned += c.Owned
	}
	n := max(len(candidates), 1)
	return (5*owned + 4*n - 1) / (4 * n)
}

// place orders candidates for a unit that nobody owned before: as line does, but those with
// room first.
func place(unit netip.Addr, candidates []Candidate) []Candidate {
	most := bound(candidates, 1)
	full := func(c Candidate) int {
		if c.Owned >= most {
			return 1
		}
		return 0
	}
	ordered := line(Claim{}, unit, candidates)
	slices.SortStableFunc(ordered, func(x, y Candidate) int {
		return cmp.Or(cmp.Compare(y.Preference, x.Preference), cmp.Compare(full(x), full(y)))
	})
	return ordered
}
