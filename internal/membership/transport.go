package membership

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// attemptDelay is how long a connection has before one to another address of the same node
	// is tried beside it (RFC 8305 section 8: at least 100 ms).
	attemptDelay = 100 * time.Millisecond
	// packetSize is more than any datagram has.
	packetSize = 1 << 16
	// receiveBuffer is asked for as the sockets' buffer: many send at the same time.
	receiveBuffer = 2 << 20
	// readAgain is the wait after an error of a socket that stays open.
	readAgain = 10 * time.Millisecond
)

// errNoRoute says that this node has no address of a family of the other's.
var errNoRoute = errors.New("there is no open address of the same family")

// datagram is a packet that arrived, and from where.
type datagram struct {
	octets []byte
	from   netip.Addr
}

// transport is the way to the other nodes, and listens at each address of this one. memberlist
// names the node that it sends to, and the routes say where that is: the address that memberlist
// keeps counts only for nodes that Kubernetes does not name.
type transport struct {
	*Membership
	// ctx interrupts connections to others when it ends.
	ctx     context.Context
	packets chan *memberlist.Packet
	streams chan net.Conn
	beats   chan datagram
	closed  chan struct{}
	once    sync.Once // closes closed
	readers sync.WaitGroup

	mu   sync.Mutex // guards open
	open map[netip.Addr]sockets
}

func newTransport(ctx context.Context, m *Membership) *transport {
	return &transport{
		Membership: m, ctx: ctx, open: map[netip.Addr]sockets{}, closed: make(chan struct{}),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), beats: make(chan datagram, 256),
	}
}

// follow keeps sockets open at the addresses of this node until ctx ends. It calls opened when
// there are new ones; where that fails, it tries again with a backoff.
func (t *transport) follow(opened func()) {
	failing := map[netip.Addr]bool{}
	for failures := 0; ; failures++ {
		more := t.adjust(failing)
		if more {
			opened()
		}
		var again <-chan time.Time
		if len(failing) > 0 {
			again = time.After(backoff(failures, rand.Float64()))
		}
		select {
		case <-t.ctx.Done():
			return
		case <-t.moved:
			failures = -1
		case <-again:
		}
	}
}

// adjust opens the sockets that are missing and closes those of addresses that have gone. It
// notes where that fails, and says whether it opened any.
func (t *transport) adjust(failing map[netip.Addr]bool) (more bool) {
	wanted := t.addresses()
	t.mu.Lock()
	defer t.mu.Unlock()
	for at, s := range t.open {
		if !slices.Contains(wanted, at) {
			s.close()
			delete(t.open, at)
			t.config.Log.Info("closed gossip port", "address", at.String(), "port", t.config.Port)
		}
	}
	for at := range failing {
		if !slices.Contains(wanted, at) {
			delete(failing, at)
		}
	}
	var own []netip.Addr
	for _, at := range wanted {
		if _, is := t.open[at]; !is {
			s, err := t.config.open(t.Membership, at)
			if err != nil {
				if !failing[at] {
					t.config.Log.Info("cannot open gossip port, trying again",
						"address", at.String(), "port", t.config.Port, "error", err.Error())
				}
				failing[at] = true
				continue
			}
			delete(failing, at)
			t.open[at], more = s, true
			t.listen(s)
			t.config.Log.Info("opened gossip port", "address", at.String(), "port", t.config.Port)
		}
		own = append(own, at)
	}
	t.routes.setOwn(own)
	return more
}

// listen starts to read from sockets, until they are closed.
func (t *transport) listen(s sockets) {
	t.readers.Go(func() { t.accept(s.streams) })
	t.readers.Go(func() {
		t.read(s.gossip, func(d datagram) {
			from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.from, t.config.Port))
			select {
			case t.packets <- &memberlist.Packet{Buf: d.octets, From: from, Timestamp: time.Now()}:
			case <-t.closed:
			}
		})
	})
	t.readers.Go(func() {
		t.read(s.beats, func(d datagram) {
			select {
			case t.beats <- d:
			case <-t.closed:
			}
		})
	})
}

func (t *transport) accept(from net.Listener) {
	for {
		conn, err := from.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many files are open
			t.pause()
			continue
		}
		select {
		case t.streams <- conn:
		case <-t.closed:
			_ = conn.Close()
		}
	}
}

// read gives on what arrives, until the socket is closed.
func (t *transport) read(from net.PacketConn, give func(datagram)) {
	b := make([]byte, packetSize)
	for {
		n, sender, err := from.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // the interface is away
			t.pause()
			continue
		}
		if udp, ok := sender.(*net.UDPAddr); ok && n > 0 {
			give(datagram{slices.Clone(b[:n]), udp.AddrPort().Addr().Unmap()})
		}
	}
}

