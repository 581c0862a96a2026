package bgp

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// firstRetry and lastRetry bound the pause after gobgp refused something; it doubles each time, and up to half of it is random.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Config is what a Server needs to know.
type Config struct {
	NodeName name.NodeName
	// RouterID is the node's IPv4 address, which is the BGP identifier unless a peer asks for another. The zero
	// value: a number made of NodeName.
	RouterID netip.Addr
	// Log gets a line for each session that comes up or ends. The zero value logs nothing.
	Log logr.Logger
}

// Server announces routes. Its methods may be called at any time from any goroutine; none of them waits for
// gobgp or the network.
type Server struct {
	log  logr.Logger
	node netip.Addr
	// wake says that wishes or observations have changed, changed that Peers would answer otherwise.
	wake, changed chan struct{}

	// mu guards what follows: wishes, and what gobgp has told. No call to gobgp is made under it.
	mu       sync.Mutex
	synced   bool
	table    *table
	dirty    map[netip.Prefix]struct{}
	peers    []announce.Peer
	plan     sessions
	observed map[netip.Addr]observed
	since    time.Time
	// held are the sessions that are kept down.
	held map[netip.Addr]hold
	// returning are the peers that may still have routes of an earlier session, and since when at the latest; until their
	// next session begins.
	returning map[name.PeerName]time.Time
	// restarting says that the end of Run is not for good.
	restarting bool
	advertised map[name.PeerName]Advertised
	engine     *engine

	// urgent says that a session is to go down, for which a round that is under way is interrupted.
	urgent atomic.Bool
}

// New returns a Server without peers and routes, which does nothing before Run and Sync.
func New(config Config) *Server {
	s := &Server{
		log:      config.Log,
		node:     config.RouterID.Unmap(),
		wake:     make(chan struct{}, 1),
		changed:  make(chan struct{}, 1),
		table:    newTable(),
		dirty:    map[netip.Prefix]struct{}{},
		observed: map[netip.Addr]observed{},
		held:     map[netip.Addr]hold{}, returning: map[name.PeerName]time.Time{},
		since: time.Now(),
	}
	if s.log.GetSink() == nil {
		s.log = logr.Discard()
	}
	if !s.node.Is4() {
		s.node = hashedID(config.NodeName)
	}
	s.plan = planSessions(nil, s.node)
	return s
}

// Set replaces the routes of a Service. A prefix may occur several times, for different peers; peers that do not exist are
// ignored until they do. The Server keeps the routes: the caller must not change them.
func (s *Server) Set(key name.ServiceKey, routes []announce.Route) {
	s.mu.Lock()
	touched := s.table.set(key, routes)
	for _, prefix := range touched {
		s.dirty[prefix] = struct{}{}
	}
	s.mu.Unlock()
	if len(touched) > 0 {
		signal(s.wake)
	}
}

// Remove withdraws the routes of a Service, but for those that another one wants too.
func (s *Server) Remove(key name.ServiceKey) { s.Set(key, nil) }

// SetPeers replaces the peers; they are sorted, the oldest first. A change of a peer touches its session
// alone, and resets it only if it shows in the OPEN or the TCP connection. A changed router ID resets all.
func (s *Server) SetPeers(peers []announce.Peer) {
	s.mu.Lock()
	same := slices.Equal(s.peers, peers)
	if !same {
		before := s.plan.wanted
		s.peers = slices.Clone(peers)
		s.plan = planSessions(s.peers, s.node)
		s.forget()
		s.renew(before)
	}
	s.mu.Unlock()
	if !same {
		signal(s.wake)
		signal(s.changed)
	}
}

// forget drops what is known of sessions that are not wanted any more.
func (s *Server) forget() {
	gone := func(address netip.Addr) bool { _, wanted := s.plan.wanted[address]; return !wanted }
	for address := range s.observed {
		if gone(address) {
			delete(s.observed, address)
			s.held[address] = hold{until: time.Now()} // should it come back before the worker has looked, the session begins anew
		}
	}
	maps.DeleteFunc(s.held, func(address netip.Addr, h hold) bool { return gone(address) && h.seen })
}

// renew has those sessions begin anew whose new timers gobgp would take no notice of: the hold time is agreed on at the OPEN,
// and it dials on in the rhythm in which it began to.
func (s *Server) renew(before map[netip.Addr]announce.Peer) {
	now := time.Now()
	for address, peer := range s.plan.wanted {
		old, had := before[address]
		up := s.observed[address].state == Established
		if had && (old.Hold != peer.Hold || old.Connect != peer.Connect && !up) && !s.held[address].keeps(now) {
			s.held[address] = hold{until: now}
		}
	}
}

// Restarting says that this process is about to be started again: at the end of Run, peers with graceful restart are to
// keep the routes, and get no Cease (RFC 4724).
func (s *Server) Restarting() {
	s.mu.Lock()
	s.restarting = true
	s.mu.Unlock()
}

