package storm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// The times of a round.
const (
	// stormTime is within which faults begin.
	stormTime = 30 * time.Second
	// calmTime follows the last fault's end: the longest bound of what may still be settling, and some more in which
	// all must be right.
	calmTime = 20 * time.Second
	// atOnce is how many faults overlap at most.
	atOnce = 3
	// spacing keeps the ends and beginnings of one node's faults apart, since a command takes a moment.
	spacing = time.Second
)

// announcers are the nodes that announce and fail. n1 has the pods, announces nothing and never fails: what becomes of
// dead pods is the service proxy's affair.
func announcers() []string { return []string{"n2", "n3", "n4", "n5", "n6"} }

// choice is a kind of fault and how often it comes, in proportion to the others.
type choice struct {
	kind   Kind
	weight int
}

func choices() []choice {
	return []choice{
		{CableCut, 4},
		{SendsNothing, 3},
		{ReceivesNothing, 3},
		{Split, 4},
		{PairParted, 3},
		{GossipSplit, 3},
		{GossipDropped, 2},
		{GossipRejected, 3},
		{SpeakerFrozen, 3},
		{SpeakerSlow, 2},
		{SpeakerRestarted, 2},
		{SpeakerKilled, 3},
		{SpeakerStopped, 2},
		{NodeFrozen, 3},
		{PowerLost, 4},
		{Renumbered, 2},
		{WrongMask, 2},
		{APILost, 3},
		{APILostByAll, 2},
		{APIStopped, 1},
	}
}

// Plan returns the faults of a round, counted from 0, in the order of their beginnings, and the length of the round.
// Seed and round alone decide.
func Plan(seed uint64, round int) (faults []Fault, length time.Duration) {
	rng := rand.New(rand.NewPCG(seed, uint64(round)))
	for want := 3 + rng.IntN(5); want > 0; want-- {
		f := draw(rng)
		if fits(faults, f) {
			faults = append(faults, f)
			length = max(length, f.End())
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Begin, b.Begin) })
	return faults, length + calmTime
}

// draw makes one fault.
func draw(rng *rand.Rand) Fault {
	f := Fault{Kind: drawKind(rng), Begin: milliseconds(rng, 0, stormTime), Length: drawLength(rng)}
	nodes := announcers()
	rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	count := 1
	switch f.Kind {
	case Split, GossipSplit:
		count = 1 + rng.IntN(3)
	case PairParted:
		count = 2
	case APILostByAll, APIStopped:
		count = 0
	}
	f.Nodes = slices.Sorted(slices.Values(nodes[:count]))
	switch f.Kind {
	case CableCut, SendsNothing, ReceivesNothing, Split, PairParted:
		f.LANs = [][]lab.LAN{{lab.FirstLAN}, {lab.OtherLAN}, {lab.FirstLAN, lab.OtherLAN}}[rng.IntN(3)]
	case SpeakerRestarted, SpeakerKilled:
		f.Length = 3 * time.Second // by then it has started
	case WrongMask:
		f.Value = []int{25, 28}[rng.IntN(2)]
	case Renumbered:
		f.Value = 71 + slices.Index(announcers(), f.Nodes[0]) + 5*rng.IntN(3)
	}
	return f
}

func drawKind(rng *rand.Rand) Kind {
	sum := 0
	for _, c := range choices() {
		sum += c.weight
	}
	n := rng.IntN(sum)
	for _, c := range choices() {
		if n -= c.weight; n < 0 {
			return c.kind
		}
	}
	panic("weights do not add up")
}

// drawLength draws short times, in which nothing is noticed or just so, as often as those that outlast every timer of a
// failover, and as often as those that outlast the grace period.
func drawLength(rng *rand.Rand) time.Duration {
	switch rng.IntN(3) {
	case 0:
		return milliseconds(rng, 300*time.Millisecond, 4*time.Second)
	case 1:
		return milliseconds(rng, 4*time.Second, 12*time.Second)
	}
	return milliseconds(rng, 12*time.Second, 40*time.Second)
}

func milliseconds(rng *rand.Rand, from, until time.Duration) time.Duration {
	return (from + time.Duration(rng.Int64N(int64(until-from)))).Round(time.Millisecond)
}

// fits says whether a fault may be added: not too many overlap, and no two undo each other's work.
func fits(faults []Fault, f Fault) bool {
	var over []Fault
	for _, o := range faults {
		if o.Begin < f.End()+spacing && f.Begin < o.End()+spacing {
			if clash(o, f) {
				return false
			}
			over = append(over, o)
		}
	}
	for _, at := range append(over, f) {
		n := 0
		for _, o := range append(over, f) {
			if o.Begin <= at.Begin && at.Begin < o.End() {
				n++
			}
		}
		if n > atOnce {
			return false
		}
	}
	return true
}

// clash says whether two faults cannot overlap: the end of one would end the other, or make no sense.
func clash(a, b Fault) bool {
	group := func(k Kind) string {
		switch k {
		case SpeakerFrozen, SpeakerSlow, SpeakerRestarted, SpeakerKilled, SpeakerStopped:
			return "process"
		case PowerLost, NodeFrozen:
			return "machine"
		case Renumbered, WrongMask:
			return "address"
		case APILostByAll, APIStopped, APILost:
			return "API"
		}
		return string(k)
	}
	shared := len(a.Nodes) == 0 || len(b.Nodes) == 0 ||
		slices.ContainsFunc(a.Nodes, func(n string) bool { return slices.Contains(b.Nodes, n) })
	ga, gb := group(a.Kind), group(b.Kind)
	switch {
	case ga == gb && (ga == "API" || a.Kind == Split || a.Kind == GossipSplit):
		return true // one at a time
	case ga == "address" || gb == "address":
		// To renumber takes the API server.
		return shared && (ga == gb || ga == "machine" || gb == "machine") || a.Kind == APIStopped || b.Kind == APIStopped
	case ga == "machine" || gb == "machine":
		return shared && ga != "API" && gb != "API" && a.Kind != Split && b.Kind != Split &&
			a.Kind != GossipSplit && b.Kind != GossipSplit
	}
	return shared && ga == gb
}

// Describe prints a plan, one line a fault.
func Describe(faults []Fault) []string {
	var out []string
	for _, f := range faults {
		out = append(out, fmt.Sprintf("%6.1f s to %6.1f s  %s", f.Begin.Seconds(), f.End().Seconds(), f))
	}
	return out
}
