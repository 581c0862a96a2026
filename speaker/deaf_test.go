package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
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

// wire is a network on which hosts answer, or do not, in virtual time.
type wire struct {
	mu      sync.Mutex
	silent  map[netip.Addr]bool
	lost    bool // all frames
	others  bool // foreign hosts are heard
	failing bool
	asks    int
}

func (w *wire) set(edit func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	edit()
}

func (w *wire) answers(a netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.lost && !w.silent[a]
}

func (w *wire) Ask(_ context.Context, q lan.Question) (lan.Answer, error) {
	failing := false
	w.set(func() { w.asks++; failing = w.failing })
	if failing {
		return lan.Answer{}, fmt.Errorf("ask on %s: no permission", q.From.Name)
	}
	if q.Neighbor != (lan.Neighbor{}) && w.answers(q.Neighbor.Address) {
		time.Sleep(time.Millisecond)
		return lan.Answer{Neighbor: true}, nil
	}
	time.Sleep(lan.Probes*lan.Interval + lan.ExtraWait)
	w.mu.Lock()
	defer w.mu.Unlock()
	return lan.Answer{Others: w.others && !w.lost}, nil
}

func (w *wire) Poll(_ context.Context, p lan.Poll) (lan.Tally, error) {
	time.Sleep(lan.PollRounds * lan.PollInterval)
	t := lan.Tally{}
	for _, h := range p.Hosts {
		t.Answered = append(t.Answered, w.answers(h.Address))
	}
	t.Gateway = slices.ContainsFunc(p.Gateways, w.answers)
	return t, nil
}

// listener is a node a, with gossip on eth0, that watches eth1 on a wire.
type listener struct {
	hearing
	wire    *wire
	known   atomic.Pointer[[]announce.Node]
	changes atomic.Int64
}

func listen(t *testing.T, gateway string, nodes ...announce.Node) *listener {
	t.Helper()
	return listenOn(t, newWire(), gateway, nodes...)
}

func newWire() *wire { return &wire{silent: map[netip.Addr]bool{}} }

// listenOn begins on a wire as it is.
func listenOn(t *testing.T, w *wire, gateway string, nodes ...announce.Node) *listener {
	t.Helper()
	l := &listener{wire: w}
	self := said("a", face("eth1", 1, "10.0.0.1/24"))
	self.Addresses = []netip.Addr{netip.MustParseAddr("172.16.0.1")}
	l.know(append([]announce.Node{self}, nodes...)...)
	l.hearing = hearing{
		self: "a", asker: l.wire, nodes: &l.known, log: logr.Discard(), changed: func() { l.changes.Add(1) },
		interfaces: func() link.Snapshot { return link.Snapshot{face("eth1", 1, "10.0.0.1/24")} },
		gateways: func(int) ([]netip.Addr, error) {
			if gateway == "" {
				return nil, nil
			}
			return []netip.Addr{netip.MustParseAddr(gateway)}, nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return l
}

func (l *listener) know(nodes ...announce.Node) { l.known.Store(&nodes) }

// lives is a node on the wire whose speaker lives.
func lives(n byte) announce.Node {
	x := said(name.NodeName(fmt.Sprintf("n%d", n)), face("eth1", n, fmt.Sprintf("10.0.0.%d/24", n)))
	x.Health = announce.Alive
	return x
}

func TestAnInterfaceIsWatched(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr
	for _, tt := range []struct {
		name    string
		gateway string
		nodes   []announce.Node
		before  func(*wire)
		happens func(*listener)
		deaf    bool
	}{
		{"all frames are lost", "", []announce.Node{lives(2), lives(3)}, nil, func(l *listener) { l.wire.lost = true }, true},
		{"all frames are lost on a network with a gateway alone", "10.0.0.254", nil, nil, func(l *listener) { l.wire.lost = true }, true},
		{"one fellow of two dies", "", []announce.Node{lives(2), lives(3)}, nil, func(l *listener) { l.wire.silent[address("10.0.0.2")] = true }, false},
		{"all fellows fall silent, and the gateway answers", "10.0.0.254", []announce.Node{lives(2), lives(3)}, nil, func(l *listener) {
			l.wire.silent[address("10.0.0.2")], l.wire.silent[address("10.0.0.3")] = true, true
		}, false},
		{"nothing that is sent arrives, and clients are heard", "", []announce.Node{lives(2), lives(3)}, nil, func(l *listener) {
			l.wire.others, l.wire.silent[address("10.0.0.2")], l.wire.silent[address("10.0.0.3")] = true, true, true
		}, true},
		{"the only fellow falls silent, and clients are heard", "", []announce.Node{lives(2)}, nil, func(l *listener) {
			l.wire.others, l.wire.silent[address("10.0.0.2")] = true, true
		}, false},
		{"nobody ever answered", "10.0.0.254", []announce.Node{lives(2), lives(3)}, func(w *wire) { w.lost = true }, func(*listener) {}, false},
		{"nobody is there", "", nil, nil, func(l *listener) { l.wire.lost = true }, false},
		{"it cannot be asked", "", []announce.Node{lives(2)}, nil, func(l *listener) { l.wire.failing = true }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				if tt.before != nil {
					tt.before(w)
				}
				l := listenOn(t, w, tt.gateway, tt.nodes...)
				time.Sleep(10 * time.Second)
				l.wire.set(func() { tt.happens(l) })
				time.Sleep(5 * time.Second)
				if deaf := l.deaf(); (len(deaf) > 0) != tt.deaf {
					t.Fatalf("deaf: %v", deaf)
				}
				l.wire.set(func() { l.wire.lost, l.wire.others, l.wire.silent = false, false, map[netip.Addr]bool{} })
				time.Sleep(3 * time.Second)
				if deaf := l.deaf(); len(deaf) > 0 {
					t.Errorf("deaf when all is well again: %v", deaf)
				}
				if want := map[bool]int64{false: 0, true: 2}[tt.deaf]; l.changes.Load() != want {
					t.Errorf("%d changes, want %d", l.changes.Load(), want)
				}
			})
		})
	}
}

