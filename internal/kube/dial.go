package kube

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// unanswered is how long what was sent to the API server may stay without an acknowledgement before
	// the connection is given up (TCP_USER_TIMEOUT, tcp(7)). HTTP/2 notices after 45 s only, and a
	// connection whose own address is gone, or that stood still through an outage, never works again sooner.
	unanswered = 6 * time.Second
	// probeAfter is how long a connection may be silent before it is probed, each probeEvery.
	probeAfter, probeEvery = 3 * time.Second, time.Second
)

// Dial opens a connection to the API server that fails some seconds after the server is out of reach,
// whoever waits on it, so that a new one is opened as soon as that works.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: WriteTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: probeAfter, Interval: probeEvery, Count: int((unanswered - probeAfter) / probeEvery),
		},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
			}); failed != nil {
				return failed
			}
			return err
		},
	}
	return d.DialContext(ctx, network, address)
}
