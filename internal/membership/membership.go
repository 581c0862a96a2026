// Package membership tells how the speakers of the cluster are, and carries what they tell
// each other. It works while the API server is away.
//
// Membership and news spread by a gossip protocol (SWIM, as github.com/hashicorp/memberlist has
// it). Death is found faster, by heartbeats in UDP at the port above: each node sends them to
// three others, and when they are missed the LAN is asked whether the node lives. So a node
// whose speaker restarts is told from one that is dead, and from one whose gossip is blocked.
//
// All traffic is encrypted or authenticated, labeled with the cluster's identity, and bound to
// the addresses of the node, which may change at any time: names tell who is who, and two nodes
// reach each other at any addresses of one family. The package never decides what a death means, never reads what the
// news say, never touches Kubernetes objects, and does not look for peers: it is told them.
package membership

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// DefaultPort is the port of the gossip, UDP and TCP; heartbeats use the UDP port above. It is
	// one above memberlist's own, which other software on a node may use.
	DefaultPort = 7947
	// DefaultInterval is the time between two heartbeats.
	DefaultInterval = 100 * time.Millisecond
	// DefaultMissed is how many heartbeats may be missed.
	DefaultMissed = 3
)

// Config is what a Membership needs to know at its start.
type Config struct {
	// NodeName is this speaker's name among the members.
	NodeName name.NodeName
	// Addresses are those to listen on, at least one: the node's internal ones, in the order in
	// which its Node names them, since older versions know it by the first.
	Addresses []netip.Addr
	// Port is the same on all nodes; 0 means DefaultPort.
	Port uint16
	// Keys are the key ring at the start, at least one.
	Keys Keys
	// Label is the cluster's identity, at most 255 bytes: what carries another is refused.
	Label string
	// Ask asks the LAN for a node, within some hundred milliseconds; nil: it cannot be asked, and
	// this node is never taken for one that hears nobody.
	Ask func(context.Context, name.NodeName) Answer
	// Company asks the LAN whether another speaker is there, though the gossip finds none; nil: none
	// is.
	Company func(context.Context) bool
	// News returns all that this node can tell, and false if it cannot tell at the moment; Hear
	// takes what another told, and returns whether it made sense. Both may be called from many
	// goroutines and block for a moment. nil: there are no news.
	News func() ([]byte, bool)
	Hear func([]byte) bool
	Log  logr.Logger

	// open opens the sockets at an address; nil: those of the kernel.
	open func(*Membership, netip.Addr) (sockets, error)
}

// Peer is a node that may have a speaker.
type Peer struct {
	Name name.NodeName
	// Addresses are where it may be reached, of any family. A node without one that is of a family
	// of this node's own cannot be reached.
	Addresses []netip.Addr
	// Bare says that no speaker has ever been seen on it: that nothing comes back from its port
	// holds nobody up.
	Bare bool
}

// Member is how a node's speaker is.
type Member struct {
	Name   name.NodeName
	Health Health
	Since  time.Time
	// Witnessed says of one that is not Alive that another node heard it when this one last asked.
	Witnessed bool
}

// View is how the speakers are, as seen from here.
type View struct {
	// Members are sorted by name, this node among them; who is not named is dead.
	Members []Member
	// Joined turns true, and stays so, once this node has exchanged news with another member, or
	// has found out that none of its peers has a speaker. Before, it does not know what they own.
	Joined bool
	// Deaf says that this node hears nobody on the LAN: it, and not the others, may be cut off.
	Deaf bool
}

// Stats counts what a Membership did.
type Stats struct {
	// Sent and Received count heartbeats, Rejected packets that are malformed or not authentic.
	Sent, Received, Rejected uint64
	// Asked counts questions to the LAN, Deaths the nodes that were found dead.
	Asked, Deaths uint64
	// Answered, Silent, NotAsked and Void count what became of them: the node answered, it did not, it shares
	// no network with this one, or this process was held up meanwhile and may have missed the answer.
	Answered, Silent, NotAsked, Void uint64
	// Vetoes and Vetoed count what this node told others, and others told it, of nodes that are missed and
	// yet heard.
	Vetoes, Vetoed uint64
}

// Membership takes part in the gossip. Make it with New. Its methods may be called from any
// goroutine, before and during Run.
type Membership struct {
	config  Config
	ring    *memberlist.Keyring
	views   chan View
	changed chan struct{}
	moved   chan struct{} // own is another
	routes  *routes
	leaving atomic.Bool

	sent, received, rejected, asked, deaths, vetoes, vetoed atomic.Uint64
	replies                                                 [resultCount]atomic.Uint64

	// inTouch is when the last question was asked that a member answered; fellows says that some
	// member lives, or has just now.
	inTouch atomic.Pointer[time.Time]
	fellows atomic.Bool

	mu        sync.Mutex // guards what follows, and the order of changes to ring
	own       []netip.Addr
	peers     []Peer
	known     bool // SetPeers has been called
	keys      Keys // as last set
	interval  time.Duration
	missed    int
	deputized []name.NodeName
	outbox    []Letter
}

