package neighbor

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// minRetry is the least pause after an interface could not be used, however often Set is called.
	minRetry = 100 * time.Millisecond
	// firstRetry and lastRetry bound that pause while nobody calls Set; it doubles.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	// never is the time until something that is not foreseen.
	never = time.Hour
)

// owner is what the goroutine of Run owns.
type owner struct {
	*Finder
	ports   map[string]*port
	inbox   chan arrival
	done    chan struct{}
	readers sync.WaitGroup
}

// port is one interface of Set. It has a socket while the interface can be used.
type port struct {
	link
	name   string
	state  state
	socket socket
	// failure says why there is no socket, since failed; pause and again are when to try next.
	failure string
	failed  time.Time
	pause   time.Duration
	again   time.Time
}

// arrival is what a socket has read.
type arrival struct {
	port   *port
	socket socket
	packet packet
	err    error
}

func (p *port) why(now time.Time) string {
	if p.failure != "" {
		return p.failure
	}
	return p.problem(p.name, now)
}

// fail closes the port until a later try.
func (p *port) fail(why string, now time.Time) {
	p.close()
	p.failure, p.failed = why, now
	p.pause = min(max(2*p.pause, firstRetry), lastRetry)
	p.again = now.Add(p.pause/2 + time.Duration(random()*float64(p.pause/2)))
}

func (p *port) close() {
	if p.socket != nil {
		_ = p.socket.Close()
		p.socket = nil
	}
}

func (o *owner) close() {
	for _, p := range o.ports {
		p.close()
	}
	close(o.done)
	o.readers.Wait()
}

// reconcile begins and ends ports so that they are those of Set, and looks at all interfaces.
func (o *owner) reconcile(now time.Time) {
	o.mu.Lock()
	wanted := o.wanted
	o.mu.Unlock()
	for name, p := range o.ports {
		if !slices.Contains(wanted, name) {
			p.close()
			delete(o.ports, name)
		}
	}
	for _, name := range wanted {
		p := o.ports[name]
		if p == nil {
			p = &port{name: name}
			o.ports[name] = p
		}
		if p.socket != nil {
			o.check(p, now)
		} else if soon := p.failed.Add(minRetry); soon.Before(p.again) {
			p.again = soon
		}
	}
}

// act does what is due, and returns when there is more to do.
func (o *owner) act(now time.Time) time.Time {
	next := now.Add(never)
	for _, p := range o.ports {
		if p.socket == nil && !now.Before(p.again) {
			o.open(p, now)
		} else if p.socket != nil && !now.Before(p.next) && o.check(p, now) {
			o.send(p, now)
		}
		at := p.next
		if p.socket == nil {
			at = p.again
		}
		for _, t := range []time.Time{at, p.expiry(now)} {
			if !t.IsZero() && t.Before(next) {
				next = t
			}
		}
	}
	return next
}

// check looks at the interface, and closes the port if it cannot be used, or is another than before.
func (o *owner) check(p *port, now time.Time) bool {
	s, err := o.network.look(p.name)
	if err != nil {
		if errno := syscall.Errno(0); !errors.As(err, &errno) { // the kernel has answered
			p.forget()
		}
		p.fail(fmt.Sprintf("interface %s is not there: %v", p.name, err), now)
		return false
	}
	if s.index != p.state.index {
		p.forget()
		p.close()
	}
	p.state = s
	switch {
	case !s.up:
		p.down()
		p.fail("interface "+p.name+" is down", now)
	case len(s.own) == 0:
		p.fail("interface "+p.name+" has no link-local IPv6 address", now)
	case p.socket == nil:
		return o.listen(p, now)
	}
	return p.socket != nil
}

// open tries to use the interface.
func (o *owner) open(p *port, now time.Time) {
	if o.check(p, now) {
		o.send(p, now)
	}
}

// listen opens the port's socket.
func (o *owner) listen(p *port, now time.Time) bool {
	s, err := o.network.open(p.state.index)
	if err != nil {
		p.fail(err.Error(), now)
		return false
	}
	p.socket = s
	p.begin(now)
	o.readers.Go(func() { o.receive(p, s) })
	return true
}

// receive hands over what is read, until the socket is closed.
func (o *owner) receive(p *port, s socket) {
	for {
		got, err := s.read()
		select {
		case o.inbox <- arrival{p, s, got, err}:
		case <-o.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// take handles what arrived.
func (o *owner) take(a arrival, now time.Time) {
	p := a.port
	if p.socket == nil || p.socket != a.socket {
		return // of a socket that is closed
	}
	switch {
	case a.err != nil:
		p.fail(a.err.Error(), now)
	case slices.Contains(p.state.own, a.packet.from):
		// of another program of this node
	case a.packet.message == advertises:
		p.hear(a.packet.from, now)
	case a.packet.message == solicits:
		p.solicited(now, random())
	}
}

// send makes us known, and asks for the router if it is not known or long silent.
func (o *owner) send(p *port, now time.Time) {
	err := p.socket.write(advertisement(p.state.mac), allNodes)
	if err == nil && p.asks(now) {
		err = p.socket.write(solicitation(p.state.mac), allRouters)
	}
	if err != nil {
		p.fail(fmt.Sprintf("interface %s: %v", p.name, err), now)
		return
	}
	p.failure, p.pause = "", 0
	p.advertised(now, random())
}
