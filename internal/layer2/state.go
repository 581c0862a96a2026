package layer2

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// idle is how long step sleeps at most.
const idle = time.Hour

// state is what the goroutine of Run owns.
type state struct {
	open       func(index int) (arp.Conn, error)
	post       func(func(*state, time.Time))
	log        logr.Logger
	responders sync.WaitGroup

	services map[name.ServiceKey][]place
	ports    map[string]*port
	links    link.Snapshot
	queue    queue
	limit    *rate.Limiter
	refresh  time.Duration
}

func newState(a *Announcer) *state {
	return &state{
		open: a.config.Open, post: a.post, log: a.config.Log,
		services: map[name.ServiceKey][]place{},
		ports:    map[string]*port{},
		limit:    rate.NewLimiter(announceRate, announceBurst),
		refresh:  DefaultRefreshInterval,
	}
}

// close closes all sockets and waits for the goroutines that read them.
func (s *state) close() {
	for _, p := range s.ports {
		s.leave(p)
	}
	s.responders.Wait()
}

// set makes places those of service. The new ones are taken before the old ones are let go,
// so what stays is never interrupted.
func (s *state) set(service name.ServiceKey, places []place, now time.Time) {
	before := s.services[service]
	if slices.Equal(before, places) {
		return
	}
	for _, x := range places {
		s.hold(x, now)
	}
	for _, x := range before {
		s.release(x)
	}
	if len(places) == 0 {
		delete(s.services, service)
	} else {
		s.services[service] = places
	}
	s.log.V(1).Info("set addresses", "service", service.String(), "addresses", len(places))
}

func (s *state) hold(x place, now time.Time) {
	p := s.ports[x.link]
	if p == nil {
		p = newPort(x.link)
		p.link = usable(s.links, x.link)
		s.ports[x.link] = p
	}
	e := p.entries[x.address]
	if e == nil {
		e = &entry{port: p, address: x.address, position: -1}
		p.entries[x.address] = e
		p.changeAnswers(func(a arp.Addresses) arp.Addresses { return a.With(x.address) })
		if p.conn != nil {
			s.queue.put(e, 0, now)
		}
	}
	e.refs++
}

func (s *state) release(x place) {
	p := s.ports[x.link]
	e := p.entries[x.address]
	if e.refs--; e.refs > 0 {
		return
	}
	p.changeAnswers(func(a arp.Addresses) arp.Addresses { return a.Without(x.address) })
	delete(p.entries, x.address)
	s.queue.remove(e)
	if len(p.entries) == 0 {
		s.leave(p)
		s.forget(p)
	}
}

func (s *state) setLinks(links link.Snapshot, now time.Time) {
	s.links = links
	for _, p := range s.ports {
		before := p.link
		p.link = usable(links, p.name)
		if p.link.Index != before.Index || p.link.MAC != before.MAC {
			s.leave(p)
			p.failures, p.retry, p.problem = 0, now, ""
		}
		s.forget(p)
	}
}

func (s *state) setRefresh(interval time.Duration, now time.Time) {
	s.refresh = max(interval, 0)
	for _, p := range s.ports {
		for _, e := range p.entries {
			if p.conn == nil || !refreshing(e.step) {
				continue
			}
			s.queue.remove(e)
			if s.refresh > 0 {
				s.queue.put(e, e.step, now.Add(rand.N(s.refresh)))
			}
		}
	}
}

// forget drops a port whose interface is gone and that nobody wants. Ports of interfaces that
// are there stay, with their counters.
func (s *state) forget(p *port) {
	if _, found := s.links.Find(p.name); !found && len(p.entries) == 0 {
		delete(s.ports, p.name)
	}
}

// step opens what should be open, sends the announcements that are due, and returns how long
// there is nothing more to do.
func (s *state) step(now time.Time) time.Duration {
	next := now.Add(idle)
	for _, p := range s.ports {
		if p.conn != nil || p.link.Index == 0 || len(p.entries) == 0 {
			continue
		}
		if !p.retry.After(now) {
			s.enter(p, now)
		}
		if p.conn == nil && p.retry.Before(next) {
			next = p.retry
		}
	}
	if due := s.announce(now, next); due.Before(next) {
		next = due
	}
	return next.Sub(now)
}

// announce sends what is due, as far as the rate allows, and returns when to go on, or
// otherwise if there is nothing more to send.
func (s *state) announce(now, otherwise time.Time) time.Time {
	for {
		e, ok := s.queue.first()
		if !ok {
			return otherwise
		}
		if e.due.After(now) {
			return e.due
		}
		if !s.limit.AllowN(now, 1) {
			return now.Add(ratePause)
		}
		e.port.send(e.address)
		wait, again := following(e.step, s.refresh, rand.Float64())
		if !again {
			s.queue.remove(e)
			e.step++
			continue
		}
		s.queue.put(e, e.step+1, now.Add(wait))
	}
}

// usable returns the interface of this name, or the zero value if it is not there, is down or
// has no Ethernet address.
func usable(links link.Snapshot, name string) link.Interface {
	i, found := links.Find(name)
	if !found || !i.Up || i.MAC == (link.MAC{}) {
		return link.Interface{}
	}
	return i
}
