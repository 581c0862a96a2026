package membership

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// sockets are what is open at one address of this node.
type sockets struct {
	// streams and gossip have the port of the gossip, beats the one above.
	streams       net.Listener
	gossip, beats net.PacketConn
	// dial connects from this address.
	dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

func (s sockets) close() {
	_, _, _ = s.streams.Close(), s.gossip.Close(), s.beats.Close()
}

// openSockets opens the sockets at an address.
func openSockets(m *Membership, at netip.Addr) (sockets, error) {
	streams, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, m.config.Port)))
	if err != nil {
		return sockets{}, fmt.Errorf("open gossip socket: %w", err)
	}
	gossip, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, m.config.Port)))
	if err != nil {
		_ = streams.Close()
		return sockets{}, fmt.Errorf("open gossip socket: %w", err)
	}
	_ = gossip.SetReadBuffer(receiveBuffer) // the kernel has a limit of its own
	beats, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, m.config.Port+1)))
	if err != nil {
		_, _ = streams.Close(), gossip.Close()
		return sockets{}, fmt.Errorf("open heartbeat socket: %w", err)
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0))}
	dial := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", to.String())
	}
	return sockets{streams, gossip, beats, dial}, nil
}