// Sync says that the routes of all Services are in, so that peers may be dialed. Before, a new session would begin
// with a part of them. Further calls do nothing.
func (s *Server) Sync() {
	s.mu.Lock()
	first := !s.synced
	if first {
		s.synced = true
		for _, peer := range s.peers {
			s.returning[peer.Name] = time.Now()
		}
	}
	s.mu.Unlock()
	if first {
		signal(s.wake)
	}
}

// Changed receives when Peers would answer otherwise than before. One reader gets every change.
func (s *Server) Changed() <-chan struct{} { return s.changed }

// Peers returns the state of each peer of SetPeers, in the same order.
func (s *Server) Peers() []PeerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]PeerState, len(s.peers))
	for i, peer := range s.peers {
		peer = normal(peer)
		state := PeerState{Name: peer.Name, Address: peer.Address, State: Idle, Since: s.since, IPv4: NotConfigured, IPv6: NotConfigured}
		if why, refused := s.plan.refused[peer.Name]; refused {
			state.LastError = why
			states[i] = state
			continue
		}
		o, found := s.observed[peer.Address]
		if found {
			state.State, state.Since, state.LastError = o.state, o.since, o.lastError
			state.ASN, state.Flaps = o.asn, o.flaps
		}
		state.IPv4, state.IPv6 = carriage(peer, o, ipv4), carriage(peer, o, ipv6)
		if a := s.advertised[peer.Name]; state.State == Established {
			if state.IPv4 == Carried {
				state.Advertised.IPv4 = a.IPv4
			}
			if state.IPv6 == Carried {
				state.Advertised.IPv6 = a.IPv6
			}
		}
		states[i] = state
	}
	return states
}

// Run keeps gobgp at what the other methods say until the context ends, and then sends each peer a Cease, unless Restarting
// says otherwise. It
// returns when all of its goroutines have ended, with an error only if gobgp hangs, after
// which the process should end. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	looking, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { s.watchFloods(looking) })
	defer group.Wait()
	defer stop()
	w := newWorker(s)
	retry := time.NewTimer(lastRetry)
	defer retry.Stop()
	for pause := firstRetry; ; {
		select {
		case <-ctx.Done():
			return w.stop(s.comesBack())
		case <-s.wake:
		case <-retry.C:
		}
		next, err := w.round(ctx)
		switch {
		case errors.Is(err, errStuck):
			return err
		case err != nil:
			s.log.Error(err, "configuring BGP failed", "retryIn", pause.String())
			retry.Reset(jitter(pause))
			pause = min(2*pause, lastRetry)
			continue
		}
		pause = firstRetry
		retry.Reset(next)
	}
}

// signal wakes the reader of a channel of capacity one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// comesBack says whether Restarting was called.
func (s *Server) comesBack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarting
}

// wishes are what the worker goes by in one round.
type wishes struct {
	sessions
	extended map[netip.Addr]bool
	// established is since when, for sessions that are up.
	established map[netip.Addr]time.Time
	// held are sessions that are kept down; again is when the first of them is not any more, zero without any.
	held  map[netip.Addr]bool
	again time.Time
}

// without are the wishes with some peers kept down for now.
func (w wishes) without(peers map[name.PeerName]bool) wishes {
	if len(peers) == 0 {
		return w
	}
	w.held = maps.Clone(w.held)
	for address, peer := range w.wanted {
		if peers[peer.Name] {
			w.held[address] = true
		}
	}
	return w
}

// take returns the wishes as they stand; false before Sync.
func (s *Server) take() (wishes, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := wishes{sessions: s.plan, extended: map[netip.Addr]bool{}, established: map[netip.Addr]time.Time{}, held: map[netip.Addr]bool{}}
	for address, peer := range s.plan.wanted {
		// Until a peer has said so, one that keeps routes from before must not see an End-of-RIB without those for IPv4.
		w.extended[address] = s.observed[address].offered == nil && peer.GracefulRestart > 0
	}
	for address, o := range s.observed {
		if o.offered != nil {
			w.extended[address] = o.extended
		}
		if o.state == Established {
			w.established[address] = o.since
		}
	}
	for address, h := range s.held {
		if !h.active(time.Now()) {
			continue // kept for its pause: the next one is longer
		}
		h.seen = true
		s.held[address] = h
		w.held[address] = true
		if w.again.IsZero() || h.until.Before(w.again) {
			w.again = h.until
		}
	}
	return w, s.synced
}

// takeRoutes returns the distribution of each prefix that was touched since the last time, or of all prefixes.
func (s *Server) takeRoutes(all bool) map[netip.Prefix]distribution {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		for _, prefix := range s.table.prefixes() {
			s.dirty[prefix] = struct{}{}
		}
	}
	routes := make(map[netip.Prefix]distribution, len(s.dirty))
	for prefix := range s.dirty {
		routes[prefix] = s.table.distribution(prefix)
	}
	clear(s.dirty)
	return routes
}

// restarted says that gobgp was stopped, with all of its sessions.
func (s *Server) restarted(now time.Time) {
	s.mu.Lock()
	clear(s.observed)
	s.since = now
	s.mu.Unlock()
	signal(s.changed)
}

// jitter returns between half of a pause and all of it.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }
