package bgp

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
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
		since:    time.Now(),
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
		s.peers = slices.Clone(peers)
		s.plan = planSessions(s.peers, s.node)
		s.forget()
	}
	s.mu.Unlock()
	if !same {
		signal(s.wake)
		signal(s.changed)
	}
}

// forget drops observations of sessions that are not wanted any more.
func (s *Server) forget() {
	maps.DeleteFunc(s.observed, func(address netip.Addr, _ observed) bool {
		_, wanted := s.plan.wanted[address]
		return !wanted
	})
}

// Sync says that the routes of all Services are in, so that peers may be dialed. Before, a new session would begin
// with a part of them. Further calls do nothing.
func (s *Server) Sync() {
	s.mu.Lock()
	s.synced = true
	s.mu.Unlock()
	signal(s.wake)
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
		}
		state.IPv4, state.IPv6 = carriage(peer, o, ipv4), carriage(peer, o, ipv6)
		states[i] = state
	}
	return states
}

// Run keeps gobgp at what the other methods say until the context ends, and then sends each peer a Cease. It
// returns when all of its goroutines have ended, with an error only if gobgp hangs, after
// which the process should end. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	w := newWorker(s)
	retry := time.NewTimer(lastRetry)
	defer retry.Stop()
	for pause := firstRetry; ; {
		select {
		case <-ctx.Done():
			return w.stop()
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

// observe takes an event of gobgp.
func (s *Server) observe(e event) {
	s.mu.Lock()
	peer, wanted := s.plan.wanted[e.peer]
	before := s.observed[e.peer]
	if !wanted {
		s.mu.Unlock()
		return
	}
	now := before
	if now.state != e.state {
		now.state, now.since = e.state, e.at
	}
	if e.err != "" {
		now.lastError = e.err
	}
	if e.state == Established {
		now.offered, now.extended = e.offered, e.extended
	}
	s.observed[e.peer] = now
	s.mu.Unlock()

	signal(s.changed)
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
	news := wanted && o.lastError != why
	if news {
		if o.state == "" {
			o.state, o.since = Idle, s.since
		}
		o.lastError = why
		s.observed[address] = o
	}
	s.mu.Unlock()
	if news {
		signal(s.changed)
	}
}

// wishes are what the worker goes by in one round.
type wishes struct {
	sessions
	extended map[netip.Addr]bool
	// established is since when, for sessions that are up.
	established map[netip.Addr]time.Time
}

// take returns the wishes as they stand; false before Sync.
func (s *Server) take() (wishes, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := wishes{sessions: s.plan, extended: map[netip.Addr]bool{}, established: map[netip.Addr]time.Time{}}
	for address, o := range s.observed {
		w.extended[address] = o.extended
		if o.state == Established {
			w.established[address] = o.since
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

// refused takes the reason why gobgp would not have a session.
func (s *Server) refused(peer announce.Peer, err error) {
	s.log.Error(err, "configuring a BGP peer failed", "peer", peer.Name, "address", peer.Address)
	s.failed(peer.Address, err.Error())
}

// jitter returns between half of a pause and all of it.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }
