package main

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/keep"
	"github.com/ballast-lb/ballast/internal/name"
)

// keeper is a keeping whose engine has a state of its own.
type keeper struct {
	*keeping
	state *announce.State
	lines []string // of the log
	asked error
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{state: announce.NewState("n1")}
	k.keeping = &keeping{
		file: keep.File{Directory: filepath.Join(t.TempDir(), "cluster", "n1"), Node: "n1"},
		log:  funcr.New(func(_, line string) { k.lines = append(k.lines, line) }, funcr.Options{}),
		query: func(_ context.Context, look func(*announce.State)) error {
			if k.asked == nil {
				look(k.state)
			}
			return k.asked
		},
	}
	return k
}

func claim(address string, epoch uint64) election.Claim {
	return election.Claim{Unit: netip.MustParseAddr(address), Owner: "n2", Successor: "n1", Epoch: epoch}
}

// hear makes claims known, each for a Service of its own.
func (k *keeper) hear(claims ...election.Claim) {
	facts := []announce.Fact{announce.MembersKnown{}}
	for _, c := range claims {
		facts = append(facts, announce.Known{Service: announce.Service{
			Key: name.ServiceKey{Namespace: "shop", Name: c.Unit.String()}, Addresses: []netip.Addr{c.Unit},
		}})
	}
	k.state.Step(time.Now(), append(facts, announce.Heard{News: announce.News{Claims: claims}})...)
}

// is fails unless the file holds these claims in this order and is fresh.
func (k *keeper) is(t *testing.T, when string, want ...election.Claim) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if got, err := k.file.Read(time.Now()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: the file has %v, %v; want %v", when, got, err, want)
	}
}

// isGone fails if there is a file.
func (k *keeper) isGone(t *testing.T, when string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.file.Read(time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: there is a file: %v", when, err)
	}
}

// said fails unless the log has so many lines.
func (k *keeper) said(t *testing.T, when string, lines int) {
	t.Helper()
	if len(k.lines) != lines {
		t.Errorf("%s: the log has %q, want %d lines", when, k.lines, lines)
	}
}

// runs has run at work for the time of a test; after returns once a time has passed and what was
// due is done.
func (k *keeper) runs(t *testing.T) (after func(time.Duration)) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(d time.Duration) {
		<-time.After(d)
		synctest.Wait()
	}
}

func TestClaimsAreKeptInOrderOnceTheEngineHasBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.asked = errors.New("it has not begun")
		after := k.runs(t)
		after(5 * keepEvery)
		k.isGone(t, "before the engine has begun")
		k.asked = nil
		k.hear(claim("192.0.2.2", 3), claim("192.0.2.1", 3), claim("192.0.2.3", 3))
		after(keepEvery)
		k.is(t, "a second later", claim("192.0.2.1", 3), claim("192.0.2.2", 3), claim("192.0.2.3", 3))
		k.hear(claim("192.0.2.2", 4))
		after(keepEvery)
		k.is(t, "after a change", claim("192.0.2.1", 3), claim("192.0.2.2", 4), claim("192.0.2.3", 3))
		k.asked = errors.New("it has ended")
		after(2 * keepAnew)
		k.is(t, "after the engine has ended", claim("192.0.2.1", 3), claim("192.0.2.2", 4), claim("192.0.2.3", 3))
		k.said(t, "at the end", 0)
	})
}

func TestClaimsThatDoNotChangeAreWrittenEachMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.hear(claim("192.0.2.1", 3), claim("192.0.2.2", 3))
		after := k.runs(t)
		after(keepEvery)
		if err := k.file.Remove(); err != nil {
			t.Fatal(err)
		}
		after(keepAnew - keepEvery)
		k.isGone(t, "before a minute is over")
		after(keepEvery)
		k.is(t, "after a minute", claim("192.0.2.1", 3), claim("192.0.2.2", 3))
		after(3 * keep.MaxAge)
		k.is(t, "much later", claim("192.0.2.1", 3), claim("192.0.2.2", 3))
	})
}

func TestARestartWritesOnceMoreAndALeaveRemovesForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.hear(claim("192.0.2.1", 3))
		after := k.runs(t)
		after(keepEvery)
		k.hear(claim("192.0.2.1", 4))
		k.store(t.Context())
		k.is(t, "at a restart", claim("192.0.2.1", 4))
		k.hear(claim("192.0.2.1", 5))
		k.forget()
		after(2 * keepAnew)
		k.store(t.Context())
		k.isGone(t, "after it has left")
		k.said(t, "at the end", 0)
	})
}

func TestAFileThatCannotBeWrittenIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		blocked := filepath.Dir(k.file.Directory)
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k.hear(claim("192.0.2.1", 3))
		after := k.runs(t)
		after(10 * keepEvery)
		k.said(t, "while it cannot be written", 1)
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		after(10 * keepEvery)
		k.said(t, "once it can be written", 2)
		k.is(t, "once it can be written", claim("192.0.2.1", 3))
	})
}

func TestKeptClaimsAreRecalledUnlessTheyDoNotCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name     string
		written  time.Duration // before now
		none     bool
		damage   string
		recalled bool
		lines    int
	}{
		{name: "fresh ones are", written: time.Minute, recalled: true, lines: 1},
		{name: "where there are none, nothing is said", none: true},
		{name: "old ones are not", written: keep.MaxAge + time.Second, lines: 1},
		{name: "future ones are not", written: -time.Second, lines: 1},
		{name: "damaged ones are not", damage: `{"format":`, lines: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			want := []election.Claim{claim("192.0.2.1", 3)}
			if !test.none {
				if err := k.file.Write(want, now.Add(-test.written)); err != nil {
					t.Fatal(err)
				}
			}
			if test.damage != "" {
				files, err := filepath.Glob(filepath.Join(k.file.Directory, "*"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				if err := os.WriteFile(files[0], []byte(test.damage), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var wanted []announce.Fact
			if test.recalled {
				wanted = []announce.Fact{announce.Heard{News: announce.News{Claims: want}}}
			}
			if got := k.recall(now); !reflect.DeepEqual(got, wanted) {
				t.Errorf("recalled %v, want %v", got, wanted)
			}
			k.said(t, "after that", test.lines)
		})
	}
}