func (t *transport) pause() {
	select {
	case <-t.closed:
	case <-time.After(readAgain):
	}
}

// at returns the sockets at an address of this node.
func (t *transport) at(own netip.Addr) (sockets, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, is := t.open[own]
	return s, is
}

// beat sends a heartbeat or another short packet to a node on the best route, or on all of them,
// the best last: the answer to what arrives last says which of them is used from then on.
func (t *transport) beat(n name.NodeName, said netip.Addr, b []byte, all bool) {
	ways := t.routes.to(n, said)
	if all {
		slices.Reverse(ways)
	}
	for _, way := range ways {
		s, is := t.at(way.from)
		if !is {
			continue
		}
		_, err := s.beats.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(way.to, t.config.Port+1)))
		if err == nil && !all {
			return
		}
	}
}

// WriteToAddress sends a datagram of the gossip on the first route that takes it.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	err := errNoRoute
	for _, way := range t.routes.to(name.NodeName(a.Name), addressOf(a)) {
		s, is := t.at(way.from)
		if !is {
			continue
		}
		if _, err = s.gossip.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(way.to, t.config.Port))); err == nil {
			return time.Now(), nil
		}
	}
	// As an error of a socket it has memberlist ask others for the node.
	return time.Time{}, &net.OpError{Op: "write", Net: "udp", Err: err}
}

// WriteTo sends a datagram to a node that has not said its name.
func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: address})
}

// PacketCh returns the channel of the datagrams that arrive.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the channel of the connections that others make.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// FinalAdvertiseAddr returns the address that memberlist is configured with, in its short form.
func (t *transport) FinalAdvertiseAddr(address string, port int) (net.IP, int, error) {
	a, err := netip.ParseAddr(address)
	return a.AsSlice(), port, err
}

// DialTimeout connects to a node whose name is not known.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout connects to a node, at the address that answers first. memberlist's own
// goes on waiting when this speaker stops.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, to, err := t.dial(ctx, t.routes.to(name.NodeName(a.Name), addressOf(a)))
	if err != nil {
		return nil, err
	}
	if a.Name != "" {
		t.routes.works(name.NodeName(a.Name), to)
	}
	return &stream{conn, context.AfterFunc(t.ctx, func() { _ = conn.Close() })}, nil
}

// dial connects on one of some routes: each is tried when the one before it has failed, or does
// not answer for a moment. "Refused" is the error only if it is that of all.
func (t *transport) dial(ctx context.Context, ways []route) (net.Conn, netip.Addr, error) {
	type result struct {
		conn net.Conn
		to   netip.Addr
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() { // one is enough
		cancel()
		for ; running > 0; running-- {
			if r := <-results; r.err == nil {
				_ = r.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	failed := error(&net.OpError{Op: "dial", Net: "tcp", Err: errNoRoute})
	for begun := 0; begun < len(ways) || running > 0; {
		select {
		case <-next.C:
			if begun == len(ways) {
				continue
			}
			way := ways[begun]
			begun, running = begun+1, running+1
			go func() {
				conn, err := t.connect(ctx, way)
				results <- result{conn, way.to, err}
			}()
			next.Reset(attemptDelay)
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, r.to, nil
			}
			if errors.Is(failed, errNoRoute) || errors.Is(failed, syscall.ECONNREFUSED) {
				failed = r.err
			}
			next.Reset(0)
		}
	}
	return nil, netip.Addr{}, failed
}

func (t *transport) connect(ctx context.Context, way route) (net.Conn, error) {
	s, is := t.at(way.from)
	if !is {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errNoRoute}
	}
	return s.dial(ctx, netip.AddrPortFrom(way.to, t.config.Port))
}

// Shutdown closes all sockets and waits until nobody reads from them. It must not be called while
// follow runs.
func (t *transport) Shutdown() error {
	t.once.Do(func() { close(t.closed) })
	t.mu.Lock()
	for at, s := range t.open {
		s.close()
		delete(t.open, at)
	}
	t.mu.Unlock()
	t.readers.Wait()
	return nil
}

// addressOf returns the address that memberlist gives for a node, which may be invalid.
func addressOf(a memberlist.Address) netip.Addr {
	at, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// stream is a connection that ends with this speaker.
type stream struct {
	net.Conn
	stop func() bool
}

// Close closes the connection.
func (s *stream) Close() error {
	s.stop()
	return s.Conn.Close()
}
