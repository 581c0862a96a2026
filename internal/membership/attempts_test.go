package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/name"
)

func somePeers(n int) []Peer {
	var list []Peer
	for i := range n {
		list = append(list, Peer{Name: name.NodeName(fmt.Sprintf("n%d", i)), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}})
	}
	return list
}

// same says whether two lists name the same peers.
func same(x, y []Peer) bool {
	return slices.EqualFunc(x, y, func(x, y Peer) bool { return x.Name == y.Name })
}

func TestAttemptsTryAllPeersAtOnceAndAbsentOnesLessAndLessOften(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(2), time.Unix(1_000_000, 0)
	if started := a.start(peers, nil, now); !same(started, peers) {
		t.Fatalf("started %v", started)
	}
	if started := a.start(peers, nil, now); len(started) > 0 {
		t.Fatalf("started %v though they run", started)
	}
	a.done(peers[0].Name, exchanged, now, 0)
	if a.allTried() {
		t.Error("all are tried though one still runs")
	}
	a.done(peers[1].Name, absent, now, 0)
	if !a.allTried() {
		t.Error("not all are tried")
	}
	alive, began := map[name.NodeName]bool{peers[0].Name: true}, now
	var tries []time.Duration
	for len(tries) < 7 && now.Sub(began) < time.Minute {
		now = now.Add(10 * ms)
		if started := a.start(peers, alive, now); len(started) > 0 {
			if !same(started, peers[1:2]) {
				t.Fatalf("started %v", started)
			}
			tries, began = append(tries, now.Sub(began)), now
			a.done(peers[1].Name, absent, now, 0)
		}
	}
	if want := []time.Duration{250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, lastRetry, lastRetry}; !slices.Equal(tries, want) {
		t.Errorf("tried after %v, want %v", tries, want)
	}
}

func TestAllPeersOfALargeLANAreTriedAtOnce(t *testing.T) {
	t.Parallel()
	if started := newAttempts().start(somePeers(200), nil, time.Unix(1_000_000, 0)); len(started) != 200 {
		t.Errorf("%d of 200 are tried", len(started))
	}
	a, peers, now := newAttempts(), somePeers(300), time.Unix(1_000_000, 0)
	if started := a.start(peers, nil, now); len(started) != joinsAtOnce {
		t.Errorf("%d of 300 are tried", len(started))
	}
	a.done(peers[0].Name, absent, now, 0)
	if started := a.start(peers, nil, now); !same(started, peers[joinsAtOnce:joinsAtOnce+1]) {
		t.Errorf("when one has ended, %v begin", started)
	}
}

func TestWhatIsKnownOfThePeersFollowsFromTheTries(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	none := map[name.NodeName]bool{}
	tests := []struct {
		name    string
		happen  func(a *attempts, p Peer)
		tried   bool
		tryNext bool // a second later
	}{
		{"nothing was tried", func(*attempts, Peer) {}, true, true},
		{"a try runs", func(a *attempts, p Peer) { a.start([]Peer{p}, none, now) }, false, false},
		{"it is absent", func(a *attempts, p Peer) { a.start([]Peer{p}, none, now); a.done(p.Name, absent, now, 0) }, true, true},
		{"it told what it knows", func(a *attempts, p Peer) { a.start([]Peer{p}, none, now); a.done(p.Name, exchanged, now, 0) }, true, true},
		{"it lives and does not answer", func(a *attempts, p Peer) { a.start([]Peer{p}, none, now); a.done(p.Name, blocked, now, 0) }, false, true},
		{"it was absent before, and now lives and does not answer", func(a *attempts, p Peer) {
			a.start([]Peer{p}, none, now)
			a.done(p.Name, absent, now, 0)
			a.start([]Peer{p}, none, now.Add(300*ms))
			a.done(p.Name, blocked, now.Add(300*ms), 0)
		}, true, true},
		{"it is a member", func(a *attempts, p Peer) { a.start([]Peer{p}, map[name.NodeName]bool{p.Name: true}, now) }, true, true},
		{"it was heard while its turn is far away", func(a *attempts, p Peer) {
			for i := range 6 {
				a.start([]Peer{p}, none, now.Add(time.Duration(i)*lastRetry-time.Minute))
				a.done(p.Name, absent, now, 0)
			}
			a.hurry(p.Name)
		}, true, true},
		{"it was tried often, and its turn is far away", func(a *attempts, p Peer) {
			for i := range 6 {
				a.start([]Peer{p}, none, now.Add(time.Duration(i)*lastRetry-time.Minute))
				a.running, a.peers[p.Name] = 1, attempt{addresses: p.Addresses, running: 1, failures: i}
				a.done(p.Name, absent, now, 0)
			}
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, p := newAttempts(), somePeers(1)[0]
			tt.happen(a, p)
			if a.allTried() != tt.tried {
				t.Errorf("allTried() = %v", a.allTried())
			}
			if again := a.start([]Peer{p}, none, now.Add(time.Second)); (len(again) > 0) != tt.tryNext {
				t.Errorf("started %v", again)
			}
		})
	}
}

func TestAPeerThatIsHeardIsTriedAtOnceThoughItIsAMember(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(2), time.Unix(1_000_000, 0)
	alive := map[name.NodeName]bool{peers[0].Name: true, peers[1].Name: true}
	a.start(peers, alive, now)
	a.hurry(peers[1].Name)
	a.hurry("another") // of whom nobody told
	if started := a.start(peers, alive, now); !same(started, peers[1:]) {
		t.Errorf("started %v", started)
	}
	if started := a.start(peers, map[name.NodeName]bool{}, now); !same(started, peers[:1]) {
		t.Errorf("one that disappears is not tried at once; started %v", started)
	}
}

// TestAttemptsKeepTheirBounds drives attempts at random.
func TestAttemptsKeepTheirBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, all, now := newAttempts(), somePeers(40), time.Unix(1_000_000, 0)
		running, hurried, sum := map[name.NodeName]int{}, map[name.NodeName]bool{}, 0
		some := rapid.SliceOfDistinct(rapid.SampledFrom(all), func(p Peer) name.NodeName { return p.Name })
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "ms")) * ms)
			peers, alive := some.Draw(t, "peers"), map[name.NodeName]bool{}
			for _, p := range some.Draw(t, "alive") {
				alive[p.Name] = true
			}
			for _, p := range some.Draw(t, "heard") {
				a.hurry(p.Name)
				hurried[p.Name] = true
			}
			for _, p := range a.start(peers, alive, now) {
				if running[p.Name] > 1 || (running[p.Name] == 1 || alive[p.Name]) && !hurried[p.Name] || !slices.ContainsFunc(peers, func(x Peer) bool { return x.Name == p.Name }) {
					t.Fatalf("started %v", p)
				}
				running[p.Name]++
				sum++
				delete(hurried, p.Name)
			}
			if sum > joinsAtOnce || a.running != sum {
				t.Fatalf("%d joins run, counted %d", sum, a.running)
			}
			for _, p := range all {
				if running[p.Name] > 0 && rapid.Bool().Draw(t, "ends") {
					a.done(p.Name, rapid.SampledFrom([]outcome{absent, exchanged, blocked}).Draw(t, "how"), now, 0.5)
					running[p.Name]--
					sum--
				}
			}
		}
	})
}

func TestTheBackoffDoublesUpToItsLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		failures, random := rapid.IntRange(0, 1000).Draw(t, "failures"), rapid.Float64Range(0, 0.999).Draw(t, "random")
		if d := backoff(failures, random); d < firstRetry/2 || d > lastRetry || d > backoff(failures+1, 0) {
			t.Fatalf("wait %v", d)
		}
	})
}
