package bgp

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
)

// A peer that answers our OPEN and then says nothing is dialed again, and not for ever waited for.
func TestAPeerThatIsSilentAfterItsOpenIsDialedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.29.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	open, err := bgp.NewBGPOpenMessage(64513, 3, netip.MustParseAddr("127.0.29.1"), nil)
	must(t, err)
	octets, err := open.Serialize()
	must(t, err)
	dials := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dials <- struct{}{}
			_, _ = c.Write(octets)
			_, _ = io.Copy(io.Discard, c) // until we close
			_ = c.Close()
		}
	}()
	good := startRouter(t, "127.0.29.2", 64514, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{{
		Name: "silent", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("127.0.29.1"),
		Port: uint16(l.Addr().(*net.TCPAddr).Port), IPv4: true, Hold: 3 * time.Second, Connect: time.Second,
	}, good.peer("good", 64512)})
	s.Sync()
	<-dials
	eventually(t, "reason", lastError(s), "Idle: "+unconfirmed)
	<-dials
	eventually(t, "states", func() string { return states(s) }, "silent OpenConfirm, good Established")
	if flaps := s.Peers()[1].Flaps; flaps != 0 {
		t.Errorf("the good one: %d flaps", flaps)
	}
}

// What was kept down for a while is as it is afterwards, not as it was.
func TestASessionThatWasLeftAloneIsSeenToComeBack(t *testing.T) {
	t.Parallel()
	r, s := established(t, "127.0.30.1")
	s.hold(r.address, "rebuffed", hold{pause: time.Second})
	eventually(t, "down", lastError(s), "Idle: rebuffed")
	eventually(t, "back", func() string { return states(s) }, "r Established")
}
