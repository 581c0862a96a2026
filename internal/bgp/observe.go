package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
)

// observe takes an event of gobgp.
func (s *Server) observe(e event) {
	s.mu.Lock()
	peer, wanted := s.plan.wanted[e.peer]
	before := s.observed[e.peer]
	if !wanted {
		s.mu.Unlock()
		return
	}
	if h, held := s.held[e.peer]; held && h.active(time.Now()) {
		if e.state != Idle {
			s.mu.Unlock() // it is being taken down
			return
		}
		if h.pause > 0 && !h.unsaid {
			e.err = "" // the reason is known
		}
	}
	now := before
	if now.state != e.state {
		if before.state == Established {
			now.flaps++
			s.lost(e.peer, peer, &now, e.at)
		}
		now.state, now.since = e.state, e.at
	}
	refused := before.state == OpenConfirm && e.err == invalidMessage
	if refused {
		e.err = refusedOpen // with a NOTIFICATION, which gobgp does not show
	}
	if e.err == connectionLost && before.state == Established && before.logged.After(before.since) {
		e.err = "" // the log knows more: that the hold time was over, of a peer with graceful restart
	}
	if e.err != "" {
		now.lastError = e.err
	}
	if e.state == Established {
		now.offered, now.extended, now.asn, now.rebuffs = e.offered, e.extended, e.asn, 0
	}
	s.observed[e.peer] = now
	s.mu.Unlock()

	if e.state == Established && peer.Dynamic == announce.External && e.asn == ownASN(peer) {
		s.hold(e.peer, fmt.Sprintf("peer has our own AS number %d, and dynamicASN is external", e.asn), hold{pause: lastRefusal})
		return
	}
	signal(s.changed)
	if refused {
		s.rebuffed(e.peer, refusedOpen)
	}
	if e.state == OpenConfirm {
		signal(s.wake) // somebody has to look at the time
	}
	if e.state == Established {
		signal(s.wake)
		s.log.Info("BGP session up", "peer", peer.Name, "address", e.peer)
	} else if before.state == Established {
		s.log.Info("BGP session down", "peer", peer.Name, "address", e.peer, "reason", now.lastError)
	}
}

// failed takes the reason of a failure, from gobgp's log.
func (s *Server) failed(address netip.Addr, why string) {
	s.mu.Lock()
	o := s.observed[address]
	_, wanted := s.plan.wanted[address]
	held, down := s.held[address]
	down = down && held.keeps(time.Now()) && !held.unsaid
	news := wanted && !down && o.lastError != why
	if wanted && !down {
		o.logged = time.Now()
		s.observed[address] = o
	}
	if news {
		if o.state == "" {
			o.state, o.since = Idle, s.since
		}
		o.lastError = why
		s.observed[address] = o
	}
	s.mu.Unlock()
	if wanted && !down && o.state != Established && !strings.HasPrefix(why, connecting) {
		s.rebuffed(address, why)
	}
	if news {
		signal(s.changed)
	}
}

// refused takes the reason why gobgp would not have a session.
func (s *Server) refused(peer announce.Peer, err error) {
	s.log.Error(err, "configuring a BGP peer failed", "peer", peer.Name, "address", peer.Address)
	s.failed(peer.Address, err.Error())
}
