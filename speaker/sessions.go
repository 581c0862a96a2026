package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/neighbor"
	"github.com/ballast-lb/ballast/internal/peering"
)

// sessions keeps the peering and the search for routers at the peers that the configuration
// wants for this node, with what the node's links and the search have found filled in.
type sessions struct {
	peering *peering.Peering
	routers *neighbor.Finder
	// links are all interfaces, own is the Node's internal address.
	links func() link.Snapshot
	own   netip.Addr
	// changed is called when the search has found something.
	changed func()

	mu     sync.Mutex // guards what follows, and orders the calls of apply
	wanted []announce.Peer
	// hops are the next hops of each peer that were last known.
	hops map[name.PeerName]hops
}

// hops are the next hops that a node gives a peer; the zero value of one: there is none.
type hops struct {
	v4, v6 netip.Addr
	// via is the interface with the router's network; "" if there was none.
	via string
}

// want takes the peers to have, the oldest first. It never blocks.
func (s *sessions) want(peers []announce.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = peers
	s.apply()
}

// refresh fills in what the links and the search for routers say now. It never blocks.
func (s *sessions) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply()
}

func (s *sessions) apply() {
	links, found := s.links(), s.routers.Found()
	var search []string
	known := map[name.PeerName]hops{}
	peers := slices.Clone(s.wanted)
	for i := range peers {
		p := &peers[i]
		if p.Interface != "" {
			search = append(search, p.Interface)
			p.Address = found[p.Interface]
		}
		h := nextHops(*p, links, s.own, s.hops[p.Name])
		p.NextHop4, p.NextHop6, known[p.Name] = h.v4, h.v6, h
	}
	s.hops = known
	s.routers.Set(search)
	s.peering.Set(peers, func(router netip.Addr) bool { return onLink(router, links) >= 0 })
}

// follow fills in the routers that are found, until ctx ends; it is a manager.Runnable.
func (s *sessions) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.routers.Changed():
			s.refresh()
			s.changed()
		}
	}
}

// problem says why the router of an unnumbered peer is not found, or is not the only one; "": all is well.
func (s *sessions) problem(peer name.PeerName) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.wanted, func(p announce.Peer) bool { return p.Name == peer })
	if i < 0 || s.wanted[i].Interface == "" {
		return ""
	}
	return s.routers.Problem(s.wanted[i].Interface)
}

// onLink returns the interface with the on-link prefix that contains a router, or -1.
func onLink(router netip.Addr, links link.Snapshot) int {
	return slices.IndexFunc(links, func(i link.Interface) bool {
		return slices.ContainsFunc(stable(i), func(a link.Address) bool { return a.Prefix.Contains(router) })
	})
}

// nextHops returns the first stable global address of each family on the interface of an
// unnumbered session, else on the one with the on-link prefix that contains the peer or, for a
// peer further away, on the one that holds the Node's internal address. While the interface is down, which may
// take its addresses away, the ones before stay: routes are not to go while the session lives.
func nextHops(p announce.Peer, links link.Snapshot, own netip.Addr, before hops) hops {
	named := func(name string) int {
		return slices.IndexFunc(links, func(i link.Interface) bool { return i.Name == name })
	}
	via := onLink(p.Address, links)
	if was := named(before.via); via < 0 && was >= 0 && !links[was].Up {
		via = was
	}
	if p.Interface != "" {
		via = named(p.Interface)
	}
	var h hops
	switch {
	case via >= 0:
		h.via = links[via].Name
	case p.Interface == "":
		via = slices.IndexFunc(links, func(i link.Interface) bool {
			return slices.ContainsFunc(stable(i), func(a link.Address) bool { return a.Prefix.Addr() == own })
		})
	}
	if via < 0 {
		return hops{}
	}
	for _, a := range stable(links[via]) {
		switch addr := a.Prefix.Addr(); {
		case addr.Is4() && !h.v4.IsValid():
			h.v4 = addr
		case addr.Is6() && !h.v6.IsValid():
			h.v6 = addr
		}
	}
	if !links[via].Up {
		if !h.v4.IsValid() {
			h.v4 = before.v4
		}
		if !h.v6.IsValid() {
			h.v6 = before.v6
		}
	}
	return h
}
