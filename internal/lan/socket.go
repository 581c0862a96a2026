package lan

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

// socket is a packet socket, bound to one interface, that sees what a filter passes of all that
// comes in.
type socket struct {
	conn  *packet.Conn
	raw   syscall.RawConn
	index int
}

// listen opens a socket in the network namespace of the calling thread; the caller closes it.
func listen(index int, filter []bpf.Instruction) (*socket, error) {
	program, err := assemble(incoming(), filter)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), conn.Close())
	}
	return &socket{conn, raw, index}, nil
}

// read waits for a frame, stores it in b and returns its length. After stop it fails with
// os.ErrDeadlineExceeded, even if frames are there.
func (s *socket) read(b []byte) (int, error) {
	var n int
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		n, failed = receive(fd, b)
		return failed != unix.EAGAIN
	})
	return result(n, err, failed)
}

// rest is read for the frames that are there already: it does not wait, but fails with EAGAIN.
func (s *socket) rest(b []byte) (int, error) {
	var n int
	var failed error
	err := s.raw.Control(func(fd uintptr) { n, failed = receive(fd, b) })
	return result(n, err, failed)
}

// receive reads without asking for the sender's address, which the frame holds anyhow.
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

// send sends a frame, and never waits. A frame for which there is no room is lost, as it might be
// anywhere on its way.
func (s *socket) send(frame []byte) error {
	to := unix.SockaddrLinklayer{Ifindex: s.index, Halen: 6}
	to.Protocol = binary.NativeEndian.Uint16(frame[offEtherType:]) // in network byte order
	copy(to.Addr[:], frame[offDestination:offSource])
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

// stop makes read fail, also one that waits.
func (s *socket) stop() error { return s.conn.SetReadDeadline(time.Unix(1, 0)) }

func (s *socket) close() error { return s.conn.Close() }
