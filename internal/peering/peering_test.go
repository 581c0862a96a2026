package peering

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
)

var near, far = netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("192.0.2.1")

func onLink(router netip.Addr) bool { return router == near }

func TestWhereBFDSessionsGo(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		peer     announce.Peer
		multihop bool
		ttl      uint8
	}{
		"external":                             {announce.Peer{Address: near, MyASN: 1, PeerASN: 2}, false, 254},
		"external, several hops":               {announce.Peer{Address: far, MyASN: 1, PeerASN: 2, MultiHop: true}, true, 254},
		"internal on the link":                 {announce.Peer{Address: near, MyASN: 1, PeerASN: 1}, false, 254},
		"internal further away":                {announce.Peer{Address: far, MyASN: 1, Dynamic: announce.Internal}, true, 254},
		"TTL security of one hop":              {announce.Peer{Address: near, MyASN: 1, PeerASN: 2, TTLSecurity: 1}, false, 254},
		"TTL security of more than BFD allows": {announce.Peer{Address: far, MyASN: 1, PeerASN: 2, TTLSecurity: 5}, true, 251},
	} {
		x.peer.BFD = announce.BFD{Multiplier: 3, MinimumTTL: 254}
		if s := bfdSession(x.peer, onLink, nil); s.MultiHop != x.multihop || s.MinimumTTL != x.ttl {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestABFDSessionThatIsUpStaysOfItsKind(t *testing.T) {
	t.Parallel()
	p := announce.Peer{Address: far, MyASN: 1, PeerASN: 1, BFD: announce.BFD{Multiplier: 3}}
	for _, several := range []bool{false, true} {
		up := map[netip.Addr]bfd.Session{far: {Peer: far, MultiHop: several}}
		if s := bfdSession(p, onLink, up); s.MultiHop != several {
			t.Errorf("up with several hops %v, and then %v", several, s.MultiHop)
		}
	}
	if s := bfdSession(p, onLink, nil); !s.MultiHop {
		t.Error("a router on no link of the node is watched as if it were on one")
	}
	p.PeerASN, p.MultiHop = 2, true
	if s := bfdSession(p, onLink, map[netip.Addr]bfd.Session{far: {Peer: far}}); !s.MultiHop {
		t.Error("what the peer says does not count")
	}
}

func TestHowLongRoutersMayTakeToFindThatASpeakerWasKilled(t *testing.T) {
	t.Parallel()
	timers := announce.BFD{Transmit: 300 * time.Millisecond, Multiplier: 3}
	slow := announce.BFD{Transmit: 10 * time.Second, Multiplier: 3}
	for name, x := range map[string]struct {
		peers []announce.Peer
		want  time.Duration
	}{
		"no peers":                {nil, 0},
		"without BFD":             {[]announce.Peer{{Address: near, GracefulRestart: time.Minute}}, 0},
		"nothing is kept anyway":  {[]announce.Peer{{Address: near, BFD: timers}}, 0},
		"both":                    {[]announce.Peer{{Address: near, GracefulRestart: time.Minute, BFD: timers}}, 900 * time.Millisecond},
		"the slowest of them":     {[]announce.Peer{{Address: near, GracefulRestart: time.Minute, BFD: timers}, {Address: far, GracefulRestart: time.Minute, BFD: slow}}, longestDetection},
		"one that keeps nothing":  {[]announce.Peer{{Address: near, GracefulRestart: time.Minute, BFD: timers}, {Address: far, BFD: slow}}, 900 * time.Millisecond},
		"one without any address": {[]announce.Peer{{Interface: "eth1", GracefulRestart: time.Minute, BFD: timers}}, 900 * time.Millisecond},
	} {
		p := New(Config{BGP: bgp.New(bgp.Config{NodeName: "node"}), BFD: bfd.New(bfd.Config{}), Changed: func() {}})
		p.Set(x.peers, onLink)
		if got := p.Detection(); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

// A router is watched from the first BGP session with it on: before, there is nothing to take down.
func TestBFDBeginsAfterBGP(t *testing.T) {
	t.Parallel()
	watch := bfd.New(bfd.Config{})
	p := New(Config{BGP: bgp.New(bgp.Config{NodeName: "node"}), BFD: watch, Changed: func() {}})
	peer := announce.Peer{Name: "r", Address: near, MyASN: 1, PeerASN: 2, IPv4: true, BFD: announce.BFD{Receive: time.Second, Transmit: time.Second, Multiplier: 3}}
	p.Set([]announce.Peer{peer}, onLink)
	if p.watched[near] {
		t.Error("it is watched before BGP was established")
	}
	p.met = map[netip.Addr]bool{near: true, far: true}
	p.Set([]announce.Peer{peer, {Name: "late", Address: near, BFD: announce.BFD{Multiplier: 5}}}, onLink)
	if !p.watched[near] || len(p.watched) != 1 {
		t.Errorf("watched: %v", p.watched)
	}
	if p.met[far] {
		t.Error("a router that nobody wants any more is remembered")
	}
	peer.BFD = announce.BFD{}
	p.Set([]announce.Peer{peer}, onLink)
	if len(p.watched) != 0 || !p.met[near] {
		t.Errorf("without BFD: watched %v, met %v", p.watched, p.met)
	}
}
