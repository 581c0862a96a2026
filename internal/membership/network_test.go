package membership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// network is a LAN in memory: for tests whose time is virtual, and for faults that a socket
// on loopback does not have.
type network struct {
	mu     sync.Mutex
	hosts  map[netip.Addr]*host // by each of their addresses
	ports  map[netip.Addr]*port // where sockets are open
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
		hosts: map[netip.Addr]*host{}, ports: map[netip.Addr]*port{},
		random: rand.New(rand.NewPCG(1, 2)), latency: 200 * time.Microsecond,
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
	h, asks := n.hosts[to], n.hosts[from]
	switch {
	case n.apart[[2]netip.Addr{from, to}], from.Is4() != to.Is4(), h == nil, asks == nil, n.side[from] != n.side[to], h.dead.Load(), asks.dead.Load():
		return nil
	}
	return h
}

// crowd counts the living addresses that one hears, beside those of its own host and another.
func (n *network) crowd(from, but netip.Addr) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, h := range n.hosts {
		if h != n.hosts[from] && h != n.hosts[but] && !h.dead.Load() && a.Is4() == from.Is4() && n.side[a] == n.side[from] {
			count++
		}
	}
	return count
}

// heard says whether there is anybody but a host.
func (n *network) heard(by netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, h := range n.hosts {
		if h != n.hosts[by] && !h.dead.Load() && n.side[a] == n.side[by] {
			return true
		}
	}
	return false
}

func (n *network) lost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.Float64() < n.loss
}

// ask is the kernel's answer: it comes at once, also from a process that stands still, and the
// lack of one takes three probes of 50 ms.
func (n *network) ask(ctx context.Context, from, to []netip.Addr) Answer {
	wait, answer := 150*time.Millisecond, Answer{}
	for _, a := range from { // whoever sends frames is heard, of whichever family
		answer.Others = answer.Others || n.heard(a)
	}
	for _, way := range choose(from, to, netip.Addr{}) {
		if !answer.Asked {
			answer.Asked, answer.Others = true, false
		}
		answer.Neighbor = answer.Neighbor || n.reach(way.from, way.to) != nil
		answer.Others = answer.Others || answer.Neighbor || n.crowd(way.from, way.to) > 0
	}
	if answer.Neighbor {
		wait = time.Millisecond
	}
	select {
	case <-ctx.Done():
		return Answer{}
	case <-time.After(wait):
		return answer
	}
}

// host is one node in memory.
type host struct {
	dead atomic.Bool // the node has no power
	held atomic.Int64
	// bytes and frames count what was sent.
	bytes, frames atomic.Uint64
}

// host returns a new node with some addresses.
func (n *network) host(at ...netip.Addr) *host {
	h := &host{}
	n.move(h, at...)
	return h
}

// move gives a node some addresses in place of those that it has.
func (n *network) move(h *host, to ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.hosts, func(_ netip.Addr, x *host) bool { return x == h })
	for _, a := range to {
		n.hosts[a] = h
	}
}

// addresses returns those of a node, sorted.
func (n *network) addresses(h *host) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []netip.Addr
	for a, x := range n.hosts {
		if x == h {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// hold makes the process of a host stand still for a time.
func (h *host) hold(d time.Duration) { h.held.Store(time.Now().Add(d).UnixNano()) }

// standStill waits until the process runs.
func (h *host) standStill() {
	if d := time.Until(time.Unix(0, h.held.Load())); d > 0 {
		time.Sleep(d) // virtual time
	}
}

// port is what is open at an address of a host; it is a net.Listener.
type port struct {
	net     *network
	host    *host
	at      netip.Addr
	streams chan net.Conn
	gossip  *socket
	beats   *socket
	closed  chan struct{}
	once    sync.Once
}

// open is a Config.open.
func (n *network) open(_ *Membership, at netip.Addr) (sockets, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[at] == nil {
		return sockets{}, fmt.Errorf("listen at %s: %w", at, syscall.EADDRNOTAVAIL)
	}
	p := &port{net: n, host: n.hosts[at], at: at, streams: make(chan net.Conn, 256), closed: make(chan struct{})}
	p.gossip, p.beats = newSocket(p, DefaultPort), newSocket(p, DefaultPort+1)
	n.ports[at] = p
	return sockets{p, p.gossip, p.beats, p.dial}, nil
}

// listening returns what is open at an address that can be reached from p.
func (p *port) listening(to netip.Addr) *port {
	h := p.net.reach(p.at, to)
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if other := p.net.ports[to]; h != nil && other != nil && other.host == h && p.net.hosts[p.at] == p.host {
		return other
	}
	return nil
}

func (p *port) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	p.host.standStill()
	p.net.mu.Lock()
	muted, exists := p.net.noStreams[[2]netip.Addr{p.at, to.Addr()}], p.net.hosts[to.Addr()] != nil
	p.net.mu.Unlock()
	other := p.listening(to.Addr())
	switch {
	case !exists && !muted, exists && !muted && other == nil && p.net.reach(p.at, to.Addr()) != nil:
		return nil, fmt.Errorf("dial tcp %s: %w", to, syscall.ECONNREFUSED)
	case other == nil || muted:
		<-ctx.Done()
		return nil, fmt.Errorf("dial tcp %s: %w", to, os.ErrDeadlineExceeded)
	}
	mine, theirs := net.Pipe()
	select {
	case other.streams <- counted{theirs, other}:
		return counted{mine, p}, nil
	default:
		return nil, errors.New("too many connections at once")
	}
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.streams:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.at, DefaultPort)) }

func (p *port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		if p.net.ports[p.at] == p {
			delete(p.net.ports, p.at)
		}
	})
	return nil
}

// counted counts the bytes of a connection, and whole segments as frames.
type counted struct {
	net.Conn
	by *port
}

func (c counted) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.by.at, DefaultPort))
}

func (c counted) Write(b []byte) (int, error) {
	c.by.host.bytes.Add(uint64(len(b) + 40))
	c.by.host.frames.Add(uint64(1 + len(b)/1460))
	return c.Conn.Write(b)
}

// socket is a net.PacketConn at a port.
type socket struct {
	*port
	number uint16
	inbox  chan datagram
}

func newSocket(p *port, number uint16) *socket {
	return &socket{port: p, number: number, inbox: make(chan datagram, 4096)}
}

func (s *socket) ReadFrom(into []byte) (int, net.Addr, error) {
	select {
	case d := <-s.inbox:
		return copy(into, d.octets), net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.from, s.number)), nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	s.host.standStill()
	s.host.bytes.Add(uint64(len(b) + 28)) // IPv4 and UDP headers
	s.host.frames.Add(1)
	if s.net.lost() {
		return len(b), nil
	}
	d, at := datagram{slices.Clone(b), s.at}, to.(*net.UDPAddr).AddrPort().Addr().Unmap()
	time.AfterFunc(s.net.latency, func() {
		other := s.listening(at)
		if other == nil {
			return
		}
		other.host.standStill()
		inbox := other.gossip.inbox
		if s.number != DefaultPort {
			inbox = other.beats.inbox
		}
		select {
		case inbox <- d:
		default:
		}
	})
	return len(b), nil
}

func (s *socket) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.at, s.number))
}
func (s *socket) SetDeadline(time.Time) error      { return nil }
func (s *socket) SetReadDeadline(time.Time) error  { return nil }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
