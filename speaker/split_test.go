package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"go4.org/netipx"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// split is six nodes on two LANs. The gossip takes the first; the second can be cut in two.
type split struct {
	nodes    []announce.Node
	speakers []*sixth
	cut      atomic.Bool
}

// sixth is a node of it, on eth1 of which addresses are announced.
type sixth struct {
	rollCall
	all   *split
	self  announce.Node
	state *announce.State
	poked atomic.Bool
}

// far says whether a node is on the smaller side of the cut.
func far(n name.NodeName) bool { return n == "n2" || n == "n5" }

func (x *sixth) Poll(context.Context, lan.Poll) (lan.Tally, error) { return lan.Tally{}, nil }

// Ask has the kernel of a node on the same side answer.
func (x *sixth) Ask(_ context.Context, q lan.Question) (lan.Answer, error) {
	them := slices.IndexFunc(x.all.nodes, func(n announce.Node) bool { return link.MAC(n.Interfaces[1].MAC) == q.Neighbor.MAC })
	if x.all.cut.Load() && far(x.all.nodes[them].Name) != far(x.self.Name) {
		time.Sleep(lan.Probes * lan.Interval)
		return lan.Answer{Others: true}, nil
	}
	time.Sleep(time.Millisecond)
	return lan.Answer{Neighbor: true}, nil
}

// newSplit starts six nodes that share some addresses.
func newSplit(t *testing.T, addresses int) *split {
	s := &split{}
	faces := func(n byte) link.Snapshot {
		return link.Snapshot{face("eth0", 100+n, fmt.Sprintf("172.16.0.%d/24", n)), face("eth1", n, fmt.Sprintf("10.0.0.%d/24", n))}
	}
	for n := byte(1); n <= 6; n++ {
		node := said(name.NodeName(fmt.Sprintf("n%d", n)), faces(n)...)
		node.Addresses, node.Proxy = []netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, n})}, announce.ProxyReady
		s.nodes = append(s.nodes, node)
	}
	var pool netipx.IPSetBuilder
	pool.AddPrefix(netip.MustParsePrefix("10.0.0.128/25"))
	set, err := pool.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	members := announce.MembersKnown{Joined: true}
	for _, n := range s.nodes {
		members.Members = append(members.Members, announce.Member{Node: n.Name, Health: announce.Alive, Since: time.Now()})
	}
	facts := []announce.Fact{
		announce.Configured{Config: announce.Config{Pools: []announce.Pool{{Name: "lan", Addresses: set}}, L2: []announce.L2Advertisement{{}}}},
		announce.NodesKnown{Nodes: s.nodes},
		members,
		announce.QuorumMeasured{},
	}
	for i := range addresses {
		facts = append(facts, announce.Known{Service: announce.Service{
			Key: name.ServiceKey{Namespace: "shop", Name: fmt.Sprint(i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(130 + i)})},
			Allocated: true, Endpoints: map[name.NodeName]announce.Endpoints{"n1": {Ready: 1}},
		}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended []chan struct{}
	for i, n := range s.nodes {
		x := &sixth{all: s, self: n, state: announce.NewState(n.Name)}
		known := &atomic.Pointer[[]announce.Node]{}
		x.rollCall = rollCall{
			self: n.Name, asker: x, interfaces: func() link.Snapshot { return faces(byte(i + 1)) }, deaf: func() []string { return nil }, nodes: known,
			changed: func() { x.poked.Store(true) }, log: logr.Discard(), poke: make(chan struct{}, 1),
		}
		x.poked.Store(true)
		x.state.Step(time.Now(), facts...)
		nodes := x.state.Nodes()
		known.Store(&nodes)
		s.speakers = append(s.speakers, x)
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { defer close(done); _ = x.run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for _, done := range ended {
			<-done
		}
	})
	return s
}

// pass lets time pass, in which the speakers tell each other what they claim and miss.
func (s *split) pass(d time.Duration) {
	for range d / (10 * time.Millisecond) {
		time.Sleep(10 * time.Millisecond)
		for _, x := range s.speakers {
			x.step()
		}
	}
}

// step has a speaker do what there is to do.
func (x *sixth) step() {
	now := time.Now()
	var facts []announce.Fact
	if x.poked.Swap(false) {
		facts = append(facts, announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: x.self.Interfaces, Missed: x.missed()})
	}
	for _, m := range x.state.Unmeasured(now) {
		known := announce.QuorumKnown{Interface: m.Interface, Has: !x.all.cut.Load() || !far(x.self.Name), Witness: true, Asked: m.Suspects}
		for _, n := range m.Suspects {
			if !x.all.cut.Load() || far(n) == far(x.self.Name) {
				known.Answered = append(known.Answered, n)
			}
		}
		x.heard(m.Interface, known.Answered)
		facts = append(facts, known)
	}
	if again := x.state.Again(); len(facts) > 0 || !again.IsZero() && !again.After(now) {
		x.state.Step(now, facts...)
	}
	if news := x.state.Outbox(); !news.Empty() {
		for _, o := range x.all.speakers {
			if o != x {
				o.state.Step(now, announce.Heard{News: news})
			}
		}
	}
	x.want(x.state.Announcing(), x.state.Missed())
}

// owns returns how many addresses each node answers for.
func (s *split) owns() map[name.NodeName]int {
	owns := map[name.NodeName]int{}
	for _, x := range s.speakers {
		owns[x.self.Name] = x.state.Answers()
	}
	return owns
}

// Two of six nodes are cut off from the others on the LAN on which addresses are announced, and answer each
// other there, while all of them hear each other by gossip.
func TestTwoOfSixNodesThatAreCutOffTogetherAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const addresses = 24
		s := newSplit(t, addresses)
		s.pass(30 * time.Second)
		before := s.owns()
		if before["n2"] == 0 || before["n5"] == 0 {
			t.Fatalf("before the cut they own %v", before)
		}
		s.cut.Store(true)
		began := time.Now()
		for s.owns()["n2"]+s.owns()["n5"] > 0 && time.Since(began) < time.Minute {
			s.pass(10 * time.Millisecond)
		}
		t.Logf("the others own everything after %v", time.Since(began))
		s.pass(30 * time.Second)
		during, sum := s.owns(), 0
		for n, owned := range during {
			if sum += owned; !far(n) && owned < before[n] {
				t.Errorf("%s lost some: it owned %d, now %d", n, before[n], owned)
			}
		}
		if sum != addresses || during["n2"]+during["n5"] > 0 {
			t.Errorf("while it is cut they own %v", during)
		}
		if took := time.Since(began) - 30*time.Second; took > 6*time.Second {
			t.Errorf("that took %v", took)
		}
		s.cut.Store(false)
		s.pass(30 * time.Second)
		for n, owned := range s.owns() {
			if owned != during[n] {
				t.Errorf("once it is whole %s owns %d, and not %d", n, owned, during[n])
			}
		}
		for _, x := range s.speakers {
			if missed := append(x.missed(), x.state.Missed()...); len(missed) > 0 {
				t.Errorf("once it is whole %s misses %v", x.self.Name, missed)
			}
		}
	})
}
