package membership

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// deaths returns how long after since each node was taken for dead, and who was though it is not
// in dead.
func deaths(changes []change, since time.Time, dead map[name.NodeName]bool) (after []time.Duration, wrong []change) {
	for _, c := range changes {
		switch {
		case c.health == Dead && dead[c.of]:
			after = append(after, c.at.Sub(since))
		case c.health == Dead && !dead[c.by]:
			wrong = append(wrong, c)
		}
	}
	slices.Sort(after)
	return after, wrong
}

// membersVariable says how many members TestMembersOnALAN has: 200 take several minutes, fifty
// some seconds.
const membersVariable = "BALLAST_MEMBERS"

// TestMembersOnALAN has whole members, fifty unless told otherwise, on a network in memory, in
// virtual time. TestTwoHundredWatches has more, but of the heartbeats alone.
func TestMembersOnALAN(t *testing.T) {
	n := 50
	if said := os.Getenv(membersVariable); said != "" {
		var err error
		if n, err = strconv.Atoi(said); err != nil || n < 10 {
			t.Fatalf("%s=%s is no number of at least 10", membersVariable, said)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(n)
		defer c.end()
		for i := range n {
			c.begin(t, i, nil)
		}
		t.Logf("all started at once; all alive for all after %v", until(t, 30*time.Second, "all alive", func() bool { return c.all(numbers(n)) }))
		meter := func() (packets, octets uint64) {
			for _, h := range c.net.hosts {
				packets, octets = packets+h.frames.Load(), octets+h.bytes.Load()
			}
			return packets, octets
		}

		c.net.lossy(0.01)
		c.forget()
		p0, b0 := meter()
		random := rand.New(rand.NewPCG(3, 4))
		const calm = 60
		for range calm * 2 { // each stands still for 200 ms once in some seconds
			for range n / 10 {
				c.host(random.IntN(n)).hold(200 * ms)
			}
			time.Sleep(500 * ms) // virtual time
		}
		p1, b1 := meter()
		t.Logf("with 1 %% loss and standstills of 200 ms: a node sends %d packets and %d bytes a second", (p1-p0)/uint64(n)/calm, (b1-b0)/uint64(n)/calm)
		changes := c.forget()
		if _, wrong := deaths(changes, time.Now(), nil); len(wrong) > 0 {
			t.Errorf("%d times a living node was taken for dead, first %+v", len(wrong), wrong[0])
		}
		t.Logf("%d changes of health in %d s, none to dead", len(changes), calm)
		until(t, 10*time.Second, "all alive", func() bool { return c.all(numbers(n)) })

		// One loses its power.
		c.forget()
		died := time.Now()
		last := c.peers[n-1]
		c.host(n - 1).dead.Store(true)
		dead := map[name.NodeName]bool{last.Name: true}
		until(t, 10*time.Second, "dead everywhere", func() bool {
			for i := range n - 1 {
				if health(c.view(i))[last.Name] != Dead {
					return false
				}
			}
			return true
		})
		changes = c.forget()
		after, wrong := deaths(changes, died, dead)
		if len(wrong) > 0 {
			t.Errorf("a living node was taken for dead: %+v", wrong[0])
		}
		t.Logf("a dead node was dead for the others after %v (median), %v (last)", after[len(after)/2], after[len(after)-1])

		// The rest is cut in two, and put together again.
		half := numbers(n - 1)[:n/2]
		for _, i := range half {
			c.net.cut(1, c.at(i))
		}
		// memberlist alone finds those whose three watchers are all on their side.
		t.Logf("cut in two: each half takes the other for dead after %v", until(t, time.Minute, "the others dead for each half", func() bool {
			return len(living(c.view(0))) == len(half) && len(living(c.view(n-2))) == n-1-len(half)
		}))
		time.Sleep(20 * time.Second) // virtual time: the gossip has given up, too
		for _, i := range half {
			c.net.cut(0, c.at(i))
		}
		t.Logf("healed: all alive for all after %v", until(t, 30*time.Second, "all alive again", func() bool { return c.all(numbers(n - 1)) }))

		// One is cut off, and does not take the others for dead.
		c.forget()
		c.net.cut(1, c.at(0))
		until(t, 10*time.Second, "deaf", func() bool { return c.view(0).Deaf })
		until(t, 10*time.Second, "dead for another", func() bool { return health(c.view(1))[c.peers[0].Name] == Dead })
		for _, x := range c.forget() {
			if x.health == Dead && !dead[x.of] && !dead[x.by] && (x.by == c.peers[0].Name || x.of != c.peers[0].Name) {
				t.Errorf("one is cut off, and at %v %s takes %s for dead", x.at, x.by, x.of)
			}
		}
		c.net.cut(0, c.at(0))
		until(t, 30*time.Second, "all alive at last", func() bool { return c.all(numbers(n - 1)) })
	})
}

// gossiper is a node whose news are all that it has heard.
type gossiper struct {
	mu    sync.Mutex
	words map[string]bool
}

func (g *gossiper) adapt(c *Config) {
	g.words = map[string]bool{string(c.NodeName): true}
	c.News = func() ([]byte, bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		var list [][]byte
		for w := range g.words {
			list = append(list, []byte(w))
		}
		return bytes.Join(list, []byte(" ")), true
	}
	c.Hear = func(b []byte) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for w := range strings.FieldsSeq(string(b)) {
			g.words[w] = true
		}
		return true
	}
}

func (g *gossiper) knows(n name.NodeName) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.words[string(n)]
}

