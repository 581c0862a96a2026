package config

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"

	"go4.org/netipx"
)

// intervals is a set of addresses, of both families: ranges in ascending order, of which no two overlap or touch. It is
// never changed once made. The zero value is empty.
type intervals []netipx.IPRange

// Contains says whether an address lies in the set.
func (x intervals) Contains(a netip.Addr) bool {
	return len(x.meeting(netipx.IPRangeFrom(a, a))) > 0
}

// ContainsPrefix says whether a prefix lies wholly in the set.
func (x intervals) ContainsPrefix(p netip.Prefix) bool {
	r := netipx.RangeOfPrefix(p)
	met := x.meeting(r)
	return r.IsValid() && len(met) == 1 && !r.From().Less(met[0].From()) && !met[0].To().Less(r.To())
}

// meeting returns the ranges of the set that have addresses in common with r.
func (x intervals) meeting(r netipx.IPRange) intervals {
	first := sort.Search(len(x), func(i int) bool { return !x[i].To().Less(r.From()) })
	last := first
	for last < len(x) && !r.To().Less(x[last].From()) {
		last++
	}
	return x[first:last]
}

// unite makes a set of ranges in any order.
func unite(lists ...[]netipx.IPRange) intervals {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(x, y netipx.IPRange) int { return x.From().Compare(y.From()) })
	var set intervals
	for _, r := range all {
		set = set.with(r)
	}
	return set
}

// with adds a range that does not begin before the last one does.
func (x intervals) with(r netipx.IPRange) intervals {
	if len(x) == 0 {
		return intervals{r}
	}
	last := &x[len(x)-1]
	if last.To().Less(r.From()) && last.To().Next() != r.From() {
		return append(x, r)
	}
	if last.To().Less(r.To()) {
		*last = netipx.IPRangeFrom(last.From(), r.To())
	}
	return x
}

// intersect returns what lies in both sets. It costs what the first and the result have.
func intersect(x, y intervals) intervals {
	var set intervals
	for _, r := range x {
		for _, m := range y.meeting(r) {
			from, to := r.From(), r.To()
			if from.Less(m.From()) {
				from = m.From()
			}
			if m.To().Less(to) {
				to = m.To()
			}
			set = append(set, netipx.IPRangeFrom(from, to))
		}
	}
	return set
}

// subtract returns what lies in x and not in y. It costs what the first and the result have.
func subtract(x, y intervals) intervals {
	var set intervals
	for _, r := range x {
		rest, left := r.From(), true
		for _, m := range y.meeting(r) {
			if rest.Less(m.From()) {
				set = append(set, netipx.IPRangeFrom(rest, m.From().Prev()))
			}
			rest, left = m.To().Next(), m.To().Less(r.To())
		}
		if left {
			set = append(set, netipx.IPRangeFrom(rest, r.To()))
		}
	}
	return set
}

// edge is where a range begins, before an address, or ends, after it.
type edge struct {
	at    netip.Addr
	after bool
	set   int
}

func (e edge) compare(o edge) int {
	after := func(e edge) int {
		if e.after {
			return 1
		}
		return 0
	}
	return cmp.Or(e.at.Compare(o.at), cmp.Compare(after(e), after(o)))
}

// sweep visits, in ascending order, each part of what some sets contain that lies in the same of them throughout: in are
// their indexes, ascending. They are valid during the visit only.
func sweep(sets []intervals, visit func(part netipx.IPRange, in []int)) {
	n := 0
	for _, set := range sets {
		n += 2 * len(set)
	}
	edges := make([]edge, 0, n)
	for i, set := range sets {
		for _, r := range set {
			edges = append(edges, edge{at: r.From(), set: i}, edge{at: r.To(), after: true, set: i})
		}
	}
	slices.SortFunc(edges, edge.compare)
	var in []int
	for i, e := range edges {
		if len(in) > 0 {
			from, to := edges[i-1].at, e.at
			if edges[i-1].after {
				from = from.Next()
			}
			if !e.after {
				to = to.Prev()
			}
			if !to.Less(from) && edges[i-1].compare(e) != 0 {
				visit(netipx.IPRangeFrom(from, to), in)
			}
		}
		at, there := slices.BinarySearch(in, e.set)
		if there {
			in = slices.Delete(in, at, at+1)
			continue
		}
		in = slices.Insert(in, at, e.set)
	}
}

// firstComes shares addresses out among sets, each to the first that contains it. lost, unless nil, is told what another
// set would have had.
func firstComes(sets []intervals, lost func(part netipx.IPRange, loser, winner int)) []intervals {
	shares := make([]intervals, len(sets))
	sweep(sets, func(part netipx.IPRange, in []int) {
		shares[in[0]] = shares[in[0]].with(part)
		for _, loser := range in[1:] {
			if lost != nil {
				lost(part, loser, in[0])
			}
		}
	})
	return shares
}

// alone returns what lies in each set and in no other.
func alone(sets []intervals) []intervals {
	shares := make([]intervals, len(sets))
	sweep(sets, func(part netipx.IPRange, in []int) {
		if len(in) == 1 {
			shares[in[0]] = shares[in[0]].with(part)
		}
	})
	return shares
}
