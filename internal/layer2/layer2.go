// Package layer2 makes this node the one that a local network finds behind an address: it
// answers ARP (RFC 826) on the interfaces it is told, and announces what it takes over
// (RFC 5227 section 2.3). It follows interfaces as they come, go and change.
//
// It never decides what to announce or where, never puts an address on an interface, and
// never asks anybody for anything. It handles IPv4; IPv6 addresses are passed over.
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
)

// Config is what an Announcer needs to know at its start.
type Config struct {
	// Open opens the ARP socket of the interface with this index; nil means arp.Listen.
	Open func(index int) (arp.Conn, error)
	Log  logr.Logger
}

// Announcer answers for and announces addresses. Make it with New. Its methods may be called
// from any goroutine, before and during Run; they do not wait for sockets or for Run, which
// does what they ask for at once and in the order of the calls.
type Announcer struct {
	config    Config
	wake      chan struct{}
	published atomic.Pointer[[]published]

	mu    sync.Mutex // guards inbox
	inbox []func(*state, time.Time)
}

// place is an address on an interface.
type place struct {
	link    string
	address netip.Addr
}

// New returns an Announcer that announces nothing.
func New(config Config) *Announcer {
	if config.Open == nil {
		config.Open = arp.Listen
	}
	return &Announcer{config: config, wake: make(chan struct{}, 1)}
}

// Set makes addresses the ones that this node announces for service, in place of those set
// before; setting the same again changes nothing. Addresses that services share are
// announced until the last of them lets go. The slice is not kept.
func (a *Announcer) Set(service name.ServiceKey, addresses []announce.Layer2) {
	var places []place
	for _, l := range addresses {
		if !l.Address.Is4() {
			continue
		}
		for _, i := range l.Interfaces {
			places = append(places, place{i, l.Address})
		}
	}
	slices.SortFunc(places, func(x, y place) int {
		return cmp.Or(x.address.Compare(y.address), strings.Compare(x.link, y.link))
	})
	places = slices.Compact(places)
	a.post(func(s *state, now time.Time) { s.set(service, places, now) })
}

// Remove ends what service announces; nothing is answered for it any more, unless another
// service shares the address. Removing what is not set changes nothing.
func (a *Announcer) Remove(service name.ServiceKey) { a.Set(service, nil) }

// SetLinks tells which interfaces there are. An interface that comes, returns, or returns
// with another index or hardware address is served and its addresses announced anew; one that
// goes away or down is left.
func (a *Announcer) SetLinks(links link.Snapshot) {
	a.post(func(s *state, now time.Time) { s.setLinks(links, now) })
}

// SetRefreshInterval sets how often each address is announced again, so that switches that
// have forgotten the way learn it. It is DefaultRefreshInterval at first; 0 is never.
func (a *Announcer) SetRefreshInterval(interval time.Duration) {
	a.post(func(s *state, now time.Time) { s.setRefresh(interval, now) })
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
			for _, change := range a.take() {
				change(s, time.Now())
			}
		case <-timer.C:
		}
		timer.Reset(s.step(time.Now()))
		a.published.Store(s.publish())
	}
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
