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
	"github.com/ballast-lb/ballast/internal/neighbor"
)

// sessions keeps BGP, BFD and the search for routers at the peers that the configuration
// wants for this node, with what the node's links and the search have found filled in.
type sessions struct {
	bgp     *bgp.Server
	bfd     *bfd.Server
	routers *neighbor.Finder
	// interfaces are those fit for announcing, own the Node's internal address.
	interfaces func() link.Snapshot
	own        netip.Addr
	// changed is called when what is known of the sessions may be another.
	changed func()
	log     logr.Logger

	mu     sync.Mutex // guards wanted, and orders the calls of apply
	wanted []announce.Peer
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
	links, found := s.interfaces(), s.routers.Found()
	var search []string
	var watched []bfd.Session
	peers := slices.Clone(s.wanted)
	for i := range peers {
		p := &peers[i]
		if p.Interface != "" {
			search = append(search, p.Interface)
			p.Address = found[p.Interface]
		}
		p.NextHop4, p.NextHop6 = nextHops(*p, links, s.own)
		if p.BFD != (announce.BFD{}) && p.Address.IsValid() {
			watched = append(watched, bfdSession(*p))
		}
	}
	s.routers.Set(search)
	s.bfd.Set(watched)
	s.bgp.SetPeers(peers)
}

// settled is for how long routers may be busy with the end of the BGP sessions before they hear of that of BFD.
const settled = 50 * time.Millisecond

// Start runs BGP and BFD until ctx ends; it is a manager.Runnable. BFD ends last: FRR (seen with 8.4) takes AdminDown on a BGP session that is up
// for a failure, and drops routes that graceful restart would keep, though RFC 5882 section 4.2 says that it is none.
func (s *sessions) Start(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { _ = s.bfd.Run(watching) }) // always nil
	group.Go(func() { s.follow(ctx) })
	err := s.bgp.Run(ctx)
	if err == nil {
		time.Sleep(settled)
	}
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
		s.log.Info("BFD session down", "address", t.Peer, "why", t.Diagnostic.String())
		s.bgp.Down(t.Peer, "BFD session down: "+t.Diagnostic.String())
	}
}

// bfdSession is the BFD session that watches a peer.
func bfdSession(p announce.Peer) bfd.Session {
	return bfd.Session{
		Peer: p.Address, Local: p.Source, MultiHop: p.Remote(),
		Receive: p.BFD.Receive, Transmit: p.BFD.Transmit, Multiplier: p.BFD.Multiplier,
		Passive: p.BFD.Passive, MinimumTTL: p.BFD.MinimumTTL,
	}
}

// nextHops returns the first stable global address of each family on the interface of an
// unnumbered session, else on the one with the on-link prefix that contains the peer or, for a
// peer further away, on the one that holds the Node's internal address.
func nextHops(p announce.Peer, links link.Snapshot, own netip.Addr) (v4, v6 netip.Addr) {
	via := slices.IndexFunc(links, func(i link.Interface) bool {
		if p.Interface != "" {
			return i.Name == p.Interface
		}
		return slices.ContainsFunc(stable(i), func(a link.Address) bool { return a.Prefix.Contains(p.Address) })
	})
	if via < 0 && p.Interface == "" {
		via = slices.IndexFunc(links, func(i link.Interface) bool {
			return slices.ContainsFunc(stable(i), func(a link.Address) bool { return a.Prefix.Addr() == own })
		})
	}
	if via < 0 {
		return v4, v6
	}
	for _, a := range stable(links[via]) {
		switch addr := a.Prefix.Addr(); {
		case addr.Is4() && !v4.IsValid():
			v4 = addr
		case addr.Is6() && !v6.IsValid():
			v6 = addr
		}
	}
	return v4, v6
}
