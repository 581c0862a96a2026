package layer2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
)

// port is one interface by its name, whether or not it is there at the moment. The goroutine
// of Run owns it; the goroutine that answers on it reads answers and counts.
type port struct {
	name string
	// link is the interface as it is now, or the zero value while it cannot be used.
	link    link.Interface
	entries map[netip.Addr]*entry
	answers atomic.Pointer[arp.Addresses]

	// conn is the open socket, or nil. After failures in a row the next try is at retry.
	conn     arp.Conn
	opened   time.Time
	failures int
	retry    time.Time
	problem  string

	counters *counters
}

// counters outlive sockets; they are written by the goroutine of Run and the answering one,
// and read by anybody.
type counters struct {
	arp.Counters
	announcements atomic.Uint64
	failures      atomic.Uint64
}

func newPort(name string) *port {
	p := &port{name: name, entries: map[netip.Addr]*entry{}, counters: &counters{}}
	p.answers.Store(&arp.Addresses{})
	return p
}

func (p *port) changeAnswers(change func(arp.Addresses) arp.Addresses) {
	changed := change(*p.answers.Load())
	p.answers.Store(&changed)
}

// enter opens the socket of p and announces its addresses, or notes when to try again.
func (s *state) enter(p *port, now time.Time) {
	conn, err := s.open(p.link.Index)
	if err != nil {
		s.fail(p, err, now)
		return
	}
	p.conn, p.opened, p.problem = conn, now, ""
	for _, e := range p.entries {
		s.queue.put(e, 0, now)
	}
	mac := p.link.MAC
	s.responders.Go(func() {
		err := arp.Serve(conn, mac, func() arp.Addresses { return *p.answers.Load() }, &p.counters.Counters)
		s.post(func(s *state, now time.Time) {
			if p.conn == conn { // else it was closed on purpose
				s.leave(p)
				s.fail(p, err, now)
			}
		})
	})
	s.log.Info("answering on interface", "interface", p.name, "mac", mac.String(), "addresses", len(p.entries))
}

// leave closes the socket of p, if it is open. It waits neither for that, which the kernel may
// take some milliseconds over, nor for the goroutine that reads the socket.
func (s *state) leave(p *port) {
	if p.conn == nil {
		return
	}
	conn := p.conn
	p.conn = nil
	for _, e := range p.entries {
		s.queue.remove(e)
	}
	s.responders.Go(func() { _ = conn.Close() })
	s.log.Info("left interface", "interface", p.name)
}

// fail notes a failure of p and when to try again. One that follows a long time without is
// the first of its row.
func (s *state) fail(p *port, err error, now time.Time) {
	if now.Sub(p.opened) > lastRetry && !p.opened.IsZero() {
		p.failures = 0
	}
	p.retry = now.Add(backoff(p.failures, rand.Float64()))
	p.failures++
	p.problem = err.Error()
	p.counters.failures.Add(1)
	if p.failures == 1 {
		s.log.Info("cannot answer on interface, trying again", "interface", p.name, "error", p.problem)
	}
}

// send announces address in both forms, since there are hosts that heed only one.
func (p *port) send(address netip.Addr) {
	for _, frame := range []arp.Frame{arp.AnnounceRequest(address, p.link.MAC), arp.AnnounceReply(address, p.link.MAC)} {
		if _, err := p.conn.Write(frame[:]); err != nil {
			p.counters.failures.Add(1)
			continue
		}
		p.counters.announcements.Add(1)
	}
}

// Stats tells about one interface that addresses are, or were, announced on. The counters only
// grow, for as long as the interface exists.
type Stats struct {
	Interface string
	// MAC is zero while the interface cannot be used.
	MAC link.MAC
	// Open says that requests are answered at the moment; Problem why they are not, if there
	// are addresses to answer for.
	Open    bool
	Problem string
	// Addresses is the number of addresses to answer for.
	Addresses int
	// Requests counts requests for these addresses, Replies the answers, Announcements the
	// gratuitous frames sent, Errors what could not be opened, read or sent.
	Requests, Replies, Announcements, Errors uint64
}

// published is Stats without the counters, which are read when asked for.
type published struct {
	Stats
	counters *counters
}

// Stats returns what is known of each interface, sorted by name.
func (a *Announcer) Stats() []Stats {
	list := a.published.Load()
	if list == nil {
		return nil
	}
	stats := make([]Stats, 0, len(*list))
	for _, x := range *list {
		x.Requests, x.Replies = x.counters.Requests.Load(), x.counters.Replies.Load()
		x.Announcements = x.counters.announcements.Load()
		x.Errors = x.counters.Errors.Load() + x.counters.failures.Load()
		stats = append(stats, x.Stats)
	}
	return stats
}

func (s *state) publish() *[]published {
	list := make([]published, 0, len(s.ports))
	for _, p := range s.ports {
		x := published{Stats{Interface: p.name, MAC: p.link.MAC, Open: p.conn != nil, Addresses: len(p.entries)}, p.counters}
		switch {
		case len(p.entries) == 0 || p.conn != nil:
		case p.link.Index == 0:
			x.Problem = "interface is absent or down"
		default:
			x.Problem = p.problem
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(x, y published) int { return strings.Compare(x.Interface, y.Interface) })
	return &list
}
