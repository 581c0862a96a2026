package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/membership"
	"github.com/ballast-lb/ballast/internal/name"
)

// newsTimeout bounds how long another speaker waits for the engine to say what it knows.
const newsTimeout = time.Second

// complainEvery is how often it is logged at most that news cannot be read.
const complainEvery = time.Minute

// gossip runs the membership once its keys are known, tells the engine how the other speakers
// are and what they say, and tells them what the engine says.
type gossip struct {
	client client.Reader
	self   identity
	port   uint16
	secret client.ObjectKey
	log    logr.Logger
	tell   func(context.Context, ...announce.Fact) error
	// query looks at the state of the engine, which may not have begun yet.
	query func(context.Context, func(*announce.State)) error
	// ask asks the LAN for a node, company for any other speaker.
	ask     func(context.Context, name.NodeName) membership.Answer
	company func(context.Context) bool
	// changed is called when notJoined answers otherwise; it must not block.
	changed func()
	wake    chan struct{} // says that there are keys
	heard   chan struct{} // says that there is something in inbox
	relay   *relay
	ready   chan struct{} // closed when the engine has told who the others are

	mu        sync.Mutex // guards what follows
	members   *membership.Membership
	keys      membership.Keys
	own       []netip.Addr // where this node listens
	peers     []membership.Peer
	interval  time.Duration
	missed    int
	deputized []name.NodeName
	joined    bool
	met       bool // ready is closed
	inbox     inbox
	// unread counts what could not be read since that was logged, complained is when.
	unread     int
	complained time.Time
}

func newGossip(c client.Reader, self identity, o options, log logr.Logger) *gossip {
	return &gossip{
		client: c, self: self, port: uint16(o.gossipPort), log: log, own: self.addresses, relay: newRelay(self),
		secret: client.ObjectKey{Namespace: o.Namespace, Name: membership.SecretName},
		wake:   make(chan struct{}, 1), heard: make(chan struct{}, 1), ready: make(chan struct{}),
		interval: membership.DefaultInterval, missed: membership.DefaultMissed,
	}
}

// setUp follows the Secret that holds the keys.
func (g *gossip) setUp(mgr manager.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("gossip-keys").For(&corev1.Secret{}).Complete(reconcile.Func(g.reconcile))
}

func (g *gossip) reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req.NamespacedName != g.secret {
		return reconcile.Result{}, nil
	}
	var s corev1.Secret
	if err := g.client.Get(ctx, g.secret, &s); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err) // a lost Secret changes nothing
	}
	keys, err := membership.ParseKeys(s.Data[membership.SecretKey])
	if err != nil {
		return reconcile.Result{}, reconcile.TerminalError(fmt.Errorf("read key %s of Secret %s: %w", membership.SecretKey, g.secret, err))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = keys
	if g.members != nil {
		return reconcile.Result{}, g.members.SetKeys(keys)
	}
	poke(g.wake)
	return reconcile.Result{}, nil
}

// setPeers tells where other speakers may be, and where this one listens: at the internal
// addresses of the nodes. A Node without any leaves this speaker where it is.
func (g *gossip) setPeers(nodes []announce.Node) {
	var peers []membership.Peer
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range nodes {
		if n.Name == g.self.node && len(n.Addresses) > 0 {
			g.own = n.Addresses
		}
		peers = append(peers, membership.Peer{Name: n.Name, Addresses: n.Addresses, Bare: len(n.Interfaces) == 0})
	}
	if g.peers = peers; !g.met {
		g.met = true
		close(g.ready)
	}
	if g.members != nil {
		g.members.SetAddresses(g.own)
		g.members.SetPeers(peers)
	}
}

// setDeputized tells in whose place this node answers.
func (g *gossip) setDeputized(nodes []name.NodeName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deputized = nodes
	if g.members != nil {
		g.members.SetDeputized(nodes)
	}
}

// configure takes the settings of the heartbeats.
func (g *gossip) configure(s config.Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.interval, g.missed = s.HeartbeatInterval, s.Missed
	if g.members != nil {
		g.members.SetHeartbeat(g.interval, g.missed)
	}
}

// spread tells the other speakers news; before there is a membership, nobody is to be told.
func (g *gossip) spread(news announce.News) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members != nil {
		g.members.Spread(news.Encode())
	}
}

// leave makes the end of the membership mean that this speaker stops for good.
func (g *gossip) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members != nil {
		g.members.Leave()
	}
}

// inTouch says whether this node is in touch with the other speakers, or has not begun to be.
func (g *gossip) inTouch() bool {
	g.mu.Lock()
	members := g.members
	g.mu.Unlock()
	return members == nil || members.InTouch()
}

// stats returns what the membership counted.
func (g *gossip) stats() membership.Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members == nil {
		return membership.Stats{}
	}
	return g.members.Stats()
}

