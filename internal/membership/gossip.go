package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
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

// begin starts to gossip.
func (r *run) begin() error {
	address := r.addresses()[0].String() // as all versions do
	config := memberlist.DefaultLANConfig()
	config.Name = string(r.config.NodeName)
	config.Transport = r.ways
	config.BindAddr, config.BindPort = address, int(r.config.Port)
	config.AdvertiseAddr, config.AdvertisePort = address, int(r.config.Port)
	config.Label, config.Keyring = r.config.Label, r.ring
	config.Events, config.Logger = r.roster, log.New(logWriter{r.config.Log}, "", 0)
	to := &delegate{Membership: r.Membership, roster: r.roster}
	config.Delegate, config.Conflict = to, to
	config.ProbeInterval, config.ProbeTimeout, config.SuspicionMult = probeInterval, probeTimeout, suspicion
	config.GossipInterval, config.TCPTimeout = gossipInterval, streamTimeout
	config.DeadNodeReclaimTime = reclaimAfter
	config.EnableCompression = false
	list, err := memberlist.Create(config)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	r.list = list
	return nil
}

// NotifyConflict takes the address that a living member has now, if it is the one that its
// speaker advertises since it started again. memberlist, whose lock is held, drops the message
// that says it, and takes the next one. Without that it would refuse whatever the member says.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	at, ok := netip.AddrFromSlice(other.Addr)
	first, known := d.routes.first(name.NodeName(other.Name))
	if ok && known && at.Unmap() == first {
		existing.Addr, existing.Port = other.Addr, other.Port
	}
}

// join exchanges with one peer what is known, so that both become members.
func (r *run) join(ctx context.Context, p Peer) outcome {
	before := r.roster.merges()
	_, err := r.list.Join([]string{string(p.Name) + "/" + netip.AddrPortFrom(p.Addresses[0], r.config.Port).String()})
	switch {
	case err == nil && r.roster.merges() > before:
		return exchanged
	case err == nil: // it cannot tell at the moment, or this node does not understand it
		return blocked
	}
	r.config.Log.V(1).Info("cannot join peer", "peer", p.Name, "error", err.Error())
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

// tell sends news to those whom they are for: short ones in a datagram each, which the gossip repeats if
// they are for all, long ones over a connection each. Whom that does not reach gets them with the next
// exchange.
func (r *run) tell(l Letter) {
	message := r.roster.pack(l.News, true)
	to := r.receivers(l)
	short := len(message) <= datagramMax
	if short && l.all {
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

// receivers returns the members that a letter is for.
func (r *run) receivers(l Letter) []*memberlist.Node {
	to := slices.DeleteFunc(r.list.Members(), func(n *memberlist.Node) bool {
		named := name.NodeName(n.Name)
		return named == r.config.NodeName || l.To != "" && named != l.To || slices.Contains(l.Not, named)
	})
	if l.To == "" && !l.all {
		rand.Shuffle(len(to), func(x, y int) { to[x], to[y] = to[y], to[x] })
		to = to[:min(len(to), l.Some)]
	}
	return to
}

// logWriter passes memberlist's lines on.
type logWriter struct{ log logr.Logger }

// Write logs one line.
func (w logWriter) Write(line []byte) (int, error) {
	w.log.V(1).Info("memberlist", "message", strings.TrimSpace(string(line)))
	return len(line), nil
}
