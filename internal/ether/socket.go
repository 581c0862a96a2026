// Package ether reads and writes whole Ethernet frames of one type on one interface, through a
// packet socket with a filter (packet(7)). It never looks into a frame beyond its header, and
// knows no protocol.
package ether

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// writeTimeout bounds how long a frame may wait for room in the interface's queue.
const writeTimeout = 100 * time.Millisecond

// Socket is a packet socket. Make it with Listen. Read and Write may be called at the same
// time from different goroutines.
type Socket struct {
	conn *packet.Conn
	raw  syscall.RawConn
}

// Listen opens a socket on the interface with this index, for the frames of one EtherType (IEEE
// 802.3 clause 3.2.6) that the program passes; it needs CAP_NET_RAW. The caller closes it.
// Reads fail with ENETDOWN once the interface goes down or away, and the socket must then be
// opened anew.
func Listen(index int, etherType uint16, program []bpf.RawInstruction) (*Socket, error) {
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, int(etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &Socket{conn: conn, raw: raw}, nil
}

// Read stores one frame in b and returns its length. It does not ask for the sender's address,
// which the frame holds anyhow: that spares three allocations a frame.
func (s *Socket) Read(b []byte) (int, error) {
	var n int
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		for {
			if n, failed = unix.Read(int(fd), b); failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	})
	if err != nil {
		return 0, err
	}
	if failed != nil {
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

// Close ends a Read that waits.
func (s *Socket) Close() error { return s.conn.Close() }
