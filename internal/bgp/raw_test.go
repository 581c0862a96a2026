package bgp

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// raw is a router that is a socket: it says what a test has it say, and counts what it hears.
type raw struct {
	t    *testing.T
	peer announce.Peer
	// sessions counts those that were established, updates the UPDATE messages but End-of-RIBs, prefixes the IPv4 prefixes in
	// them, ends the End-of-RIBs.
	sessions, updates, prefixes, ends atomic.Int64
}

// startRaw starts a router with graceful restart for IPv4, on an address of the loopback interface; once a session is
// established, serve has the connection until it returns false.
func startRaw(t *testing.T, peer name.PeerName, address string, serve func(*raw, net.Conn) bool) *raw {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	must(t, err)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	r := &raw{t: t, peer: announce.Peer{
		Name: peer, MyASN: 64512, PeerASN: 64513, Address: at.Addr(), Port: at.Port(), Source: netip.MustParseAddr("127.0.0.1"),
		IPv4: true, Connect: time.Second, GracefulRestart: 30 * time.Second,
	}}
	var group sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			group.Go(func() {
				defer func() { _ = c.Close() }()
				if r.hello(c) == nil {
					r.sessions.Add(1)
					for serve(r, c) {
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return r
}

// hello answers an OPEN.
func (r *raw) hello(c net.Conn) error {
	if kind, _, err := receive(c); err != nil || kind != bgp.BGP_MSG_OPEN {
		return fmt.Errorf("message %d: %w", kind, err)
	}
	capabilities := []bgp.ParameterCapabilityInterface{
		bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapFourOctetASNumber(64513),
		bgp.NewCapGracefulRestart(false, false, 120, []*bgp.CapGracefulRestartTuple{bgp.NewCapGracefulRestartTuple(bgp.RF_IPv4_UC, true)}),
	}
	open, err := bgp.NewBGPOpenMessage(64513, 90, r.peer.Address, []bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(capabilities)})
	if err != nil {
		return err
	}
	if err := send(c, open, bgp.NewBGPKeepAliveMessage()); err != nil {
		return err
	}
	kind, _, err := receive(c)
	if err == nil && kind != bgp.BGP_MSG_KEEPALIVE {
		err = fmt.Errorf("message %d", kind)
	}
	return err
}

// listen takes the next message.
func (r *raw) listen(c net.Conn) bool {
	kind, body, err := receive(c)
	if kind != bgp.BGP_MSG_UPDATE || err != nil {
		return err == nil
	}
	withdrawn := int(binary.BigEndian.Uint16(body))
	attributes := int(binary.BigEndian.Uint16(body[2+withdrawn:]))
	if withdrawn+attributes == 0 {
		r.ends.Add(1)
		return true
	}
	r.updates.Add(1)
	r.prefixes.Add(int64(len(body)-4-withdrawn-attributes) / 5) // host routes
	return true
}

// send sends messages.
func send(c net.Conn, messages ...*bgp.BGPMessage) error {
	for _, m := range messages {
		b, err := m.Serialize()
		if err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// receive returns the next message: its type and body.
func receive(c net.Conn) (kind byte, body []byte, err error) {
	header := make([]byte, bgp.BGP_HEADER_LENGTH)
	if err := c.SetReadDeadline(time.Now().Add(3 * patience)); err != nil {
		return 0, nil, err
	}
	if _, err := io.ReadFull(c, header); err != nil {
		return 0, nil, err
	}
	body = make([]byte, int(binary.BigEndian.Uint16(header[16:]))-len(header))
	_, err = io.ReadFull(c, body)
	return header[18], body, err
}
