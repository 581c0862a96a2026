package bgp

import (
	"net/netip"
	"time"
)

const (
	// longestConfirm bounds how long a KEEPALIVE is waited for that is to follow the peer's OPEN; it is the large hold
	// time that RFC 4271 section 8.2.2 suggests before one is negotiated.
	longestConfirm = 4 * time.Minute
	// unconfirmed is the error of a peer that keeps one waiting for longer.
	unconfirmed = "peer sent no KEEPALIVE after its OPEN: does it hear us? Compare TTL security on both sides"
)

// silent takes down for a moment sessions whose peers have sent an OPEN and then nothing for the hold time. RFC 4271
// section 8.2.2 has the hold timer run in OpenConfirm; gobgp waits for ever there, and sends nothing that would show
// that the peer is gone. It returns after how long to look again; zero: nobody is waited for.
func (s *Server) silent(now time.Time) (next time.Duration) {
	type verdict struct {
		address netip.Addr
		pause   time.Duration
	}
	var late []verdict
	s.mu.Lock()
	for address, o := range s.observed {
		if o.state != OpenConfirm {
			continue
		}
		limit := min(s.plan.wanted[address].Hold, longestConfirm)
		if rest := o.since.Add(limit).Sub(now); rest > 0 {
			if next == 0 || rest < next {
				next = rest
			}
			continue
		}
		o.rebuffs++
		s.observed[address] = o
		late = append(late, verdict{address, min(firstRetry<<min(o.rebuffs, 10), lastRefusal)})
	}
	s.mu.Unlock()
	for _, v := range late {
		s.hold(v.address, unconfirmed, hold{pause: v.pause})
	}
	return next
}
