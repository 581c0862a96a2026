package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

// Timing of the gossip. Its own verdict, a member that dies without a word, comes after about
// 2 s in a small cluster: heartbeats are faster, and it is what remains when they are blocked.
const (
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 300 * time.Millisecond
	suspicion     = 2
	// gossipInterval spreads news, among them that this node leaves.
	gossipInterval = 100 * time.Millisecond
	// streamTimeout bounds a join, with one lost SYN (resent after 1 s) in it.
	streamTimeout = 2 * time.Second
	// reclaimAfter is when a name of a dead member may return with another address.
	reclaimAfter = time.Second
	// leaveTimeout bounds how long this node waits for its leaving to be told.
	leaveTimeout = 300 * time.Millisecond
	// datagramMax is the length of the longest news that are sent as datagrams.
	datagramMax = 1200
	// tellsAtOnce bounds the connections that news are sent over at the same time.
	tellsAtOnce = 16
)

// openSockets opens the sockets of the gossip and of the heartbeats.
func openSockets(m *Membership) (ways, error) {
	address := m.config.BindAddr.String()
	sockets, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{address}, BindPort: int(m.config.Port), Logger: log.New(logWriter{m.config.Log}, "", 0),
	})
	if err != nil {
		return ways{}, fmt.Errorf("open gossip sockets: %w", err)
	}
	datagrams, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(m.config.BindAddr, m.config.Port+1)))
	if err != nil {
		_ = sockets.Shutdown()
		return ways{}, fmt.Errorf("open heartbeat socket: %w", err)
	}
	return ways{transport: sockets, datagrams: datagrams, port: m.config.Port + 1}, nil
}

// bind opens the ways to the others and starts to listen, trying until ctx ends.
func (r *run) bind() bool {
	for failures := 0; r.ctx.Err() == nil; failures++ {
		err := r.create()
		if err == nil {
			return true
		}
		if failures == 0 {
			r.config.Log.Info("cannot open gossip port, trying again",
				"address", r.config.BindAddr.String(), "port", r.config.Port, "error", err.Error())
		}
		select {
		case <-r.ctx.Done():
		case <-time.After(backoff(failures, rand.Float64())):
		}
	}
	return false
}

func (r *run) create() error {
	to, err := r.config.open(r.Membership)
	if err != nil {
		return err
	}
	address, port := r.config.BindAddr.String(), int(r.config.Port)
	config := memberlist.DefaultLANConfig()
	config.Name = string(r.config.NodeName)
	config.Transport = to.transport
	if sockets, ok := to.transport.(*memberlist.NetTransport); ok {
		config.Transport = &transport{NetTransport: sockets, ctx: r.ctx}
	}
	config.BindAddr, config.BindPort = address, port
	config.AdvertiseAddr, config.AdvertisePort = address, port
	config.Label, config.Keyring = r.config.Label, r.ring
	config.Events, config.Logger = r.roster, log.New(logWriter{r.config.Log}, "", 0)
	config.Delegate = &delegate{Membership: r.Membership, roster: r.roster}
	config.ProbeInterval, config.ProbeTimeout, config.SuspicionMult = probeInterval, probeTimeout, suspicion
	config.GossipInterval, config.TCPTimeout = gossipInterval, streamTimeout
	config.DeadNodeReclaimTime = reclaimAfter
	config.EnableCompression = false
	list, err := memberlist.Create(config)
	if err != nil {
		_, _ = to.transport.Shutdown(), to.datagrams.Close()
		return fmt.Errorf("start gossip: %w", err)
	}
	r.list, r.conn, r.port = list, to.datagrams, to.port
	return nil
}

// join exchanges with one peer what is known, so that both become members.
func (r *run) join(ctx context.Context, p Peer) outcome {
	before := r.roster.merges()
	_, err := r.list.Join([]string{netip.AddrPortFrom(p.Address, r.config.Port).String()})
	switch {
	case err == nil && r.roster.merges() > before:
		return exchanged
	case err == nil: // it cannot tell at the moment, or this node does not understand it
		return blocked
	}
	r.config.Log.V(1).Info("cannot join peer", "peer", p.Address.String(), "error", err.Error())
	if refused(err) {
		return absent
	}
	if a := r.config.Ask(ctx, p.Name); a.Neighbor && !p.Bare || !a.Neighbor && !a.Others {
		return blocked // it lives, or nobody is heard at all
	}
	return absent
}

// refused says whether nobody listens at a peer's port; memberlist hands on only the text.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), syscall.ECONNREFUSED.Error())
}

// pingGossip says whether the gossip reaches a node at this moment.
func (r *run) pingGossip(n name.NodeName) bool {
	a, ok := r.roster.address(n)
	if !ok {
		return false
	}
	_, err := r.list.Ping(string(n), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, r.config.Port)))
	return err == nil
}

// tell sends news to all members: short ones in a datagram each, which the gossip repeats,
// long ones over a connection each. Whom that does not reach gets them with the next exchange.
func (r *run) tell(news []byte) {
	message := r.roster.pack(news, true)
	var to []*memberlist.Node
	for _, n := range r.list.Members() {
		if n.Name != string(r.config.NodeName) {
			to = append(to, n)
		}
	}
	short := len(message) <= datagramMax
	if short {
		r.roster.repeat(message, len(to))
	}
	slots := make(chan struct{}, tellsAtOnce)
	for _, n := range to {
		if short {
			_ = r.list.SendBestEffort(n, message)
			continue
		}
		r.tasks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := r.list.SendReliable(n, message); err != nil {
				r.config.Log.V(1).Info("cannot tell news", "node", n.Name, "error", err.Error())
			}
		})
	}
}

// transport lets the end of ctx interrupt connections to other members, which memberlist's
// own goes on waiting for.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

// DialAddressTimeout connects to a member.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &stream{conn, context.AfterFunc(t.ctx, func() { _ = conn.Close() })}, nil
}

type stream struct {
	net.Conn
	stop func() bool
}

// Close closes the connection.
func (s *stream) Close() error {
	s.stop()
	return s.Conn.Close()
}

// logWriter passes memberlist's lines on.
type logWriter struct{ log logr.Logger }

// Write logs one line.
func (w logWriter) Write(line []byte) (int, error) {
	w.log.V(1).Info("memberlist", "message", strings.TrimSpace(string(line)))
	return len(line), nil
}
