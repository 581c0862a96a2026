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

func TestPeersOfALargeLANAreTriedWithinASecondThoughNoneAnswers(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(300), time.Unix(1_000_000, 0)
	var sums []int
	for sum := 0; sum < joinsAtOnce && len(sums) < 20; now = now.Add(joinsDouble) {
		sum += len(a.start(peers, nil, now))
		sums = append(sums, sum)
	}
	if want := []int{3, 6, 12, 24, 48, 96, 192, joinsAtOnce}; !slices.Equal(sums, want) {
		t.Errorf("%v run, want %v", sums, want)
	}
	a.done(peers[0].Name, absent, now, 0)
	if started := a.start(peers, nil, now); !same(started, peers[joinsAtOnce:joinsAtOnce+1]) {
		t.Errorf("when one has ended, %v begin", started)
	}
}

func TestThoseThatHangNeitherHinderOthersNorHaveThemTriedAllAtOnce(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(110), time.Unix(1_000_000, 0)
	for range 10 {
		a.start(peers[:10], nil, now)
		now = now.Add(joinsDouble)
	}
	if a.running != 10 {
		t.Fatalf("%d run", a.running)
	}
	if started := a.start(peers, nil, now); !same(started, peers[10:10+joinsFirst]) {
		t.Errorf("started %v", started)
	}
	a.done(peers[0].Name, absent, now, 0) // one of those that hung
	if started := a.start(peers, nil, now); len(started) > 0 {
		t.Errorf("started %v more", started)
	}
	a.done(peers[10].Name, exchanged, now, 0)
	if started := a.start(peers, nil, now); !same(started, peers[13:14]) {
		t.Errorf("then started %v", started)
	}
}

func TestPeersThatRefuseAreTriedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(9), time.Unix(1_000_000, 0)
	for i := 0; i < 9; i += joinsFirst {
		if started := a.start(peers, nil, now); !same(started, peers[i:i+joinsFirst]) {
			t.Fatalf("started %v", started)
		}
		for _, p := range peers[i : i+joinsFirst] {
			a.done(p.Name, absent, now, 0)
		}
	}
	if !a.allTried() {
		t.Error("not all are tried")
	}
}

func TestOfManyThatAreHeardAgainAtOnceSomeAreEnough(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(100), time.Unix(1_000_000, 0)
	alive := map[name.NodeName]bool{}
	for _, p := range peers {
		alive[p.Name] = true
	}
	a.start(peers, alive, now)
	hurry := func(some []Peer) (tried int) {
		for _, p := range some {
			a.hurry(p.Name)
		}
		for started := a.start(peers, alive, now); len(started) > 0; started = a.start(peers, alive, now) {
			tried += len(started)
			for _, p := range started {
				a.done(p.Name, exchanged, now, 0)
			}
		}
		return tried
	}
	if tried := hurry(peers[1:]); tried != joinsEnough {
		t.Errorf("%d of 99 are tried", tried)
	}
	now = now.Add(joinsDouble)
	if tried := hurry(peers[:1]); tried != 1 {
		t.Errorf("one that is heard later is tried %d times", tried)
	}
	now = now.Add(joinsDouble)
	delete(alive, peers[50].Name)
	if tried := hurry(peers); tried != joinsEnough {
		t.Errorf("%d of 100 are tried", tried)
	}
	if now = now.Add(firstRetry); !same(a.start(peers, alive, now), peers[50:51]) {
		t.Error("one that is no member is not tried later")
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
