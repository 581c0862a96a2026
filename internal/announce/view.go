package announce

import (
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/name"
)

// Selectors is a list of selectors, ORed; an empty one selects everything.
type Selectors []labels.Selector

// Matches says whether one of the selectors matches, or there is none.
func (s Selectors) Matches(l labels.Set) bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(one labels.Selector) bool { return one.Matches(l) })
}

// Names selects objects by a list of names and a list of selectors, ORed; both empty: all.
type Names[T comparable] struct {
	Names     []T
	Selectors Selectors
}

// Matches says whether the object with this name and these labels is selected.
func (n Names[T]) Matches(object T, l labels.Set) bool {
	if len(n.Names) == 0 {
		return n.Selectors.Matches(l)
	}
	return slices.Contains(n.Names, object) || len(n.Selectors) > 0 && n.Selectors.Matches(l)
}

// Addresses is a set of addresses; *netipx.IPSet is one.
type Addresses interface {
	Contains(netip.Addr) bool
	ContainsPrefix(netip.Prefix) bool
}

// Pool is what announcing needs to know of an IPAddressPool.
type Pool struct {
	Name   name.PoolName
	Labels labels.Set
	// Addresses are what the pool spans, but for what it excludes: an aggregate lies within.
	Addresses Addresses
	// Former are the pool's when a Service holds them, because they lay in its spec before;
	// nil: none. Origin are so too if no pool hands them out.
	Former, Origin interface{ Contains(netip.Addr) bool }
}

// Selection is what both kinds of advertisement have in common: which Services, and from which nodes.
type Selection struct {
	Name       name.AdvertisementName
	Pools      Names[name.PoolName]
	Namespaces Selectors
	Services   Selectors
	Nodes      Selectors
}

// L2Advertisement is a compiled L2Advertisement.
type L2Advertisement struct {
	Selection
	// Interfaces are globs; empty: the interfaces that suit each address.
	Interfaces []string
	// Preferred makes nodes better owners.
	Preferred []Preference
}

// Preference is a weight, 1..100, for the nodes that a selector matches.
type Preference struct {
	Weight int
	Nodes  labels.Selector
}

// BGPAdvertisement is a compiled BGPAdvertisement.
type BGPAdvertisement struct {
	Selection
	// Peers are the only ones to announce to; empty: all.
	Peers []name.PeerName
	// Length4 and Length6 are the lengths of the announced prefixes; 32 and 128 are host routes.
	Length4, Length6 int
	// Weigh gives host routes of Services with externalTrafficPolicy Local the number of the node's endpoints as their
	// Weight, in the form that Transitive says.
	Weigh bool
	Attributes
}

// NodePeer is a BGPPeer and the nodes that should have a session with it.
type NodePeer struct {
	Peer
	Nodes Selectors
}

// Config is all configuration that concerns announcing.
type Config struct {
	Pools []Pool
	L2    []L2Advertisement
	// BGP is sorted: of two that disagree, the first is right.
	BGP []BGPAdvertisement
	// Peers are sorted, the oldest first.
	Peers []NodePeer
}

// ProxyState is what is known of a node's service proxy (kube-proxy, or what replaces it).
type ProxyState uint8

// The states of a service proxy. Nothing is announced from a node whose proxy is not ready.
const (
	// ProxyNotReady: it says that it cannot deliver yet, or has not been heard yet.
	ProxyNotReady ProxyState = iota
	// ProxyReady: it says that it has programmed the families in use, or nobody is to ask.
	ProxyReady
	// ProxyUnknown: nobody answers at its port; announced, with a warning.
	ProxyUnknown
)

// Health is how the speaker of a node is.
type Health uint8

// The states of health.
const (
	// Dead: neither the speaker nor the node gives a sign of life.
	Dead Health = iota
	// Silent: the speaker is away, or has not joined yet; the node answers on the LAN.
	Silent
	// Unheard: the speaker answers on the LAN, but the gossip with it does not get through.
	Unheard
	// Alive: the speaker lives and knows who else does.
	Alive
)

// Interface is a network interface of a node that is fit for announcing.
type Interface struct {
	Name string
	Up   bool
	// Deaf says that its link is up and that it gets nothing through all the same, in one direction or
	// in both: others are to announce in its place.
	Deaf bool `json:",omitempty"`
	// Cut says that the own node and at least one other get no answer from it on the LAN though the node's
	// speaker lives: to the planning node it is like one that is deaf. State fills that in.
	Cut bool `json:"-"`
	MAC MAC
	// Prefixes are its stable global addresses with their on-link prefixes and, if none is IPv4,
	// its stable link-local ones. The first that is IPv4 or link-local is what others ask for when
	// the speaker is missed.
	Prefixes []netip.Prefix
}

