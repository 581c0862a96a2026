package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/neighbor"
)

// sessions keeps BGP, BFD and the search for routers at the peers that the configuration
// wants for this node, with what the node's links and the search have found filled in.
type sessions struct {
	bgp     *bgp.Server
	bfd     *bfd.Server
	routers *neighbor.Finder
	// links are all interfaces, own is the Node's internal address.
	links func() link.Snapshot
	own   netip.Addr
	// changed is called when what is known of the sessions may be another.
	changed func()
	log     logr.Logger

	mu     sync.Mutex // guards what follows, and orders the calls of apply
	wanted []announce.Peer
	// met are the routers with which BGP was established, watched those with a BFD session, hops the next hops of each peer
	// that were last known.
	met     map[netip.Addr]bool
	watched map[netip.Addr]bool
	hops    map[name.PeerName]hops
}

// hops are the next hops that a node gives a peer; the zero value of one: there is none.
type hops struct{ v4, v6 netip.Addr }

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
	s.bgp.SetPeers(peers)
	s.watch(peers, links)
}

// watch has BFD watch those peers that are to be, once each router: of two peers with one address, BGP has the older. It
// begins once BGP was established: FRR (seen with 8.4) makes its own BFD session anew at that moment, which looks like a failure to one that
// is up.
func (s *sessions) watch(peers []announce.Peer, links link.Snapshot) {
	var list []bfd.Session
	before, met := s.watched, s.met
	seen := map[netip.Addr]bool{}
	s.watched, s.met = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, p := range s.bgp.Peers() {
		if p.Address.IsValid() && (met[p.Address] || p.State == bgp.Established) {
			s.met[p.Address] = true
		}
	}
	for _, p := range peers {
		if !p.Address.IsValid() || seen[p.Address] {
			continue
		}
		seen[p.Address] = true
		if p.BFD != (announce.BFD{}) && s.met[p.Address] {
			list = append(list, bfdSession(p, links))
			s.watched[p.Address] = true
		}
	}
	s.bfd.Set(list)
	for router := range before {
		if !s.watched[router] {
			s.bgp.Up(router)
		}
	}
}

// longestDetection bounds what detection returns.
const longestDetection = 10 * time.Second

// detection is how long routers may take to find that an earlier speaker of this node, which was killed, is silent. One that finds it
// when the new BGP session is up takes that down, and drops the routes that graceful restart has kept.
func (s *sessions) detection() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, p := range s.wanted {
		if p.GracefulRestart > 0 {
			longest = max(longest, time.Duration(p.BFD.Multiplier)*p.BFD.Transmit)
		}
	}
	return min(longest, longestDetection)
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

// settled is for how long routers may be busy with the end of the BGP sessions before they hear of that of BFD.
const settled = 50 * time.Millisecond

// Start runs BGP and BFD until ctx ends; it is a manager.Runnable. BFD ends last: FRR (seen with 8.4) takes AdminDown on a BGP session that is up
// for a failure, and drops routes that graceful restart would keep, though RFC 5882 section 4.2 says that it is none.
func (s *sessions) Start(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	following, end := context.WithCancel(ctx)
	defer end()
	var group sync.WaitGroup
	group.Go(func() { _ = s.bfd.Run(watching) }) // always nil
	group.Go(func() { s.follow(following) })
	err := s.bgp.Run(ctx)
	if err == nil {
		time.Sleep(settled)
	}
	end()
	stop()
	group.Wait()
	return err
}

// follow carries what BFD and the search for routers find out to BGP.
func (s *sessions) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-s.bfd.Transitions():
			s.heed(t)
		case <-s.bfd.Changed():
		case <-s.routers.Changed():
			s.refresh()
		case <-s.bgp.Changed():
			s.refresh()
		}
		s.changed()
	}
}

// heed has BGP follow BFD: a session that fails takes the BGP session down at once; one that the
// router takes out of service does not (RFC 5882 section 4.2), nor one that never came up.
func (s *sessions) heed(t bfd.Transition) {
	switch {
	case t.To == bfd.Up:
		s.bgp.Up(t.Peer)
	case t.From == bfd.Up && !t.RemoteAdminDown:
		s.bgp.Down(t.Peer, "BFD session down: "+t.Diagnostic.String())
	}
}

// bfdSession is the BFD session that watches a peer. A router may be several hops away if it is told so, or if it is
// internal and on no link of the node.
func bfdSession(p announce.Peer, links link.Snapshot) bfd.Session {
	s := bfd.Session{
		Peer: p.Address, Local: p.Source, MultiHop: p.Remote() || p.Internal() && p.Interface == "" && onLink(p.Address, links) < 0,
		Receive: p.BFD.Receive, Transmit: p.BFD.Transmit, Multiplier: p.BFD.Multiplier,
		Passive: p.BFD.Passive, MinimumTTL: p.BFD.MinimumTTL,
	}
	if p.TTLSecurity > 0 {
		s.MinimumTTL = min(s.MinimumTTL, uint8(256-p.TTLSecurity))
	}
	return s
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
	via := onLink(p.Address, links)
	if p.Interface != "" {
		via = slices.IndexFunc(links, func(i link.Interface) bool { return i.Name == p.Interface })
	} else if via < 0 {
		via = slices.IndexFunc(links, func(i link.Interface) bool {
			return slices.ContainsFunc(stable(i), func(a link.Address) bool { return a.Prefix.Addr() == own })
		})
	}
	if via < 0 {
		return hops{}
	}
	var h hops
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
