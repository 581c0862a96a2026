package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

const (
	// floodInterval is how often it is looked how much the peers have sent; in it, gobgp takes roughly 80,000 routes, or 60 MB.
	floodInterval = 500 * time.Millisecond
	// firstFlood and lastFlood bound how long a peer that sent too many routes is left alone; it doubles.
	firstFlood = 30 * time.Second
	lastFlood  = 10 * time.Minute
)

// watchFloods leaves peers alone for a while that send more than maxReceived routes of a family, until ctx ends.
func (s *Server) watchFloods(ctx context.Context) {
	tick := time.NewTicker(floodInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, one := range s.stats(ctx) {
			if one.most > maxReceived {
				s.flooded(one.address)
			}
		}
	}
}

// flooded keeps the session with a peer down that sent too many routes.
func (s *Server) flooded(address netip.Addr) {
	s.mu.Lock()
	before := s.held[address]
	s.mu.Unlock()
	if before.keeps(time.Now()) {
		return // it is being taken down
	}
	why := fmt.Sprintf("peer sent more than %d routes of a family, none of which is wanted: have it send none", maxReceived)
	s.hold(address, why, hold{pause: min(max(2*before.pause, firstFlood), lastFlood)})
}
