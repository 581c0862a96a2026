// Package membership tells which speakers of the cluster live. The speakers find out among
// themselves, by a gossip protocol (SWIM, as github.com/hashicorp/memberlist has it), so that
// it works while the API server is away.
//
// All traffic is encrypted, labeled with the cluster's identity, and bound to one address of
// the node. The package never decides what a member's death means, never reads Kubernetes
// objects, and does not look for peers: it is told them.
package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

// DefaultPort is the port of the gossip, UDP and TCP. It is one above memberlist's own, which
// other software on a node may use.
const DefaultPort = 7947

// Config is what a Membership needs to know at its start.
type Config struct {
	// NodeName is this speaker's name among the members.
	NodeName name.NodeName
	// BindAddr is the address to listen on and to be known by: the node's internal one.
	BindAddr netip.Addr
	// Port is the same on all nodes; 0 means DefaultPort.
	Port uint16
	// Keys are the key ring at the start, at least one.
	Keys Keys
	// Label is the cluster's identity, at most 255 bytes: what carries another is refused.
	Label string
	Log   logr.Logger
}

// View is who lives, as seen from here.
type View struct {
	// Members are the live members, this node among them, sorted by name.
	Members []name.NodeName
	// Joined turns true, and stays so, once this node has met another member, or has tried
	// all peers that it knows of and met none. Before, Members says nothing about who is
	// missing.
	Joined bool
}

// Membership takes part in the gossip. Make it with New. Its methods may be called from any
// goroutine, before and during Run.
type Membership struct {
	config  Config
	ring    *memberlist.Keyring
	views   chan View
	changed chan struct{}

	mu    sync.Mutex // guards peers, and the order of changes to ring
	peers []netip.Addr
	known bool // SetPeers has been called
}

// New checks config and returns a Membership that does nothing until Run.
func New(config Config) (*Membership, error) {
	if config.Port == 0 {
		config.Port = DefaultPort
	}
	switch {
	case config.NodeName == "":
		return nil, errors.New("configure membership: node name is empty")
	case !config.BindAddr.IsValid() || config.BindAddr.IsUnspecified() || config.BindAddr.IsMulticast():
		return nil, fmt.Errorf("configure membership: cannot bind to address %q", config.BindAddr)
	case len(config.Keys) == 0:
		return nil, errors.New("configure membership: there is no key")
	case len(config.Label) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("configure membership: label has %d bytes, more than %d", len(config.Label), memberlist.LabelMaxSize)
	}
	config.BindAddr = config.BindAddr.Unmap()
	m := &Membership{config: config, ring: &memberlist.Keyring{}, views: make(chan View, 1), changed: make(chan struct{}, 1)}
	return m, m.SetKeys(config.Keys)
}

// Views returns the channel on which a View arrives when Run is ready, and after each change,
// for one reader. One that the reader has not taken yet is replaced by the next. The channel is
// never closed.
func (m *Membership) Views() <-chan View { return m.views }

// SetPeers tells the addresses of all nodes that may have a speaker, this one's among them or
// not. All are joined at once; those that do not answer are tried again for as long as they
// are peers. The slice is not kept.
func (m *Membership) SetPeers(peers []netip.Addr) {
	var others []netip.Addr
	for _, p := range peers {
		if p = p.Unmap(); p.IsValid() && p != m.config.BindAddr {
			others = append(others, p)
		}
	}
	m.mu.Lock()
	m.peers, m.known = others, true
	m.mu.Unlock()
	wake(m.changed)
}

// SetKeys makes keys the key ring, at once and for what is connected too. It fails, and changes
// nothing, if there is no key.
func (m *Membership) SetKeys(keys Keys) error {
	if len(keys) == 0 {
		return errors.New("set keys: there is no key")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if err := m.ring.AddKey(k[:]); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	if err := m.ring.UseKey(keys[0][:]); err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	for _, old := range slices.Clone(m.ring.GetKeys()) {
		if slices.Contains(keys, Key(old)) {
			continue
		}
		if err := m.ring.RemoveKey(old); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	return nil
}

// Run takes part until ctx ends, then tells the others that this node leaves, stops, and
// returns nil. While the port is held by somebody else, or the address is not there yet, it
// tries again with a backoff. Call it once.
func (m *Membership) Run(ctx context.Context) error {
	members := &roster{alive: map[name.NodeName]netip.Addr{}, changed: m.changed}
	list, ok := m.bind(ctx, members)
	if !ok {
		return nil
	}
	var joins sync.WaitGroup
	defer func() {
		// Neither error helps anybody: who did not hear of it finds out by itself.
		_ = list.Leave(leaveTimeout)
		_ = list.Shutdown()
		joins.Wait()
	}()
	m.config.Log.Info("gossip is ready", "address", m.config.BindAddr.String(), "port", m.config.Port)

	var last View
	absent := newAttempts()
	done := make(chan netip.Addr, joinsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
		case <-timer.C:
		case peer := <-done:
			absent.done(peer, time.Now(), rand.Float64())
		}
		alive, addresses := members.snapshot()
		m.mu.Lock()
		peers, known := m.peers, m.known
		m.mu.Unlock()
		start, wait := absent.start(peers, addresses, time.Now())
		for _, peer := range start {
			joins.Go(func() {
				m.join(list, peer)
				done <- peer
			})
		}
		timer.Reset(wait)

		view := View{Members: alive}
		view.Joined = last.Joined || len(alive) > 1 || known && absent.allTried()
		m.deliver(view, &last)
	}
}

// join exchanges what is known of members with one peer, so that both become members.
func (m *Membership) join(list *memberlist.Memberlist, peer netip.Addr) {
	_, err := list.Join([]string{netip.AddrPortFrom(peer, m.config.Port).String()})
	if err != nil {
		m.config.Log.V(1).Info("cannot join peer", "peer", peer.String(), "error", err.Error())
	}
}

// deliver hands view to the reader if it differs from the last one.
func (m *Membership) deliver(view View, last *View) {
	if view.Joined == last.Joined && slices.Equal(view.Members, last.Members) {
		return
	}
	m.config.Log.Info("members changed", "members", len(view.Members), "joined", view.Joined,
		"appeared", difference(view.Members, last.Members), "disappeared", difference(last.Members, view.Members))
	*last = view
	select {
	case <-m.views:
	default:
	}
	m.views <- view
}

// difference returns the names in a that are not in b.
func difference(a, b []name.NodeName) []name.NodeName {
	var only []name.NodeName
	for _, n := range a {
		if !slices.Contains(b, n) {
			only = append(only, n)
		}
	}
	return only
}

// wake notes on c that something has changed.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
