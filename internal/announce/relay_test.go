package announce_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Two that do not hear each other, and are both heard by others: whoever has a claim tells it.
func TestAClaimTravelsAroundAPairThatDoesNotHearEachOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t, rapid.IntRange(3, 5).Draw(t, "nodes"), 0)
		c.run(2 * time.Second) // until all may claim what nobody owns
		x, y := c.nodes[0].name, c.nodes[1].name
		c.apart[[2]name.NodeName{x, y}], c.apart[[2]name.NodeName{y, x}] = true, true
		fresh := service("10.0.0.140")
		for _, n := range c.nodes {
			c.step(n, announce.Known{Service: fresh})
		}
		c.run(time.Second)
		owners := c.answering(fresh.Addresses[0])
		if len(owners) != 1 {
			t.Fatalf("%v answer", owners)
		}
		for _, n := range c.nodes {
			claims := n.state.News().Claims
			if len(claims) != 1 || claims[0].Owner != owners[0] {
				t.Fatalf("%s owns it; %s knows %v", owners[0], n.name, claims)
			}
		}
	})
}

// town is many speakers that know Services which nobody announces, so that nothing but claims that are
// made for them travels.
type town struct {
	now    time.Time
	random *rand.Rand
	states []*announce.State
	relays []*announce.Relay
	// compares is when each compares next.
	compares []time.Time
	numbers  map[name.NodeName]int
	// apart are pairs that do not hear each other, loss is the share of letters that get lost.
	apart map[[2]int]bool
	loss  float64
	mail  map[time.Time][]letterTo
	// packets and octets count what is passed on, compared those of digests and answers.
	packets, octets, compared, comparedOctets int
}

type letterTo struct {
	from, to int
	news     announce.News
}

func newTown(n, services int) *town {
	w := &town{
		now: time.Unix(1e9, 0), random: rand.New(rand.NewPCG(1, 2)), numbers: map[name.NodeName]int{},
		apart: map[[2]int]bool{}, mail: map[time.Time][]letterTo{},
	}
	var nodes []announce.Node
	members := announce.MembersKnown{Joined: true}
	for i := range n {
		one := node(fmt.Sprintf("worker-%03d.example.org", i), fmt.Sprintf("10.0.0.%d", i+1))
		nodes, w.numbers[one.Name] = append(nodes, one), i
		members.Members = append(members.Members, announce.Member{Node: one.Name, Health: announce.Alive, Since: w.now})
	}
	config := world().Config
	config.L2, config.BGP = nil, nil
	facts := []announce.Fact{
		announce.Configured{Config: config},
		announce.NodesKnown{Nodes: nodes},
		members,
		announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
	}
	for i := range services {
		s := service(unit(i).String())
		s.Key.Name = fmt.Sprintf("s%d", i)
		facts = append(facts, announce.Known{Service: s})
	}
	for _, one := range nodes {
		s := announce.NewState(one.Name)
		s.Step(w.now, facts...)
		w.states, w.relays = append(w.states, s), append(w.relays, announce.NewRelay(one.Name))
		w.compares = append(w.compares, w.now.Add(time.Duration(w.random.Int64N(int64(time.Second)))))
	}
	return w
}

