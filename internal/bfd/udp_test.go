package bfd

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// The sessions share the ports, so both ends of each belong to one server.
func TestSessionsOverTheLoopbackInterface(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	sessions := []Session{}
	for _, x := range []struct {
		peer, local string
		multihop    bool
	}{{"127.0.3.1", "127.0.3.2", false}, {"127.0.3.2", "127.0.3.1", false}, {"127.0.4.1", "127.0.4.2", true}, {"127.0.4.2", "127.0.4.1", true}} {
		one := to(netip.MustParseAddr(x.peer))
		one.Local, one.MultiHop, one.MinimumTTL = netip.MustParseAddr(x.local), x.multihop, 200
		sessions = append(sessions, one)
	}
	s.Set(sessions)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	limit := time.After(20 * time.Second)
	for up := 0; up < len(sessions); {
		select {
		case x := <-s.Transitions():
			if x.To == Up {
				up++
			}
		case <-limit:
			t.Fatalf("not up: %+v", s.Sessions())
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