func TestWhoStartsDoesNotSayJoinedBeforeItKnowsWhatARunningOneOwns(t *testing.T) {
	for _, cut := range []string{"none", "both", "one"} {
		t.Run("streams that hang: "+cut, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrew(3)
				defer c.end()
				g := make([]gossiper, 3)
				c.net.host(stranger)
				third := c.peers[2]
				c.begin(t, 2, g[2].adapt)
				until(t, 10*time.Second, "joined alone", func() bool { return c.view(2).Joined })
				time.Sleep(time.Second) // virtual time
				for i, mute := range []bool{cut != "none", cut == "both"} {
					c.net.mute(c.at(i), c.at(2), mute)
				}
				c.begin(t, 0, g[0].adapt)
				c.begin(t, 1, g[1].adapt)
				check := func() bool {
					for i := range 2 {
						if c.view(i).Joined && !g[i].knows(third.Name) {
							t.Fatalf("%s says that it joined, and does not know what %s owns", c.peers[i].Name, third.Name)
						}
					}
					return c.view(0).Joined && c.view(1).Joined
				}
				if cut == "both" {
					for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * ms) { // virtual time
						if check(); c.view(0).Joined || c.view(1).Joined {
							t.Fatal("one says that it joined")
						}
					}
					c.net.mute(c.at(1), c.at(2), false)
				}
				until(t, time.Minute, "joined", check)
			})
		})
	}
}

// stranger is no node, but can be heard.
var stranger = netip.MustParseAddr("10.255.255.1")

// Nodes that have all started together do not wait for ever for one that lives and drops what
// they send, if they have met each other; nor for one that never had a speaker.
func TestWhoHasMetOthersWaitsForOneThatIsBlockedOnlyForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		c.net.host(c.at(2)) // nobody reads from its ports
		for i := range 2 {
			c.net.mute(c.at(i), c.at(2), true)
			c.begin(t, i, nil)
		}
		time.Sleep(blockedAfter / 2)
		if c.view(0).Joined || c.view(1).Joined {
			t.Error("it does not wait")
		}
		until(t, blockedAfter, "both have joined", func() bool { return c.view(0).Joined && c.view(1).Joined })
	})
}

func TestWhoStartsCutOffHasNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(4)
		defer c.end()
		for i := range 3 {
			c.begin(t, i, nil)
		}
		until(t, 20*time.Second, "three have joined", func() bool { return c.view(0).Joined && c.view(1).Joined && c.view(2).Joined })
		c.net.cut(1, c.at(3))
		c.begin(t, 3, nil)
		time.Sleep(time.Minute)
		if v := c.view(3); v.Joined {
			t.Errorf("joined alone: %+v", v)
		}
		c.net.cut(0, c.at(3))
		until(t, 10*time.Second, "the fourth has joined", func() bool { return c.view(3).Joined })
	})
}

// Who cannot say what it knows, or is not understood, is no source of what others own.
func TestAnExchangeWithoutNewsIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(2)
		defer c.end()
		c.net.host(stranger)
		var can atomic.Bool
		can.Store(true)
		c.begin(t, 0, func(x *Config) { x.News = func() ([]byte, bool) { return []byte("news"), can.Load() } })
		until(t, 10*time.Second, "the first has joined", func() bool { return c.view(0).Joined })
		can.Store(false)
		c.begin(t, 1, nil)
		time.Sleep(10 * time.Second)
		if c.view(1).Joined {
			t.Error("joined, and knows nothing")
		}
		can.Store(true)
		until(t, 10*time.Second, "the second has joined", func() bool { return c.view(1).Joined })
	})
}

func TestWhosePeersAllRefuseHasJoinedAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(20)
		defer c.end()
		c.net.host(stranger)
		began := time.Now()
		c.begin(t, 0, nil)
		until(t, 10*time.Second, "joined", func() bool { return c.view(0).Joined })
		if took := c.joined(0).Sub(began); took < aloneAfter {
			t.Errorf("joined after %v", took)
		}
	})
}

func TestWhosePeerLivesAndDropsEverythingNeverJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(2)
		defer c.end()
		c.net.host(c.at(1)) // its kernel answers; nobody reads from its ports
		c.net.host(stranger)
		c.net.mute(c.at(0), c.at(1), true)
		c.begin(t, 0, nil)
		time.Sleep(time.Minute) // virtual time
		if v := c.view(0); v.Joined || health(v)[c.peers[1].Name] != Silent {
			t.Errorf("view %+v", v)
		}
		c.host(1).dead.Store(true)
		until(t, time.Minute, "joined though the other is dead", func() bool { return c.view(0).Joined })
	})
}

// A node that was cut off answers for nothing until it has heard what the others own by now.
func TestWhoWasCutOffHasNotJoinedUntilItHearsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		everybody := func() bool {
			for i := range c.peers {
				if v := c.view(i); !v.Joined || v.Deaf || slices.ContainsFunc(v.Members, func(m Member) bool { return m.Health != Alive }) || len(v.Members) != 3 {
					return false
				}
			}
			return true
		}
		until(t, 20*time.Second, "all have joined", everybody)
		time.Sleep(5 * time.Second) // until each has been asked for on the LAN
		c.net.cut(1, c.at(0))
		until(t, 5*time.Second, "it knows that it is cut off", func() bool { v := c.view(0); return v.Deaf && !v.Joined })
		if v := c.view(1); !v.Joined {
			t.Error("one of two that hear each other takes itself for cut off")
		}
		time.Sleep(time.Minute)
		if c.view(0).Joined {
			t.Error("it has joined, though nobody hears it")
		}
		c.net.cut(0, c.at(0))
		healed := time.Now()
		until(t, 5*time.Second, "all have joined again", everybody)
		if took := time.Since(healed); took > time.Second {
			t.Errorf("it took %v to join again", took)
		}
	})
}
