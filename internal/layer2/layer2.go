// Package layer2 makes this node the one that a local network finds behind an address: it
// answers ARP (RFC 826) and neighbor solicitations (RFC 4861) on the interfaces it is told, and
// announces what it takes over (RFC 5227 section 2.3, RFC 4861 section 7.2.6). Before an
// address is answered for the first time ever, it finds out whether another host has it (RFC
// 5227 section 2.1, RFC 4862 section 5.4), and it reports, and defends the address, if one
// shows later (RFC 5227 section 2.4); an owner also asks for that from time to time. It follows
// interfaces as they come, go and change.
//
// It never decides what to announce or where, never puts an address on an interface, never
// gives up an address by itself, and resolves none.
package layer2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/ndp"
)

// Config is what an Announcer needs to know at its start.
type Config struct {
	// Open opens the ARP socket of the interface with this index; nil means arp.Listen.
	Open func(index int) (arp.Conn, error)
	// OpenNDP opens its NDP socket; nil means ndp.Listen.
	OpenNDP func(index int) (ndp.Conn, error)
	// Groups makes what joins its multicast groups; nil means ndp.NewGroups.
	Groups func(index int) Groups
	// Fresh says whether it is known of this very moment that the node is in touch with its
	// fellows: one of them answered a ping begun within the last second, or there is none. While it
	// is false, nothing is sent but answers; what is due waits. A process that stood still may hold
	// for its own what others own by now. Nil means always. It is called from the goroutine of Run,
	// once a step at most and after what the step was told has been done, and must not wait.
	Fresh func() bool
	Log   logr.Logger
}

// Announcer answers for and announces addresses. Make it with New. Its methods may be called
// from any goroutine, before and during Run; they do not wait for sockets or for Run, which
// does what they ask for at once and in the order of the calls.
type Announcer struct {
	config    Config
	wake      chan struct{}
	conflicts chan []Conflict
	published atomic.Pointer[[]published]

	mu    sync.Mutex // guards inbox
	inbox []func(*state, time.Time)
}

// place is an address on an interface.
type place struct {
	link    string
	address netip.Addr
}

func (p place) compare(o place) int {
	return cmp.Or(p.address.Compare(o.address), strings.Compare(p.link, o.link))
}

// part is what a service wants this node to do about an address on an interface.
type part struct {
	place place
	role  role
}

// compare orders parts by place, and those of one place so that the first prevails.
func (p part) compare(o part) int {
	if c := p.place.compare(o.place); c != 0 {
		return c
	}
	return p.role.compare(o.role)
}

// New returns an Announcer that announces nothing.
func New(config Config) *Announcer {
	if config.Open == nil {
		config.Open = arp.Listen
	}
	if config.OpenNDP == nil {
		config.OpenNDP = ndp.Listen
	}
	if config.Groups == nil {
		config.Groups = func(index int) Groups { return ndp.NewGroups(index) }
	}
	if config.Fresh == nil {
		config.Fresh = func() bool { return true }
	}
	return &Announcer{config: config, wake: make(chan struct{}, 1), conflicts: make(chan []Conflict, 1)}
}

// Set makes addresses the ones that this node announces, or answers for as a deputy, for
// service, in place of those set before; setting the same again changes nothing. Addresses
// that services share are kept until the last of them lets go; if they differ, an owner prevails
// over a deputy, and an address is First, or Yields, only if all say so. An address that is answered for is
// not probed any more, whatever First says. The slice is not kept.
func (a *Announcer) Set(service name.ServiceKey, addresses []announce.Layer2) {
	var parts []part
	for _, l := range addresses {
		if !l.Address.IsValid() {
			continue
		}
		address := l.Address.Unmap().WithZone("")
		for _, i := range l.Interfaces {
			parts = append(parts, part{place{i, address}, role{l.For, l.First, l.Yields}})
		}
	}
	slices.SortFunc(parts, part.compare)
	parts = slices.CompactFunc(parts, func(x, y part) bool { return x.place == y.place })
	a.post(func(s *state, now time.Time) { s.set(service, parts, now) })
}

// Remove ends what service announces; nothing is answered for it any more, unless another
// service shares the address. Removing what is not set changes nothing.
func (a *Announcer) Remove(service name.ServiceKey) { a.Set(service, nil) }

// Reannounce begins the announcements of a takeover anew, for the addresses of service that this
// node owns. It is for one that has won against a live rival: whoever has heard that one last is
// led back here. An address that is not answered yet because a fellow node has it is taken at once.
// For others that are not answered, or by a deputy, it changes nothing.
func (a *Announcer) Reannounce(service name.ServiceKey) {
	a.post(func(s *state, now time.Time) { s.renew(service, now) })
}

// SetLinks tells which interfaces there are. An interface that comes, returns, or returns
// with another index or hardware address is served, and the addresses that this node owns are
// announced anew; one that goes away or down is left.
func (a *Announcer) SetLinks(links link.Snapshot) {
	a.post(func(s *state, now time.Time) { s.setLinks(links, now) })
}

// SetRefreshInterval sets how often each address is announced again, so that switches that
// have forgotten the way learn it, and checked for another host that answers for it. It is
// DefaultRefreshInterval at first; 0 is never: the address is then checked once, 4 s after the
// takeover.
func (a *Announcer) SetRefreshInterval(interval time.Duration) {
	a.post(func(s *state, now time.Time) { s.setRefresh(interval, now) })
}

// SetConflictDetection says how another host that has an address is looked for before the
// address is answered for the first time. With any mode but Off, an owner also checks, 4 s after
// the takeover and with each refresh, whether another host answers, too. With Off, addresses that wait for that, or for another
// host to give them up, are answered at once. An unknown mode is Fast.
func (a *Announcer) SetConflictDetection(mode Detection) {
	a.post(func(s *state, now time.Time) { s.setDetection(mode, now) })
}

// SetApart tells which fellow nodes are not heard, so that between them and this node claims do not
// decide who owns, and whether one of them may own what this node does. If so, the network is asked who
// else answers for what this node owns: all addresses soon, and again whenever other nodes are not
// heard, and then each every second, or 20 a second in all if there are more, fewer in a large cluster. Who is found is asked each second whether it goes on. Initially all
// are heard. The slice is not kept.
func (a *Announcer) SetApart(apart bool, unheard []name.NodeName) {
	set := make(map[name.NodeName]bool, len(unheard))
	for _, n := range unheard {
		set[n] = true
	}
	a.post(func(s *state, now time.Time) { s.setApart(apart, set, now) })
}

// Run answers and announces until ctx ends, then closes every socket and returns nil. Call it
// once.
func (a *Announcer) Run(ctx context.Context) error {
	s := newState(a)
	defer s.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-timer.C:
		}
		timer.Reset(a.advance(s, time.Now()))
		a.published.Store(s.publish())
	}
}

// advance does what has been asked for, then what is due, and returns how long there is nothing
// more to do. So what is due follows from all that is known, also if both come at the same moment.
func (a *Announcer) advance(s *state, now time.Time) time.Duration {
	for _, change := range a.take() {
		change(s, now)
	}
	return s.step(now)
}

// post leaves change for the goroutine of Run.
func (a *Announcer) post(change func(*state, time.Time)) {
	a.mu.Lock()
	a.inbox = append(a.inbox, change)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *Announcer) take() []func(*state, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changes := a.inbox
	a.inbox = nil
	return changes
}
