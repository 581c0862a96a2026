package bfd

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// owner is what the goroutine of Run owns.
type owner struct {
	*Server
	sessions  map[netip.Addr]*session
	byOwn     map[uint32]*session
	queue     queue
	listeners map[kind]*listener
	// listenAt is when to try again to listen; zero: nothing is missing.
	listenAt time.Time
	inbox    chan datagram
	failures chan failure
	done     chan struct{}
	readers  sync.WaitGroup
	news     []Transition
}

func newOwner(s *Server) *owner {
	return &owner{
		Server: s, sessions: map[netip.Addr]*session{}, byOwn: map[uint32]*session{}, listeners: map[kind]*listener{},
		inbox: make(chan datagram, inboxSize), failures: make(chan failure), done: make(chan struct{}),
	}
}

// session is a machine with its socket.
type session struct {
	*machine
	link   sender
	dialed time.Time
	retry  retry
	err    string
	ups    uint64
	downs  uint64
	sent   uint64
	taken  uint64
	refuse uint64
	// at is when the queue has the session, index where.
	at    time.Time
	index int
	last  Status // as published
}

// retry is the pause after failures.
type retry struct {
	pause time.Duration
	again time.Time
}

func (r *retry) failed(now time.Time) {
	r.pause = min(max(2*r.pause, firstRetry), lastRetry)
	r.again = now.Add(r.pause)
}

// reconcile begins, changes and ends sessions so that they are those of Set.
func (o *owner) reconcile(now time.Time) {
	o.mu.Lock()
	wanted := o.wanted
	o.mu.Unlock()
	keep := make(map[netip.Addr]bool, len(wanted))
	for _, w := range wanted {
		if keep[w.Peer] || !w.Peer.IsValid() {
			continue
		}
		keep[w.Peer] = true
		have := o.sessions[w.Peer]
		switch {
		case have != nil && have.Session == w:
		case have != nil && have.sameSockets(w):
			have.configure(w)
			o.transmit(have, now)
			o.schedule(have, now)
		default:
			if have != nil {
				o.end(have, now)
			}
			o.begin(w, now)
		}
	}
	for peer, have := range o.sessions {
		if !keep[peer] {
			o.end(have, now)
		}
	}
	o.listen(now)
}

func (o *owner) begin(w Session, now time.Time) {
	own := rand.Uint32()
	for own == 0 || o.byOwn[own] != nil {
		own = rand.Uint32()
	}
	s := &session{machine: newMachine(w, own, now), index: -1}
	o.sessions[w.Peer], o.byOwn[own] = s, s
	o.schedule(s, now)
}

// end tells the router that the session is out of service.
func (o *owner) end(s *session, now time.Time) {
	s.disable(now)
	for range 2 {
		s.urgent = true
		o.transmit(s, now)
	}
	s.hangUp()
	if s.index >= 0 {
		heap.Remove(&o.queue, s.index)
	}
	delete(o.sessions, s.Peer)
	delete(o.byOwn, s.my)
	o.mu.Lock()
	delete(o.statuses, s.Peer)
	o.mu.Unlock()
	signal(o.changed)
}

// disableAll takes everything out of service, and says so twice.
func (o *owner) disableAll() {
	for range 2 {
		now := time.Now()
		for _, s := range o.sessions {
			s.disable(now)
			s.urgent = true
			o.transmit(s, now)
			o.schedule(s, now)
		}
		time.Sleep(repeat)
	}
}

// drain takes the packets that are there already, before their absence is judged.
func (o *owner) drain(now time.Time) {
	for {
		select {
		case d := <-o.inbox:
			o.take(d, now)
		default:
			return
		}
	}
}

// take finds the session of a packet (RFC 5880 section 6.3, and 6.8.6 in its order) and gives it to it.
func (o *owner) take(d datagram, now time.Time) {
	p, err := Parse(d.data[:d.length])
	var s *session
	if err == nil && p.Your != 0 {
		s = o.byOwn[p.Your]
	} else {
		s = o.sessions[d.from]
	}
	if s == nil || s.Peer != d.from || s.MultiHop != d.multihop {
		return
	}
	least := uint8(255) // RFC 5881 section 5
	if s.MultiHop {
		least = s.MinimumTTL
	}
	if err != nil || d.ttl < least || p.Your == 0 && s.state != Down && s.state != AdminDown && p.State != Down && p.State != AdminDown {
		s.refuse++
		o.publish(s)
		return
	}
	s.taken++
	before := s.state
	s.take(p, now)
	o.moved(s, before, p.State == AdminDown, now)
	o.transmit(s, now)
	o.schedule(s, now)
}

