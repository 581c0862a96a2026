package bgp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// State is a state of RFC 4271 section 8.2.2.
type State string

// The states. gobgp shows a session that is being dialed, up to and including the OPEN it sends, as Active.
const (
	Idle        State = "Idle"
	Connect     State = "Connect"
	Active      State = "Active"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
)

// Carriage says whether the routes of one address family go over a session.
type Carriage string

const (
	// NotConfigured says that the peer is not to get routes of the family.
	NotConfigured Carriage = "NotConfigured"
	// Carried says that it is, and nothing known speaks against it; on an established session, it gets them.
	Carried Carriage = "Carried"
	// NoNextHop says that the node has no address of the family on that interface, and the peer cannot do without (RFC 8950).
	NoNextHop Carriage = "NoNextHop"
	// NotNegotiated says that the session is up, but the peer does not offer the family (RFC 4760 section 8).
	NotNegotiated Carriage = "NotNegotiated"
)

// PeerState is how a peer's session is.
type PeerState struct {
	Name    name.PeerName
	Address netip.Addr
	State   State
	// Since is when the session came into State.
	Since time.Time
	// LastError says in words why the session last ended or could not be made; it stays when
	// the session comes back. Empty: no failure yet.
	LastError string
	// IPv4 and IPv6 say what becomes of each family.
	IPv4, IPv6 Carriage
	// ASN is the peer's AS number as it last said; 0 before.
	ASN uint32
	// Flaps is how often the session left Established.
	Flaps uint64
	// Advertised is what the peer gets while the session is up.
	Advertised Advertised
}

// Advertised counts the prefixes of each family that a peer gets.
type Advertised struct{ IPv4, IPv6 int }

// PeerStats counts what went over a session since it was configured.
type PeerStats struct {
	Name name.PeerName

	MessagesSent, MessagesReceived           uint64
	UpdatesSent, UpdatesReceived             uint64
	NotificationsSent, NotificationsReceived uint64
	// RoutesReceived is how many routes the peer announces now, all of which are refused.
	RoutesReceived uint64
	// most is the same for the family that has the most; address is the peer's.
	most    uint64
	address netip.Addr
}

// observed is what gobgp has told of one session.
type observed struct {
	state     State
	since     time.Time
	lastError string
	// logged is when gobgp's log last gave a reason.
	logged time.Time
	// offered and extended are the peer's capabilities in its last OPEN: the families, and
	// IPv4 routes with an IPv6 next hop.
	offered  map[family]bool
	extended bool
	asn      uint32
	flaps    uint64
	// rebuffs is how many attempts in a row failed at the OPEN.
	rebuffs int
	// revival is the pause, before it was made random, after Down last took the session down.
	revival time.Duration
	// rest is the same after the session last ended by itself; 0: it had lived for long.
	rest time.Duration
}

// carriage decides what becomes of a family.
func carriage(peer announce.Peer, o observed, f family) Carriage {
	wanted, h := peer.IPv4, hopsOf(peer, o.extended || o.offered == nil).ipv4
	if f == ipv6 {
		wanted, h = peer.IPv6, hopsOf(peer, o.extended).ipv6
	}
	switch {
	case !wanted:
		return NotConfigured
	case o.state == Established && !o.offered[f]:
		return NotNegotiated
	case h.none:
		return NoNextHop
	}
	return Carried
}

// Codes and subcodes of a NOTIFICATION (RFC 4271 section 4.5).
const (
	codeOpen     = 2
	subBadPeerAS = 2
	codeFSM      = 5
	subOpenSent  = 1
	codeCease    = 6
)

// notification says what a NOTIFICATION means: RFC 4271 section 4.5, RFC 5492 section 5, RFC 6608, RFC 4486, RFC 8538, RFC 9384.
func notification(code, subcode int) string {
	names := map[int]struct {
		text string
		subs map[int]string
	}{
		1: {"message header error", map[int]string{1: "connection not synchronized", 2: "bad message length", 3: "bad message type"}},
		codeOpen: {"OPEN message error", map[int]string{
			1: "unsupported version number", subBadPeerAS: "bad peer AS", 3: "bad BGP identifier",
			4: "unsupported optional parameter", 5: "authentication failure", 6: "unacceptable hold time", 7: "unsupported capability", 11: "role mismatch",
		}},
		3: {"UPDATE message error", map[int]string{
			1: "malformed attribute list", 2: "unrecognized well-known attribute",
			3: "missing well-known attribute", 4: "attribute flags error", 5: "attribute length error", 6: "invalid ORIGIN", 7: "AS routing loop",
			8: "invalid NEXT_HOP", 9: "optional attribute error", 10: "invalid network field", 11: "malformed AS_PATH",
		}},
		4: {"hold timer expired", nil},
		codeFSM: {"finite state machine error", map[int]string{
			subOpenSent: "unexpected message in OpenSent", 2: "unexpected message in OpenConfirm",
			3: "unexpected message in Established",
		}},
		codeCease: {"cease", map[int]string{
			1: "maximum number of prefixes reached", 2: "administrative shutdown", 3: "peer de-configured",
			4: "administrative reset", 5: "connection rejected", 6: "other configuration change", 7: "connection collision resolution",
			8: "out of resources", 9: "hard reset", 10: "BFD down",
		}},
		7: {"ROUTE-REFRESH message error", map[int]string{1: "invalid message length"}},
	}
	known, found := names[code]
	switch {
	case !found:
		return fmt.Sprintf("unknown error (%d/%d)", code, subcode)
	case subcode == 0:
		return fmt.Sprintf("%s (%d/%d)", known.text, code, subcode)
	case known.subs[subcode] == "":
		return fmt.Sprintf("%s, unknown subcode (%d/%d)", known.text, code, subcode)
	}
	return fmt.Sprintf("%s: %s (%d/%d)", known.text, known.subs[subcode], code, subcode)
}

// sent says what a NOTIFICATION that we sent means. In OpenSent, gobgp answers whatever is no OPEN with
// the same one, also the NOTIFICATION with which the peer refuses ours.
func sent(code, subcode int) string {
	if code == codeFSM && subcode == subOpenSent {
		return refusedOpen
	}
	return "sent NOTIFICATION: " + notification(code, subcode)
}
