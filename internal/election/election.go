// Package election says which node owns an address in layer 2, and keeps it the owner: only
// an owner that is dead, drained or not eligible any more loses what it owns, unless somebody
// asked for the move.
//
// Ownership stands in claims, which all nodes tell each other. Where the network is cut, both
// sides may claim; who keeps a unit afterwards is the side with a quorum, because a claim without
// one is of a later step of the same term, which the owner before answers with the next term.
//
// The package is pure: it knows claims and candidates, not how they were found, takes the time as
// an argument, and never talks to anybody.
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
	// Patience is how much longer a node without a quorum waits before it claims a unit.
	Patience = 3 * time.Second
	// CutAgain is how often a node without a quorum looks whether it has one, before it claims from an owner
	// that lives and does not answer on the LAN.
	CutAgain = 5 * time.Second
	// Settled is how long a node that claimed without a quorum must have had one since, and heard
	// no other claim, before it owns the unit like any other owner.
	Settled = 10 * time.Second
	// HoldFirst is how long a node may not claim what it has lost to a live rival for the first time.
	HoldFirst = time.Second
	// HoldMax is how long it may not at most, when it has lost it again and again.
	HoldMax = 60 * time.Second
	// YieldWeak is after how long an owner that hears no speaker, or claimed without a quorum, gives way to
	// another that it does not hear; see Yields.
	YieldWeak = 500 * time.Millisecond
	// YieldAhead is after how long it does so if its rank is higher than the other's.
	YieldAhead = 2 * time.Second
	// YieldBehind is after how long an owner that hears some speaker, and has the lower rank, does so.
	YieldBehind = 8 * time.Second
)

const (
	// stepBits is how many of the low bits of an epoch count steps.
	stepBits = 16
	// TermMax is the highest term that is believed at any jump.
	TermMax = uint64(1) << 40
	// TermJump is how far above the highest known term one beyond TermMax may be.
	TermJump = uint64(1) << 16
)

// Claim is what a node says of a unit that it owns. The zero value is no claim.
type Claim struct {
	// Unit is named by the lowest of its addresses.
	Unit netip.Addr `json:"u"`
	// Owner answers for the unit. Successor is who is first to follow it and answers in its
	// place while its speaker is away; empty: there was nobody else.
	Owner     name.NodeName `json:"o"`
	Successor name.NodeName `json:"s,omitempty"`
	// Epoch is the term of the claim and, in the low bits, its step; see Term and Step. It is one
	// number so that speakers of the version before, who count epochs one by one, put claims into
	// the same order.
	Epoch uint64 `json:"e"`
}

// epoch joins a term and a step.
func epoch(term, step uint64) uint64 { return term<<stepBits | step }

// Term counts the claims that were made with a quorum. A new one is at least the wall clock of its
// maker in Unix seconds, so that claims of deleted Services lose.
func (c Claim) Term() uint64 { return c.Epoch >> stepBits }

// Step is 0 for a claim that was made with a quorum, and counts those of a term that were not. The
// claims of term 0 are those of the version before, which has no steps.
func (c Claim) Step() uint64 {
	if c.Term() == 0 {
		return 0
	}
	return c.Epoch & (1<<stepBits - 1)
}

// nextStep is the epoch of a claim that follows c without a quorum.
func (c Claim) nextStep() uint64 {
	if c.Epoch == 0 {
		return epoch(1, 1)
	}
	return c.Epoch + 1
}

// Beats says whether c replaces o: the higher term does, then the later step, then the rank of
// the owner, so that all who hear of both agree. Both are to be of the same unit; see As.
func (c Claim) Beats(o Claim) bool {
	return cmp.Or(
		cmp.Compare(c.Epoch, o.Epoch), -byRank(c.Unit, c.Owner, o.Owner),
		cmp.Compare(c.Owner, o.Owner), cmp.Compare(c.Successor, o.Successor),
	) > 0
}

// As is the claim under another name of its unit, so that the claims for all addresses of a unit
// can be compared.
func (c Claim) As(unit netip.Addr) Claim {
	c.Unit = unit
	return c
}

// Believable says whether a term can be one that honest nodes came to, if the highest that is known
// of the unit is this: otherwise one wrong number would outlast all that follow.
func (c Claim) Believable(known uint64) bool { return c.Term() <= max(TermMax, known+TermJump) }

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

// Yields says whether, and after how long, a node that owns a unit by its claim gives way to another
// node that answers for it too, where neither hears what the other claims. weak says that the node
// hears no speaker at all, and so is the one that is cut off, or that it claimed without a quorum, perhaps
// from that other: then it yields. If both are, the one with the lower rank does, which the other waits
// for; if neither is, so does that, but only after another one that is weak would have.
func Yields(unit netip.Addr, self, other name.NodeName, weak bool) (after time.Duration, yields bool) {
	ahead := byRank(unit, self, other) < 0
	switch {
	case weak && ahead:
		return YieldAhead, true
	case weak:
		return YieldWeak, true
	}
	return YieldBehind, !ahead
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
