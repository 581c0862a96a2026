package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// singleHopPort is that of RFC 5881 section 4, multiHopPort that of RFC 5883 section 5.
	singleHopPort = 3784
	multiHopPort  = 4784
	// firstSource and lastSource bound source ports (RFC 5881 section 4).
	firstSource = 49152
	lastSource  = 65535
	// sourceTries is how many source ports are tried.
	sourceTries = 32
	// ttl is that of all packets (RFC 5881 section 5).
	ttl = 255
	// trafficClass is CS6, network control (RFC 4594), as routers send BFD.
	trafficClass = 0xc0
)

// udp is the network.
type udp struct{}

func (k kind) port() uint16 {
	if k.multihop {
		return multiHopPort
	}
	return singleHopPort
}

// dial opens a socket with a source port of its own.
func (udp) dial(s Session) (sender, error) {
	k := kindOf(s)
	option := func(fd int) error {
		if k.ipv6 {
			return errors.Join(
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass))
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, trafficClass))
	}
	local := s.Local
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if k.ipv6 {
			local = netip.IPv6Unspecified()
		}
	}
	if local.IsLinkLocalUnicast() && local.Is6() {
		local = local.WithZone(s.Peer.Zone())
	}
	var failed error
	for range sourceTries {
		port := uint16(firstSource + rand.IntN(lastSource-firstSource+1))
		d := net.Dialer{
			LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, port)),
			Control:   control(option),
		}
		c, err := d.Dial("udp", netip.AddrPortFrom(s.Peer, k.port()).String())
		if err == nil {
			return c, nil
		}
		failed = err
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("open BFD socket: %w", failed)
}

// listen opens the socket that all packets of a kind come to.
func (udp) listen(k kind) (receiver, error) {
	address, options := "0.0.0.0", func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	proto := "udp4"
	if k.ipv6 {
		proto, address = "udp6", "::"
		options = func(fd int) error {
			return errors.Join(
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
	}
	lc := net.ListenConfig{Control: control(options)}
	c, err := lc.ListenPacket(context.Background(), proto, net.JoinHostPort(address, fmt.Sprint(k.port())))
	if err != nil {
		return nil, fmt.Errorf("listen for BFD: %w", err)
	}
	return &socket{conn: c.(*net.UDPConn)}, nil
}

func control(option func(fd int) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = option(int(fd)) })
		return errors.Join(err, failed)
	}
}

// socket is a listening socket.
type socket struct {
	conn *net.UDPConn
	oob  [128]byte
}

// Close implements io.Closer.
func (s *socket) Close() error { return s.conn.Close() }

// read waits for a packet. One whose TTL the kernel does not tell has the TTL 0.
func (s *socket) read(d *datagram) error {
	n, oobn, _, from, err := s.conn.ReadMsgUDPAddrPort(d.data[:], s.oob[:])
	if err != nil {
		return fmt.Errorf("read BFD packet: %w", err)
	}
	d.length, d.from, d.ttl = n, from.Addr().Unmap(), 0
	messages, err := unix.ParseSocketControlMessage(s.oob[:oobn])
	if err != nil {
		return nil // no TTL: it is rejected
	}
	for _, m := range messages {
		hops := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT
		if hops && len(m.Data) >= 4 {
			d.ttl = uint8(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return nil
}
