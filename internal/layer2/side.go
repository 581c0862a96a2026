package layer2

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/link"
)

// side is one family of addresses on an interface. The goroutine of Run owns it.
type side struct {
	port    *port
	family  string
	open    func(link.Interface, *counters) (conn, responder, error)
	entries map[netip.Addr]*entry
	// changed are the addresses of which something else is to be said than responder knows.
	changed []netip.Addr

	// conn is the open socket and responder what speaks over it, or both are nil. After
	// failures in a row the next try, also to update responder, is at retry.
	conn       conn
	responder  responder
	opened     time.Time
	incomplete bool // the last update of responder failed
	failures   int
	retry      time.Time
	problem    string

	// deputized is the number of entries whose duty is another node's.
	deputized int

	signs signs
	// look is when signs are looked at again, or zero: when the first comes.
	look time.Time
}

// sign shows that another host uses an address.
type sign struct {
	mac link.MAC
	// fellow says that it is a fellow node's, unheard that of one that is not heard.
	fellow, unheard bool
	// probe says that the host does not use the address yet, but asks whether it may; answer that
	// it has told that to us alone, since we asked.
	probe, answer bool
}

// signs holds what the responder has seen of other hosts since the last look: of each address
// the last host. So it is bounded, and so is the work, however many frames a hostile host sends.
type signs struct {
	mu   sync.Mutex
	last map[netip.Addr]sign // nil: nothing for some time
}

// add says whether it is the first for some time; otherwise there will be another look anyhow. A
// probe does not hide that somebody uses the address.
func (s *signs) add(address netip.Addr, other sign) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.last == nil
	if first {
		s.last = map[netip.Addr]sign{}
	}
	if last, seen := s.last[address]; !seen || last.probe || !other.probe {
		s.last[address] = other
	}
	return first
}

// take returns the signs. Unless there are none, there must be another look.
func (s *signs) take() map[netip.Addr]sign {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last
	s.last = nil
	if len(last) > 0 {
		s.last = map[netip.Addr]sign{}
	}
	return last
}

// wanted says whether the side should be open.
func (x *side) wanted() bool { return x.port.link.Index != 0 && len(x.entries) > 0 }

// enter opens the socket of x and begins its duties, or notes when to try again.
func (s *state) enter(x *side, now time.Time) {
	p := x.port
	opened, r, err := x.open(p.link, p.counters)
	if err != nil {
		s.fail(x, err, now)
		return
	}
	x.conn, x.responder, x.opened, x.problem = opened, r, now, ""
	for _, e := range x.entries {
		s.change(e, now, (*duty).begin)
		x.changed = append(x.changed, e.address)
	}
	s.flush(x, now)
	s.responders.Go(func() {
		err := r.serve(func(address netip.Addr, other sign) {
			if x.signs.add(address, other) {
				s.post(func(s *state, now time.Time) { s.see(x, now) })
			}
		})
		s.post(func(s *state, now time.Time) {
			if x.conn == opened { // else it was closed on purpose
				s.leave(x, now)
				s.fail(x, err, now)
			}
		})
	})
	s.log.Info("answering on interface", "interface", p.name, "family", x.family, "mac", p.link.MAC.String(), "addresses", len(x.entries))
}

// leave closes the socket of x, if it is open. It waits neither for that, which the kernel may
// take some milliseconds over, nor for the goroutine that reads the socket.
func (s *state) leave(x *side, now time.Time) {
	if x.conn == nil {
		return
	}
	closing := x.conn
	x.conn, x.responder, x.incomplete, x.changed = nil, nil, false, nil
	for _, e := range x.entries {
		s.change(e, now, func(d *duty, _ moment) { d.end() })
	}
	s.responders.Go(func() { _ = closing.Close() })
	s.log.Info("left interface", "interface", x.port.name, "family", x.family)
}

// fail notes a failure of x and when to try again. One that follows a long time without is
// the first of its row.
func (s *state) fail(x *side, err error, now time.Time) {
	if now.Sub(x.opened) > lastRetry && !x.opened.IsZero() && !x.incomplete {
		x.failures, x.opened = 0, time.Time{}
	}
	x.retry = now.Add(backoff(x.failures, rand.Float64()))
	x.failures++
	x.problem = err.Error()
	x.port.counters.failures.Add(1)
	if x.failures == 1 {
		s.log.Info("cannot answer on interface, trying again", "interface", x.port.name, "family", x.family, "error", x.problem)
	}
}

// flush tells the responder of x what has changed, and what it could not do before if that is
// due.
func (s *state) flush(x *side, now time.Time) {
	if x.responder == nil {
		x.changed = nil
		return
	}
	if len(x.changed) == 0 && (!x.incomplete || x.retry.After(now)) {
		return
	}
	changes := make([]change, 0, len(x.changed))
	for _, address := range x.changed {
		c := change{address: address}
		if e := x.entries[address]; e != nil {
			c.answer = e.duty.answer()
		}
		changes = append(changes, c)
	}
	x.changed = nil
	err := x.responder.update(changes)
	if err != nil {
		s.fail(x, err, now)
	} else if x.incomplete {
		x.problem, x.failures = "", 0
	}
	x.incomplete = err != nil
}

// send says what x has to say about address, and whether all of it could be sent.
func (x *side) send(m message, frames [][]byte) bool {
	sent := true
	for _, frame := range frames {
		if _, err := x.conn.Write(frame); err != nil {
			x.port.counters.failures.Add(1)
			sent = false
			continue
		}
		if m == announcement {
			x.port.counters.announcements.Add(1)
		}
	}
	return sent
}
