package membership

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func addresses(n int) []netip.Addr {
	var list []netip.Addr
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	return list
}

func TestAttemptsTryAllPeersAtOnceAndAbsentOnesLessAndLessOften(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), addresses(3), time.Now()
	if started, _ := a.start(peers, nil, now); !slices.Equal(started, peers) {
		t.Fatalf("started %v", started)
	}
	if started, wait := a.start(peers, nil, now); len(started) > 0 || wait != idle {
		t.Fatalf("started %v though they run, wait %v", started, wait)
	}
	a.done(peers[0], now, 0)
	a.done(peers[1], now, 0)
	if a.allTried() {
		t.Error("all are tried though one still runs")
	}
	a.done(peers[2], now, 0)
	if !a.allTried() {
		t.Error("not all are tried")
	}
	alive := map[netip.Addr]bool{peers[0]: true}
	var tries []time.Duration
	began := now
	for range 7 {
		started, wait := a.start(peers[:2], alive, now)
		if len(started) == 0 {
			now = now.Add(wait)
			started, _ = a.start(peers[:2], alive, now)
		}
		if !slices.Equal(started, peers[1:2]) {
			t.Fatalf("started %v", started)
		}
		tries = append(tries, now.Sub(began))
		began = now
		a.done(peers[1], now, 0)
	}
	ms := time.Millisecond
	if want := []time.Duration{250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, lastRetry, lastRetry}; !slices.Equal(tries, want) {
		t.Errorf("tried after %v, want %v", tries, want)
	}
}

func TestAttemptsTryAMemberThatDisappearsAtOnce(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), addresses(1), time.Now()
	a.start(peers, nil, now)
	a.done(peers[0], now, 0)
	a.start(peers, map[netip.Addr]bool{peers[0]: true}, now)
	if started, _ := a.start(peers, nil, now.Add(time.Millisecond)); len(started) != 1 {
		t.Error("it is not tried")
	}
}

// TestAttemptsKeepTheirBounds drives attempts at random.
func TestAttemptsKeepTheirBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, all, now := newAttempts(), addresses(40), time.Now()
		running := map[netip.Addr]bool{}
		some := rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID[netip.Addr])
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "ms")) * time.Millisecond)
			peers, alive := some.Draw(t, "peers"), map[netip.Addr]bool{}
			for _, p := range some.Draw(t, "alive") {
				alive[p] = true
			}
			started, wait := a.start(peers, alive, now)
			for _, p := range started {
				if running[p] || alive[p] || !slices.Contains(peers, p) {
					t.Fatalf("started %v", p)
				}
				running[p] = true
			}
			if len(running) > joinsAtOnce || a.running != len(running) {
				t.Fatalf("%d joins run, counted %d", len(running), a.running)
			}
			if wait <= 0 || wait > idle {
				t.Fatalf("wait %v", wait)
			}
			for p := range running {
				if rapid.Bool().Draw(t, "ends") {
					a.done(p, now, 0.5)
					delete(running, p)
				}
			}
		}
	})
}
