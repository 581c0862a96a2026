// Package peering has BGP heed BFD (RFC 5882): which routers BFD watches and from when on, what follows when one fails, and
// in which order the two begin and end. It has no wire of its own.
package peering

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
)

const (
	// settled is for how long routers may be busy with the end of the BGP sessions before they hear of that of BFD.
	settled = 50 * time.Millisecond
	// longestDetection bounds what Detection returns.
	longestDetection = 10 * time.Second
)

// Config is what a Peering needs.
type Config struct {
	BGP *bgp.Server
	BFD *bfd.Server
	// Changed is called when what is known of the sessions may be another. It must not block.
	Changed func()
}

// Peering is a node's sessions with its routers. Its methods may be called from any goroutine.
type Peering struct {
	bgp     *bgp.Server
	bfd     *bfd.Server
	changed func()

	mu     sync.Mutex // guards what follows, and orders the calls of BGP and BFD
	peers  []announce.Peer
	onLink func(router netip.Addr) bool
	// met are the routers with which BGP was established, watched those with a BFD session.
	met, watched map[netip.Addr]bool
}

// New returns a Peering without peers, which does nothing before Run.
func New(c Config) *Peering { return &Peering{bgp: c.BGP, bfd: c.BFD, changed: c.Changed} }

// Set replaces the peers, the oldest first, with their addresses and next hops. onLink says whether a router is on a
// network of the node. It never blocks.
func (p *Peering) Set(peers []announce.Peer, onLink func(router netip.Addr) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peers, p.onLink = slices.Clone(peers), onLink
	p.bgp.SetPeers(peers)
	p.watch()
}

// Detection is how long routers may take to find that an earlier speaker of this node, which was killed, is silent. One that finds it
// when the new BGP session is up takes that down, and drops the routes that graceful restart has kept: call Sync of BGP later than that.
func (p *Peering) Detection() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var longest time.Duration
	for _, one := range p.peers {
		if one.GracefulRestart > 0 {
			longest = max(longest, time.Duration(one.BFD.Multiplier)*one.BFD.Transmit)
		}
	}
	return min(longest, longestDetection)
}

// Run runs BGP and BFD until ctx ends. BFD ends last: FRR (seen with 8.4) takes AdminDown on a BGP session that is up
// for a failure, and drops routes that graceful restart would keep, though RFC 5882 section 4.2 says that it is none.
func (p *Peering) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	following, end := context.WithCancel(ctx)
	defer end()
	var group sync.WaitGroup
	group.Go(func() { _ = p.bfd.Run(watching) }) // always nil
	group.Go(func() { p.follow(following) })
	err := p.bgp.Run(ctx)
	if err == nil {
		time.Sleep(settled)
	}
	end()
	stop()
	group.Wait()
	return err
}

// follow carries what BFD and BGP find out to the other.
func (p *Peering) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-p.bfd.Transitions():
			p.heed(t)
		case <-p.bfd.Changed():
		case <-p.bgp.Changed():
			p.mu.Lock()
			p.watch()
			p.mu.Unlock()
		}
		p.changed()
	}
}

// heed has BGP follow BFD: a session that fails takes the BGP session down at once; one that the
// router takes out of service does not (RFC 5882 section 4.2), nor one that never came up.
func (p *Peering) heed(t bfd.Transition) {
	switch {
	case t.To == bfd.Up:
		p.bgp.Up(t.Peer)
	case t.From == bfd.Up && !t.RemoteAdminDown:
		p.bgp.Down(t.Peer, "BFD session down: "+t.Diagnostic.String())
	}
}

// watch has BFD watch those peers that are to be, once each router: of two peers with one address, BGP has the older. It
// begins once BGP was established: FRR (seen with 8.4) makes its own BFD session anew at that moment, which looks like a failure to one that
// is up.
func (p *Peering) watch() {
	before, met := p.watched, p.met
	p.watched, p.met = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, one := range p.bgp.Peers() {
		if one.Address.IsValid() && (met[one.Address] || one.State == bgp.Established) {
			p.met[one.Address] = true
		}
	}
	up := map[netip.Addr]bfd.Session{}
	for _, session := range p.bfd.Sessions() {
		if session.State == bfd.Up {
			up[session.Peer] = session.Session
		}
	}
	var list []bfd.Session
	seen := map[netip.Addr]bool{}
	for _, one := range p.peers {
		if !one.Address.IsValid() || seen[one.Address] {
			continue
		}
		seen[one.Address] = true
		if one.BFD != (announce.BFD{}) && p.met[one.Address] {
			list = append(list, bfdSession(one, p.onLink, up))
			p.watched[one.Address] = true
		}
	}
	p.bfd.Set(list)
	for router := range before {
		if !p.watched[router] {
			p.bgp.Up(router)
		}
	}
}

// bfdSession is the BFD session that watches a peer. A router may be several hops away if it is told so, or if it is
// internal and on no link of the node: an address that goes for a moment does not change what is up.
func bfdSession(p announce.Peer, onLink func(netip.Addr) bool, up map[netip.Addr]bfd.Session) bfd.Session {
	several := p.Remote()
	if p.Internal() && p.Interface == "" && !several {
		before, found := up[p.Address]
		several = found && before.MultiHop || !found && !onLink(p.Address)
	}
	s := bfd.Session{
		Peer: p.Address, Local: p.Source, MultiHop: several,
		Receive: p.BFD.Receive, Transmit: p.BFD.Transmit, Multiplier: p.BFD.Multiplier,
		Passive: p.BFD.Passive, MinimumTTL: p.BFD.MinimumTTL,
	}
	if p.TTLSecurity > 0 {
		s.MinimumTTL = min(s.MinimumTTL, uint8(256-p.TTLSecurity))
	}
	return s
}