func TestWhatMakesAFellowDeafIsLookedForAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var nodes []announce.Node
		for n := byte(2); n <= 200; n++ {
			nodes = append(nodes, lives(n))
		}
		l := listen(t, "", nodes...)
		time.Sleep(60*time.Second + 10*time.Millisecond)
		l.wire.set(func() { l.wire.lost = true })
		nodes = slices.Clone(nodes)
		nodes[0].Interfaces = slices.Clone(nodes[0].Interfaces)
		nodes[0].Interfaces[0].Deaf = true
		l.know(append(slices.Clone((*l.known.Load())[:1]), nodes...)...)
		time.Sleep(deafLook + quietTime + 300*time.Millisecond)
		if len(l.deaf()) == 0 {
			t.Error("it is not deaf yet")
		}
	})
}

func TestANewInterfaceSoonKnowsWhoAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, "", lives(2), lives(3), lives(4))
		time.Sleep(time.Second)
		l.wire.set(func() {
			l.wire.others = true
			l.wire.silent = map[netip.Addr]bool{}
			for _, n := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"} {
				l.wire.silent[netip.MustParseAddr(n)] = true
			}
		})
		time.Sleep(6 * time.Second)
		if len(l.deaf()) == 0 {
			t.Error("it is not deaf")
		}
	})
}

func TestTwoHundredNodesAskLittleInCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var nodes []announce.Node
		for n := byte(2); n <= 200; n++ {
			nodes = append(nodes, lives(n))
		}
		l := listen(t, "10.0.0.254", nodes...)
		time.Sleep(80 * time.Second)
		if all := l.wire.asks * 200 / 80; all > 30 {
			t.Errorf("200 nodes ask %d times a second", all)
		}
	})
}

func TestWhoIsAskedByAnInterface(t *testing.T) {
	t.Parallel()
	deaf, dead, away := lives(2), lives(3), lives(4)
	deaf.Interfaces[0].Deaf, dead.Health, away.Health = true, announce.Dead, announce.Silent
	elsewhere := said("n9", face("eth1", 9, "172.31.0.9/24"))
	elsewhere.Health = announce.Alive
	two := lives(5)
	two.Interfaces = append([]announce.Interface{two.Interfaces[0]}, two.Interfaces...)
	two.Interfaces[0].Name, two.Interfaces[0].Up, two.Interfaces[0].MAC = "eth0", false, announce.MAC{2, 0, 0, 0, 1, 5}
	nodes := []announce.Node{lives(1), deaf, dead, away, elsewhere, two}
	h := hearing{self: "n1", nodes: &atomic.Pointer[[]announce.Node]{}}
	h.nodes.Store(&nodes)
	var got []string
	for _, f := range h.fellows(face("eth1", 1, "10.0.0.1/24")) {
		got = append(got, fmt.Sprintf("%s %s well=%v", f.node, f.at.MAC, f.well))
	}
	want := []string{"n5 02:00:00:00:00:05 well=true", "n4 02:00:00:00:00:04 well=false", "n2 02:00:00:00:00:02 well=false"}
	if !slices.Equal(got, want) {
		t.Errorf("asked are %q, want %q", got, want)
	}
}
