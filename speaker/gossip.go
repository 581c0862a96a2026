package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/membership"
)

// gossip runs the membership once its keys are known, and tells the engine who lives.
type gossip struct {
	client client.Reader
	self   identity
	port   uint16
	secret client.ObjectKey
	log    logr.Logger
	tell   func(context.Context, ...announce.Fact) error
	// changed is called when notJoined answers otherwise; it must not block.
	changed func()
	wake    chan struct{} // says that there are keys

	mu      sync.Mutex // guards what follows
	members *membership.Membership
	keys    membership.Keys
	peers   []netip.Addr
	joined  bool
}

func newGossip(c client.Reader, self identity, o options, log logr.Logger) *gossip {
	return &gossip{
		client: c, self: self, port: uint16(o.gossipPort), log: log,
		secret: client.ObjectKey{Namespace: o.Namespace, Name: membership.SecretName},
		wake:   make(chan struct{}, 1),
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
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return reconcile.Result{}, nil
}

// setPeers tells where other speakers may be: at the internal addresses of all nodes, of
// the family that this one is bound to.
func (g *gossip) setPeers(nodes []announce.Node) {
	var peers []netip.Addr
	for _, n := range nodes {
		for _, a := range n.Addresses {
			if a.Is4() == g.self.addresses[0].Is4() {
				peers = append(peers, a)
				break
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers = peers
	if g.members != nil {
		g.members.SetPeers(peers)
	}
}

// Start waits for the keys, then takes part in the gossip until ctx ends.
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
	members, err := g.begin()
	if err != nil {
		return err
	}
	var done sync.WaitGroup
	defer done.Wait()
	done.Go(func() { g.follow(ctx, members) })
	return members.Run(ctx)
}

// begin makes the membership of the keys and peers that are known by now.
func (g *gossip) begin() (*membership.Membership, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	members, err := membership.New(membership.Config{
		NodeName: g.self.node, BindAddr: g.self.addresses[0], Port: g.port, Keys: g.keys, Label: g.self.cluster, Log: g.log,
	})
	if err != nil {
		return nil, err
	}
	if g.peers != nil {
		members.SetPeers(g.peers)
	}
	g.members = members
	return members, nil
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
	return "Not in touch with the other speakers yet. Until then nothing is announced in layer 2."
}

// follow tells the engine who lives. Before this node has joined, nobody is known to: it
// must not announce what another may own.
func (g *gossip) follow(ctx context.Context, members *membership.Membership) {
	for {
		select {
		case <-ctx.Done():
			return
		case view := <-members.Views():
			fact := announce.MembersKnown{}
			if view.Joined {
				fact.Alive = view.Members
			}
			g.mu.Lock()
			g.joined = view.Joined
			g.mu.Unlock()
			g.changed()
			g.log.Info("members changed", "joined", view.Joined, "members", view.Members)
			if err := g.tell(ctx, fact); err != nil {
				return // ctx ended
			}
		}
	}
}
