package announce

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// relayPause is how long news wait for others that leave with them. It is less than
	// election.Turn, so that who is next in line hears of a claim before its own turn comes.
	relayPause = 100 * time.Millisecond
	// relayRate is how many claims a second a node passes on, relayBurst how many at once.
	relayRate, relayBurst = 20, 40
	// reportCost is how many claims a report counts for: it is about as long.
	reportCost = 4
	// relaySize is how many bytes of news leave together, so that they fit into a datagram.
	relaySize = 1100
)

// Relay is what a node passes on of what others told it and was news to it, so that news also reach
// those who do not hear their maker. Its rate is bounded; what is too much for that is not passed on,
// and others find it by Digest. It is not safe for concurrent use.
type Relay struct {
	self    name.NodeName
	claims  map[netip.Addr]election.Claim
	reports map[name.NodeName]Report
	due     time.Time
	// budget is how many claims may leave, as of filled.
	budget float64
	filled time.Time
	counts RelayCounts
}

// RelayCounts counts claims and reports, each as one.
type RelayCounts struct {
	// Passed were passed on, Dropped were too many.
	Passed, Dropped uint64
}

// NewRelay returns a Relay of a node that has nothing to pass on.
func NewRelay(self name.NodeName) *Relay {
	return &Relay{
		self: self, claims: map[netip.Addr]election.Claim{}, reports: map[name.NodeName]Report{},
		budget: relayBurst,
	}
}

// Add takes what was news to this node; see State.Learned.
func (r *Relay) Add(learned News, now time.Time) {
	for _, c := range learned.Claims {
		r.claims[c.Unit] = c
	}
	for _, n := range learned.Reports {
		r.reports[n.Node] = n
	}
	if r.due.IsZero() && !learned.Empty() {
		r.due = now.Add(relayPause)
	}
}

// Due is when to call Take; zero: not before something is added.
func (r *Relay) Due() time.Time { return r.due }

// Counts returns what was counted so far.
func (r *Relay) Counts() RelayCounts { return r.counts }

// Take returns what is to be passed on now, if it is due: each to some other speakers, drawn at random,
// but not to its makers. Of too many claims each node passes on other ones.
func (r *Relay) Take(now time.Time) []News {
	if r.due.IsZero() || now.Before(r.due) {
		return nil
	}
	r.due = time.Time{}
	if !r.filled.IsZero() {
		r.budget = min(relayBurst, r.budget+relayRate*max(now.Sub(r.filled), 0).Seconds())
	}
	r.filled = now
	var all []News
	for _, n := range slices.Sorted(maps.Keys(r.reports)) {
		all = r.pass(all, News{Reports: []Report{r.reports[n]}}, reportCost)
	}
	order := map[netip.Addr]uint64{}
	for a := range r.claims {
		order[a] = hashOf(a).text(string(r.self)).sum()
	}
	byOrder := func(x, y netip.Addr) int { return cmp.Compare(order[x], order[y]) }
	for _, a := range slices.SortedFunc(maps.Keys(order), byOrder) {
		all = r.pass(all, News{Claims: []election.Claim{r.claims[a]}}, 1)
	}
	clear(r.claims)
	clear(r.reports)
	return all
}

// pass adds one claim or report to the last of some news, or begins another, if it may be passed on.
func (r *Relay) pass(all []News, one News, cost float64) []News {
	if r.budget < cost {
		r.counts.Dropped++
		return all
	}
	r.budget -= cost
	r.counts.Passed++
	if last := len(all) - 1; last >= 0 {
		more := News{Claims: append(all[last].Claims, one.Claims...), Reports: append(all[last].Reports, one.Reports...)}
		if len(more.Encode()) <= relaySize {
			all[last] = more
			return all
		}
	}
	return append(all, one)
}

// Makers returns who made the claims and reports, each once.
func (n News) Makers() []name.NodeName {
	var list []name.NodeName
	for _, c := range n.Claims {
		list = append(list, c.Owner)
	}
	for _, r := range n.Reports {
		list = append(list, r.Node)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
