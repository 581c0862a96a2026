package announce

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// Community is one BGP community in its wire value: a standard one (RFC 1997) has
// Large false and its 32 bits in Global (16) and Local1 (16); a large one (RFC 8092) has three 32-bit parts.
// Well-known communities are standard ones.
type Community struct {
	Large                  bool
	Global, Local1, Local2 uint32
}

// Compare orders communities: standard ones first, then by value.
func (c Community) Compare(o Community) int {
	if c.Large != o.Large {
		if o.Large {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.Global, o.Global), cmp.Compare(c.Local1, o.Local1), cmp.Compare(c.Local2, o.Local2))
}

// Attributes are the path attributes of a Route. Compare them with Equal.
type Attributes struct {
	// LocalPref is LOCAL_PREF (RFC 4271 section 5.1.5), sent to iBGP peers alone; nil: not set.
	LocalPref *uint32
	// MED is MULTI_EXIT_DISC (RFC 4271 section 5.1.4); nil: not sent.
	MED *uint32
	// Prepend is what is asked of Prepends, 0..10; nil: nothing.
	Prepend *uint32
	// Communities are sorted with Community.Compare and without duplicates.
	Communities []Community
	// Weight is the node's share of the traffic, in endpoints, sent as a link bandwidth extended community
	// (draft-ietf-idr-link-bandwidth); 0: none. Transitive says in which form.
	Weight     uint32
	Transitive bool
}

// Equal says whether two sets of attributes are the same on the wire.
func (a Attributes) Equal(o Attributes) bool {
	return equal(a.LocalPref, o.LocalPref) && equal(a.MED, o.MED) && a.Prepends() == o.Prepends() &&
		a.Weight == o.Weight && a.Transitive == o.Transitive && slices.Equal(a.Communities, o.Communities)
}

// Prepends is how many more times than once the own AS number stands in the AS_PATH.
func (a Attributes) Prepends() uint32 {
	if a.Prepend == nil {
		return 0
	}
	return *a.Prepend
}

func equal(x, y *uint32) bool { return x == y || x != nil && y != nil && *x == *y }

// Unite adds the communities of o, and those single values that a does not set.
func (a Attributes) Unite(o Attributes) Attributes {
	if a.LocalPref == nil {
		a.LocalPref = o.LocalPref
	}
	if a.MED == nil {
		a.MED = o.MED
	}
	if a.Prepend == nil {
		a.Prepend = o.Prepend
	}
	if a.Weight == 0 {
		a.Weight, a.Transitive = o.Weight, o.Transitive
	}
	a.Communities = slices.Concat(a.Communities, o.Communities)
	slices.SortFunc(a.Communities, Community.Compare)
	a.Communities = slices.Compact(a.Communities)
	return a
}

// Route is one prefix to announce to some peers.
type Route struct {
	Prefix netip.Prefix
	// Peers are sorted by name and never empty: a route that goes nowhere is no route.
	Peers []name.PeerName
	Attributes
}

// Peer is one BGP session that this node should have. It is comparable.
type Peer struct {
	Name name.PeerName
	// MyASN is our AS number, 1..4294967295. LocalASN, unless 0, is what the peer takes us for instead.
	MyASN, LocalASN uint32
	// PeerASN is the peer's AS number; 0: Dynamic says which are accepted.
	PeerASN uint32
	Dynamic DynamicASN
	// Address is the peer's. On an unnumbered session it is link-local with its zone, and invalid
	// until the peer has been found on Interface.
	Address netip.Addr
	// Interface is that of an unnumbered session; "" of any other.
	Interface string
	Port      uint16
	// Source is the local address to dial from; the zero value lets the kernel choose.
	Source netip.Addr
	// RouterID is what the node's peers say, if they do; the zero value: the node's default.
	RouterID netip.Addr
	// Hold, Keepalive and Connect are 0 for their defaults: 90 s, a third of Hold, 10 s. Hold may be HoldForever.
	Hold, Keepalive, Connect time.Duration
	// MultiHop allows an eBGP peer that is not on a connected network.
	MultiHop bool
	// TTLSecurity is how many hops away the peer is at most (GTSM, RFC 5082), 1..254; 0: not checked.
	TTLSecurity int
	// Password is the TCP MD5 key (RFC 2385); empty is none.
	Password string
	// IPv4 and IPv6 say which address families the session carries.
	IPv4, IPv6 bool
	// NextHop4 and NextHop6 are the first stable global address of their family on the
	// interface the session goes through; the zero value: there is none. A session between global
	// addresses needs only that of the other family, and uses its own local address for its own.
	NextHop4, NextHop6 netip.Addr
	// GracefulRestart is how long, in whole seconds, the peer is asked to keep our routes while this speaker restarts
	// (RFC 4724); 0: not at all.
	GracefulRestart time.Duration
	// BFD are the timers of the BFD session with the peer; the zero value: none.
	BFD BFD
}

// HoldForever is the Hold of a session whose silence is never a failure.
const HoldForever time.Duration = -1

// DynamicASN says which AS numbers of a peer are accepted.
type DynamicASN uint8

// The ways to accept AS numbers.
const (
	// Fixed accepts PeerASN alone.
	Fixed DynamicASN = iota
	// Internal accepts our own.
	Internal
	// External accepts all but our own.
	External
)

// BFD are the timers of a BFD session (RFC 5880 section 6.8.1). The zero value is none.
type BFD struct {
	// Receive is RequiredMinRxInterval, Transmit is DesiredMinTxInterval.
	Receive, Transmit time.Duration
	// Multiplier is DetectMult, 1..255.
	Multiplier uint8
	// Passive sends nothing until the peer has.
	Passive bool
	// MinimumTTL is the least TTL accepted on a multihop session (RFC 5883), 1..254.
	MinimumTTL uint8
}

// Internal says whether the peer is of our own AS (iBGP).
func (p Peer) Internal() bool {
	return p.Dynamic == Internal || p.PeerASN != 0 && p.PeerASN == cmp.Or(p.LocalASN, p.MyASN)
}

// Remote says whether the peer may be more than one hop away.
func (p Peer) Remote() bool { return p.MultiHop || p.TTLSecurity > 1 }

// MAC is an Ethernet address (IEEE 802 MAC-48). The zero value is none.
type MAC = [6]byte

// Layer2 is one address that this node answers ARP or neighbor solicitations for.
type Layer2 struct {
	Address netip.Addr
	// Interfaces are sorted by name and never empty.
	Interfaces []string
	// For is zero on the owner. On a deputy, which answers for an owner whose speaker is away
	// while its node forwards on, it is the owner's hardware address: the deputy gives it in
	// unicast answers and never says anything unasked.
	For MAC
	// First says that no node has answered for the address before: conflict detection (RFC
	// 5227 section 2.1, RFC 4862 section 5.4) comes before the first answer.
	First bool
	// Yields says that this node, an owner by its claim, gives way to another node that answers for
	// the address and cannot be told so: it is answered only while the network says that no other
	// node does.
	Yields bool
}

// Conflict is another host that answers for an address of the own node.
type Conflict struct {
	Address   netip.Addr
	Interface string
	MAC       MAC
	// Node is the node that the MAC is of; empty: of none.
	Node name.NodeName
	// Probe says that the host was found before the address was answered for, which it
	// therefore is not.
	Probe bool
	// Since is when State first learned of it; it fills that in.
	Since time.Time
}

// Verdict says whether a Service is announced, by whom, and else the first rule that said no.
type Verdict struct {
	Announced bool
	Reason    v1alpha1.Reason
	Message   string
}
