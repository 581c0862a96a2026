package link

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

func TestWatcherDeliversThisHostAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := NewWatcher(logr.Discard())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	select {
	case s := <-w.Changes():
		if lo, ok := s.Find("lo"); !ok || !lo.Loopback {
			t.Errorf("the snapshot has no loopback interface: %+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("no snapshot arrived")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Run does not end")
	}
}

func TestReaderGetsTheNewestSnapshotAndNoneTwice(t *testing.T) {
	t.Parallel()
	w := NewWatcher(logr.Discard())
	var last *Snapshot
	for _, name := range []string{"a", "b", "b"} {
		w.deliver(Snapshot{{Name: name}}, &last)
	}
	if s := <-w.Changes(); s[0].Name != "b" {
		t.Errorf("got %v, want the newest", s)
	}
	w.deliver(Snapshot{{Name: "b"}}, &last)
	select {
	case s := <-w.Changes():
		t.Errorf("got %v again", s)
	default:
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	t.Parallel()
	for tries := range 100 {
		if d := backoff(tries); d < firstRetry/2 || d > lastRetry {
			t.Errorf("backoff(%d) = %v", tries, d)
		}
	}
	if backoff(20) < lastRetry/2 {
		t.Error("backoff does not grow")
	}
}
