package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is a LAN in memory: for tests whose time is virtual, and for faults that a socket
// on loopback does not have.
type network struct {
	mu     sync.Mutex
	hosts  map[netip.Addr]*host
	random *rand.Rand
	// loss is the share of datagrams that get lost, latency how long the others take.
	loss    float64
	latency time.Duration
	// side tells the parts of a network that is cut; hosts of different sides do not meet.
	side map[netip.Addr]int
	// apart names pairs, from and to, that do not reach each other in any way.
	apart map[[2]netip.Addr]bool
	// noStreams names pairs, from and to, whose connections are never answered.
	noStreams map[[2]netip.Addr]bool
}

func newNetwork() *network {
	return &network{
		hosts: map[netip.Addr]*host{}, random: rand.New(rand.NewPCG(1, 2)), latency: 200 * time.Microsecond,
		side: map[netip.Addr]int{}, apart: map[[2]netip.Addr]bool{}, noStreams: map[[2]netip.Addr]bool{},
	}
}

// cut puts hosts on a side of their own; 0 is where all are at first.
func (n *network) cut(side int, hosts ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range hosts {
		n.side[a] = side
	}
}

// part keeps two hosts from reaching each other.
func (n *network) part(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apart[[2]netip.Addr{a, b}], n.apart[[2]netip.Addr{b, a}] = true, true
}

// mute makes connections between two hosts hang, or answers them again.
func (n *network) mute(a, b netip.Addr, mute bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noStreams[[2]netip.Addr{a, b}], n.noStreams[[2]netip.Addr{b, a}] = mute, mute
}

// lossy sets the share of datagrams that get lost.
func (n *network) lossy(loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = loss
}

// reach returns the host at an address, if one can be reached from another.
func (n *network) reach(from, to netip.Addr) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[to]
	if h == nil || h.dead.Load() || n.apart[[2]netip.Addr{from, to}] || n.side[from] != n.side[to] || n.hosts[from] == nil || n.hosts[from].dead.Load() {
		return nil
	}
	return h
}

// crowd counts the living hosts that one hears, beside itself and another.
func (n *network) crowd(from, but netip.Addr) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, h := range n.hosts {
		if a != from && a != but && !h.dead.Load() && n.side[a] == n.side[from] {
			count++
		}
	}
	return count
}

func (n *network) lost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.Float64() < n.loss
}

// ask is the kernel's answer: it comes at once, also from a process that stands still, and the
// lack of one takes three probes of 50 ms.
func (n *network) ask(ctx context.Context, from, to netip.Addr) Answer {
	wait, answer := time.Millisecond, Answer{Asked: true, Neighbor: true, Others: true}
	if n.reach(from, to) == nil {
		wait, answer = 150*time.Millisecond, Answer{Asked: true, Others: n.crowd(from, to) > 0}
	}
	select {
	case <-ctx.Done():
		return Answer{}
	case <-time.After(wait):
		return answer
	}
}

// host is one node in memory: a memberlist.Transport; beats is its socket for heartbeats.
type host struct {
	net     *network
	at      netip.Addr
	packets chan *memberlist.Packet
	streams chan net.Conn
	inbox   chan []byte
	closed  chan struct{}
	once    sync.Once
	dead    atomic.Bool // the node has no power
	held    atomic.Int64
	// bytes and frames count what was sent.
	bytes, frames atomic.Uint64
}

func (n *network) host(at netip.Addr) *host {
	h := &host{
		net: n, at: at, packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 256),
		inbox: make(chan []byte, 4096), closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[at] = h
	return h
}

// open is a Config.open.
func (n *network) open(m *Membership) (ways, error) {
	h := n.host(m.config.BindAddr)
	return ways{transport: h, datagrams: beats{h}, port: m.config.Port + 1}, nil
}

// hold makes the process of a host stand still for a time.
func (h *host) hold(d time.Duration) { h.held.Store(time.Now().Add(d).UnixNano()) }

// standStill waits until the process runs.
func (h *host) standStill() {
	if d := time.Until(time.Unix(0, h.held.Load())); d > 0 {
		time.Sleep(d) // virtual time
	}
}

func (h *host) datagram(b []byte, to netip.Addr, give func(*host)) {
	h.standStill()
	h.bytes.Add(uint64(len(b) + 28)) // IPv4 and UDP headers
	h.frames.Add(1)
	if h.net.lost() {
		return
	}
	time.AfterFunc(h.net.latency, func() {
		if other := h.net.reach(h.at, to); other != nil {
			other.standStill()
			give(other)
		}
	})
}

func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.at.AsSlice(), DefaultPort, nil
}

func (h *host) WriteTo(b []byte, to string) (time.Time, error) {
	a, err := netip.ParseAddrPort(to)
	if err != nil {
		return time.Time{}, err
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.at, DefaultPort))}
	h.datagram(b, a.Addr(), func(other *host) {
		p.Timestamp = time.Now()
		select {
		case other.packets <- p:
		default:
		}
	})
	return time.Now(), nil
}

func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *host) StreamCh() <-chan net.Conn           { return h.streams }

func (h *host) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	h.standStill()
	a, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	other := h.net.reach(h.at, a.Addr())
	h.net.mu.Lock()
	muted, exists := h.net.noStreams[[2]netip.Addr{h.at, a.Addr()}], h.net.hosts[a.Addr()] != nil
	h.net.mu.Unlock()
	switch {
	case !exists && !muted:
		return nil, fmt.Errorf("dial tcp %s: %w", to, syscall.ECONNREFUSED)
	case other == nil || muted:
		select {
		case <-h.closed:
		case <-time.After(timeout):
		}
		return nil, fmt.Errorf("dial tcp %s: %w", to, os.ErrDeadlineExceeded)
	}
	select {
	case <-other.closed:
		return nil, fmt.Errorf("dial tcp %s: %w", to, syscall.ECONNREFUSED)
	default:
	}
	mine, theirs := net.Pipe()
	select {
	case other.streams <- counted{theirs, other}:
		return counted{mine, h}, nil
	default:
		return nil, errors.New("too many connections at once")
	}
}

func (h *host) Shutdown() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// counted counts the bytes of a connection, and whole segments as frames.
type counted struct {
	net.Conn
	by *host
}

func (c counted) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.by.at, DefaultPort))
}

func (c counted) Write(b []byte) (int, error) {
	c.by.bytes.Add(uint64(len(b) + 40))
	c.by.frames.Add(uint64(1 + len(b)/1460))
	return c.Conn.Write(b)
}

// beats is a host's socket for heartbeats.
type beats struct{ *host }

func (b beats) ReadFrom(into []byte) (int, net.Addr, error) {
	select {
	case d := <-b.inbox:
		return copy(into, d), nil, nil
	case <-b.closed:
		return 0, nil, net.ErrClosed
	}
}

func (b beats) WriteTo(d []byte, to net.Addr) (int, error) {
	d = append([]byte(nil), d...)
	b.datagram(d, to.(*net.UDPAddr).AddrPort().Addr().Unmap(), func(other *host) {
		select {
		case other.inbox <- d:
		default:
		}
	})
	return len(d), nil
}

func (b beats) Close() error { return b.Shutdown() }
func (b beats) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.at, DefaultPort+1))
}
func (b beats) SetDeadline(time.Time) error      { return nil }
func (b beats) SetReadDeadline(time.Time) error  { return nil }
func (b beats) SetWriteDeadline(time.Time) error { return nil }
