// Package ether reads and writes whole Ethernet frames on one interface, through a packet socket
// with a filter (packet(7)). It never looks into a frame beyond its header, and knows no protocol.
package ether

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// All is the EtherType that stands for all of them (packet(7)).
const All uint16 = unix.ETH_P_ALL

// writeTimeout bounds how long a frame may wait for room in the interface's queue.
const writeTimeout = 100 * time.Millisecond

// Socket is a packet socket. Make it with Listen. It may be read and written at the same time from
// different goroutines.
type Socket struct {
	conn  *packet.Conn
	raw   syscall.RawConn
	index int
}

// Listen opens a socket on the interface with this index, in the network namespace of the calling thread, for the
// frames of one EtherType (IEEE 802.3 clause 3.2.6) that the program passes; it needs CAP_NET_RAW. The caller closes it.
// It gets no frames of a VLAN that the interface only carries and, unless it is for All, none for other hosts.
// Reads fail with ENETDOWN once the interface goes down or away, and the socket must then be
// opened anew.
func Listen(index int, etherType uint16, program []bpf.RawInstruction) (*Socket, error) {
	program, err := ownNetwork(etherType, program)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, int(etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), conn.Close())
	}
	return &Socket{conn, raw, index}, nil
}

// Read waits for a frame, stores it in b and returns its length. After Stop it fails with
// os.ErrDeadlineExceeded, even if frames are there.
func (s *Socket) Read(b []byte) (int, error) {
	var n int
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		n, failed = receive(fd, b)
		return failed != unix.EAGAIN
	})
	return result(n, err, failed)
}

// ReadNow is Read for the frames that are there already: it does not wait, but fails with EAGAIN.
func (s *Socket) ReadNow(b []byte) (int, error) {
	var n int
	var failed error
	err := s.raw.Control(func(fd uintptr) { n, failed = receive(fd, b) })
	return result(n, err, failed)
}

// receive does not ask for the sender's address, which the frame holds anyhow: that spares three
// allocations a frame.
func receive(fd uintptr, b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func result(n int, err, failed error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, os.NewSyscallError("read", failed)
	}
	return n, nil
}

// Write sends one frame, which begins with the address that it goes to.
func (s *Socket) Write(frame []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
}

// WriteNow is Write that never waits. A frame for which there is no room is lost, as it might be
// anywhere on its way.
func (s *Socket) WriteNow(frame []byte) error {
	to := unix.SockaddrLinklayer{Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], frame[:6])
	to.Protocol = binary.NativeEndian.Uint16(frame[12:14]) // in network byte order
	var failed error
	err := s.raw.Write(func(fd uintptr) bool {
		for {
			if failed = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, &to); failed != unix.EINTR {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return err
	case failed == unix.EAGAIN, failed == unix.ENOBUFS:
		return nil
	case failed != nil:
		return os.NewSyscallError("sendto", failed)
	}
	return nil
}

// Stop makes Read fail, also one that waits.
func (s *Socket) Stop() error { return s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close ends a Read that waits.
func (s *Socket) Close() error { return s.conn.Close() }
