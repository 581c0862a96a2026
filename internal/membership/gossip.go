package membership

import (
	"context"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

// Timing of the gossip. A member that dies without a word is missed after one to two probe
// intervals and suspected for suspicion x log10(members), at least 1, probe intervals: about
// 2 s in all. Half of these times also work on an idle network, but a busy node with two
// cores then misses probes and is taken for dead.
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
)

// bind opens the sockets and starts to listen, trying until ctx ends.
func (m *Membership) bind(ctx context.Context, members *roster) (*memberlist.Memberlist, bool) {
	for failures := 0; ctx.Err() == nil; failures++ {
		list, err := m.create(ctx, members)
		if err == nil {
			return list, true
		}
		if failures == 0 {
			m.config.Log.Info("cannot open gossip port, trying again",
				"address", m.config.BindAddr.String(), "port", m.config.Port, "error", err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff(failures, rand.Float64())):
		}
	}
	return nil, false
}

func (m *Membership) create(ctx context.Context, members *roster) (*memberlist.Memberlist, error) {
	address, port := m.config.BindAddr.String(), int(m.config.Port)
	logger := log.New(logWriter{m.config.Log}, "", 0)
	sockets, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{address}, BindPort: port, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open sockets: %w", err)
	}
	config := memberlist.DefaultLANConfig()
	config.Name = string(m.config.NodeName)
	config.Transport = &transport{NetTransport: sockets, ctx: ctx}
	config.BindAddr, config.BindPort = address, port
	config.AdvertiseAddr, config.AdvertisePort = address, port
	config.Label, config.Keyring = m.config.Label, m.ring
	config.Events, config.Logger = members, logger
	config.ProbeInterval, config.ProbeTimeout, config.SuspicionMult = probeInterval, probeTimeout, suspicion
	config.GossipInterval, config.TCPTimeout = gossipInterval, streamTimeout
	config.DeadNodeReclaimTime = reclaimAfter
	config.EnableCompression = false
	list, err := memberlist.Create(config)
	if err != nil {
		_ = sockets.Shutdown()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return list, nil
}

// roster is told of members by memberlist, under its lock.
type roster struct {
	changed chan<- struct{}

	mu    sync.Mutex
	alive map[name.NodeName]netip.Addr
}

// NotifyJoin notes a member that appears, or appears with another address.
func (r *roster) NotifyJoin(n *memberlist.Node) {
	address, _ := netip.AddrFromSlice(n.Addr)
	r.mu.Lock()
	r.alive[name.NodeName(n.Name)] = address.Unmap()
	r.mu.Unlock()
	wake(r.changed)
}

// NotifyLeave notes a member that has left or is dead.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	delete(r.alive, name.NodeName(n.Name))
	r.mu.Unlock()
	wake(r.changed)
}

// NotifyUpdate does nothing: members carry no data.
func (r *roster) NotifyUpdate(*memberlist.Node) {}

// snapshot returns the members that live, sorted by name, and their addresses.
func (r *roster) snapshot() ([]name.NodeName, map[netip.Addr]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addresses := make(map[netip.Addr]bool, len(r.alive))
	for _, a := range r.alive {
		addresses[a] = true
	}
	return slices.Sorted(maps.Keys(r.alive)), addresses
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
