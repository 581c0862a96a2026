package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/ballast-lb/ballast/internal/announce"
)

// holdTime is what the router has agreed on with its peer.
func (r *router) holdTime() string {
	var hold uint64
	_ = r.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) { hold = p.Timers.State.NegotiatedHoldTime })
	return fmt.Sprint(hold)
}

func TestAnotherHoldTimeIsAgreedOnAnew(t *testing.T) {
	t.Parallel()
	r, other := startRouter(t, "127.0.31.1", 64513, 64512), startRouter(t, "127.0.31.2", 64514, 64512)
	s := start(t)
	peers := []announce.Peer{r.peer("r", 64512), other.peer("other", 64512)}
	s.SetPeers(peers)
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r", "other")})
	s.Sync()
	eventually(t, "start", func() string { return states(s) }, "r Established, other Established")
	eventually(t, "hold time", r.holdTime, "90")
	peers[0].Hold = 12 * time.Second
	s.SetPeers(peers)
	eventually(t, "shorter hold time", r.holdTime, "12")
	eventually(t, "routes", r.routes, "192.0.2.1/32 via 127.0.0.1 path [64512]")
	if p := s.Peers()[1]; p.State != Established || p.Flaps != 0 {
		t.Errorf("the other session: %+v", p)
	}
}

func TestAnotherConnectTimeIsInEffectAtOnce(t *testing.T) {
	t.Parallel()
	peer := announce.Peer{Name: "r", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("127.0.32.1"), Port: freePort(t, "127.0.32.1"), IPv4: true, Connect: time.Hour}
	s := start(t)
	s.SetPeers([]announce.Peer{peer})
	s.Sync()
	eventually(t, "first attempt", lastError(s), "Active: connect: connection refused")
	l, err := net.Listen("tcp", net.JoinHostPort(peer.Address.String(), fmt.Sprint(peer.Port)))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	peer.Connect = time.Second
	s.SetPeers([]announce.Peer{peer})
	must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	c, err := l.Accept()
	must(t, err)
	_ = c.Close()
}

// A path that loses packets has BFD up and down, and would have the routers move their traffic each time.
func TestBFDThatIsUpEndsOnlyTheFirstPauses(t *testing.T) {
	t.Parallel()
	r, s := established(t, "127.0.33.1")
	for _, x := range []struct {
		before time.Duration
		kept   bool
	}{{0, false}, {firstRevival, false}, {hastyRevival, true}} {
		eventually(t, "start", func() string { return states(s) }, "r Established")
		s.mu.Lock()
		o := s.observed[r.address]
		o.revival = x.before
		s.observed[r.address] = o
		s.mu.Unlock()
		s.Down(r.address, "BFD session down")
		eventually(t, "down", lastError(s), "Idle: BFD session down")
		s.Up(r.address)
		s.mu.Lock()
		kept := time.Until(s.held[r.address].until) > 0
		s.mu.Unlock()
		if kept != x.kept {
			t.Errorf("after a pause of %s: kept down %v, want %v", x.before, kept, x.kept)
		}
	}
}

func TestTheReasonOfALostSessionIsTheLogs(t *testing.T) {
	t.Parallel()
	const expired = "sent NOTIFICATION: hold timer expired (4/0)"
	peer := announce.Peer{Name: "r", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("127.0.34.1"), IPv4: true, GracefulRestart: 30 * time.Second}
	for _, x := range []struct{ logged, want string }{{expired, expired}, {"", connectionLost}} {
		s := New(Config{NodeName: "node"})
		s.SetPeers([]announce.Peer{peer})
		s.failed(peer.Address, "connect: no route to host") // before the session came up
		s.observe(event{peer: peer.Address, state: Established, at: time.Now()})
		if x.logged != "" {
			s.failed(peer.Address, x.logged)
		}
		s.observe(event{peer: peer.Address, state: Idle, at: time.Now(), err: connectionLost})
		if got := s.Peers()[0].LastError; got != x.want {
			t.Errorf("the log says %q: got %q, want %q", x.logged, got, x.want)
		}
	}
}
