package bfd

import (
	"io"
	"net/netip"
	"time"
)

// kind is what listening sockets differ in.
type kind struct{ multihop, ipv6 bool }

func kindOf(s Session) kind { return kind{s.MultiHop, s.Peer.Is6()} }

// datagram is a received packet and what the network says of it.
type datagram struct {
	from     netip.Addr // with its zone if link-local
	ttl      uint8      // or hop limit
	multihop bool
	length   int
	data     [maxPacket]byte
}

// sender sends the packets of one session.
type sender interface {
	io.WriteCloser
}

// receiver receives the packets of all sessions of a kind. read fails after Close.
type receiver interface {
	read(*datagram) error
	io.Closer
}

// network opens sockets.
type network interface {
	dial(Session) (sender, error)
	listen(kind) (receiver, error)
}

// listener is an open receiver, or why there is none.
type listener struct {
	receiver receiver
	err      string
	retry    retry
}

// listen sees to it that what comes for the sessions is received; what cannot be opened is tried again
// at listenAt.
func (o *owner) listen(now time.Time) {
	o.listenAt = time.Time{}
	for _, s := range o.sessions {
		k := kindOf(s.Session)
		l := o.listeners[k]
		if l == nil {
			l = &listener{}
			o.listeners[k] = l
		}
		if l.receiver == nil && !now.Before(l.retry.again) {
			r, err := o.open.listen(k)
			if err != nil {
				l.err = err.Error()
				l.retry.failed(now)
				o.log.Error(err, "cannot listen for BFD packets; trying again", "in", l.retry.pause.String())
			} else {
				l.receiver, l.err, l.retry = r, "", retry{}
				o.readers.Go(func() { o.read(r, k) })
			}
		}
		if l.receiver == nil && (o.listenAt.IsZero() || l.retry.again.Before(o.listenAt)) {
			o.listenAt = l.retry.again
		}
	}
	for _, s := range o.sessions {
		o.publish(s)
	}
}

// failure is why nothing is received any more.
type failure struct {
	kind kind
	err  error
}

// failed has a receiver opened anew.
func (o *owner) failed(f failure, now time.Time) {
	l := o.listeners[f.kind]
	_ = l.receiver.Close()
	l.receiver, l.err = nil, f.err.Error()
	l.retry.failed(now)
	o.log.Error(f.err, "cannot receive BFD packets; listening anew", "in", l.retry.pause.String())
	o.listen(now)
}

// read hands packets to the owner until the receiver is closed or fails.
func (o *owner) read(r receiver, k kind) {
	for {
		d := datagram{multihop: k.multihop}
		if err := r.read(&d); err != nil {
			select {
			case o.failures <- failure{k, err}:
			case <-o.done:
			}
			return
		}
		select {
		case o.inbox <- d:
		case <-o.done:
			return
		}
	}
}

// close ends sockets and readers.
func (o *owner) close() {
	close(o.done)
	for _, l := range o.listeners {
		if l.receiver != nil {
			_ = l.receiver.Close()
		}
	}
	for _, s := range o.sessions {
		if s.link != nil {
			_ = s.link.Close()
		}
	}
	o.readers.Wait()
}
