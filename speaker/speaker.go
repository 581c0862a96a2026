package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/keep"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/neighbor"
	"github.com/ballast-lb/ballast/internal/peering"
)

// identity is what a speaker knows of its node and cluster before anything else.
type identity struct {
	node      name.NodeName
	addresses []netip.Addr // the Node's internal ones, at least one
	cluster   string       // the uid of the namespace kube-system
	// proxyUnknown says that an earlier run has found that nobody speaks for the service proxy.
	proxyUnknown bool
}

// speaker carries what the engine decides to the network, and what the network and the
// other speakers say to the engine.
type speaker struct {
	self      identity
	log       logr.Logger
	engine    *kube.Engine
	links     *link.Watcher
	layer2    *layer2.Announcer
	bgp       *bgp.Server
	bfd       *bfd.Server
	routers   *neighbor.Finder
	sessions  *sessions
	peering   *peering.Peering
	gossip    *gossip
	neighbors *neighbors
	quorums   *quorums
	hearing   *hearing
	rollCall  *rollCall
	reach     *reach
	proxy     *proxy
	delivery  *delivery
	status    *status
	written   *kube.Announced
	keeping   *keeping

	snapshot  atomic.Pointer[link.Snapshot]
	conflicts atomic.Pointer[[]announce.Conflict]
	drain     atomic.Pointer[config.Drain] // settings
	owns      atomic.Int64
	planned   atomic.Int64
	looked    atomic.Bool // links is known
	leaving   atomic.Bool
	synced    atomic.Bool
	began     time.Time
	// again has watch tell the engine anew what this node knows of itself.
	again chan struct{}
	// version is that of the state that was last applied; the engine's goroutine owns it.
	version int
}

const (
	// leaveLook is how often a speaker that leaves looks whether others have what it owned,
	// leaveLimit for how long at most: an owner that nobody follows ceases to answer by then.
	leaveLook  = 20 * time.Millisecond
	leaveLimit = election.Handover + time.Second
)