func unit(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

func (w *town) send(from, to int, news announce.News) {
	if !w.apart[[2]int{from, to}] && w.random.Float64() >= w.loss {
		at := w.now.Add(tick)
		w.mail[at] = append(w.mail[at], letterTo{from, to, news})
	}
}

// claim has a node claim a unit, and tell all that hear it.
func (w *town) claim(by, u int) {
	c := election.Claim{Unit: unit(u), Owner: w.name(by), Successor: w.name((by + 1) % len(w.states)), Epoch: uint64(w.now.Unix()) << 16}
	w.states[by].Step(w.now, announce.Heard{News: announce.News{Claims: []election.Claim{c}}})
	w.states[by].Learned()
	for to := range w.states {
		if to != by {
			w.send(by, to, announce.News{Claims: []election.Claim{c}})
		}
	}
}

func (w *town) name(i int) name.NodeName { return w.states[i].Nodes()[i].Name }

// run lets time pass; if they are comparing, each does with others at random.
func (w *town) run(d time.Duration, comparing bool) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(tick) {
		for _, l := range w.mail[w.now] {
			w.states[l.to].Step(w.now, announce.Heard{News: l.news})
			w.relays[l.to].Add(w.states[l.to].Learned(), w.now)
			if d := l.news.Digest; d != nil {
				if answer := w.states[l.to].Beyond(*d); !answer.Empty() {
					w.send(l.to, w.numbers[d.Node], answer)
					w.compared, w.comparedOctets = w.compared+1+len(answer.Encode())/1400, w.comparedOctets+len(answer.Encode())
				}
			}
		}
		delete(w.mail, w.now)
		for i, r := range w.relays {
			for _, news := range r.Take(w.now) {
				others := slices.DeleteFunc(w.random.Perm(len(w.states)), func(to int) bool {
					return to == i || slices.Contains(news.Makers(), w.name(to))
				})
				for _, to := range others[:min(3, len(others))] {
					w.send(i, to, news)
					w.packets, w.octets = w.packets+1, w.octets+len(news.Encode())+28
				}
			}
			if comparing && !w.now.Before(w.compares[i]) {
				d, after := w.states[i].Compare()
				w.compares[i] = w.now.Add(after)
				to := (i + 1 + w.random.IntN(len(w.states)-1)) % len(w.states)
				w.send(i, to, announce.News{Digest: &d})
				w.compared, w.comparedOctets = w.compared+1, w.comparedOctets+len(announce.News{Digest: &d}.Encode())
			}
		}
	}
}

// lacking counts the claims that some lack.
func (w *town) lacking(services int) int {
	sum := 0
	for _, s := range w.states {
		sum += services - len(s.News().Claims)
	}
	return sum
}

// The owner of a thousand units dies, and all others claim their share of them at once.
func TestPassingOnADeathIsNoStorm(t *testing.T) {
	t.Parallel()
	for _, size := range []struct{ nodes, units int }{{50, 1000}, {200, 200}} {
		n, units := size.nodes, size.units
		w := newTown(n, units)
		for i := range n { // a third of all pairs do not hear each other, in one direction
			for j := range n {
				w.apart[[2]int{i, j}] = i != j && w.random.IntN(3) == 0
			}
		}
		began := w.now
		for u := range units {
			w.claim(u%n, u)
		}
		w.run(time.Second, false)
		lack := w.lacking(units)
		w.run(10*time.Second, false)
		t.Logf("%d nodes: passing on took %d packets and %d KB in all, %d and %d KB per node; %d of %d claims were not known after 1 s, %d after 11 s",
			n, w.packets, w.octets>>10, w.packets/n, w.octets>>10/n, lack, n*units, w.lacking(units))
		if per := w.packets / n; per > 60 {
			t.Errorf("%d nodes: each sends %d packets", n, per)
		}
		for w.lacking(units) > 0 {
			if w.run(time.Second, true); w.now.Sub(began) > time.Minute {
				t.Fatalf("%d nodes: after a minute of comparing %d claims are not known", n, w.lacking(units))
			}
		}
		t.Logf("%d nodes: comparing took %v more, %d packets and %d KB per node", n, w.now.Sub(began)-11*time.Second, w.compared/n, w.comparedOctets>>10/n)
		w.run(time.Second, true) // what was learned last is passed on
		w.compared, w.comparedOctets, w.packets = 0, 0, 0
		w.run(10*time.Second, true)
		if w.packets > 0 || w.compared > 11*n {
			t.Errorf("%d nodes: when all know all, %d packets are passed on and %d compare", n, w.packets, w.compared)
		}
		t.Logf("%d nodes: in calm each sends %d bytes a second to compare", n, w.comparedOctets/n/10)
	}
}

