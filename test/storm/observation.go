package storm

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// Happening is a fault as it came about. All times are since the beginning of the round; commands take a while, so a
// fault begins between Began and InForce, and ends between Ending and Ended.
type Happening struct {
	Fault                         Fault
	Began, InForce, Ending, Ended time.Duration
}

func (h Happening) active(at time.Duration) bool { return h.Began <= at && at < h.Ended }

// Span is a time in which the same hosts answered, sorted by name.
type Span struct {
	From, To time.Duration
	Owners   []string
}

// Reading is what a Service's Announced condition said.
type Reading struct {
	At     time.Duration
	True   bool
	Reason string
	// Node is whom the message names as the one that answers; empty: nobody.
	Node string
}

// Target is an address that is asked for.
type Target struct {
	Address netip.Addr
	LAN     lab.LAN
	Service string
}

// Period is a time from until before another.
type Period struct{ From, To time.Duration }

// Observation is all that was seen of one round.
type Observation struct {
	Length     time.Duration
	Happenings []Happening
	Targets    []Target
	// Spans are those of each address, without gaps.
	Spans map[netip.Addr][]Span
	// Readings are those of each Service; when the API server was away there are none.
	Readings map[string][]Reading
	// Answered are the times at which connections to an address were complete.
	Answered map[netip.Addr][]time.Duration
	// Late are the times in which the witness did not run.
	Late []Period
}

// Finding is what a violation is about.
type Finding string

// The findings.
const (
	NoOwner         Finding = "no owner"
	TwoOwners       Finding = "two owners"
	UntrueCondition Finding = "untrue condition"
	NoConnection    Finding = "no connection in calm"
	Moved           Finding = "moved in calm"
)

// Violation is something that took longer than what was going on excuses.
type Violation struct {
	Finding Finding       `json:"finding"`
	At      time.Duration `json:"at"` // since the beginning of the round
	Length  time.Duration `json:"length"`
	Bound   time.Duration `json:"bound"`
	Subject string        `json:"subject"` // an address or a Service
	Who     string        `json:"who"`     // who answered, or what was said
	Faults  []string      `json:"faults"`
}

// Excess is by how much the bound was exceeded.
func (v Violation) Excess() time.Duration { return v.Length - v.Bound }

// String is one line.
func (v Violation) String() string {
	return fmt.Sprintf("%s: %s at %.1f s for %.1f s, bound %.1f s, excess %.1f s; %s; faults: %s", v.Finding, v.Subject,
		v.At.Seconds(), v.Length.Seconds(), v.Bound.Seconds(), v.Excess().Seconds(), v.Who, strings.Join(v.Faults, "; "))
}

// Group is violations that are one: of the same finding and hosts, begun at the same time, for several addresses.
type Group struct {
	Worst    Violation
	Subjects []string
}

// together is how far apart the beginnings of what is one may lie.
const together = 500 * time.Millisecond

// Groups puts violations, in the order of time, together.
func Groups(all []Violation) []Group {
	var out []Group
next:
	for _, v := range all {
		for i := range out {
			w := &out[i].Worst
			if w.Finding == v.Finding && w.Finding != UntrueCondition && w.Who == v.Who && (v.At-w.At).Abs() <= together {
				out[i].Subjects = append(out[i].Subjects, v.Subject)
				if v.Excess() > w.Excess() {
					*w = v
				}
				continue next
			}
		}
		out = append(out, Group{Worst: v, Subjects: []string{v.Subject}})
	}
	return out
}

// String is one line.
func (g Group) String() string {
	if len(g.Subjects) == 1 {
		return g.Worst.String()
	}
	return fmt.Sprintf("%s; %d addresses: %s", g.Worst, len(g.Subjects), strings.Join(g.Subjects, " "))
}
