package announce

import (
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
)

// strayTime is how long a claim for an address is kept that no Service holds, to this node's
// knowledge: other nodes may have heard of the Service first.
const strayTime = time.Minute

// contestTime is how long a claim that the own node has answered with a better one is not answered again.
const contestTime = time.Second

// contest is a claim that the own node has answered with a better one, and when.
type contest struct {
	claim election.Claim
	at    time.Time
}

// claims is the best claim known for each unit.
type claims struct {
	known map[netip.Addr]election.Claim
	// strays are claims for addresses that no Service holds, with the time they came.
	strays map[netip.Addr]time.Time
}

func newClaims() claims {
	return claims{known: map[netip.Addr]election.Claim{}, strays: map[netip.Addr]time.Time{}}
}

// learn notes a claim, and returns whether it beats what was known. Until sweep knows better
// it is a stray.
func (c *claims) learn(n election.Claim, now time.Time) bool {
	if before := c.known[n.Unit]; !n.Beats(before) || !n.Believable(before.Term()) {
		return false
	}
	if _, known := c.known[n.Unit]; !known {
		c.strays[n.Unit] = now
	}
	c.known[n.Unit] = n
	return true
}

// best returns the best claim for any of the addresses of a unit.
func (c *claims) best(unit netip.Addr, addresses []netip.Addr) election.Claim {
	var best election.Claim
	for _, a := range addresses {
		if n, known := c.known[a]; known && n.As(unit).Beats(best.As(unit)) {
			best = n
		}
	}
	return best
}

// stray says that no Service holds an address any more.
func (c *claims) stray(a netip.Addr, now time.Time) {
	if _, known := c.known[a]; known {
		c.strays[a] = now
	}
}

// sweep forgets strays whose time is up.
func (c *claims) sweep(now time.Time, held func(netip.Addr) bool) {
	for a, since := range c.strays {
		switch {
		case held(a):
			delete(c.strays, a)
		case now.Sub(since) > strayTime:
			delete(c.strays, a)
			delete(c.known, a)
		}
	}
}
