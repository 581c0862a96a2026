package bgp

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// defaultHold is the hold time that RFC 4271 section 10 suggests.
	defaultHold = 90 * time.Second
	// defaultConnect is the pause between two attempts to connect; gobgp shortens it by up to a quarter at random. RFC 4271
	// section 10 suggests 120 s, which is long for a router that has just come back.
	defaultConnect = 10 * time.Second
	// idleAfterReset is how long gobgp rests after it sent an administrative reset; its own default is 30 s.
	idleAfterReset = time.Second
	// longestHold is the hold time of a peer that asks for none: gobgp cannot propose 0, and the router's own proposal
	// counts if it is shorter.
	longestHold = 65535 * time.Second
	// multiHopTTL is the TTL towards an eBGP peer that may be any number of hops away, and the one that TTL security sends.
	multiHopTTL = 255
	// deferral is how long, in seconds, routes wait for the End-of-RIB of all peers after a restart (RFC 4724 section 4.1,
	// Selection_Deferral_Timer). We take nothing from peers, so it is the least that gobgp has.
	deferral = 1
	// maxReceived is how many routes of a family a peer may send, all of which are refused but kept by gobgp: they cost memory.
	// gobgp's own limit counts all of them anew with each UPDATE, which can take minutes of CPU time.
	maxReceived = 100_000
)

// sessions is what the peers come to: the sessions to have, keyed by the peer's address as gobgp does,
// and the peers that can have none, with the reason in words.
type sessions struct {
	routerID netip.Addr
	// globalASN is the oldest peer's, 0 without a session.
	globalASN uint32
	wanted    map[netip.Addr]announce.Peer
	refused   map[name.PeerName]string
}

// planSessions decides which peers get a session; peers are sorted, the oldest first. Two peers of
// one address, and router IDs that differ, cannot be had in one BGP speaker: the oldest is right.
func planSessions(peers []announce.Peer, node netip.Addr) sessions {
	plan := sessions{routerID: node, wanted: map[netip.Addr]announce.Peer{}, refused: map[name.PeerName]string{}}
	var decided name.PeerName
	for _, peer := range peers {
		if peer.RouterID.Is4() {
			plan.routerID, decided = peer.RouterID, peer.Name
			break
		}
	}
	for _, peer := range peers {
		peer = normal(peer)
		if why := refusal(peer); why != "" {
			plan.refused[peer.Name] = why
			continue
		}
		if peer.RouterID.IsValid() && peer.RouterID != plan.routerID {
			plan.refused[peer.Name] = fmt.Sprintf("router ID %s differs from %s, which peer %s asks for", peer.RouterID, plan.routerID, decided)
			continue
		}
		if first, taken := plan.wanted[peer.Address]; taken {
			plan.refused[peer.Name] = fmt.Sprintf("peer %s already has a session with %s", first.Name, peer.Address)
			continue
		}
		if plan.globalASN == 0 {
			plan.globalASN = peer.MyASN
		}
		plan.wanted[peer.Address] = peer
	}
	return plan
}

// ownASN is our AS number as the peer sees it.
func ownASN(peer announce.Peer) uint32 {
	if peer.LocalASN != 0 {
		return peer.LocalASN
	}
	return peer.MyASN
}

// refusal says why a peer can have no session; empty: it can.
func refusal(peer announce.Peer) string {
	switch {
	case peer.Interface != "" && !peer.Address.IsValid():
		return "no router has been found on " + peer.Interface + ": it must send router advertisements"
	case !peer.Address.IsValid() || peer.Address.IsUnspecified() || peer.Address.IsMulticast():
		return "no usable peer address"
	case peer.MyASN == 0 || peer.PeerASN == 0 && peer.Dynamic != announce.External:
		return "no AS number"
	case !peer.IPv4 && !peer.IPv6:
		return "no address family"
	case peer.Source.IsValid() && peer.Source.Is4() != peer.Address.Is4():
		return "source address and peer address are of different families"
	case peer.RouterID.IsValid() && !peer.RouterID.Is4():
		return "router ID is not an IPv4 address"
	}
	return ""
}