func newSpeaker(self identity, o options, mgr manager.Manager, log logr.Logger) *speaker {
	s := &speaker{
		self: self, log: log, engine: kube.NewEngine(),
		links:   link.NewWatcher(log.WithName("link")),
		bgp:     bgp.New(bgp.Config{NodeName: self.node, RouterID: firstIPv4(self.addresses), Log: log.WithName("bgp")}),
		bfd:     bfd.New(bfd.Config{Log: log.WithName("bfd")}),
		routers: neighbor.New(neighbor.Config{Log: log.WithName("neighbor")}),
		began:   time.Now(), again: make(chan struct{}, 1),
	}
	s.layer2 = layer2.New(layer2.Config{Fresh: func() bool { return s.gossip.inTouch() }, Log: log.WithName("layer2")})
	changed := func() { poke(s.again) }
	s.peering = peering.New(peering.Config{BGP: s.bgp, BFD: s.bfd, Changed: changed})
	s.sessions = &sessions{peering: s.peering, routers: s.routers, links: s.allLinks, own: self.addresses, changed: changed}
	s.snapshot.Store(&link.Snapshot{})
	s.conflicts.Store(&[]announce.Conflict{})
	defaults := config.Compile(config.Objects{}).Settings
	s.drain.Store(&defaults.Drain)
	s.neighbors = &neighbors{self: self.node, asker: lan.NewAsker(), interfaces: s.interfaces, query: s.query, log: log.WithName("neighbors")}
	s.quorums = &quorums{
		self: self.node, asker: s.neighbors.asker, interfaces: s.interfaces, nodes: &s.neighbors.nodes, tell: s.engine.Tell,
		log: log.WithName("quorum"), due: make(chan []announce.Measurement, 1),
	}
	s.hearing = &hearing{
		self: self.node, asker: s.neighbors.asker, interfaces: s.interfaces, gateways: link.Gateways, nodes: &s.neighbors.nodes,
		changed: changed, log: log.WithName("hearing"),
	}
	s.rollCall = &rollCall{
		self: self.node, asker: s.neighbors.asker, interfaces: s.interfaces, deaf: s.hearing.deaf, nodes: &s.neighbors.nodes,
		changed: changed, log: log.WithName("rollcall"), poke: make(chan struct{}, 1),
	}
	s.quorums.heard = s.rollCall.heard
	s.reach = &reach{url: serverURL(mgr.GetConfig()), changed: changed, log: log.WithName("reach")}
	s.gossip = newGossip(mgr.GetClient(), self, o, log.WithName("gossip"))
	s.gossip.tell, s.gossip.query = s.engine.Tell, s.query
	s.gossip.ask, s.gossip.company = s.neighbors.ask, s.neighbors.company
	s.proxy = newProxy(log.WithName("proxy"), changed)
	s.proxy.families = familiesOf(self.addresses)
	if self.proxyUnknown {
		s.proxy.check.state = announce.ProxyUnknown
	}
	s.status = &status{
		client: mgr.GetClient(), self: self, peers: s.bgp.Peers, bfd: s.bfd.Sessions, problem: s.sessions.problem,
		interfaces: s.interfaces, deaf: s.hearing.deaf, notJoined: s.gossip.notJoined, proxy: s.proxy.state,
		log: log.WithName("status"), poke: make(chan struct{}, 1),
	}
	s.gossip.changed = s.status.changed
	s.written = kube.NewAnnounced(kube.AnnouncedConfig{
		Client: mgr.GetClient(), Class: o.Class, Log: log.WithName("announced"),
		Recorder: mgr.GetEventRecorder("ballast-speaker"),
		Writes: func(d announce.Decision) bool {
			return d.Owner == self.node && d.Claimed && d.Delivery != announce.Awaited
		},
	})
	s.reach.back = func() {
		s.status.changed()
		s.written.Retry()
	}
	s.delivery = newDelivery(mgr.GetClient(), self, s.proxy, log.WithName("delivery"))
	s.delivery.tell = s.engine.Tell
	s.engine.Self, s.engine.Cache, s.engine.Log = self.node, mgr.GetCache(), log.WithName("engine")
	s.engine.Apply, s.engine.Spread, s.engine.Measure = s.apply, s.gossip.spread, s.quorums.want
	s.engine.Learned = s.gossip.relay.learned
	s.keeping = &keeping{file: keep.File{Directory: keep.Directory(self.cluster, self.node), Node: self.node}, query: s.query, log: log.WithName("keeping")}
	// Until told, nobody is known to live.
	s.engine.First = append([]announce.Fact{announce.MembersKnown{}, announce.SelfKnown{}, announce.QuorumMeasured{}, announce.DeliveryChecked{}}, s.keeping.recall(time.Now())...)
	s.engine.Gatherer = &kube.Gatherer{
		Client: mgr.GetClient(), Class: o.Class, Namespace: o.Namespace,
		Facts: s.engine.Tell, Compiled: s.configure,
	}
	return s
}

// serverURL is where the API server is; a configuration may leave out the scheme.
func serverURL(cfg *rest.Config) string {
	server, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return cfg.Host // asking there says what is wrong
	}
	return server.String()
}

func (s *speaker) setUp(ctx context.Context, mgr manager.Manager) error {
	var err error
	if s.reach.client, err = rest.HTTPClientFor(mgr.GetConfig()); err != nil {
		return fmt.Errorf("make client that asks whether the API server is there: %w", err)
	}
	runnables := []manager.RunnableFunc{
		s.engine.Start, s.written.Start, s.gossip.Start, s.status.Start, s.proxy.Start,
		s.quorums.run, s.hearing.run, s.rollCall.run, s.reach.run, s.delivery.run, s.links.Run, s.layer2.Run, s.routers.Run,
		s.sessions.follow, s.peering.Run, s.keeping.run, s.watch,
	}
	var errs []error
	for _, r := range runnables {
		errs = append(errs, mgr.Add(r))
	}
	errs = append(errs, s.engine.Gatherer.SetUp(ctx, mgr), s.written.SetUp(mgr), s.gossip.setUp(mgr))
	return errors.Join(errs...)
}

// ready says whether all Services have been read and what follows has been announced.
func (s *speaker) ready() error {
	if !s.synced.Load() {
		return errors.New("not synced with the API server yet")
	}
	return nil
}

