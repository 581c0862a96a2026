package ndp

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// writeTimeout bounds how long a frame may wait for room in the interface's queue.
const writeTimeout = 100 * time.Millisecond

// socket is a packet socket, bound to one interface, that passes neighbor solicitations and
// advertisements alone.
type socket struct {
	conn *packet.Conn
	raw  syscall.RawConn
}

// Listen opens a packet socket on the interface with this index, whether or not it has an
// IPv6 address; it needs CAP_NET_RAW. The caller closes it. Reads fail with ENETDOWN once
// the interface goes down or away, and the socket must then be opened anew. What is sent to
// a solicited-node group arrives only if the group is joined (Groups).
func Listen(index int) (Conn, error) {
	program, err := filter()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, etherTypeIPv6, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &socket{conn: conn, raw: raw}, nil
}

// Read reads without asking for the sender's address, which the frame holds anyhow: that
// spares three allocations a frame.
func (s *socket) Read(b []byte) (int, error) {
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

func (s *socket) Write(frame []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	destination := macAt(frame, offDestination)
	return s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: destination[:]})
}

// Close ends a Read that waits.
func (s *socket) Close() error { return s.conn.Close() }
