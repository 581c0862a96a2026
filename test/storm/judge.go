package storm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// Judge returns what was wrong in a round for longer than it may be, in the order of time.
func Judge(o Observation) []Violation {
	var out []Violation
	for _, t := range o.Targets {
		out = append(out, o.judgeNone(t)...)
		out = append(out, o.judgeTwo(t)...)
		out = append(out, o.judgeMoves(t)...)
		out = append(out, o.judgeConnections(t)...)
	}
	for service := range o.Readings {
		out = append(out, o.judgeCondition(service)...)
	}
	slices.SortFunc(out, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Finding, b.Finding), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

// violation fills in what all have.
func (o Observation) violation(f Finding, p Period, bound time.Duration) Violation {
	return Violation{Finding: f, At: p.From, Length: p.To - p.From, Bound: bound, Faults: o.describe(p)}
}

// describe lists the faults of a time, and those that ended in the seconds before it.
func (o Observation) describe(p Period) []string {
	const before = 5 * time.Second
	var out []string
	for _, h := range o.Happenings {
		if h.Began < p.To && p.From < h.Ended+before {
			out = append(out, fmt.Sprintf("%s (%.1f to %.1f s)", h.Fault, h.Began.Seconds(), h.Ended.Seconds()))
		}
	}
	if out == nil {
		out = []string{"none"}
	}
	return out
}

// runs are the longest times in which all spans are as wanted, or interrupted for at most a gap.
func runs(spans []Span, gap time.Duration, wanted func(Span) bool) []Period {
	var out []Period
	for _, s := range spans {
		if !wanted(s) {
			continue
		}
		if n := len(out); n > 0 && s.From-out[n-1].To <= gap {
			out[n-1].To = s.To
			continue
		}
		out = append(out, Period{s.From, s.To})
	}
	return out
}

// around is how far from a time the witness's own delays still count: what keeps it from running keeps speakers, too,
// and not always at the same moment.
const around = 5 * time.Second

// late is how much of a time the witness did not run, or the longest delay that it had about then if that is more.
func (o Observation) late(p Period) time.Duration {
	var sum, longest time.Duration
	for _, l := range o.Late {
		sum += overlap(p, l)
		if l.From < p.To+around && p.From < l.To+around {
			longest = max(longest, l.To-l.From)
		}
	}
	return max(sum, longest)
}

func overlap(a, b Period) time.Duration {
	return max(0, min(a.To, b.To)-max(a.From, b.From))
}

// lead is how long before an effect its cause may lie: what is lost is missed by the next tick, what is slow comes
// late.
const lead = time.Second

// excused adds up what the transitions of a time excuse: those in it, and just before it.
func (o Observation) excused(p Period) time.Duration {
	var sum time.Duration
	for i, h := range o.Happenings {
		alone := !slices.ContainsFunc(slices.Delete(slices.Clone(o.Happenings), i, i+1), func(other Happening) bool {
			return other.Began < h.Ended+settleTime && h.Began < other.Ended+settleTime
		})
		if h.Began < p.To && p.From < h.InForce+lead {
			sum += h.Fault.excuse(false, alone)
		}
		if h.Ending < p.To && p.From < h.Ended+lead {
			sum += h.Fault.excuse(true, alone)
		}
	}
	return sum
}

// step is how finely standing excuses are measured.
const step = 100 * time.Millisecond

// standing is how much of a time is excused for as long as it lasts.
func (o Observation) standing(p Period, excuse func(at time.Duration) bool) time.Duration {
	var sum time.Duration
	for at := p.From; at < p.To; at += step {
		if excuse(at) {
			sum += min(step, p.To-at)
		}
	}
	return sum
}

func (o Observation) any(at time.Duration, is func(Fault) bool) bool {
	return slices.ContainsFunc(o.Happenings, func(h Happening) bool { return h.active(at) && is(h.Fault) })
}

// judgeNone: nobody answers.
func (o Observation) judgeNone(t Target) []Violation {
	var out []Violation
	none := func(s Span) bool { return len(s.Owners) == 0 }
	for _, p := range runs(o.Spans[t.Address], 0, none) {
		before := o.lastOwner(t.Address, p.From)
		standing := o.standing(p, func(at time.Duration) bool { return o.nobodyCan(t, before, at) })
		bound := o.excused(p) + standing + o.late(p)
		if p.To-p.From > bound+noise {
			v := o.violation(NoOwner, p, bound)
			v.Subject = t.Address.String()
			v.Who = fmt.Sprintf("%s before, %s after", orNobody(before), orNobody(o.nextOwner(t.Address, p.To)))
			out = append(out, v)
		}
	}
	return out
}

// nobodyCan says whether nobody could answer for the address: no node reaches the network; or its owner's kernel
// answers while its speaker neither runs nor was heard before, so that none can know that it needs a deputy; or it is
// cut off together with so many that it keeps the address.
func (o Observation) nobodyCan(t Target, owner string, at time.Duration) bool {
	all := true
	for _, n := range announcers() {
		if !o.any(at, func(f Fault) bool { return f.mute(n, t.LAN) }) {
			all = false
		}
	}
	away := o.any(at, func(f Fault) bool { return f.awaySpeaker(owner) })
	unheard := o.any(at, func(f Fault) bool { return f.unheard(owner) })
	return all || away && unheard || o.cutOff(t.LAN, owner, at)
}

// cutOff says whether an owner on the other side of a cut of the network without gossip keeps what it owns, since its
// speaker is heard and too few nodes are left on the witness's side: no more than half, and no gateway is there.
func (o Observation) cutOff(lan lab.LAN, owner string, at time.Duration) bool {
	mute := func(n string, lan lab.LAN) bool { return o.any(at, func(f Fault) bool { return f.mute(n, lan) }) }
	left := 1 // n1, which never fails
	for _, n := range announcers() {
		if !mute(n, lan) {
			left++
		}
	}
	return lan == lab.OtherLAN && mute(owner, lan) && !mute(owner, lab.FirstLAN) && 2*left <= 1+len(announcers())
}

// lastOwner is who answered last before a time, if it was one.
func (o Observation) lastOwner(a netip.Addr, at time.Duration) string {
	owner := ""
	for _, s := range o.Spans[a] {
		if s.From < at && len(s.Owners) == 1 {
			owner = s.Owners[0]
		}
	}
	return owner
}

func (o Observation) nextOwner(a netip.Addr, at time.Duration) string {
	for _, s := range o.Spans[a] {
		if s.From >= at && len(s.Owners) > 0 {
			return strings.Join(s.Owners, ",")
		}
	}
	return ""
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// judgeTwo: several answer at once.
func (o Observation) judgeTwo(t Target) []Violation {
	var out []Violation
	for _, p := range runs(o.Spans[t.Address], noise, func(s Span) bool { return len(s.Owners) > 1 }) {
		owners := o.ownersIn(t.Address, p)
		var bound time.Duration
		if slices.ContainsFunc(o.Happenings, func(h Happening) bool {
			return h.Began < p.To && p.From < h.InForce+lead || h.Ending < p.To && p.From < h.Ended+lead
		}) {
			bound = twoLimit
		}
		bound = max(bound, o.yielding(p, owners))
		bound += o.late(p) + o.standing(p, func(at time.Duration) bool {
			return o.any(at, func(f Fault) bool { return f.parts(owners[0], owners[len(owners)-1]) })
		})
		if p.To-p.From > bound+noise {
			v := o.violation(TwoOwners, p, bound)
			v.Subject, v.Who = t.Address.String(), strings.Join(owners, " and ")
			out = append(out, v)
		}
	}
	return out
}

// yielding is for how long several nodes may answer because their gossip is blocked at the time, and not just whole again.
func (o Observation) yielding(p Period, owners []string) time.Duration {
	var bound time.Duration
	for _, h := range o.Happenings {
		if h.Began >= p.To || p.From+lead >= h.Ended {
			continue
		}
		for i, a := range owners {
			for _, b := range owners[i+1:] {
				switch blocked, alone := h.Fault.blocks(a, b); {
				case blocked && alone:
					bound = max(bound, yieldAlone)
				case blocked:
					bound = max(bound, yieldBehind)
				}
			}
		}
	}
	return bound
}

// ownersIn are all who answered in a time, sorted.
func (o Observation) ownersIn(a netip.Addr, p Period) []string {
	var out []string
	for _, s := range o.Spans[a] {
		if overlap(p, Period{s.From, s.To}) > 0 {
			out = append(out, s.Owners...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lastEnd is when the last fault that began before a time ended.
func (o Observation) lastEnd(at time.Duration) time.Duration {
	var end time.Duration
	for _, h := range o.Happenings {
		if h.Began < at {
			end = max(end, h.Ended)
		}
	}
	return end
}

// judgeMoves: an address moves though nothing has been wrong for a while.
func (o Observation) judgeMoves(t Target) []Violation {
	var out []Violation
	for _, s := range o.Spans[t.Address] {
		before := o.lastOwner(t.Address, s.From)
		calm := len(o.Happenings) == 0 || s.From >= o.lastEnd(s.From)+settleTime
		if !calm || len(s.Owners) != 1 || before == "" || before == s.Owners[0] {
			continue
		}
		v := o.violation(Moved, Period{s.From, s.To}, 0)
		v.Length, v.Subject, v.Who = 0, t.Address.String(), before+" to "+s.Owners[0]
		out = append(out, v)
	}
	return out
}

// judgeConnections: in calm connections succeed.
func (o Observation) judgeConnections(t Target) []Violation {
	times, tried := o.Answered[t.Address]
	from := o.lastEnd(o.Length) + settleTime
	if !tried || from >= o.Length {
		return nil
	}
	var out []Violation
	last := from
	for _, at := range append(slices.Clone(times), o.Length) {
		if at < from {
			continue
		}
		if p := (Period{last, at}); p.To-p.From > connectionLimit+o.late(p) {
			v := o.violation(NoConnection, p, connectionLimit)
			v.Subject, v.Who = t.Address.String(), strings.Join(o.ownersIn(t.Address, p), ",")
			out = append(out, v)
		}
		last = max(last, at)
	}
	return out
}

// readingGap ends a row of readings: the API server was away in between.
const readingGap = 4 * time.Second

// judgeCondition: what the Service says is not what the witness sees.
func (o Observation) judgeCondition(service string) []Violation {
	var targets []Target
	for _, t := range o.Targets {
		if t.Service == service {
			targets = append(targets, t)
		}
	}
	var out []Violation
	var row []Reading
	finish := func() {
		if v, bad := o.conditionRow(service, targets, row); bad {
			out = append(out, v)
		}
		row = nil
	}
	for _, r := range o.Readings[service] {
		if len(row) > 0 && r.At-row[len(row)-1].At > readingGap {
			finish()
		}
		if o.isTrue(r, targets) {
			finish()
			continue
		}
		row = append(row, r)
	}
	finish()
	return out
}

// isTrue compares a reading with what was seen of all the Service's addresses, now or just before.
func (o Observation) isTrue(r Reading, targets []Target) bool {
	for _, t := range targets {
		owners := o.ownersIn(t.Address, Period{r.At - step, r.At + step})
		if r.True && !slices.Contains(owners, r.Node) || !r.True && len(owners) > 0 {
			return false
		}
	}
	return true
}

// conditionRow judges readings that follow each other and are untrue.
func (o Observation) conditionRow(service string, targets []Target, row []Reading) (Violation, bool) {
	if len(row) == 0 {
		return Violation{}, false
	}
	p := Period{row[0].At, row[len(row)-1].At}
	bound := conditionLimit
	knowing := o.ownersIn(targets[0].Address, p) // nobody: all who are there
	if len(knowing) == 0 {
		knowing = announcers()
	}
	for at := p.From; at <= p.To; at += step {
		cannot := func(n string) bool {
			return o.any(at, func(f Fault) bool { return f.withoutAPI(n) || f.awaySpeaker(n) })
		}
		if !slices.ContainsFunc(knowing, func(n string) bool { return !cannot(n) }) {
			bound = conditionWithoutAPI
		}
	}
	named := row[0].Node
	bound += o.standing(p, func(at time.Duration) bool { return o.cutOff(targets[0].LAN, named, at) })
	if p.To-p.From <= bound+time.Second { // as seldom as it is read
		return Violation{}, false
	}
	v := o.violation(UntrueCondition, p, bound)
	v.Subject = service
	var seen []string
	for _, t := range targets {
		seen = append(seen, fmt.Sprintf("%s: %s", t.Address, orNobody(strings.Join(o.ownersIn(t.Address, p), ","))))
	}
	first := row[len(row)-1]
	v.Who = fmt.Sprintf("says %t %s %q while %s", first.True, first.Reason, first.Node, strings.Join(seen, ", "))
	return v, true
}
