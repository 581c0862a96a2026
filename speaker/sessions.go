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
	// links are all interfaces.
	links func() link.Snapshot
	// changed is called when the search has found something.
	changed func()

	mu     sync.Mutex // guards what follows, and orders the calls of apply
	wanted []announce.Peer
	own    []netip.Addr // the Node's internal addresses
	// hops are the next hops of each peer that were last known.
	hops map[name.PeerName]hops
}

// hops are the next hops that a node gives a peer; the zero value of one: there is none.
type hops struct {
	v4, v6 netip.Addr
	// source is the address that the session is dialed from; the zero value leaves it to the kernel.
	source netip.Addr
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

// setOwn takes the Node's internal addresses, which count from the next call of want or refresh on.
func (s *sessions) setOwn(addresses []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = addresses
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
		if !p.Source.IsValid() {
			p.Source = h.source
		}
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
		return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
			local4 := a.Prefix.Addr().Is4() && a.Prefix.Addr().IsLinkLocalUnicast()
			return a.Stable && (a.Global || local4) && a.Prefix.Contains(router)
		})
	})
}

// nextHops returns the next hops of each family that a session has, and its source. They are of the interface of an
// unnumbered session, else of the one with the on-link prefix that contains the peer or, for a peer further away, of the one
// that holds an internal address of the Node. While the interface is down, which may take its addresses away, the ones
// before stay: routes are not to go while the session lives.
func nextHops(p announce.Peer, links link.Snapshot, own []netip.Addr, before hops) hops {
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
	choice := choice{own: own}
	switch {
	case via >= 0:
		h.via, choice.router = links[via].Name, p.Address
	case p.Interface == "":
		via = slices.IndexFunc(links, func(i link.Interface) bool {
			return slices.ContainsFunc(stable(i), func(a link.Address) bool { return slices.Contains(own, a.Prefix.Addr()) })
		})
	}
	if via < 0 {
		return hops{}
	}
	h.v4, h.v6 = choice.hop(links[via], netip.Addr.Is4, before.v4), choice.hop(links[via], netip.Addr.Is6, before.v6)
	if p.Interface == "" {
		h.source = choice.source(links[via], p.Address, before.source)
	}
	if !links[via].Up {
		for now, then := range map[*netip.Addr]netip.Addr{&h.v4: before.v4, &h.v6: before.v6, &h.source: before.source} {
			if !now.IsValid() {
				*now = then
			}
		}
	}
	return h
}

// choice is what the choice among the addresses of an interface goes by: those of the Node, and the router if it is on
// the interface's network.
type choice struct {
	own    []netip.Addr
	router netip.Addr
}

// hop chooses the next hop of a family; the zero value: there is none.
func (c choice) hop(i link.Interface, family func(netip.Addr) bool, before netip.Addr) netip.Addr {
	all := slices.DeleteFunc(stable(i), func(a link.Address) bool { return !family(a.Prefix.Addr()) })
	return c.among(all, before)
}

// source chooses the address to dial a router from; the zero value leaves it to the kernel, whose choice is good in IPv4
// for a router further away.
func (c choice) source(i link.Interface, to, before netip.Addr) netip.Addr {
	near := c.router.IsValid()
	if to.IsLinkLocalUnicast() && to.Is6() || !near && to.Is4() {
		return netip.Addr{}
	}
	return c.among(slices.DeleteFunc(slices.Clone(i.Addresses), func(a link.Address) bool {
		single := a.Prefix.IsSingleIP() && slices.Contains(c.own, a.Prefix.Addr())
		return !a.Stable || a.Prefix.Addr().Is4() != to.Is4() || near && !single && !a.Prefix.Contains(to) || !near && !a.Global
	}), before)
}

// among chooses the Node's own address, else the one before if it is still there, else the first. An address without a
// network may be a virtual one, which moves to another node.
func (c choice) among(all []link.Address, before netip.Addr) netip.Addr {
	var best netip.Addr
	for _, a := range all {
		switch addr := a.Prefix.Addr(); {
		case slices.Contains(c.own, addr):
			return addr
		case a.Prefix.IsSingleIP():
		case addr == before || !best.IsValid():
			best = addr
		}
	}
	return best
}
