package membership

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// joinsAtOnce bounds the joins that run at the same time. It is more than a LAN has speakers: all are tried at once, since
	// a join of a node that is away hangs for seconds, and nothing is announced before all are tried.
	joinsAtOnce = 256

	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// outcome is how a try to join a peer ended.
type outcome uint8

// The outcomes.
const (
	// absent: the peer has no speaker, or the node is dead.
	absent outcome = iota
	// exchanged: both know what the other knew.
	exchanged
	// blocked: the node lives, and may have a speaker, but nothing comes back from its port.
	blocked
)

// attempts keeps which peers are absent from the members and when each is tried next. It does
// not join anybody itself.
type attempts struct {
	peers   map[name.NodeName]attempt
	running int
}

type attempt struct {
	// addresses are those that the peer had when it was last looked at.
	addresses []netip.Addr
	// running is how many tries run: one, and one more that was hurried, since the first may
	// hang from a time when nothing got through.
	running int
	// tried says that a try has told whether there is a speaker, or was not needed.
	tried bool
	// hurried asks for a try even if the peer is a member already.
	hurried  bool
	failures int
	next     time.Time
}

func newAttempts() *attempts { return &attempts{peers: map[name.NodeName]attempt{}} }

// start returns the peers to try now. A peer that is alive is not tried; when it disappears, or
// its addresses change, it is tried at once.
func (a *attempts) start(peers []Peer, alive map[name.NodeName]bool, now time.Time) []Peer {
	wanted := make(map[name.NodeName]bool, len(peers))
	var begin []Peer
	for _, p := range peers {
		wanted[p.Name] = true
		x := a.peers[p.Name]
		if !slices.Equal(x.addresses, p.Addresses) {
			x.addresses, x.failures, x.next = p.Addresses, 0, time.Time{}
		}
		switch {
		case x.running > 1, x.running == 1 && !x.hurried:
		case alive[p.Name] && !x.hurried:
			x = attempt{addresses: x.addresses, tried: true, running: x.running}
		case x.next.After(now) && !x.hurried, a.running >= joinsAtOnce:
		default:
			x.running, x.hurried = x.running+1, false
			a.running++
			begin = append(begin, p)
		}
		a.peers[p.Name] = x
	}
	for n, x := range a.peers {
		if x.running == 0 && !wanted[n] {
			delete(a.peers, n)
		}
	}
	return begin
}

// hurry has a peer tried at once, because it was heard.
func (a *attempts) hurry(peer name.NodeName) {
	if x, known := a.peers[peer]; known {
		x.hurried = true
		a.peers[peer] = x
	}
}

// soon has those peers tried at once that are absent, because this node has other addresses.
func (a *attempts) soon() {
	for peer, x := range a.peers {
		x.failures, x.next = 0, time.Time{}
		a.peers[peer] = x
	}
}

// again has all peers tried at once, members too, as if none had been tried before.
func (a *attempts) again() {
	for peer, x := range a.peers {
		a.peers[peer] = attempt{addresses: x.addresses, running: x.running, hurried: true}
	}
}

// done notes the end of a try. What counts is that the peer becomes a member, and until it
// does it is tried less and less often. random is in [0, 1).
func (a *attempts) done(peer name.NodeName, how outcome, now time.Time, random float64) {
	x := a.peers[peer]
	a.running--
	a.peers[peer] = attempt{
		addresses: x.addresses, running: x.running - 1, hurried: x.hurried, tried: x.tried || how != blocked,
		failures: x.failures + 1, next: now.Add(backoff(x.failures, random)),
	}
}

// allTried says whether it is known of each peer whether it has a speaker.
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
