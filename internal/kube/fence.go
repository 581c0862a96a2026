package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// errFenced is why a write is not sent.
var errFenced = errors.New("another replica may lead by now: this one has not renewed its lease lately")

// Fence keeps a leader from writing once another may have taken its lease over: after a
// freeze (a stopped process, a suspended machine) it wakes up in the middle of what it
// did and does not know yet. It is open for a while after each renewal, which ends before
// the lease by as long as a write may take. Its methods are safe for concurrent use.
type Fence struct {
	open  time.Duration
	clock func() time.Duration
	until atomic.Int64 // by clock; zero: closed
}

// NewFence makes a fence, closed, for leases of a length that is more than WriteTimeout.
func NewFence(lease time.Duration) *Fence {
	return &Fence{open: lease - WriteTimeout, clock: sinceBoot}
}

// sinceBoot goes on while the process is stopped and while the machine is suspended.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // it cannot fail for this clock (clock_gettime(2)); zero keeps the fence closed
	}
	return time.Duration(t.Nano())
}

// check returns an error if the fence is closed.
func (f *Fence) check() error {
	if f.clock() < time.Duration(f.until.Load()) {
		return nil
	}
	return errFenced
}

// Lock makes a lock that opens the fence whenever this process gets or renews it.
func (f *Fence) Lock(l resourcelock.Interface) resourcelock.Interface { return fencedLock{l, f} }

// Config makes a config whose clients send nothing while the fence is closed. What they
// have begun to send ends with an error, of unknown outcome, and closes the connection.
func (f *Fence) Config(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	dial := cfg.Dial
	if dial == nil {
		dial = Dial
	}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return fencedConn{conn, f}, nil
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return fencedTripper{next, f} })
	return cfg
}

// fencedLock opens a fence as of the moment before each renewal was sent: another replica
// counts the lease from when it sees it.
type fencedLock struct {
	resourcelock.Interface
	fence *Fence
}

// Create implements resourcelock.Interface.
func (l fencedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.renew(r, func() error { return l.Interface.Create(ctx, r) })
}

// Update implements resourcelock.Interface. A release names nobody, and closes the fence first.
func (l fencedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.renew(r, func() error { return l.Interface.Update(ctx, r) })
}

func (l fencedLock) renew(r resourcelock.LeaderElectionRecord, write func() error) error {
	until := l.fence.clock() + l.fence.open
	if r.HolderIdentity != l.Identity() {
		until = 0
		l.fence.until.Store(0)
	}
	if err := write(); err != nil {
		return err
	}
	l.fence.until.Store(int64(until))
	return nil
}

// fencedTripper refuses requests before they touch a connection.
type fencedTripper struct {
	next  http.RoundTripper
	fence *Fence
}

// RoundTrip implements http.RoundTripper.
func (t fencedTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.fence.check(); err != nil {
		return nil, err
	}
	return t.next.RoundTrip(r)
}

// fencedConn asks once more right before bytes leave the process: a freeze may have come
// between the request and this.
type fencedConn struct {
	net.Conn
	fence *Fence
}

// Write implements net.Conn.
func (c fencedConn) Write(p []byte) (int, error) {
	if err := c.fence.check(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
