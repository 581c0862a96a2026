package main

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// caller is a node n1 that asks for others on a wire.
type caller struct {
	rollCall
	wire    *wire
	known   atomic.Pointer[[]announce.Node]
	deafs   atomic.Pointer[[]string]
	asked   atomic.Pointer[map[netip.Addr]int]
	changes atomic.Int64
}

// Ask counts who is asked for.
func (c *caller) Ask(ctx context.Context, q lan.Question) (lan.Answer, error) {
	c.wire.set(func() { (*c.asked.Load())[q.Neighbor.Address]++ })
	return c.wire.Ask(ctx, q)
}

func (c *caller) Poll(ctx context.Context, p lan.Poll) (lan.Tally, error) { return c.wire.Poll(ctx, p) }

// call has n1 ask; on eth1 of all other nodes something is announced.
func call(t *testing.T, nodes ...announce.Node) *caller {
	c := &caller{wire: &wire{silent: map[netip.Addr]bool{}}}
	c.known.Store(&nodes)
	c.deafs.Store(&[]string{})
	c.asked.Store(&map[netip.Addr]int{})
	c.rollCall = rollCall{
		self: "n1", asker: c, nodes: &c.known, log: logr.Discard(), changed: func() { c.changes.Add(1) }, poke: make(chan struct{}, 1),
		interfaces: func() link.Snapshot {
			return link.Snapshot{face("eth0", 101, "172.16.0.1/24"), face("eth1", 1, "10.0.0.1/24")}
		},
		deaf: func() []string { return *c.deafs.Load() },
	}
	c.miss()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

// miss has other nodes miss some places.
func (c *caller) miss(missed ...announce.Place) {
	var places []announce.Place
	for _, n := range *c.known.Load() {
		places = append(places, announce.Place{Node: n.Name, Interface: "eth1"})
	}
	c.want(places, missed)
}

func (c *caller) silence(addresses ...string) {
	c.wire.set(func() {
		c.wire.silent = map[netip.Addr]bool{}
		for _, a := range addresses {
			c.wire.silent[netip.MustParseAddr(a)] = true
		}
	})
}

func TestAPlaceThatDoesNotAnswerIsMissed(t *testing.T) {
	t.Parallel()
	second := announce.Place{Node: "n2", Interface: "eth1"}
	away := func(c *caller) {
		nodes := slices.Clone(*c.known.Load())
		nodes[1].Health = announce.Silent
		c.known.Store(&nodes)
	}
	for _, tt := range []struct {
		name    string
		first   func(*caller) // before it has answered
		happens func(*caller)
		within  time.Duration
		missed  bool
	}{
		{"three questions in a row have no answer", nil, func(c *caller) { c.silence("10.0.0.2") }, 8 * time.Second, true},
		{"less than three have none", nil, func(c *caller) { c.silence("10.0.0.2") }, 2 * time.Second, false},
		{"another node misses it too", nil, func(c *caller) { c.silence("10.0.0.2"); c.miss(second) }, callSpread + 300*time.Millisecond, true},
		{"another node misses it, and this one does not", nil, func(c *caller) { c.miss(second) }, 10 * time.Second, false},
		{"it never answered", func(c *caller) { c.silence("10.0.0.2") }, func(*caller) {}, 20 * time.Second, false},
		{"it never answered, and another node misses it", func(c *caller) { c.silence("10.0.0.2") }, func(c *caller) { c.miss(second) }, time.Second, true},
		{"the own interface is deaf", nil, func(c *caller) { c.silence("10.0.0.2"); c.deafs.Store(&[]string{"eth1"}); c.miss(second) }, 10 * time.Second, false},
		{"its speaker is away", nil, func(c *caller) { c.silence("10.0.0.2"); away(c); c.miss(second) }, 10 * time.Second, false},
		{"the LAN cannot be asked", nil, func(c *caller) { c.wire.set(func() { c.wire.failing = true }); c.miss(second) }, 10 * time.Second, false},
		{"nothing is announced there any more", nil, func(c *caller) { c.silence("10.0.0.2"); c.want(nil, nil) }, 10 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := call(t, lives(1), lives(2), lives(3), lives(4))
				if tt.first != nil {
					tt.first(c)
				}
				time.Sleep(10 * time.Second)
				tt.happens(c)
				time.Sleep(tt.within)
				if missed := slices.Contains(c.missed(), second); missed != tt.missed || len(c.missed()) > 1 {
					t.Fatalf("it misses %v", c.missed())
				}
				c.silence()
				c.miss()
				time.Sleep(2 * callAgain)
				if want := map[bool]int64{false: 0, true: 2}[tt.missed]; len(c.missed()) > 0 || c.changes.Load() != want {
					t.Errorf("once all answer it misses %v, after %d changes", c.missed(), c.changes.Load())
				}
			})
		})
	}
}

// hundreds are 200 nodes that share a network.
func hundreds() (nodes []announce.Node) {
	for n := byte(1); n <= 200; n++ {
		nodes = append(nodes, lives(n))
	}
	return nodes
}

