package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long a burst of changes is gathered before the kernel is asked.
	settle = 10 * time.Millisecond
	// listEvery is the least time between two lists, however much changes: a node with many
	// pods sees some changes a second, and each list costs in proportion to the pods.
	listEvery = 100 * time.Millisecond
	// receiveBuffer is the room for changes not yet read, in bytes.
	receiveBuffer = 1 << 20

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Watcher delivers a Snapshot at its start and after each change. Make it with NewWatcher.
type Watcher struct {
	log     logr.Logger
	changes chan Snapshot
}

// NewWatcher returns a Watcher that does nothing until Run.
func NewWatcher(log logr.Logger) *Watcher {
	return &Watcher{log: log, changes: make(chan Snapshot, 1)}
}

// Changes returns the channel on which snapshots arrive, for one reader. One that the reader
// has not taken yet is replaced by the next, so the reader always gets the newest. The
// channel is never closed.
func (w *Watcher) Changes() <-chan Snapshot { return w.changes }

// Run watches the network namespace of the process until ctx ends, then returns nil. When the
// kernel drops changes for lack of room (ENOBUFS), or netlink fails otherwise, it subscribes
// again after a backoff and lists everything anew, so nothing is lost. Call it once.
func (w *Watcher) Run(ctx context.Context) error {
	var last *Snapshot
	for tries := 0; ; tries++ {
		began := time.Now()
		err := w.watch(ctx, &last)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > lastRetry {
			tries = 0
		}
		if tries == 0 {
			w.log.Info("lost the view of interfaces, subscribing again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff(tries)):
		}
	}
}

// watch subscribes once, and keeps last and the reader up to date until that fails.
func (w *Watcher) watch(ctx context.Context, last **Snapshot) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to netlink: %w", err)
	}
	changed, broken := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		broken <- listen(socket, changed)
		close(broken)
	}()
	defer func() {
		socket.Close()
		for range broken { // until the goroutine is gone
		}
	}()
	if err := socket.SetReceiveBufferSize(receiveBuffer, false); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	waiting, listed := true, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return err
		case <-changed:
			if !waiting {
				waiting = true
				pause.Reset(max(settle, listEvery-time.Since(listed)))
			}
		case <-pause.C:
			waiting, listed = false, time.Now()
			s, err := List()
			if errors.Is(err, netlink.ErrDumpInterrupted) {
				waiting = true
				pause.Reset(settle)
				continue
			}
			if err != nil {
				return err
			}
			w.deliver(s, last)
		}
	}
}

// listen notes on changed that something arrived, until the socket fails or is closed. What
// arrived is not looked at: the list that follows tells.
func listen(socket *nl.NetlinkSocket, changed chan<- struct{}) error {
	for {
		if _, _, err := socket.Receive(); err != nil {
			return fmt.Errorf("receive from netlink: %w", err)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// deliver hands s to the reader if it differs from the last one.
func (w *Watcher) deliver(s Snapshot, last **Snapshot) {
	if *last != nil && (*last).Equal(s) {
		return
	}
	*last = &s
	select {
	case <-w.changes:
	default:
	}
	w.changes <- s
}

// backoff returns the wait before try number tries, counted from 0: it doubles up to
// lastRetry, and a random half of it keeps nodes apart.
func backoff(tries int) time.Duration {
	d := min(firstRetry<<min(tries, 10), lastRetry)
	return d/2 + rand.N(d/2)
}
