package bgp

import (
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
)

const (
	// firstRevival and lastRevival bound after how long, up to half of it less, a session that Down took down is dialed again though nobody
	// called Up. It doubles while sessions live for less than steady.
	firstRevival = 5 * time.Second
	lastRevival  = 30 * time.Second
	steady       = time.Minute
	// hastyRevival is the longest of these pauses that Up ends: a path that loses packets has BFD up and down for ever.
	hastyRevival = 10 * time.Second
	// firstRest and lastRest bound the pause after a session that ended by itself within steady, up to half of it less; it doubles.
	firstRest = time.Second
	lastRest  = 30 * time.Second
	// patientTries is how many attempts in a row may fail at the OPEN before a peer is dialed less often, with a pause that
	// doubles from firstRetry to lastRefusal; gobgp itself dials again within 2 s, for ever.
	patientTries = 3
	lastRefusal  = 30 * time.Second
)

// hold is why and for how long a session is kept down.
type hold struct {
	until time.Time
	// pause is how long it is, up to a half of it less at random. bfd says that Up ends it.
	pause time.Duration
	bfd   bool
	// unsaid says that the reason may come yet, from gobgp's log.
	unsaid bool
	// seen says that the worker knows of it. Before, it does not end: gobgp may have the session still.
	seen bool
}

func (h hold) active(now time.Time) bool { return !h.seen || now.Before(h.until) }

// keeps says whether a session is kept down still, and not only about to begin anew.
func (h hold) keeps(now time.Time) bool { return h.pause > 0 && h.active(now) }

// Down takes the session with a peer down at once, for the reason why, and keeps it down until Up, or for 5 s; for longer, up to 30 s, if
// that happens time and again. Of a session that is not up it changes nothing: some routers have BFD only while BGP is up, so it fails once
// more, and cannot be up before BGP is. An address that no peer has is ignored.
func (s *Server) Down(address netip.Addr, why string) {
	s.mu.Lock()
	o := s.observed[address]
	up := o.state == Established
	if up {
		o.revival = nextRevival(o.revival, time.Since(o.since))
		s.observed[address] = o
	}
	s.mu.Unlock()
	if up {
		s.hold(address, why, hold{pause: o.revival, bfd: true})
	}
}

// nextRevival is the pause after a session that lived for a time, given the pause before it.
func nextRevival(before, lived time.Duration) time.Duration {
	if lived >= steady {
		before = 0
	}
	return min(max(2*before, firstRevival), lastRevival)
}

// Up has the session dialed again that Down took down, unless that happened time and again.
func (s *Server) Up(address netip.Addr) {
	s.mu.Lock()
	h, found := s.held[address]
	if found && h.bfd && h.pause <= hastyRevival {
		if h.until = time.Now(); h.seen {
			delete(s.held, address)
		} else {
			s.held[address] = h
		}
	}
	s.mu.Unlock()
	if found {
		signal(s.wake)
	}
}

// hold keeps a session down from now on, for a pause that is up to half of it shorter at random.
func (s *Server) hold(address netip.Addr, why string, h hold) {
	s.mu.Lock()
	peer, wanted := s.plan.wanted[address]
	now := time.Now()
	h.until = now.Add(jitter(h.pause))
	if old, held := s.held[address]; held && old.active(now) && old.until.After(h.until) {
		wanted = false // a longer one goes on
	}
	if wanted {
		s.held[address] = h
		o := s.observed[address]
		if o.state == Established {
			o.flaps++
		}
		if o.state != Idle {
			o.state, o.since = Idle, now
		}
		o.lastError = why
		s.observed[address] = o
	}
	s.mu.Unlock()
	if wanted {
		s.log.Info("BGP session kept down", "peer", peer.Name, "address", address, "reason", why, "for", h.until.Sub(now).String())
		s.urgent.Store(true)
		signal(s.wake)
		signal(s.changed)
	}
}

// rebuffed counts an attempt that failed at the OPEN, and keeps a peer down for a while that does nothing else.
func (s *Server) rebuffed(address netip.Addr, why string) {
	s.mu.Lock()
	o := s.observed[address]
	o.rebuffs++
	s.observed[address] = o
	s.mu.Unlock()
	if n := o.rebuffs - patientTries; n > 0 {
		s.hold(address, why, hold{pause: min(firstRetry<<min(n, 10), lastRefusal)})
	}
}

// lost notes the end of a session that nobody asked for; s.mu is held. A peer with graceful restart keeps its routes if the next
// OPEN says that forwarding went on (RFC 4724 section 4.2), which gobgp says of new sessions alone. After one that lived for
// less than steady, the next one waits for a while: its router would only take the routes to drop them again.
func (s *Server) lost(address netip.Addr, peer announce.Peer, o *observed, at time.Time) {
	o.rest = nextRest(o.rest, at.Sub(o.since))
	if peer.GracefulRestart > 0 {
		s.returning[peer.Name] = at
	}
	if h := s.held[address]; h.active(at) && h.pause > 0 || o.rest == 0 && peer.GracefulRestart == 0 {
		return // kept down for another reason, or dialed again by gobgp
	}
	h := hold{until: at, pause: o.rest, unsaid: true}
	if h.pause > 0 {
		h.until = at.Add(jitter(h.pause))
	}
	s.held[address] = h
	signal(s.wake)
}

// nextRest is the pause after a session that lived for a time, given the pause before it; 0: none.
func nextRest(before, lived time.Duration) time.Duration {
	if lived >= steady {
		return 0
	}
	return min(max(2*before, firstRest), lastRest)
}

// returns says whether a peer, whose session is about to begin, may still have routes of an earlier one.
func (s *Server) returns(peer announce.Peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, may := s.returning[peer.Name]
	return may && time.Since(since) < peer.GracefulRestart
}

// begun says that a session with a peer has begun.
func (s *Server) begun(peer announce.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.returning, peer.Name)
}
