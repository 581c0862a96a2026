package neighbor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writeTimeout bounds how long a packet may wait for room in the interface's queue.
const writeTimeout = 100 * time.Millisecond

// The groups of RFC 4291 section 2.7.1.
var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// state is how an interface is.
type state struct {
	index int
	up    bool // and with carrier
	mac   []byte
	// own are its link-local addresses.
	own []netip.Addr
}

// packet is one that arrived. A hop limit that the kernel does not tell is 0.
type packet struct {
	from    netip.Addr // without a zone
	hops    int
	message message
}

// network is what a Finder needs of the kernel.
type network interface {
	// look tells how the interface of this name is.
	look(name string) (state, error)
	// open opens a socket for the interface with this index.
	open(index int) (socket, error)
}

// socket sends and receives on one interface. Close makes a read that waits return.
type socket interface {
	read() (packet, error)
	// write sends to a group.
	write(b []byte, group netip.Addr) error
	Close() error
}

// kernel is the network.
type kernel struct{}

func (kernel) look(name string) (state, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return state{}, fmt.Errorf("find interface: %w", err)
	}
	s := state{index: i.Index, up: i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning != 0, mac: i.HardwareAddr}
	addresses, err := i.Addrs()
	if err != nil {
		return state{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if x, ok := netip.AddrFromSlice(n.IP); ok && x.Is6() && x.IsLinkLocalUnicast() {
				s.own = append(s.own, x)
			}
		}
	}
	return s, nil
}

func (kernel) open(index int) (socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = options6(int(fd), index) })
		return errors.Join(err, failed)
	}}
	c, err := lc.ListenPacket(context.Background(), "ip6:58", "::")
	if err != nil {
		return nil, fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	return &icmp{conn: c.(*net.IPConn), index: index}, nil
}

// options6 binds a socket to an interface, joins the group of all routers there, and lets solicitations and
// advertisements through alone.
func options6(fd, index int) error {
	filter := unix.ICMPv6Filter{}
	for i := range filter.Data {
		filter.Data[i] = 1<<32 - 1 // a bit that is set blocks (RFC 3542 section 3.2)
	}
	for _, t := range []int{typeSolicitation, typeAdvertisement} {
		filter.Data[t/32] &^= 1 << (t % 32)
	}
	group := unix.IPv6Mreq{Multiaddr: allRouters.As16(), Interface: uint32(index)}
	err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hopLimit},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
	} {
		err = errors.Join(err, unix.SetsockoptInt(fd, o.level, o.option, o.value))
	}
	return errors.Join(err, unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &group))
}

// icmp is a raw ICMPv6 socket. The kernel writes and verifies the checksums (RFC 3542 section 3.1), and
// sends to a link-local group from a link-local address (RFC 6724 section 5).
type icmp struct {
	conn   *net.IPConn
	index  int
	buffer [2048]byte
	oob    [128]byte
}

// Close implements io.Closer.
func (s *icmp) Close() error { return s.conn.Close() }

func (s *icmp) write(b []byte, group netip.Addr) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send packet: %w", err)
	}
	if _, err := s.conn.WriteTo(b, &net.IPAddr{IP: group.AsSlice()}); err != nil {
		return fmt.Errorf("send packet: %w", err)
	}
	return nil
}

func (s *icmp) read() (packet, error) {
	n, oobn, _, from, err := s.conn.ReadMsgIP(s.buffer[:], s.oob[:])
	if err != nil {
		return packet{}, fmt.Errorf("read packet: %w", err)
	}
	// The net package has just looked up the name of the sender's zone. When the interface was made anew, that also ends
	// its belief, kept for up to a minute, in the old index of the name, so that whoever dials the router reaches it.
	p := packet{}
	p.from, _ = netip.AddrFromSlice(from.IP)
	messages, err := unix.ParseSocketControlMessage(s.oob[:oobn])
	if err != nil {
		return p, nil // no hop limit: it is of no interest
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			p.hops = int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	p.message = classify(p.from, p.hops, s.buffer[:n])
	return p, nil
}
