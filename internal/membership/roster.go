package membership

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

// event is something that the gossip says of a member.
type event struct {
	node        name.NodeName
	alive, left bool
}

// roster takes what memberlist says, under its lock, for the goroutine of Run.
type roster struct {
	changed chan struct{}

	mu      sync.Mutex
	alive   map[name.NodeName]netip.Addr
	events  []event
	queue   memberlist.TransmitLimitedQueue
	members atomic.Int64
	// merged counts exchanges, joined says that one was with a member that had joined before.
	merged int
	joined bool
	// own says that this node has joined before.
	own bool
}

func newRoster() *roster {
	r := &roster{changed: make(chan struct{}, 1), alive: map[name.NodeName]netip.Addr{}}
	r.queue.NumNodes = func() int { return max(int(r.members.Load()), 1) }
	r.queue.RetransmitMult = 3
	return r
}

func (r *roster) note(n *memberlist.Node, alive bool) {
	address, _ := netip.AddrFromSlice(n.Addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	if alive {
		r.alive[name.NodeName(n.Name)] = address.Unmap()
	} else {
		delete(r.alive, name.NodeName(n.Name))
	}
	r.events = append(r.events, event{name.NodeName(n.Name), alive, n.State == memberlist.StateLeft})
	wake(r.changed)
}

// NotifyJoin notes a member that appears, or appears with another address.
func (r *roster) NotifyJoin(n *memberlist.Node) { r.note(n, true) }

// NotifyLeave notes a member that has left or is dead.
func (r *roster) NotifyLeave(n *memberlist.Node) { r.note(n, false) }

// NotifyUpdate notes that a member's keys are others.
func (r *roster) NotifyUpdate(*memberlist.Node) { wake(r.changed) }

// take returns the events since the last call.
func (r *roster) take() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// names returns those of the members that live.
func (r *roster) names() map[name.NodeName]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := make(map[name.NodeName]bool, len(r.alive))
	for n := range r.alive {
		set[n] = true
	}
	return set
}

// address returns what the gossip says of where a member is.
func (r *roster) address(n name.NodeName) (netip.Addr, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.alive[n]
	return a, ok
}

func (r *roster) merges() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.merged
}

// forget makes met false until news are exchanged again.
func (r *roster) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = false
}

// met says whether news were exchanged with a member that had joined before.
func (r *roster) met() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joined
}

// setOwn notes whether this node has joined before.
func (r *roster) setOwn(joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = joined
}

// pack puts in front of news who tells them; tells says that they are what this node knows.
func (r *roster) pack(news []byte, tells bool) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := ignorant
	switch {
	case r.own && tells:
		who = knowing
	case r.own:
		who = dumb
	}
	return append([]byte{who}, news...)
}

// repeat has the gossip repeat a message.
func (r *roster) repeat(message []byte, members int) {
	r.members.Store(int64(members))
	r.queue.QueueBroadcast(broadcast(message))
}

// broadcast is a message in the queue of the gossip.
type broadcast []byte

// Invalidates says that no message replaces another.
func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message returns the message.
func (b broadcast) Message() []byte { return b }

// Finished does nothing.
func (b broadcast) Finished() {}

// What stands in front of news says who tells them.
const (
	// ignorant: it has not joined yet. knowing: it has. dumb: it has, but cannot tell its news.
	ignorant byte = iota
	knowing
	dumb
)

// delegate is what memberlist calls to exchange news.
type delegate struct {
	*Membership
	roster *roster
}

// NodeMeta returns which keys this node has and uses.
func (d *delegate) NodeMeta(int) []byte { return d.ringMeta() }

// NotifyMsg takes news that were sent or gossiped.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) > 1 {
		_ = d.config.Hear(append([]byte(nil), b[1:]...))
	}
}

// GetBroadcasts returns news to repeat.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.roster.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns all news, for a member that asks.
func (d *delegate) LocalState(bool) []byte {
	return d.roster.pack(d.config.News())
}

// MergeRemoteState takes all news of another member.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if len(b) == 0 {
		return
	}
	understood := len(b) == 1 || d.config.Hear(append([]byte(nil), b[1:]...))
	d.roster.mu.Lock()
	defer d.roster.mu.Unlock()
	if who := b[0]; understood && who != dumb {
		d.roster.merged++
		d.roster.joined = d.roster.joined || who == knowing
	}
	wake(d.roster.changed)
}