// One claim is made; many do not hear its maker, and letters get lost.
func TestOneClaimReachesThoseWhoDoNotHearItsMakerWithinSeconds(t *testing.T) {
	t.Parallel()
	const n = 200
	w := newTown(n, 1)
	w.loss = 0.05
	for to := range n / 2 {
		w.apart[[2]int{n - 1, to}] = true
	}
	w.claim(n-1, 0)
	w.run(500*time.Millisecond, true)
	t.Logf("after 500 ms %d of %d do not know it", w.lacking(1), n/2)
	w.run(4500*time.Millisecond, true)
	if lack := w.lacking(1); lack > 0 {
		t.Errorf("after 5 s %d do not know it", lack)
	}
	t.Logf("%d packets were passed on", w.packets)
	if w.packets > 3*n {
		t.Errorf("%d packets for one claim", w.packets)
	}
}

func TestWhatIsPassedOnIsBounded(t *testing.T) {
	t.Parallel()
	claims := func(n int) (news announce.News) {
		for i := range n {
			news.Claims = append(news.Claims, election.Claim{Unit: unit(i), Owner: name.NodeName(fmt.Sprintf("n%d", i)), Epoch: 1})
		}
		return news
	}
	reports := announce.News{Reports: []announce.Report{{Node: "x", Number: 1}, {Node: "y", Number: 1}}}
	tests := []struct {
		name    string
		add     []announce.News
		claims  int
		reports int
		dropped uint64
	}{
		{"nothing", nil, 0, 0, 0},
		{"one claim", []announce.News{claims(1)}, 1, 0, 0},
		{"the same claim twice", []announce.News{claims(1), claims(1)}, 1, 0, 0},
		{"as many as may leave at once", []announce.News{claims(40)}, 40, 0, 0},
		{"more than may leave at once", []announce.News{claims(100)}, 40, 0, 60},
		{"reports come first, and count more", []announce.News{claims(100), reports}, 32, 2, 68},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now, r := time.Unix(1e9, 0), announce.NewRelay("self")
			for _, news := range tt.add {
				r.Add(news, now)
			}
			if got := r.Take(now); got != nil {
				t.Errorf("it does not wait for more: %v", got)
			}
			gotClaims, gotReports := 0, 0
			for _, news := range r.Take(r.Due()) {
				gotClaims, gotReports = gotClaims+len(news.Claims), gotReports+len(news.Reports)
				if size := len(news.Encode()); size > 1100 {
					t.Errorf("%d bytes at once", size)
				}
			}
			if gotClaims != tt.claims || gotReports != tt.reports || r.Counts().Dropped != tt.dropped {
				t.Errorf("passed on %d claims and %d reports, dropped %d", gotClaims, gotReports, r.Counts().Dropped)
			}
			if !r.Due().IsZero() {
				t.Error("there is nothing left, but it is due")
			}
			now = now.Add(time.Second)
			r.Add(claims(100), now)
			sum := 0
			for _, news := range r.Take(now.Add(100 * time.Millisecond)) {
				sum += len(news.Claims)
			}
			if most := min(40, 40-tt.claims-4*tt.reports+20); sum != most {
				t.Errorf("a second later it passes on %d, want %d", sum, most)
			}
		})
	}
}

func TestTheSameVainClaimIsAnsweredOnceASecond(t *testing.T) {
	t.Parallel()
	s, now := owner()
	for _, tt := range []struct {
		name  string
		after time.Duration
		heard announce.Heard
		want  int
	}{
		{"the first time", 0, claimedBy("b", 7), 1},
		{"again, from somebody else", 10 * time.Millisecond, claimedBy("b", 7), 0},
		{"another vain claim", 10 * time.Millisecond, claimedBy("b", 8), 1},
		{"the same a second later", time.Second, claimedBy("b", 8), 1},
	} {
		now = now.Add(tt.after)
		s.Step(now, tt.heard)
		if told, won := len(s.Outbox().Claims), len(s.Won()); told != tt.want || won != tt.want {
			t.Errorf("%s: told %d times, announced %d times; want %d", tt.name, told, won, tt.want)
		}
	}
}