// Start waits for the keys and for the engine, then takes part in the gossip until ctx ends: who
// takes part can answer, and say what it knows.
func (g *gossip) Start(ctx context.Context) error {
	var found corev1.Secret
	if err := g.client.Get(ctx, g.secret, &found); apierrors.IsNotFound(err) {
		g.log.Info("waiting for the Secret that the controller makes; until then nothing is announced in layer 2", "secret", g.secret.String())
	}
	select {
	case <-ctx.Done():
		return nil
	case <-g.wake:
	}
	select {
	case <-ctx.Done():
		return nil
	case <-g.ready:
	}
	return g.run(ctx)
}

// run takes part in the gossip until ctx ends.
func (g *gossip) run(ctx context.Context) error {
	members, err := g.begin(ctx)
	if err != nil {
		return err
	}
	var done sync.WaitGroup
	defer done.Wait()
	done.Go(func() { g.follow(ctx, members) })
	done.Go(func() { g.relay.run(ctx, members.Send) })
	done.Go(func() { g.compare(ctx, members) })
	return members.Run(ctx)
}

// begin makes the membership of the keys and peers that are known by now.
func (g *gossip) begin(ctx context.Context) (*membership.Membership, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	members, err := membership.New(membership.Config{
		NodeName: g.self.node, Addresses: g.own, Port: g.port, Keys: g.keys, Label: g.self.cluster, Log: g.log,
		Ask: g.ask, Company: g.company, Hear: g.hear, News: func() ([]byte, bool) { return g.news(ctx) },
	})
	if err != nil {
		return nil, err
	}
	if g.peers != nil {
		members.SetPeers(g.peers)
	}
	members.SetHeartbeat(g.interval, g.missed)
	members.SetDeputized(g.deputized)
	g.members = members
	return members, nil
}

// news is all that this speaker can tell, if it can at the moment.
func (g *gossip) news(ctx context.Context) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	var news announce.News
	if err := g.query(ctx, func(s *announce.State) { news = s.News() }); err != nil {
		return nil, false
	}
	return news.Encode(), true
}

// hear keeps what another speaker said for follow, so that the gossip goes on meanwhile. It
// returns whether that made sense.
func (g *gossip) hear(b []byte) bool {
	news, err := announce.DecodeNews(b)
	if err != nil {
		g.complain(err, time.Now())
		return false
	}
	g.mu.Lock()
	kept := g.inbox.add(news)
	g.mu.Unlock()
	poke(g.heard)
	return kept
}

// complain logs that what another speaker says cannot be read: once a minute, with how often since it did.
func (g *gossip) complain(err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unread++
	if now.Sub(g.complained) < complainEvery {
		return
	}
	g.log.Error(err, "cannot read what another speaker says; is it of another version?", "times", g.unread)
	g.unread, g.complained = 0, now
}

// notJoined says why this speaker does not know who else lives, "" if it does.
func (g *gossip) notJoined() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.joined:
		return ""
	case g.members == nil:
		return fmt.Sprintf("Waiting for the Secret %s with the key of the gossip, which the controller makes. Until then nothing is announced in layer 2.", g.secret)
	}
	return fmt.Sprintf("Not in touch with the other speakers yet: are the ports %d (TCP, UDP) and %d (UDP) open between the nodes? Until then nothing is announced in layer 2.", g.port, g.port+1)
}

// follow tells the engine what the others say and how they are, in this order: who has joined
// has heard what the others own.
func (g *gossip) follow(ctx context.Context, members *membership.Membership) {
	for {
		var facts []announce.Fact
		select {
		case <-ctx.Done():
			return
		case <-g.heard:
		case view := <-members.Views():
			facts = append(facts, membersKnown(view))
			g.mu.Lock()
			g.joined = view.Joined
			g.mu.Unlock()
			g.changed()
		}
		g.mu.Lock()
		said, digests := g.inbox.take()
		g.mu.Unlock()
		if facts = append(said, facts...); len(facts) > 0 {
			if err := g.tell(ctx, facts...); err != nil {
				return // ctx ended
			}
		}
		g.answer(ctx, members, digests)
	}
}

func membersKnown(v membership.View) announce.MembersKnown {
	fact := announce.MembersKnown{Joined: v.Joined, Deaf: v.Deaf}
	health := map[membership.Health]announce.Health{
		membership.Dead: announce.Dead, membership.Silent: announce.Silent, membership.Unheard: announce.Unheard, membership.Alive: announce.Alive,
	}
	for _, m := range v.Members {
		fact.Members = append(fact.Members, announce.Member{Node: m.Name, Health: health[m.Health], Since: m.Since, Witnessed: m.Witnessed})
	}
	return fact
}

// poke notes on c that something has changed.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