// apply carries a step's changes to the network. Paths come before peers, so that a new
// session begins with all that there is.
func (s *speaker) apply(state *announce.State, changes []announce.Change) {
	for _, c := range changes {
		key, d := c.Service.Key, c.Decision
		s.layer2.Set(key, d.Layer2)
		s.bgp.Set(key, d.Routes)
		s.log.V(1).Info("planned", "service", key.String(), "owner", d.Owner, "layer2", d.Layer2, "routes", d.Routes, "reason", d.Verdict.Reason)
	}
	for _, key := range state.Won() {
		s.layer2.Reannounce(key)
	}
	if state.Version() != s.version || !s.synced.Load() {
		s.version = state.Version()
		s.meet(state.Nodes())
		s.layer2.SetApart(state.Apart())
		s.sessions.want(state.Sessions())
	}
	s.gossip.setDeputized(state.Deputized())
	s.rollCall.want(state.Announcing(), state.Missed())
	s.owns.Store(int64(state.Owns()))
	s.planned.Store(int64(state.Planned()))
	s.delivery.want(changes)
	s.written.Put(changes)
	s.synced.Store(true)
}

// meet takes the nodes that there are.
func (s *speaker) meet(nodes []announce.Node) {
	s.gossip.setPeers(nodes)
	s.neighbors.nodes.Store(&nodes)
	macs := map[link.MAC]name.NodeName{}
	for _, n := range nodes {
		if n.Name == s.self.node && len(n.Addresses) > 0 {
			s.sessions.setOwn(n.Addresses)
		}
		for _, i := range n.Interfaces {
			if n.Name != s.self.node && i.MAC != (announce.MAC{}) {
				macs[link.MAC(i.MAC)] = n.Name
			}
		}
	}
	s.layer2.SetNeighbors(macs)
}

// query looks at the state of the engine, once it has begun.
func (s *speaker) query(ctx context.Context, look func(*announce.State)) error {
	if !s.synced.Load() {
		return errors.New("ask engine: it has not begun")
	}
	return s.engine.Ask(ctx, look)
}

// configure takes the settings; it is Gatherer.Compiled.
func (s *speaker) configure(ctx context.Context, _ config.Objects, c config.Compiled) error {
	s.layer2.SetRefreshInterval(c.Settings.RefreshInterval)
	s.layer2.SetConflictDetection(layer2.Detection(c.Settings.ConflictDetection))
	s.gossip.configure(c.Settings)
	s.proxy.configure(c.Settings)
	s.drain.Store(&c.Settings.Drain)
	return s.engine.Tell(ctx, announce.GraceKnown{Grace: c.Settings.GracePeriod, Shutdown: c.Settings.Drain.GracefulShutdownTime})
}

// depart finds out whether this speaker is about to be started again and, if it is not, hands
// over what it announces.
func (s *speaker) depart(ctx context.Context, d *departure) {
	leaves, why := d.leaving(ctx)
	s.log.Info("stopping", "leaves", leaves, "why", why)
	if leaves {
		s.leave(ctx)
		return
	}
	s.keeping.store(ctx)
	s.bgp.Restarting()
}

// leave hands over what this node owns, keeps no claims any more and withdraws its routes. It returns once others have what
// it owned, or nobody could take it, and routers have had the time to forget the routes, or when it
// takes too long.
func (s *speaker) leave(ctx context.Context) {
	s.keeping.forget()
	drain := s.drain.Load()
	ctx, cancel := context.WithTimeout(ctx, leaveLimit+drain.GracefulShutdownTime+drain.WithdrawTime)
	defer cancel()
	routes := false
	_ = s.query(ctx, func(state *announce.State) { routes = !state.Withdrawn() }) // an error: it has not begun, there are none
	s.leaving.Store(true)
	s.gossip.leave()
	poke(s.again)
	s.awaitRest(ctx)
	if routes {
		select {
		case <-ctx.Done():
		case <-time.After(drain.WithdrawTime):
		}
	}
}

