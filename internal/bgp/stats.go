package bgp

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/ballast-lb/ballast/internal/name"
)

// Stats returns the counters of the sessions that there are, sorted by name. It asks gobgp, and returns none if
// there is no answer within 2 s.
func (s *Server) Stats() []PeerStats { return s.stats(context.Background()) }

func (s *Server) stats(ctx context.Context) []PeerStats {
	s.mu.Lock()
	engine, names := s.engine, map[netip.Addr]name.PeerName{}
	for address, peer := range s.plan.wanted {
		names[address] = peer.Name
	}
	s.mu.Unlock()
	if engine == nil {
		return nil
	}
	var mu sync.Mutex // a call that comes too late goes on
	var all []PeerStats
	err := engine.stats(ctx, func(address netip.Addr, one PeerStats) {
		mu.Lock()
		defer mu.Unlock()
		if one.Name, one.address = names[address], address; one.Name != "" {
			all = append(all, one)
		}
	})
	if err != nil {
		return nil
	}
	slices.SortFunc(all, func(a, b PeerStats) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return all
}

// publish takes what the worker has done.
func (s *Server) publish(e *engine, advertised map[name.PeerName]Advertised) {
	s.mu.Lock()
	same := maps.Equal(s.advertised, advertised)
	s.engine, s.advertised = e, advertised
	s.mu.Unlock()
	if !same {
		signal(s.changed)
	}
}