// Node is what is known of a node and of the speaker on it.
type Node struct {
	Name   name.NodeName
	Labels labels.Set
	// Addresses are the Node's internal addresses.
	Addresses []netip.Addr
	// Excluded says that the node wants no traffic of load balancers.
	Excluded bool
	// NetworkUnavailable is the Node's condition of that name.
	NetworkUnavailable bool
	// Drain is the signal that asks to take the node out of service, for people; "": none does.
	Drain string
	// Proxy is whether the node's service proxy can deliver.
	Proxy ProxyState
	// Health is how the node's speaker is, and since when.
	Health      Health
	HealthSince time.Time
	// Witnessed says of one that is not Alive that another node heard its speaker a moment ago.
	Witnessed bool
	// Unknown says that the API does not know whether the speaker lives, UnknownSince since when, to
	// the planning node's knowledge; State fills that in.
	Unknown      bool
	UnknownSince time.Time
	// Steady is since when nothing of the node changed, to the planning node's knowledge.
	Steady     time.Time
	Interfaces []Interface
	// Rebalance is what last asked for a rebalancing; another value asks anew.
	Rebalance string
	// Established are its BGP sessions that are up, sorted by peer.
	Established []Session
	// DrainedAt is since when the own node is drained or excluded; zero: it is not, or always was.
	DrainedAt time.Time
}

// Session is a BGP session that is up.
type Session struct {
	Peer name.PeerName
	// IPv4 and IPv6 say what becomes of the family's routes.
	IPv4, IPv6 Carriage
}

// Carriage says whether a BGP session carries an address family.
type Carriage uint8

// Whether a session that is up carries a family.
const (
	// NotCarried: the session is not for the family, or the router does not offer it.
	NotCarried Carriage = iota
	// Carried: its routes go out.
	Carried
	// NoNextHop: the node has no next hop for it.
	NoNextHop
)

// carries says what becomes of an address's route.
func (s Session) carries(a netip.Addr) Carriage {
	if a.Is4() {
		return s.IPv4
	}
	return s.IPv6
}

// View is everything but the Service that Plan looks at. It is never changed once made.
type View struct {
	// Self is the node to plan for; empty: none, only the verdict is wanted.
	Self   name.NodeName
	Config Config
	// Joined says that the own node knows what the others own; before, it answers for nothing
	// in layer 2. Deaf says that it hears nobody on the LAN: it then announces nothing unasked.
	Joined, Deaf bool
	// JoinedAt is when that was found out.
	JoinedAt time.Time
	// Stale says that the own node has not reached the API server for so long that it may not know
	// what others do.
	Stale bool
	// Quorum is what was measured on the own node's interfaces; nil: nobody measures, and the own
	// node has a quorum everywhere.
	Quorum map[string]Quorum
	// Grace is how long an owner may be silent.
	Grace time.Duration
	// Shutdown is how long the routes of the own node, once it is drained, go on with the community GRACEFUL_SHUTDOWN.
	Shutdown time.Duration
	// Owned is how many units each node owns.
	Owned map[name.NodeName]int
	// Conflicts are other hosts that answer for what the own node answers for.
	Conflicts  map[netip.Addr]Conflict
	Nodes      []Node // sorted by name
	Namespaces map[string]labels.Set
}

// pool returns the pool of a held address: one that it is known to be from, one that hands
// it out, one that may have.
func (v *View) pool(a netip.Addr) *Pool {
	for i, p := range v.Config.Pools {
		if p.Former != nil && p.Former.Contains(a) {
			return &v.Config.Pools[i]
		}
	}
	for i, p := range v.Config.Pools {
		if p.Addresses.Contains(a) {
			return &v.Config.Pools[i]
		}
	}
	for i, p := range v.Config.Pools {
		if p.Origin != nil && p.Origin.Contains(a) {
			return &v.Config.Pools[i]
		}
	}
	return nil
}

// selects says whether an advertisement is for a Service's address.
func (v *View) selects(sel Selection, s *Service, p *Pool) bool {
	return p != nil && sel.Pools.Matches(p.Name, p.Labels) &&
		sel.Namespaces.Matches(v.Namespaces[s.Key.Namespace]) && sel.Services.Matches(s.Labels)
}

// Endpoints counts a Service's endpoints on one node.
type Endpoints struct {
	// Ready ones take new connections; Serving ones are terminating, but still answer.
	Ready, Serving int
}

// Service is what is known of a Service and its endpoints.
type Service struct {
	Key name.ServiceKey
	UID string
	// Addresses are those of status.loadBalancer.ingress.
	Addresses []netip.Addr
	// Allocated says that the condition of that name is True.
	Allocated bool
	// Announced says that the condition of that name is True: some node has answered before. Owner
	// is the node that it names as the one that answers in layer 2, or empty.
	Announced bool
	Owner     name.NodeName
	// Local is externalTrafficPolicy: Local.
	Local  bool
	Labels labels.Set
	// Endpoints are counted by node; those without a node stand under "".
	Endpoints map[name.NodeName]Endpoints
}

// endpointNodes returns the nodes with a ready endpoint or, only if there is none
// anywhere, those with one that terminates but still serves.
func (s *Service) endpointNodes() map[name.NodeName]bool {
	ready, serving := map[name.NodeName]bool{}, map[name.NodeName]bool{}
	for node, e := range s.Endpoints {
		if e.Ready > 0 {
			ready[node] = true
		}
		if e.Serving > 0 {
			serving[node] = true
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return serving
}
