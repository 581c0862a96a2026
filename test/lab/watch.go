package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Watcher records who says on the LAN, to a host or to everybody, that it has an address.
// Answers to other hosts do not reach it, as on any switch. It is safe for use by many goroutines.
type Watcher struct {
	sockets []*packetSocket
	wg      sync.WaitGroup

	mu   sync.Mutex
	seen []Sighting
}

// Watch records on eth0 of a host what is said of the addresses, or of any if none is given,
// until Stop.
func (l *Lab) Watch(host string, addresses ...netip.Addr) (*Watcher, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	wanted := map[netip.Addr]bool{}
	types := map[uint16]bool{}
	for _, a := range addresses {
		wanted[a] = true
		types[etherType(a)] = true
	}
	if len(addresses) == 0 {
		types[etherTypeARP], types[etherTypeIPv6] = true, true
	}
	w := &Watcher{}
	for kind := range types {
		s, err := h.packetSocket(kind)
		if err != nil {
			w.Stop()
			return nil, fmt.Errorf("watch on %s: %w", host, err)
		}
		w.sockets = append(w.sockets, s)
		w.wg.Go(func() { w.record(s, wanted) })
	}
	return w, nil
}

func etherType(a netip.Addr) uint16 {
	if a.Is4() {
		return etherTypeARP
	}
	return etherTypeIPv6
}

// record runs until the socket is closed.
func (w *Watcher) record(s *packetSocket, wanted map[netip.Addr]bool) {
	for {
		frame, at, err := s.receive()
		if errors.Is(err, unix.ENETDOWN) {
			continue // said once; the socket works again when the interface does
		}
		if err != nil {
			return // closed
		}
		seen, ok := parseSighting(frame)
		if !ok || len(wanted) > 0 && !wanted[seen.Address] {
			continue
		}
		seen.At = at
		w.mu.Lock()
		w.seen = append(w.seen, seen)
		w.mu.Unlock()
	}
}

// Seen returns what was recorded so far, in the order of arrival in each family.
func (w *Watcher) Seen() []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// Take returns what was recorded since the last Take, and forgets it.
func (w *Watcher) Take() []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// Stop ends the recording and returns all of it that Take did not.
func (w *Watcher) Stop() []Sighting {
	for _, s := range w.sockets {
		s.file.Close()
	}
	w.wg.Wait()
	return w.Seen()
}

// receiveBuffer holds the announcements of ten thousand addresses.
const receiveBuffer = 32 << 20

// packetSocket is a packet socket (packet(7)) on eth0 of a host.
type packetSocket struct {
	file  *os.File
	raw   syscall.RawConn
	index int
	kind  uint16 // its EtherType
}

// packetSocket opens one that passes ARP, or the neighbor advertisements of IPv6.
func (h *Host) packetSocket(etherType uint16) (*packetSocket, error) {
	s := &packetSocket{kind: etherType}
	err := h.ns.do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		protocol := etherType<<8 | etherType>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol))
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		s.file, s.index = os.NewFile(uintptr(fd), "packet"), link.Index
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			setFilter(fd, etherType),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}))
	})
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil && s.file != nil {
		s.file.Close()
	}
	return s, err
}

// setFilter passes neighbor advertisements alone of all IPv6 packets.
func setFilter(fd int, etherType uint16) error {
	if etherType != etherTypeIPv6 {
		return nil
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpAdvertisement, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	filters := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filters[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
}

// receive returns the next frame and when the kernel received it.
func (s *packetSocket) receive() ([]byte, time.Time, error) {
	frame, control := make([]byte, 1600), make([]byte, 64)
	var n, m int
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		for failed = unix.EINTR; failed == unix.EINTR; {
			n, m, _, _, failed = unix.Recvmsg(int(fd), frame, control, 0)
		}
		return failed != unix.EAGAIN
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, time.Time{}, err
	}
	return frame[:n], stampOf(control[:m]), nil
}

// stampOf reads the kernel's time stamp; now if there is none.
func stampOf(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

// send sends a whole frame.
func (s *packetSocket) send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], frame[:6])
	var failed error
	err := s.raw.Write(func(fd uintptr) bool {
		for failed = unix.EINTR; failed == unix.EINTR; {
			failed = unix.Sendto(int(fd), frame, 0, to)
		}
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}
