package bfd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

var (
	left  = netip.MustParseAddr("192.0.2.1")
	right = netip.MustParseAddr("192.0.2.2")
)

// wire joins the networks of servers, by address.
type wire struct {
	mu    sync.Mutex
	ends  map[netip.Addr]*end
	loss  float64
	cut   bool
	heard map[netip.Addr][]Packet // by sender
	ttl   uint8
}

func newWire() *wire {
	return &wire{ends: map[netip.Addr]*end{}, heard: map[netip.Addr][]Packet{}, ttl: 255}
}

// end is the network of one server.
type end struct {
	*wire
	self  netip.Addr
	inbox chan datagram
	gone  chan struct{}
	once  sync.Once
}

func (w *wire) end(self netip.Addr) *end {
	e := &end{wire: w, self: self, inbox: make(chan datagram, 1000), gone: make(chan struct{})}
	w.set(func(w *wire) { w.ends[self] = e })
	return e
}

func (e *end) dial(s Session) (sender, error) { return &cable{e, s}, nil }
func (e *end) listen(kind) (receiver, error)  { return e, nil }
func (e *end) Close() error                   { e.once.Do(func() { close(e.gone) }); return nil }
func (e *end) read(d *datagram) error {
	select {
	case *d = <-e.inbox:
		return nil
	case <-e.gone:
		return os.ErrClosed
	}
}

type cable struct {
	*end
	session Session
}

func (c *cable) Close() error { return nil }

func (c *cable) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := Parse(b)
	if err != nil {
		panic(err)
	}
	c.heard[c.self] = append(c.heard[c.self], p)
	to := c.ends[c.session.Peer]
	if to == nil || c.cut || rand.Float64() < c.loss {
		return len(b), nil
	}
	d := datagram{from: c.self, ttl: c.ttl, length: len(b), multihop: c.session.MultiHop}
	copy(d.data[:], b)
	select {
	case to.inbox <- d:
	default:
	}
	return len(b), nil
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// last is the last packet that somebody sent.
func (w *wire) last(from netip.Addr) Packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard[from]) == 0 {
		return Packet{}
	}
	return w.heard[from][len(w.heard[from])-1]
}

// said are all packets that somebody has sent.
func (w *wire) said(from netip.Addr) []Packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.heard[from])
}

// party is a server and what it has told of its sessions.
type party struct {
	*Server
	stop context.CancelFunc
	done chan error
	mu   sync.Mutex
	all  []Transition
}

func (w *wire) party(t *testing.T, self netip.Addr, s Session) *party {
	t.Helper()
	return newParty(t, w.end(self), s)
}

func newParty(t *testing.T, open network, sessions ...Session) *party {
	t.Helper()
	p := &party{Server: New(Config{open: open}), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	p.Set(sessions)
	go func() { p.done <- p.Run(ctx) }()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case x := <-p.Transitions():
				p.mu.Lock()
				p.all = append(p.all, x)
				p.mu.Unlock()
			}
		}
	}()
	return p
}

func (p *party) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

// downs are the routers whose sessions left Up, in order, each as often as that happened.
func (p *party) downs() []netip.Addr {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var routers []netip.Addr
	for _, x := range p.all {
		if x.From == Up {
			routers = append(routers, x.Peer)
		}
	}
	return routers
}

func (p *party) story() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var words []string
	for _, x := range p.all {
		word := fmt.Sprintf("%s>%s", x.From, x.To)
		if x.RemoteAdminDown {
			word += "(admin)"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (p *party) state() Status { synctest.Wait(); return p.Sessions()[0] }

func to(peer netip.Addr) Session {
	return Session{Peer: peer, Receive: 100 * ms, Transmit: 100 * ms, Multiplier: 3}
}

func pair(t *testing.T, f func(w *wire, a, b *party)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		a, b := w.party(t, left, to(right)), w.party(t, right, to(left))
		defer a.end(t)
		defer b.end(t)
		time.Sleep(5 * time.Second)
		if a, b := a.state(), b.state(); a.State != Up || b.State != Up {
			t.Fatalf("after 5 s: %s and %s", a.State, b.State)
		}
		f(w, a, b)
	})
}
