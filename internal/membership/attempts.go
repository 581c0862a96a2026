package membership

import (
	"maps"
	"net/netip"
	"time"
)

const (
	// joinsAtOnce bounds the joins that run at the same time. Once one has met somebody, most
	// peers turn out to be members already and need no join.
	joinsAtOnce = 16

	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	// idle is how long there may be nothing to do.
	idle = time.Hour
)

// attempts keeps which peers are absent from the members and when each is tried next. It does
// not join anybody itself.
type attempts struct {
	peers   map[netip.Addr]attempt
	running int
}

type attempt struct {
	running bool
	// tried says that a try has come to its end, or was not needed.
	tried    bool
	failures int
	next     time.Time
}

func newAttempts() *attempts { return &attempts{peers: map[netip.Addr]attempt{}} }

// start returns the peers to try now, and how long there is nothing more to start. A peer that
// is alive is not tried; when it disappears it is tried at once.
func (a *attempts) start(peers []netip.Addr, alive map[netip.Addr]bool, now time.Time) ([]netip.Addr, time.Duration) {
	wanted := make(map[netip.Addr]bool, len(peers))
	for _, p := range peers {
		wanted[p] = true
	}
	maps.DeleteFunc(a.peers, func(p netip.Addr, x attempt) bool { return !x.running && !wanted[p] })
	var begin []netip.Addr
	wait := idle
	for _, p := range peers {
		x := a.peers[p]
		switch {
		case alive[p]:
			x = attempt{running: x.running, tried: true}
		case x.running:
		case x.next.After(now):
			wait = min(wait, x.next.Sub(now))
		case a.running < joinsAtOnce:
			x.running = true
			a.running++
			begin = append(begin, p)
		}
		a.peers[p] = x
	}
	return begin, wait
}

// done notes the end of a try. Whether the peer answered does not matter: what counts is that
// it becomes a member, and until it does it is tried less and less often. random is in [0, 1).
func (a *attempts) done(peer netip.Addr, now time.Time, random float64) {
	x := a.peers[peer]
	a.running--
	a.peers[peer] = attempt{tried: true, failures: x.failures + 1, next: now.Add(backoff(x.failures, random))}
}

// allTried says whether each peer has been tried at least once.
func (a *attempts) allTried() bool {
	for _, x := range a.peers {
		if !x.tried {
			return false
		}
	}
	return true
}

// backoff returns the wait after this many failures before: it doubles up to lastRetry, less a
// random half.
func backoff(failures int, random float64) time.Duration {
	d := min(firstRetry<<min(failures, 10), lastRetry)
	return d - time.Duration(random*float64(d)/2)
}