// awaitRest waits until this node, which leaves, answers for nothing and announces no route.
func (s *speaker) awaitRest(ctx context.Context) {
	look := time.NewTicker(leaveLook)
	defer look.Stop()
	for told := false; ; told = true {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		rest := false
		err := s.query(ctx, func(state *announce.State) { rest = state.Answers() == 0 && state.Withdrawn() })
		if err != nil || told && rest {
			return
		}
	}
}

// watch follows links and sessions until ctx ends.
func (s *speaker) watch(ctx context.Context) error {
	for dialed := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case links := <-s.links.Changes():
			s.snapshot.Store(&links)
			s.looked.Store(true)
			s.layer2.SetLinks(links)
			s.sessions.refresh()
		case found := <-s.layer2.Conflicts():
			s.conflicts.Store(conflictsOf(found))
		case <-s.again:
		}
		s.status.changed()
		self := s.known()
		if err := s.engine.Tell(ctx, self); err != nil {
			return nil // ctx ended
		}
		// A BGP session that began before the plan was made with what is known of this node would tell its router, with an
		// End-of-RIB, that there are no routes: it would forget those that graceful restart has kept.
		if self.Settled && !dialed && s.query(ctx, func(*announce.State) {}) == nil { // what was told has been applied
			if rest := time.Until(s.began.Add(s.peering.Detection())); rest > 0 {
				time.AfterFunc(rest, func() { poke(s.again) })
				continue
			}
			dialed = true
			s.bgp.Sync()
		}
	}
}

// known is what the node knows of itself.
func (s *speaker) known() announce.SelfKnown {
	self := announce.SelfKnown{Leaving: s.leaving.Load(), Stale: s.reach.stale.Load(), Conflicts: *s.conflicts.Load(), Missed: s.rollCall.missed()}
	self.Proxy, _, _ = s.proxy.state()
	self.Settled = s.looked.Load() && s.proxy.known()
	deaf := s.hearing.deaf()
	for _, i := range s.interfaces() {
		self.Interfaces = append(self.Interfaces, announce.Interface{
			Name: i.Name, Up: i.Up, Deaf: slices.Contains(deaf, i.Name), MAC: announce.MAC(i.MAC), Prefixes: prefixes(i),
		})
	}
	self.Established = established(s.bgp.Peers())
	slices.SortFunc(self.Established, func(a, b announce.Session) int { return cmp.Compare(a.Peer, b.Peer) })
	return self
}

// allLinks returns all interfaces.
func (s *speaker) allLinks() link.Snapshot { return *s.snapshot.Load() }

// interfaces returns the interfaces that are fit for announcing.
func (s *speaker) interfaces() link.Snapshot {
	return slices.DeleteFunc(slices.Clone(*s.snapshot.Load()), func(i link.Interface) bool { return i.Unfit() != "" })
}

// stable returns the stable global addresses of an interface.
func stable(i link.Interface) []link.Address {
	return slices.DeleteFunc(slices.Clone(i.Addresses), func(a link.Address) bool { return !a.Global || !a.Stable })
}

// prefixes returns those of the stable global addresses of an interface and, if none of them is
// IPv4, those of the link-local ones: of these two the LAN can be asked for by others.
func prefixes(i link.Interface) []netip.Prefix {
	var global, local []netip.Prefix
	v4 := false
	for _, a := range i.Addresses {
		switch {
		case !a.Stable:
		case a.Global:
			global = append(global, a.Prefix)
			v4 = v4 || a.Prefix.Addr().Is4()
		case a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast():
			local = append(local, a.Prefix)
		}
	}
	if v4 {
		return global
	}
	return append(global, local...)
}

// conflictsOf are those that go on.
func conflictsOf(found []layer2.Conflict) *[]announce.Conflict {
	list := []announce.Conflict{}
	for _, c := range found {
		if !c.Over {
			list = append(list, announce.Conflict{Address: c.Address, Interface: c.Interface, MAC: announce.MAC(c.MAC), Node: c.Node, Probe: c.Probe})
		}
	}
	return &list
}

// firstIPv4 returns the zero value if there is none.
func firstIPv4(addresses []netip.Addr) netip.Addr {
	i := slices.IndexFunc(addresses, netip.Addr.Is4)
	if i < 0 {
		return netip.Addr{}
	}
	return addresses[i]
}