// New checks config and returns a Membership that does nothing until Run.
func New(config Config) (*Membership, error) {
	if config.Port == 0 {
		config.Port = DefaultPort
	}
	switch {
	case config.NodeName == "" || len(config.NodeName) > 253:
		return nil, errors.New("configure membership: node name is empty or longer than 253 bytes")
	case len(bindable(config.Addresses)) == 0:
		return nil, fmt.Errorf("configure membership: cannot bind to any of the addresses %v", config.Addresses)
	case len(config.Keys) == 0:
		return nil, errors.New("configure membership: there is no key")
	case config.Port == 65535:
		return nil, errors.New("configure membership: port 65535 leaves none above for the heartbeats")
	case len(config.Label) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("configure membership: label has %d bytes, more than %d", len(config.Label), memberlist.LabelMaxSize)
	}
	if config.open == nil {
		config.open = openSockets
	}
	if config.Ask == nil {
		config.Ask = func(context.Context, name.NodeName) Answer { return Answer{Others: true} }
	}
	if config.Company == nil {
		config.Company = func(context.Context) bool { return false }
	}
	if config.News == nil {
		config.News = func() ([]byte, bool) { return nil, true }
	}
	if config.Hear == nil {
		config.Hear = func([]byte) bool { return true }
	}
	m := &Membership{
		config: config, ring: &memberlist.Keyring{}, views: make(chan View, 1), changed: make(chan struct{}, 1),
		moved: make(chan struct{}, 1), routes: newRoutes(), own: bindable(config.Addresses),
		interval: DefaultInterval, missed: DefaultMissed,
	}
	m.keys = config.Keys
	return m, m.turn(config.Keys)
}

// Views returns the channel on which a View arrives when Run is ready, and after each change,
// for one reader. One that the reader has not taken yet is replaced by the next. The channel is
// never closed.
func (m *Membership) Views() <-chan View { return m.views }

// SetPeers tells all nodes that may have a speaker, this one among them or not. All that can be
// reached are joined at once; those that do not answer are tried again for as long as they are
// peers, and at once when their addresses change. The slice is not kept.
func (m *Membership) SetPeers(peers []Peer) {
	var others []Peer
	for _, p := range peers {
		if p.Addresses = bindable(p.Addresses); len(p.Addresses) > 0 && p.Name != m.config.NodeName {
			others = append(others, p)
		}
	}
	m.mu.Lock()
	m.peers, m.known = others, true
	m.routes.setPeers(others)
	m.mu.Unlock()
	wake(m.changed)
}

// SetAddresses tells that the addresses to listen on are others than before. Sockets are opened
// and closed while Run goes on. A list without any address changes nothing: this node has one,
// though nobody knows it. The slice is not kept.
func (m *Membership) SetAddresses(own []netip.Addr) {
	own = bindable(own)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(own) == 0 || slices.Equal(own, m.own) {
		return
	}
	m.own = own
	wake(m.moved)
}

// addresses returns the addresses of this node.
func (m *Membership) addresses() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own
}

// bindable returns those of some addresses that one host has and others can reach, each once.
func bindable(all []netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range all {
		a = a.Unmap()
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// SetHeartbeat sets the time between heartbeats, at least 10 ms, and how many may be missed, at
// least 1. It is to be the same on all nodes.
func (m *Membership) SetHeartbeat(interval time.Duration, missed int) {
	m.mu.Lock()
	m.interval, m.missed = max(interval, 10*time.Millisecond), max(missed, 1)
	m.mu.Unlock()
	wake(m.changed)
}

// SetDeputized tells for which silent nodes this one answers: it asks the LAN for them often.
func (m *Membership) SetDeputized(nodes []name.NodeName) {
	m.mu.Lock()
	m.deputized = slices.Clone(nodes)
	m.mu.Unlock()
	wake(m.changed)
}

// Leave makes the end of Run mean that this speaker stops for good, which the others are
// told. Otherwise it means that it is about to start again.
func (m *Membership) Leave() { m.leaving.Store(true) }

// Letter is news for some of the other members.
type Letter struct {
	News []byte
	// To is whom they are for. Empty: for Some of the members at random, or fewer if there are not so
	// many, none of which is in Not.
	To   name.NodeName
	Some int
	Not  []name.NodeName

	all bool
}

// Spread tells all other members news. It does not block. What is spread before Run has opened
// its sockets, others learn when they join.
func (m *Membership) Spread(news []byte) { m.Send(Letter{News: news, all: true}) }

// Send tells some members news, once: short ones may get lost. It does not block.
func (m *Membership) Send(l Letter) {
	m.mu.Lock()
	m.outbox = append(m.outbox, l)
	m.mu.Unlock()
	wake(m.changed)
}

// InTouch says whether this node is known to be in touch with the others at this very moment: one of
// them has answered a question that was asked within the last second, or none has lived for a while. A
// process that stood still is not, until somebody answers.
func (m *Membership) InTouch() bool {
	asked := m.inTouch.Load()
	return !m.fellows.Load() || asked != nil && time.Since(*asked) <= inTouch
}

// Stats returns what was counted so far.
func (m *Membership) Stats() Stats {
	return Stats{
		Sent: m.sent.Load(), Received: m.received.Load(), Rejected: m.rejected.Load(), Asked: m.asked.Load(), Deaths: m.deaths.Load(),
		Answered: m.replies[nodeAnswered].Load(), Silent: m.replies[nodeSilent].Load(), NotAsked: m.replies[notAsked].Load(),
		Void: m.replies[voided].Load(), Vetoes: m.vetoes.Load(), Vetoed: m.vetoed.Load(),
	}
}

// wake notes on c that something has changed.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
