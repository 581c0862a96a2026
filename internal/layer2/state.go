package layer2

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"

	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// idle is how long step sleeps at most.
const idle = time.Hour

// state is what the goroutine of Run owns.
type state struct {
	config     Config
	post       func(func(*state, time.Time))
	conflicts  chan []Conflict
	log        logr.Logger
	responders sync.WaitGroup

	services  map[name.ServiceKey][]part
	ports     map[string]*port
	links     link.Snapshot
	own       map[link.MAC]struct{} // of the links
	neighbors map[link.MAC]name.NodeName
	// rivals are the entries that have one that is told of; news says that they are others than told.
	rivals map[*entry]struct{}
	news   bool
	// obstructed is the number of entries that fellow nodes keep from being answered, owned of those
	// that this node answers for as the owner.
	obstructed, owned int
	// apart says that the node is, unheard are the fellow nodes that it does not hear; see SetApart.
	apart     bool
	unheard   map[name.NodeName]bool
	queue     queue
	limit     *rate.Limiter
	refresh   time.Duration
	detection Detection
}

func newState(a *Announcer) *state {
	return &state{
		config: a.config, post: a.post, conflicts: a.conflicts, log: a.config.Log,
		services:  map[name.ServiceKey][]part{},
		ports:     map[string]*port{},
		rivals:    map[*entry]struct{}{},
		limit:     rate.NewLimiter(frameRate, frameBurst),
		refresh:   DefaultRefreshInterval,
		detection: Fast,
	}
}

// close closes all sockets and waits for the goroutines that read them.
func (s *state) close() {
	for _, p := range s.ports {
		for _, x := range p.sides() {
			s.leave(x, time.Now())
		}
	}
	s.responders.Wait()
}

// change lets an event happen to the duty of e, and does what follows from it but for what
// there is to say.
func (s *state) change(e *entry, now time.Time, event func(*duty, moment)) {
	before := e.duty
	event(&e.duty, moment{
		now: now, random: rand.Float64(), refresh: s.refresh, detection: s.detection,
		obstructed: s.obstructed, contested: len(s.rivals), owned: s.owned, apart: s.apart, unheard: len(s.unheard),
	})
	x := e.side
	if e.duty.answer() != before.answer() {
		x.changed = append(x.changed, e.address)
	}
	if e.duty.phase == owning {
		s.owned++
		if before.phase != owning {
			x.port.counters.takeovers.Add(1)
		}
	}
	if before.phase == owning {
		s.owned--
	}
	if e.duty.phase == deputizing {
		x.deputized++
	}
	if before.phase == deputizing {
		x.deputized--
	}
	if e.duty.rival != before.rival {
		s.compareRivals(e, before.rival)
	}
	if e.duty.rival.obstructs() {
		s.obstructed++
	}
	if before.rival.obstructs() {
		s.obstructed--
	}
	if at, ok := e.duty.next(); ok {
		s.queue.put(e, at)
	} else {
		s.queue.remove(e)
	}
}

// set makes parts those of service. The new ones are taken before the old ones are let go,
// so what stays is never interrupted.
func (s *state) set(service name.ServiceKey, parts []part, now time.Time) {
	before := s.services[service]
	if slices.Equal(before, parts) {
		return
	}
	for _, x := range parts {
		s.hold(service, x, now)
	}
	for _, x := range before {
		if _, stays := slices.BinarySearchFunc(parts, x.place, func(y part, p place) int { return y.place.compare(p) }); !stays {
			s.release(service, x.place, now)
		}
	}
	if len(parts) == 0 {
		delete(s.services, service)
	} else {
		s.services[service] = parts
	}
	s.log.V(1).Info("set addresses", "service", service.String(), "addresses", len(parts))
}

func (s *state) hold(service name.ServiceKey, x part, now time.Time) {
	name, address := x.place.link, x.place.address
	p := s.ports[name]
	if p == nil {
		p = newPort(name, s.config)
		p.link = usable(s.links, name)
		s.ports[name] = p
	}
	side := p.side(address)
	e := side.entries[address]
	if e == nil {
		e = &entry{side: side, address: address, position: -1}
		e.duty.role = x.role
		side.entries[address] = e
		if side.conn != nil {
			s.change(e, now, (*duty).begin)
		}
	}
	e.wish(service, x.role)
	s.agree(e, now)
}

// renew has what this node owns of service announced anew.
func (s *state) renew(service name.ServiceKey, now time.Time) {
	for _, x := range s.services[service] {
		s.change(s.ports[x.place.link].side(x.place.address).entries[x.place.address], now, (*duty).renew)
	}
}

// agree gives e the role that follows from the wishes.
func (s *state) agree(e *entry, now time.Time) {
	if r := agree(e.wishes); r != e.duty.role {
		s.change(e, now, func(d *duty, m moment) { d.assign(r, m) })
	}
}

