package bfd

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

const (
	// firstRetry and lastRetry bound the pause after a socket could not be opened; it doubles.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 4 * time.Second
	// repeat is after how long an AdminDown is said once more.
	repeat = 5 * time.Millisecond
	// redial is how old a socket of a session gets that is not up: its address may be gone, which nothing else shows.
	redial = 10 * time.Second
	// inboxSize is how many received packets may wait.
	inboxSize = 256
	// notListening is the error of a router that says it has no BFD.
	notListening = "the router does not listen for BFD"
	// never is the time until something that is not foreseen.
	never = time.Hour
)

// Config is what a Server needs to know.
type Config struct {
	// Log gets a line for each session that comes up or ends. The zero value logs nothing.
	Log logr.Logger
	// open replaces the network in tests.
	open network
}

// Session is one session to have. It is comparable; Peer is its key.
type Session struct {
	// Peer is the router; a link-local address has a zone.
	Peer netip.Addr
	// Local is the address to send from; the zero value lets the kernel choose.
	Local netip.Addr
	// MultiHop says that the router may be further away than on the same link (RFC 5883).
	MultiHop bool
	// Receive is RequiredMinRxInterval, Transmit is DesiredMinTxInterval, Multiplier is DetectMult of
	// RFC 5880 section 6.8.1.
	Receive, Transmit time.Duration
	Multiplier        uint8
	// Passive sends nothing until the router has.
	Passive bool
	// MinimumTTL is the least TTL or hop limit accepted with MultiHop; without, it is 255.
	MinimumTTL uint8
}

// sameSockets says whether a session of the same peer can go on with other timers.
func (s Session) sameSockets(o Session) bool { return s.Local == o.Local && s.MultiHop == o.MultiHop }

// Status is how a session is.
type Status struct {
	Session
	State State
	// Since is when it entered State.
	Since                        time.Time
	RemoteState                  State
	Diagnostic, RemoteDiagnostic Diagnostic
	// TransmitInterval and ReceiveInterval are what was negotiated: at which we send, and at most
	// expect, packets. DetectionTime is how long the router may be silent; 0 before it was heard.
	TransmitInterval, ReceiveInterval, DetectionTime time.Duration
	// Ups and Downs count how often the session entered and left Up.
	Ups, Downs uint64
	// Sent, Received and Rejected count packets.
	Sent, Received, Rejected uint64
	// LastError says why no packets can be sent or received; empty: they can.
	LastError string
}

// Transition is a change of a session's state.
type Transition struct {
	Peer       netip.Addr
	From, To   State
	Diagnostic Diagnostic
	// RemoteAdminDown says that the router took the session out of service, which is no failure
	// (RFC 5882 section 4.2).
	RemoteAdminDown bool
	At              time.Time
}

// Server watches routers. Its methods may be called from any goroutine.
type Server struct {
	log           logr.Logger
	open          network
	wake, changed chan struct{}
	transitions   chan Transition

	mu       sync.Mutex // guards wanted and statuses
	wanted   []Session
	statuses map[netip.Addr]Status
}

// New returns a Server without sessions, which does nothing before Run.
func New(config Config) *Server {
	s := &Server{
		log: config.Log, open: config.open, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		transitions: make(chan Transition), statuses: map[netip.Addr]Status{},
	}
	if s.log.GetSink() == nil {
		s.log = logr.Discard()
	}
	if s.open == nil {
		s.open = udp{}
	}
	return s
}

// Set replaces the sessions; of two with one Peer the first is right. Timers change without an end of the
// session. It never waits.
func (s *Server) Set(sessions []Session) {
	s.mu.Lock()
	same := slices.Equal(s.wanted, sessions)
	s.wanted = slices.Clone(sessions)
	s.mu.Unlock()
	if !same {
		signal(s.wake)
	}
}

// Sessions returns how the sessions of Set are, in the same order.
func (s *Server) Sessions() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, len(s.wanted))
	for i, session := range s.wanted {
		all[i] = Status{Session: session, State: Down}
		if status, found := s.statuses[session.Peer]; found {
			all[i] = status
		}
	}
	return all
}

// Transitions receives each change of state, in order and without loss, until Run ends.
func (s *Server) Transitions() <-chan Transition { return s.transitions }

// Changed receives when a state, an interval or an error of Sessions is another than before. One reader gets every change.
func (s *Server) Changed() <-chan struct{} { return s.changed }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run has the sessions of Set until ctx ends, tells the routers that they are out of service, which is no failure
// (RFC 5882 section 4.2), and returns nil when all of its goroutines have ended. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	o := newOwner(s)
	defer o.close()
	timer := time.NewTimer(never)
	defer timer.Stop()
	signal(s.wake)
	for {
		var out chan<- Transition
		var first Transition
		if len(o.news) > 0 {
			out, first = s.transitions, o.news[0]
		}
		select {
		case <-ctx.Done():
			o.disableAll()
			return nil
		case out <- first:
			o.news = o.news[1:]
			continue
		case d := <-o.inbox:
			o.take(d, time.Now())
		case f := <-o.failures:
			o.failed(f, time.Now())
		case <-s.wake:
			o.reconcile(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		o.drain(now)
		timer.Reset(o.act(now).Sub(now))
	}
}
