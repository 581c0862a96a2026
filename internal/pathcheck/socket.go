package pathcheck

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errClosed is what reading says once the socket is closed.
var errClosed = errors.New("closed")

// socket is a socket that does not block the thread that reads it.
type socket struct {
	file *os.File
	raw  syscall.RawConn
}

// openSocket opens a socket whose packets pass a filter.
func openSocket(domain, kind, protocol int, filter []unix.SockFilter) (*socket, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "pathcheck")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &socket{file, raw}, nil
}

// bindAll has a packet socket get the packets of all interfaces and protocols: of no other does it get what leaves
// (packet(7)).
func (s *socket) bindAll() error {
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		failed = unix.Bind(int(fd), &unix.SockaddrLinklayer{Protocol: all})
	})
	return errors.Join(err, failed)
}

// sendTo sends a segment from an address of this node.
func (s *socket) sendTo(segment []byte, source, to netip.Addr) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		if to.Is4() {
			from := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: source.As4()})
			failed = unix.Sendmsg(int(fd), segment, from, &unix.SockaddrInet4{Addr: to.As4()}, unix.MSG_DONTWAIT)
			return
		}
		from := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: source.As16()})
		failed = unix.Sendmsg(int(fd), segment, from, &unix.SockaddrInet6{Addr: to.As16()}, unix.MSG_DONTWAIT)
	})
	return errors.Join(err, failed)
}

// read waits for a packet, and returns its length and sender. It fails with errClosed once the socket is closed.
func (s *socket) read(b []byte) (int, netip.Addr, error) {
	var n int
	var from netip.Addr
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		var sender unix.Sockaddr
		n, sender, failed = unix.Recvfrom(int(fd), b, 0)
		switch a := sender.(type) {
		case *unix.SockaddrInet4:
			from = netip.AddrFrom4(a.Addr)
		case *unix.SockaddrInet6:
			from = netip.AddrFrom16(a.Addr)
		}
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return 0, from, errClosed
	}
	return n, from, failed
}

// readNow is read for a packet that is there already.
func (s *socket) readNow(b []byte) (int, error) {
	var n int
	var failed error
	if err := s.raw.Control(func(fd uintptr) { n, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) }); err != nil {
		return 0, errClosed
	}
	return n, failed
}

func (s *socket) close() error { return s.file.Close() }
