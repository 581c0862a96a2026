package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Probe says what a Prober does. From and Targets are needed.
type Probe struct {
	From    string
	Targets []netip.AddrPort
	// Interval is the time between two attempts at one target, default 10 ms.
	Interval time.Duration
	// Timeout bounds one attempt, default 1 s.
	Timeout time.Duration
}

// Prober opens new TCP connections from a host, one after the other at fixed times whether or
// not earlier ones were answered, asks over each one thing over HTTP, and closes it. One
// thread does all of that, so that it takes little of the machine that it measures, and it
// records how late it was itself.
type Prober struct {
	spec  Probe
	began time.Time
	quit  chan struct{}
	done  chan struct{}
	epoll int
	open  []*attempt // in the order of their start
	next  int        // target of the next attempt
	due   time.Time  // of the next attempt

	mu  sync.Mutex
	log ProbeLog
}

// attempt is one that is under way.
type attempt struct {
	Attempt
	fd        int
	connected bool
	over      bool
}

// probeRequest makes the server close after its answer.
const probeRequest = "GET / HTTP/1.0\r\n\r\n"

// StartProber starts to probe; the caller ends that with Stop.
func (l *Lab) StartProber(spec Probe) (*Prober, error) {
	h, err := l.Host(spec.From)
	if err != nil {
		return nil, err
	}
	if spec.Interval == 0 {
		spec.Interval = 10 * time.Millisecond
	}
	if spec.Timeout == 0 {
		spec.Timeout = time.Second
	}
	if len(spec.Targets) == 0 {
		return nil, errors.New("start prober: no target")
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("start prober: %w", err)
	}
	p := &Prober{spec: spec, began: time.Now(), quit: make(chan struct{}), done: make(chan struct{}), epoll: epoll}
	p.due = p.began
	started := make(chan error, 1)
	go p.run(h.ns, started)
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start prober: %w", err)
	}
	return p, nil
}

// Stop starts no more attempts, waits for those under way, which takes at most the timeout, and
// returns the log. It may be called more than once, but not by two goroutines.
func (p *Prober) Stop() ProbeLog {
	select {
	case <-p.quit:
	default:
		close(p.quit)
	}
	<-p.done
	return p.Log()
}

// Targets are what it connects to.
func (p *Prober) Targets() []netip.AddrPort { return slices.Clone(p.spec.Targets) }

// Count is how many attempts have ended so far.
func (p *Prober) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log.Attempts)
}

// Log returns what has ended so far.
func (p *Prober) Log() ProbeLog {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	log.Attempts = append([]Attempt(nil), p.log.Attempts...)
	log.Delays = append([]Delay(nil), p.log.Delays...)
	return log
}