func (s *state) release(service name.ServiceKey, x place, now time.Time) {
	p := s.ports[x.link]
	side := p.side(x.address)
	e := side.entries[x.address]
	e.withdraw(service)
	if len(e.wishes) > 0 {
		s.agree(e, now)
		return
	}
	s.change(e, now, func(d *duty, _ moment) { *d = duty{} })
	delete(side.entries, x.address)
	if len(side.entries) == 0 {
		s.leave(side, now)
	}
	s.forget(p)
}

func (s *state) setLinks(links link.Snapshot, now time.Time) {
	s.links, s.own = links, make(map[link.MAC]struct{}, len(links))
	for _, i := range links {
		s.own[i.MAC] = struct{}{}
	}
	for _, p := range s.ports {
		before := p.link
		p.link = usable(links, p.name)
		if p.link.Index != before.Index || p.link.MAC != before.MAC {
			for _, x := range p.sides() {
				s.leave(x, now)
				x.failures, x.retry, x.problem = 0, now, ""
			}
		}
		s.forget(p)
	}
}

func (s *state) setRefresh(interval time.Duration, now time.Time) {
	interval = max(interval, 0)
	if interval == s.refresh {
		return
	}
	s.refresh = interval
	s.each(now, (*duty).reschedule)
}

func (s *state) setDetection(d Detection, now time.Time) {
	if d == s.detection {
		return
	}
	s.detection = d
	if d == Off {
		s.each(now, (*duty).hurry)
	}
}

func (s *state) setApart(apart bool, unheard map[name.NodeName]bool, now time.Time) {
	began := apart && (!s.apart || !maps.Equal(unheard, s.unheard))
	if s.apart, s.unheard = apart, unheard; began {
		s.each(now, (*duty).part)
	}
	for e := range s.rivals {
		if r := e.duty.rival; unheard[s.neighbors[r.mac]] && !r.unheard {
			s.change(e, now, (*duty).lose)
		}
	}
}

// each lets an event happen to all duties.
func (s *state) each(now time.Time, event func(*duty, moment)) {
	for _, p := range s.ports {
		for _, x := range p.sides() {
			for _, e := range x.entries {
				s.change(e, now, event)
			}
		}
	}
}

// forget drops a port whose interface is gone and that nobody wants. Ports of interfaces that
// are there stay, with their counters.
func (s *state) forget(p *port) {
	if _, found := s.links.Find(p.name); !found && p.isEmpty() {
		delete(s.ports, p.name)
	}
}

// step opens what should be open, looks at what was seen of other hosts, tells the responders
// what has changed, sends what is due, delivers news, and returns how long there is nothing more to do.
func (s *state) step(now time.Time) time.Duration {
	next := now.Add(idle)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	for _, p := range s.ports {
		for _, x := range p.sides() {
			if x.conn == nil && x.wanted() && !x.retry.After(now) {
				s.enter(x, now)
			}
			if !x.look.IsZero() && !x.look.After(now) {
				s.see(x, now)
			}
			s.flush(x, now)
		}
	}
	sooner(s.act(now, next))
	for _, p := range s.ports {
		for _, x := range p.sides() {
			s.flush(x, now)
			if x.conn == nil && x.wanted() || x.incomplete {
				sooner(x.retry)
			}
			if !x.look.IsZero() {
				sooner(x.look)
			}
		}
	}
	s.tell()
	return next.Sub(now)
}

// act lets the duties do what is due, as far as the rate allows and if the node is in touch with
// its fellows, and returns when to go on, or otherwise if there is nothing more.
func (s *state) act(now, otherwise time.Time) time.Time {
	for fresh := false; ; {
		e, ok := s.queue.first()
		if !ok {
			return otherwise
		}
		if e.at.After(now) {
			return e.at
		}
		if fresh = fresh || s.config.Fresh(); !fresh {
			return now.Add(freshPause)
		}
		event := (*duty).act
		if m := e.duty.says(now); m != nothing {
			frames := e.side.responder.frames(m, e.address, e.side.port.link)
			if m == inquiry {
				copy(frames[0], e.duty.rival.mac[:]) // the destination, which comes first (IEEE 802.3)
			}
			if e.duty.first(now) {
				frames = frames[:1] // the other form follows with the next one: the last of many addresses is reached in half the time
			}
			if !s.limit.AllowN(now, len(frames)) {
				return now.Add(ratePause)
			}
			if len(e.side.changed) > 0 {
				s.flush(e.side, now) // answers come before announcements
			}
			if !e.side.send(m, frames) && (m == probe || m == inquiry) {
				event = (*duty).fail
			}
		}
		s.change(e, now, event)
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