func TestEachOfTwoHundredOwnersIsAskedForOftenEnoughAndNotMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call(t, hundreds()...)
		const minutes = 20 * time.Minute
		time.Sleep(minutes)
		if second := float64(c.wire.asks) * 200 / minutes.Seconds(); second < 45 || second > callTogether {
			t.Errorf("200 nodes ask %.1f times a second", second)
		}
		asked := *c.asked.Load()
		for _, n := range (*c.known.Load())[1:] {
			if times := asked[n.Interfaces[0].Prefixes[0].Addr()]; times < 1 || times > 2 {
				t.Errorf("in 20 minutes it asked %d times for %s", times, n.Name)
			}
		}
	})
}

func TestAFewNodesAskForEachOtherEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call(t, lives(1), lives(2), lives(3), lives(4), lives(5), lives(6))
		time.Sleep(100 * time.Second)
		for a, times := range *c.asked.Load() {
			if times < 19 || times > 21 {
				t.Errorf("in 100 s, in which each of 5 nodes is asked for once a second by 5, it asked %d times for %v", times, a)
			}
		}
		if len(*c.asked.Load()) != 5 {
			t.Errorf("it asked for %v", *c.asked.Load())
		}
	})
}

func TestACutThroughTwoHundredNodesCostsFewQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call(t, hundreds()...)
		time.Sleep(time.Minute)
		var cut []string
		var missed []announce.Place
		for _, n := range (*c.known.Load())[100:] {
			cut, missed = append(cut, n.Interfaces[0].Prefixes[0].Addr().String()), append(missed, announce.Place{Node: n.Name, Interface: "eth1"})
		}
		c.silence(cut...)
		c.miss(missed...)
		time.Sleep(2 * time.Second)
		if got := c.missed(); len(got) != len(missed) {
			t.Errorf("after 2 s it misses %d of %d", len(got), len(missed))
		}
		before := c.wire.asks
		time.Sleep(time.Minute)
		if second := float64(c.wire.asks-before) / 60; second > callDoubted+1 {
			t.Errorf("it asks %.1f times a second", second)
		}
	})
}

// A node that has no quorum waits. When the network is whole again it may find that it has one before it has
// asked for a place again that it missed: the answers to that question count.
func TestAnAnswerToAnotherQuestionEndsThatAPlaceIsMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call(t, lives(1), lives(2), lives(3))
		time.Sleep(10 * time.Second)
		c.silence("10.0.0.2", "10.0.0.3")
		c.miss(announce.Place{Node: "n2", Interface: "eth1"}, announce.Place{Node: "n3", Interface: "eth1"})
		time.Sleep(500 * time.Millisecond)
		c.silence()
		c.heard("eth0", []name.NodeName{"n2"})
		c.heard("eth1", []name.NodeName{"n3", "other"})
		synctest.Wait()
		if got := c.missed(); len(got) != 1 || got[0].Node != "n2" {
			t.Errorf("it misses %v", got)
		}
	})
}

func TestAPlaceThatAnotherNodeMissesForLongIsAskedForMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call(t, hundreds()...)
		var missed []announce.Place
		for _, n := range (*c.known.Load())[100:] {
			missed = append(missed, announce.Place{Node: n.Name, Interface: "eth1"})
		}
		c.miss(missed...)
		time.Sleep(2 * time.Minute)
		before := c.wire.asks
		time.Sleep(4 * time.Minute)
		if second := float64(c.wire.asks-before) / 240; second > 4 {
			t.Errorf("it asks %.1f times a second for 100 places that all answer", second)
		}
	})
}

func TestAPlaceIsAskedForWhereItsNetworkIs(t *testing.T) {
	t.Parallel()
	two, three, other := lives(2), lives(3), said("n4", face("eth1", 4, "172.31.0.4/24"))
	two.Interfaces = append(two.Interfaces, said("n2", face("eth0", 102, "172.16.0.2/24")).Interfaces...)
	three.Health, other.Health = announce.Silent, announce.Alive
	nodes := []announce.Node{lives(1), two, three, other}
	c := rollCall{
		self: "n1", nodes: &atomic.Pointer[[]announce.Node]{}, deaf: func() []string { return nil }, poke: make(chan struct{}, 1),
		interfaces: func() link.Snapshot {
			down := face("eth2", 201, "172.31.0.1/24")
			down.Up = false
			return link.Snapshot{face("eth0", 101, "172.16.0.1/24"), face("eth1", 1, "10.0.0.1/24"), down}
		},
	}
	c.nodes.Store(&nodes)
	c.want([]announce.Place{
		{Node: "gone", Interface: "eth0"},
		{Node: "n1", Interface: "eth1"},
		{Node: "n2", Interface: "eth0"},
		{Node: "n2", Interface: "eth1"},
		{Node: "n2", Interface: "eth9"},
		{Node: "n3", Interface: "eth1"},
		{Node: "n4", Interface: "eth1"},
	}, nil)
	callees, networks := c.look()
	var got []string
	for _, x := range callees {
		idle := ""
		if x.idle {
			idle = " idle"
		}
		got = append(got, x.from.Name+" "+string(x.place.Node)+" "+x.at.MAC.String()+idle)
	}
	want := []string{"eth0 n2 02:00:00:00:00:66", "eth1 n2 02:00:00:00:00:02", "eth1 n3 02:00:00:00:00:03 idle"}
	if !slices.Equal(got, want) {
		t.Errorf("asked for are %q, want %q", got, want)
	}
	if networks["eth1"] != (network{places: 3, askers: 1}) || networks["eth0"] != (network{places: 1, askers: 1}) {
		t.Errorf("networks %+v", networks)
	}
}