// run probes on a thread of its own, which it leaves in the namespace and so ends with.
func (p *Prober) run(ns *netns, started chan<- error) {
	defer close(p.done)
	defer unix.Close(p.epoll)
	runtime.LockOSThread()
	home, err := ns.enter()
	started <- err
	if err != nil {
		return
	}
	defer home.Close()
	// Of two threads that want a core this one comes first: it needs it for microseconds. If
	// that is refused, it is only late more often.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -19)
	events := make([]unix.EpollEvent, 256)
	for stopping := false; !stopping || len(p.open) > 0; {
		select {
		case <-p.quit:
			stopping = true
		default:
		}
		if now := time.Now(); !stopping && !now.Before(p.due) {
			p.startDue(now)
		}
		wait := p.wait(stopping)
		asleep := time.Now()
		n, err := unix.EpollWait(p.epoll, events, int((wait+time.Millisecond-1)/time.Millisecond))
		if n <= 0 {
			p.delay(asleep, time.Since(asleep)-wait)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		// What arrived while this thread did not run counts before what is overdue.
		for _, e := range events[:max(n, 0)] {
			p.ready(int(e.Fd))
		}
		p.expire(time.Now())
	}
}

// wait is how long there is nothing to do unless something arrives.
func (p *Prober) wait(stopping bool) time.Duration {
	wait := p.spec.Timeout
	if !stopping {
		wait = min(wait, time.Until(p.due))
	}
	if len(p.open) > 0 {
		wait = min(wait, time.Until(p.open[0].Start.Add(p.spec.Timeout)))
	}
	return max(wait, 0)
}

// startDue starts the attempt that is due, or is late, and skips those that are past.
func (p *Prober) startDue(now time.Time) {
	each := p.spec.Interval / time.Duration(len(p.spec.Targets))
	late := now.Sub(p.due)
	p.delay(p.due, late)
	a := &attempt{Attempt: Attempt{Target: p.spec.Targets[p.next%len(p.spec.Targets)], Start: now, Late: late}}
	skipped := int(late / each)
	p.next += 1 + skipped
	p.due = p.due.Add(time.Duration(1+skipped) * each)
	p.mu.Lock()
	p.log.Skipped += skipped
	p.mu.Unlock()
	if err := p.connect(a); err != nil {
		p.end(a, outcomeOf(err))
		return
	}
	p.open = append(p.open, a)
}

// minDelay is what a busy machine costs anybody and nobody needs to know.
const minDelay = 5 * time.Millisecond

func (p *Prober) delay(at time.Time, d time.Duration) {
	if d < minDelay {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Delays = append(p.log.Delays, Delay{At: at, Length: d})
}

// connect begins to connect.
func (p *Prober) connect(a *attempt) error {
	family := unix.AF_INET
	if a.Target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	a.fd = fd
	// Closed with a reset: no connection lingers in TIME-WAIT, of which there would be thousands.
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		err = unix.Connect(fd, sockaddr(a.Target))
	}
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
	}
	return err
}

func sockaddr(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

// ready takes an attempt's next step: it has connected, or been answered, or failed.
func (p *Prober) ready(fd int) {
	for _, a := range p.open {
		if a.fd != fd || a.over {
			continue
		}
		if err := p.step(a); err != nil {
			p.end(a, outcomeOf(err))
		} else if a.Answered > 0 {
			p.end(a, Answered)
		}
		return
	}
}

// errBadAnswer is an end without an answer, or another one than 200.
var errBadAnswer = errors.New("bad answer")

func (p *Prober) step(a *attempt) error {
	if !a.connected {
		code, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return err
		}
		if code != 0 {
			return unix.Errno(code)
		}
		a.connected, a.Connected = true, time.Since(a.Start)
		if _, err := unix.Write(a.fd, []byte(probeRequest)); err != nil {
			return err
		}
		return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, a.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(a.fd)})
	}
	var answer [512]byte
	n, err := unix.Read(a.fd, answer[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer[:n]), " 200 ") {
		return errBadAnswer
	}
	a.Answered = time.Since(a.Start)
	return nil
}

// expire ends what has taken too long and forgets what is over.
func (p *Prober) expire(now time.Time) {
	kept := p.open[:0]
	for _, a := range p.open {
		if !a.over && now.Sub(a.Start) >= p.spec.Timeout {
			p.end(a, TimedOut)
		}
		if !a.over {
			kept = append(kept, a)
		}
	}
	p.open = kept
}

// end records an attempt and closes its socket.
func (p *Prober) end(a *attempt, outcome Outcome) {
	a.over, a.Outcome, a.Ended = true, outcome, time.Now()
	if a.fd > 0 {
		unix.Close(a.fd)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Attempts = append(p.log.Attempts, a.Attempt)
}

// outcomeOf sorts errors.
func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE), errors.Is(err, errBadAnswer):
		return Reset
	case errors.Is(err, unix.EHOSTUNREACH):
		return Unreachable
	case errors.Is(err, unix.ENETUNREACH):
		return NoRoute
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	}
	return Outcome(err.Error())
}
