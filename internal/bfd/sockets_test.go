package bfd

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// broken is a network without sockets, for a while.
type broken struct {
	network
	until time.Time
}

func (b broken) dial(s Session) (sender, error) {
	if time.Now().Before(b.until) {
		return nil, errors.New("no address")
	}
	return b.network.dial(s)
}

func (b broken) listen(k kind) (receiver, error) {
	if time.Now().Before(b.until) {
		return nil, errors.New("port in use")
	}
	return b.network.listen(k)
}

func TestSocketsThatCannotBeOpenedAreTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		a := New(Config{open: broken{w.end(left), time.Now().Add(20 * time.Second)}})
		a.Set([]Session{to(right)})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		b := w.party(t, right, to(left))
		defer b.end(t)
		time.Sleep(10 * time.Second)
		if s := a.Sessions()[0]; s.LastError != "port in use" {
			t.Errorf("%+v", s)
		}
		time.Sleep(20 * time.Second)
		if s := a.Sessions()[0]; s.State != Up || s.LastError != "" {
			t.Errorf("%+v", s)
		}
		stop() // nobody has read the transitions: none of them holds it up
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// deaf is a network whose first receiver fails.
type deaf struct {
	network
	failed *bool
}

func (d deaf) listen(k kind) (receiver, error) {
	if !*d.failed {
		*d.failed = true
		return failing{}, nil
	}
	return d.network.listen(k)
}

type failing struct{}

func (failing) read(*datagram) error { return errors.New("no memory") }
func (failing) Close() error         { return nil }

func TestAFailedReadIsNotTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		a := newParty(t, deaf{w.end(left), new(bool)}, to(right))
		defer a.end(t)
		b := w.party(t, right, to(left))
		defer b.end(t)
		time.Sleep(100 * ms)
		if s := a.Sessions()[0]; s.LastError != "no memory" {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Second)
		if s := a.Sessions()[0]; s.State != Up || s.LastError != "" {
			t.Errorf("%+v", s)
		}
	})
}

// unsteady is a network on which a write fails now and then.
type unsteady struct {
	network
	fail *atomic.Int64
}

type unsteadySender struct {
	sender
	fail *atomic.Int64
}

func (u unsteady) dial(s Session) (sender, error) {
	link, err := u.network.dial(s)
	return unsteadySender{link, u.fail}, err
}

func (u unsteadySender) Write(b []byte) (int, error) {
	if u.fail.Add(-1) >= 0 {
		return 0, syscall.ENETUNREACH
	}
	return u.sender.Write(b)
}

// The router counts packets: one that could not be sent is sent again, and no pause follows.
func TestAFailedWriteIsNotTheEndOfASession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, fail := newWire(), new(atomic.Int64)
		a := newParty(t, unsteady{w.end(left), fail}, to(right))
		defer a.end(t)
		b := w.party(t, right, to(left))
		defer b.end(t)
		time.Sleep(5 * time.Second)
		for range 20 {
			fail.Store(1)
			time.Sleep(time.Second)
			if fail.Load() > 0 {
				t.Fatal("nothing was sent")
			}
		}
		if s := b.state(); s.State != Up || s.Downs != 0 {
			t.Errorf("the other: %+v", s)
		}
		if s := a.Sessions()[0]; s.State != Up || s.Downs != 0 || s.LastError != "" {
			t.Errorf("%+v", s)
		}
		fail.Store(1000) // one that cannot send at all is found down by the router, and says why
		time.Sleep(time.Second)
		if s := b.state(); s.State != Down {
			t.Errorf("the other: %+v", s)
		}
		if s := a.Sessions()[0]; s.LastError != syscall.ENETUNREACH.Error() {
			t.Errorf("%+v", s)
		}
	})
}
