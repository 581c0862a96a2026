package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Outcome is how an attempt to use a new connection ended. Others than these are the
// kernel's words.
type Outcome string

// The outcomes that are known.
const (
	Answered    Outcome = "answered"
	TimedOut    Outcome = "timed out"
	Refused     Outcome = "refused"
	Reset       Outcome = "reset"
	Unreachable Outcome = "unreachable"
	NoRoute     Outcome = "no route"
)

// Attempt is one new connection, and one question over it.
type Attempt struct {
	Target       netip.AddrPort
	Start, Ended time.Time
	// Late is how much after its time the prober started it.
	Late time.Duration
	// Connected and Answered are since Start; 0 if that did not happen.
	Connected, Answered time.Duration
	Outcome             Outcome
}

// String is one line.
func (a Attempt) String() string {
	return fmt.Sprintf("%s %s: %s after %s, connected after %s", a.Start.Format("15:04:05.000"), a.Target, a.Outcome,
		a.Ended.Sub(a.Start).Round(time.Millisecond), a.Connected.Round(time.Millisecond))
}

// Delay is a time for which the prober itself did not run though it should have.
type Delay struct {
	At     time.Time
	Length time.Duration
}

// ProbeLog is what a Prober did, in the order in which attempts ended.
type ProbeLog struct {
	Attempts []Attempt
	Delays   []Delay
	// Skipped attempts were never made because the prober was late.
	Skipped int
}

// slowConnect is the longest that connecting may take before it counts as failed: TCP sends
// again after 1 s (RFC 6298 section 2), so a longer time hides that the first packet was lost,
// and nothing in a lab takes so long for another reason.
const slowConnect = 300 * time.Millisecond

// ProbeReport sums a ProbeLog up.
type ProbeReport struct {
	// Total is how many attempts there were, Failed how many had no answer in time, Slow
	// how many were answered but took more than 300 ms to connect, not counting a time for
	// which the prober itself was late.
	Total, Failed, Slow int
	// Gap is the longest time of any target without a success, and GapBegan when it began:
	// from one success to the next, by the times at which they were complete; from the beginning of
	// the report to the first; from the last to the end. It is never less than the
	// interval of the attempts.
	Gap      time.Duration
	GapBegan time.Time
	GapOf    netip.AddrPort
	// Longest is the longest time until an answer.
	Longest time.Duration
	// Delay is the longest time for which the prober itself was late: what exceeds it was
	// not the prober's doing.
	Delay   time.Duration
	Skipped int
	// Outcomes counts the failures by kind.
	Outcomes map[Outcome]int
}

// Broken is how many new connections count as failed: without answer, or slow.
func (r ProbeReport) Broken() int { return r.Failed + r.Slow }

// String is one line.
func (r ProbeReport) String() string {
	var kinds []string
	for outcome, n := range r.Outcomes {
		kinds = append(kinds, fmt.Sprintf("%d %s", n, outcome))
	}
	slices.Sort(kinds)
	return fmt.Sprintf("%d new connections, %d failed (%s), %d slow, longest gap %s (%s), longest answer %s, own delay %s, %d skipped",
		r.Total, r.Failed, strings.Join(kinds, ", "), r.Slow, r.Gap.Round(time.Millisecond), r.GapOf, r.Longest.Round(time.Millisecond),
		r.Delay.Round(time.Millisecond), r.Skipped)
}

// Unwell are the attempts that started at or after a time (the zero Time: all) and had no answer, or were slow.
func (l ProbeLog) Unwell(from time.Time) []Attempt {
	return slices.DeleteFunc(slices.Clone(l.Attempts), func(a Attempt) bool {
		return a.Start.Before(from) || a.Outcome == Answered && !l.slow(a)
	})
}

// slow says whether an attempt took long to connect, not counting a time for which the prober itself was late.
func (l ProbeLog) slow(a Attempt) bool {
	return a.Connected-l.ownDelay(a.Start, a.Start.Add(a.Connected)) > slowConnect
}

// Report sums up the attempts that started in the time from one moment until before
// another; the zero Time is the first and the last that there is.
func (l ProbeLog) Report(from, until time.Time) ProbeReport {
	r := ProbeReport{Skipped: l.Skipped, Outcomes: map[Outcome]int{}}
	within := func(t time.Time) bool {
		return (from.IsZero() || !t.Before(from)) && (until.IsZero() || t.Before(until))
	}
	successes := map[netip.AddrPort][]time.Time{}
	begin, end := from, until
	for _, a := range l.Attempts {
		if !within(a.Start) {
			continue
		}
		r.Total++
		if from.IsZero() && (begin.IsZero() || a.Start.Before(begin)) {
			begin = a.Start
		}
		if until.IsZero() && a.Start.After(end) {
			end = a.Start
		}
		done := successes[a.Target]
		switch {
		case a.Outcome != Answered:
			r.Failed++
			r.Outcomes[a.Outcome]++
		default:
			if l.slow(a) {
				r.Slow++
			}
			r.Longest = max(r.Longest, a.Answered)
			done = append(done, a.Start.Add(a.Answered))
		}
		successes[a.Target] = done
	}
	for target, times := range successes {
		r.widen(target, append(times, begin), end)
	}
	for _, d := range l.Delays {
		if within(d.At) || within(d.At.Add(d.Length)) {
			r.Delay = max(r.Delay, d.Length)
		}
	}
	return r
}

// ownDelay is the longest part of a time for which the prober did not run.
func (l ProbeLog) ownDelay(from, until time.Time) time.Duration {
	var longest time.Duration
	for _, d := range l.Delays {
		begin, end := d.At, d.At.Add(d.Length)
		if begin.Before(from) {
			begin = from
		}
		if end.After(until) {
			end = until
		}
		longest = max(longest, end.Sub(begin))
	}
	return longest
}

// widen looks for the longest gap between the times at which one target's attempts succeeded.
func (r *ProbeReport) widen(target netip.AddrPort, times []time.Time, end time.Time) {
	slices.SortFunc(times, time.Time.Compare)
	if end.After(times[len(times)-1]) {
		times = append(times, end)
	}
	for i, t := range times[1:] {
		if gap := t.Sub(times[i]); gap > r.Gap {
			r.Gap, r.GapBegan, r.GapOf = gap, times[i], target
		}
	}
}
