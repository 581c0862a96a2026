package bgp

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// settleTime is how long after a session came up a change of paths may have missed it. gobgp sends the routes of
// the moment first and counts the session among those to be told of changes a little later; a change in
// between reaches it by neither way. After a restart, gobgp sends no changes until the deferral ends.
const settleTime = deferral*time.Second + 200*time.Millisecond

// settling remembers what sessions that have just come up may have missed.
type settling struct {
	// settled is the moment of coming up that was last looked after, by session.
	settled map[netip.Addr]time.Time
	written time.Time
	// withdrawals are those of the last settleTime, in order.
	withdrawals []withdrawal
}

type withdrawal struct {
	prefixes []netip.Prefix
	at       time.Time
}

func newSettling() settling { return settling{settled: map[netip.Addr]time.Time{}} }

// wrote takes note of a change of paths that has just been made.
func (s *settling) wrote(now time.Time) { s.written = now }

// withdrew takes note of withdrawals that have just been made.
func (s *settling) withdrew(prefixes []netip.Prefix, now time.Time) {
	s.wrote(now)
	s.withdrawals = slices.DeleteFunc(s.withdrawals, func(w withdrawal) bool { return now.Sub(w.at) > 2*settleTime })
	s.withdrawals = append(s.withdrawals, withdrawal{slices.Clone(prefixes), now})
}

// missed returns the sessions that may have missed a change, the prefixes that may have been
// withdrawn unheard, and after how long there is more to look after; zero: nothing. established is
// since when, for sessions that are up.
func (s *settling) missed(established map[netip.Addr]time.Time, now time.Time) (sessions []netip.Addr, gone []netip.Prefix, next time.Duration) {
	var first time.Time
	for address, since := range established {
		if s.settled[address].Equal(since) {
			continue
		}
		if rest := since.Add(settleTime).Sub(now); rest > 0 {
			if next == 0 || rest < next {
				next = rest
			}
			continue
		}
		s.settled[address] = since
		if s.written.Before(since) {
			continue
		}
		sessions = append(sessions, address)
		if first.IsZero() || since.Before(first) {
			first = since
		}
	}
	if len(sessions) > 0 {
		for _, w := range s.withdrawals {
			if !w.at.Before(first) {
				gone = append(gone, w.prefixes...)
			}
		}
	}
	for address := range s.settled {
		if _, up := established[address]; !up {
			delete(s.settled, address)
		}
	}
	return sessions, gone, next
}

// settle sends once more what sessions that came up a moment ago may have missed: nothing, if no path changed then.
func (w *worker) settle(wish wishes) (next time.Duration, err error) {
	sessions, gone, next := w.settling.missed(wish.established, time.Now())
	if next == 0 {
		next = lastRetry
	}
	// A withdrawal is sent only for a path that exists: one that goes to nobody does.
	gone = slices.DeleteFunc(gone, func(prefix netip.Prefix) bool { _, back := w.paths[prefix]; return back })
	for prefixes := range slices.Chunk(gone, batch) {
		paths := make([]path, len(prefixes))
		for i, prefix := range prefixes {
			paths[i].prefix = prefix
		}
		if err := w.engine.addPaths(paths); err != nil {
			return 0, err
		}
		if err := w.engine.deletePaths(prefixes); err != nil {
			return 0, err
		}
	}
	for _, address := range sessions {
		if err := w.engine.sendAgain(address); errors.Is(err, errStuck) {
			return 0, err
		} // any other error: the session is gone
	}
	return next, nil
}