// normal returns the peer with canonical addresses and its defaults filled in, so that equal sessions
// compare equal.
func normal(peer announce.Peer) announce.Peer {
	for _, addr := range []*netip.Addr{&peer.Address, &peer.Source, &peer.RouterID, &peer.NextHop4, &peer.NextHop6} {
		*addr = addr.Unmap()
	}
	if peer.Port == 0 {
		peer.Port = 179
	}
	switch peer.Hold {
	case 0:
		peer.Hold = defaultHold
	case announce.HoldForever:
		peer.Hold = longestHold
	}
	if peer.Keepalive == 0 {
		peer.Keepalive = peer.Hold / 3
	}
	if peer.Connect == 0 {
		peer.Connect = defaultConnect
	}
	switch peer.Dynamic {
	case announce.Internal:
		peer.PeerASN, peer.Dynamic = ownASN(peer), announce.Fixed
	case announce.External:
		peer.PeerASN = 0
	}
	peer.BFD = announce.BFD{} // not BGP's business
	return peer
}

// sameSession reports whether gobgp need not be told of a change.
func sameSession(a, b announce.Peer) bool {
	for _, peer := range []*announce.Peer{&a, &b} {
		peer.RouterID, peer.NextHop4, peer.NextHop6 = netip.Addr{}, netip.Addr{}, netip.Addr{}
	}
	return a == b
}

// gobgpPeer is the session in gobgp's words. The local AS stands in every one, so that the global one,
// which gobgp needs to start, shows nowhere on the wire. restarting says that the peer may still have routes of before
// this process: its first OPEN then has the R and F bits (RFC 4724 section 3).
func gobgpPeer(peer announce.Peer, restarting bool) *api.Peer {
	p := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: peer.Address.String(),
			PeerAsn:         peer.PeerASN,
			LocalAsn:        ownASN(peer),
			AuthPassword:    peer.Password,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           seconds(peer.Connect),
			HoldTime:               seconds(peer.Hold),
			KeepaliveInterval:      seconds(peer.Keepalive),
			IdleHoldTimeAfterReset: seconds(idleAfterReset),
		}},
		Transport: &api.Transport{RemotePort: uint32(peer.Port)},
	}
	switch {
	case peer.Source.IsValid():
		p.Transport.LocalAddress = peer.Source.String()
	case peer.Address.Is6() && peer.Address.IsLinkLocalUnicast():
		p.Transport.LocalAddress = netip.IPv6Unspecified().String() // else gobgp takes what it finds now for good
	}
	if peer.TTLSecurity > 0 {
		p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: uint32(multiHopTTL + 1 - peer.TTLSecurity)}
	} else if peer.MultiHop && ownASN(peer) != peer.PeerASN {
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: multiHopTTL}
	}
	if peer.GracefulRestart > 0 {
		p.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(seconds(peer.GracefulRestart)), DeferralTime: deferral, LocalRestarting: restarting,
		}
	}
	for f, wanted := range map[family]bool{ipv4: peer.IPv4, ipv6: peer.IPv6} {
		if wanted {
			p.AfiSafis = append(p.AfiSafis, gobgpFamily(f, peer.GracefulRestart > 0))
		}
	}
	return p
}

func gobgpFamily(f family, graceful bool) *api.AfiSafi {
	return &api.AfiSafi{
		Config:            &api.AfiSafiConfig{Family: f.api(), Enabled: true},
		MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
	}
}

// seconds rounds up to whole seconds, which is all that BGP has.
func seconds(d time.Duration) uint64 {
	return uint64((d + time.Second - 1) / time.Second)
}

// hashedID is the router ID of a node without an IPv4 address: a number made of its name, below 224.0.0.0. Quagga, older FRR
// and Juniper refuse addresses of class D and E.
func hashedID(node name.NodeName) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(node))
	sum := h.Sum32()
	return netip.AddrFrom4([4]byte{1 + byte(sum>>24)%223, byte(sum >> 16), byte(sum >> 8), byte(sum)})
}
