package announce

import (
	"net/netip"
	"slices"
	"time"
)

// countTime is for how long a dispute or a measured quorum is counted after it was last seen: longer than
// metrics are commonly read apart.
const countTime = time.Minute

// Counts is what a State counts, for metrics.
type Counts struct {
	// Disputed is how many units the own node owns for which another node answers, or which it has claimed
	// in vain within the last minute; HeldDown how many the own node has lost to a live rival, and leaves
	// to it for the moment.
	Disputed, HeldDown int
	// Contested counts claims of others that the own node answered with better ones, Lost how often it lost
	// a unit that it could have gone on with, Mended claims that it had missed and was told when it
	// compared what it knows.
	Contested, Lost, Mended uint64
	// Quorum says whether the own node has one, by interface, where it was measured within the last minute.
	Quorum map[string]bool
}

// counted is what Counts returns that is counted as it happens.
type counted struct {
	contested, lost, mended uint64
	// disputes is when another last claimed an address in vain.
	disputes map[netip.Addr]time.Time
}

// Counts returns what is counted, at a time.
func (s *State) Counts(now time.Time) Counts {
	c := Counts{
		Contested: s.counted.contested, Lost: s.counted.lost, Mended: s.counted.mended, Quorum: map[string]bool{},
	}
	disputed := func(a netip.Addr) bool { return s.disputed(a, now) }
	for _, u := range s.units {
		switch {
		case u.owner != s.view.Self && now.Before(u.history.hold):
			c.HeldDown++
		case u.owner == s.view.Self && slices.ContainsFunc(s.addresses(u), disputed):
			c.Disputed++
		}
	}
	for i, q := range s.view.Quorum {
		if now.Sub(q.At) < countTime {
			c.Quorum[i] = q.Has
		}
	}
	return c
}

// disputed says whether another node answers for an address, or has claimed it in vain lately.
func (s *State) disputed(a netip.Addr, now time.Time) bool {
	at, claimed := s.counted.disputes[a]
	return claimed && now.Sub(at) < countTime || s.view.Conflicts[a].Node != ""
}
