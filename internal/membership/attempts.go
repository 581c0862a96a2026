package membership

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// joinsFirst is how many joins run at the same time at first: each may bring all that a peer knows, a megabyte
	// with 10,000 claims, and takes several while it lasts. A join of a node that is away hangs for seconds, and
	// nothing is announced before all are tried, so the number doubles each joinsDouble, up to joinsAtOnce, more
	// than a LAN has speakers: after a second all are tried.
	joinsFirst, joinsAtOnce = 3, 256
	joinsDouble             = 150 * time.Millisecond
	// joinsEnough is how many exchanges are enough where many peers were hurried: each of them knows of
	// the others, and what they claimed.
	joinsEnough = 3

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
	// young is how many of them have begun since wave, when no peer waited for others to be tried; queued says
	// that some do.
	young  int
	wave   time.Time
	queued bool
	// exchanges counts those since some peers were hurried.
	exchanges int
}

type attempt struct {
	// addresses are those that the peer had when it was last looked at.
	addresses []netip.Addr
	// running is how many tries run: one, and one more that was hurried, since the first may
	// hang from a time when nothing got through. Of these young have begun in this wave.
	running, young int
	// tried says that a try has told whether there is a speaker, or was not needed.
	tried bool
	// hurried asks for a try even if the peer is a member already.
	hurried  bool
	failures int
	next     time.Time
}

func newAttempts() *attempts { return &attempts{peers: map[name.NodeName]attempt{}} }

// limit is how many joins of this wave may run now.
func (a *attempts) limit(now time.Time) int {
	if !a.queued && now.Sub(a.wave) >= joinsDouble {
		a.wave, a.young = now, 0
		for n, x := range a.peers {
			x.young = 0
			a.peers[n] = x
		}
	}
	return joinsFirst << min(max(now.Sub(a.wave), 0)/joinsDouble, 16)
}

// start returns the peers to try now. A peer that is alive is not tried; when it disappears, or
// its addresses change, it is tried at once, unless many are.
func (a *attempts) start(peers []Peer, alive map[name.NodeName]bool, now time.Time) []Peer {
	wanted, limit := make(map[name.NodeName]bool, len(peers)), a.limit(now)
	hurried := false
	a.queued = false
	var begin []Peer
	for _, p := range peers {
		wanted[p.Name] = true
		x := a.peers[p.Name]
		if !slices.Equal(x.addresses, p.Addresses) {
			x.addresses, x.failures, x.next = p.Addresses, 0, time.Time{}
		}
		if x.hurried && x.running == 0 && a.exchanges >= joinsEnough {
			x.hurried, x.failures, x.next = false, 0, now.Add(firstRetry) // if it is not a member by then
		}
		switch {
		case x.running > 1, x.running == 1 && !x.hurried:
		case alive[p.Name] && !x.hurried:
			x = attempt{addresses: x.addresses, tried: true, running: x.running, young: x.young}
		case x.next.After(now) && !x.hurried:
		case a.running >= joinsAtOnce, a.young >= limit:
			a.queued = true
		default:
			x.running, x.young, x.hurried = x.running+1, x.young+1, false
			a.running, a.young = a.running+1, a.young+1
			begin = append(begin, p)
		}
		hurried = hurried || x.hurried
		a.peers[p.Name] = x
	}
	if !hurried {
		a.exchanges = 0
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
		a.peers[peer] = attempt{addresses: x.addresses, running: x.running, young: x.young, hurried: true}
	}
}

// done notes the end of a try. What counts is that the peer becomes a member, and until it
// does it is tried less and less often. random is in [0, 1).
func (a *attempts) done(peer name.NodeName, how outcome, now time.Time, random float64) {
	x := a.peers[peer]
	a.running--
	if x.young > 0 {
		x.young--
		a.young--
	}
	if how == exchanged {
		a.exchanges++
	}
	a.peers[peer] = attempt{
		addresses: x.addresses, running: x.running - 1, young: x.young, hurried: x.hurried, tried: x.tried || how != blocked,
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
