package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lock stands for a lease that only this process asks for.
type lock struct {
	resourcelock.Interface
	err error
}

func (l *lock) Identity() string                                                { return "me" }
func (l *lock) Create(context.Context, resourcelock.LeaderElectionRecord) error { return l.err }
func (l *lock) Update(context.Context, resourcelock.LeaderElectionRecord) error { return l.err }

func TestFence(t *testing.T) {
	t.Parallel()
	now := time.Hour
	f := NewFence(6 * time.Second)
	f.clock = func() time.Duration { return now }
	lease := &lock{}
	fenced := f.Lock(lease)
	mine, nobody := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	expect := func(when string, open bool) {
		t.Helper()
		if got := f.check() == nil; got != open {
			t.Errorf("%s: open is %t, want %t", when, got, open)
		}
	}
	renew := func(r resourcelock.LeaderElectionRecord) error { return fenced.Update(t.Context(), r) }

	expect("before the lease is held", false)
	if err := fenced.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	expect("with a new lease", true)
	now += 2 * time.Second
	if err := renew(mine); err != nil {
		t.Fatal(err)
	}
	now += 2 * time.Second
	expect("two seconds after a renewal", true)
	lease.err = errors.New("timeout")
	if err := renew(mine); err == nil {
		t.Fatal("the error is lost")
	}
	now += time.Second
	expect("three seconds after the last renewal that succeeded", false)
	lease.err = nil
	if err := renew(mine); err != nil {
		t.Fatal(err)
	}
	expect("renewed again", true)
	lease.err = errors.New("timeout")
	if err := renew(nobody); err == nil {
		t.Fatal("the error is lost")
	}
	expect("released, even if nobody knows whether that arrived", false)
}

func TestFenceStopsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	arrived := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived++ }))
	defer server.Close()
	f := NewFence(6 * time.Second)
	lease := f.Lock(&lock{})
	client, err := rest.HTTPClientFor(f.Config(&rest.Config{Host: server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(server.URL); !errors.Is(err, errFenced) {
		t.Errorf("without a lease: got %v, want that nothing is sent", err)
	}
	if err := lease.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if arrived != 1 {
		t.Errorf("%d requests arrived, want the one that was sent with a lease", arrived)
	}

	f.until.Store(0) // the freeze: the request has passed the first check
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	if _, err := (fencedConn{near, f}).Write([]byte("PATCH")); !errors.Is(err, errFenced) {
		t.Errorf("on the way to the socket: got %v, want that nothing is sent", err)
	}
}

func TestFenceClockGoesOn(t *testing.T) {
	t.Parallel()
	if first, second := sinceBoot(), sinceBoot(); first <= 0 || second < first {
		t.Errorf("read %s, then %s", first, second)
	}
}