// moved notes a change of state.
func (o *owner) moved(s *session, before State, remoteAdminDown bool, now time.Time) {
	if s.state == before {
		return
	}
	if s.state == Up {
		s.ups++
		o.log.Info("BFD session up", "peer", s.Peer)
	}
	if before == Up {
		s.downs++
		s.hangUp() // the way to the router, and the address to send from, may be others now
		o.log.Info("BFD session down", "peer", s.Peer, "state", s.state.String(), "why", s.diag.String())
	}
	o.news = append(o.news, Transition{
		Peer: s.Peer, From: before, To: s.state, Diagnostic: s.diag, RemoteAdminDown: remoteAdminDown, At: now,
	})
}

// act does what is due and returns when to come again.
func (o *owner) act(now time.Time) time.Time {
	again := now.Add(never)
	for len(o.queue) > 0 {
		s := o.queue[0]
		if s.at.After(now) {
			again = s.at
			break
		}
		before := s.state
		s.expire(now)
		o.moved(s, before, false, now)
		o.transmit(s, now)
		o.schedule(s, now)
	}
	if !o.listenAt.IsZero() && !now.Before(o.listenAt) {
		o.listen(now)
	}
	if !o.listenAt.IsZero() && o.listenAt.Before(again) {
		again = o.listenAt
	}
	return again
}

// hangUp closes the session's socket.
func (s *session) hangUp() {
	if s.link != nil {
		_ = s.link.Close()
		s.link = nil
	}
}

// transmit sends what the session has to say, if it can.
func (o *owner) transmit(s *session, now time.Time) {
	if s.state != Up && now.Sub(s.dialed) > redial {
		s.hangUp()
	}
	o.dial(s, now)
	for {
		p, some := s.outgoing(now, rand.Float64())
		if !some {
			return
		}
		b := p.Append(make([]byte, 0, packetLength))
		if !s.write(b, now) && s.state == Up {
			o.dial(s, now) // at once: the router waits for three packets or so, and this is one
			s.write(b, now)
		}
	}
}

// dial opens a socket if there is none. Only a session that is up does so without pauses after failures.
func (o *owner) dial(s *session, now time.Time) {
	if s.link != nil || s.state != Up && now.Before(s.retry.again) {
		return
	}
	link, err := o.open.dial(s.Session)
	if err != nil {
		s.err = err.Error()
		s.retry.failed(now)
		return
	}
	s.link, s.dialed, s.err, s.retry = link, now, "", retry{}
}

// write sends a packet if there is a socket. It is false if a new socket might do better.
func (s *session) write(b []byte, now time.Time) bool {
	if s.link == nil {
		return false
	}
	_, err := s.link.Write(b)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // of an earlier packet: the router has no BFD just now
		s.err = notListening
	case err != nil: // the socket may be of an address that is gone
		s.err = err.Error()
		s.hangUp()
		s.retry.failed(now)
		return false
	default:
		if s.state != Down {
			s.err = ""
		}
		s.sent++
	}
	return true
}

// schedule puts the session where it belongs in the queue, and publishes its status.
func (o *owner) schedule(s *session, now time.Time) {
	s.at = s.next()
	if s.at.IsZero() {
		s.at = now.Add(never)
	}
	if s.index < 0 {
		heap.Push(&o.queue, s)
	} else {
		heap.Fix(&o.queue, s.index)
	}
	o.publish(s)
}

func (o *owner) publish(s *session) {
	status := Status{
		Session: s.Session, State: s.state, Since: s.since, RemoteState: s.remote, Diagnostic: s.diag, RemoteDiagnostic: s.remoteDiag,
		TransmitInterval: s.interval(), ReceiveInterval: max(s.receive, s.remoteDesired), DetectionTime: s.detection(),
		Ups: s.ups, Downs: s.downs, Sent: s.sent, Received: s.taken, Rejected: s.refuse, LastError: s.err,
	}
	if l := o.listeners[kindOf(s.Session)]; l != nil && l.err != "" {
		status.LastError = l.err
	}
	o.mu.Lock()
	o.statuses[s.Peer] = status
	o.mu.Unlock()
	before := s.last
	s.last = status
	before.Sent, before.Received, before.Rejected = status.Sent, status.Received, status.Rejected
	if before != status {
		signal(o.changed)
	}
}

// queue is a heap of sessions by the time at which they are to be looked at.
type queue []*session

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	s := x.(*session)
	s.index = len(*q)
	*q = append(*q, s)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	*q = (*q)[:last]
	s.index = -1
	return s
}
