package announce_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// full is the State of a node in a cluster of nodes with Services, all of which have owners.
func full(nodes, services int) (*announce.State, announce.MembersKnown, time.Time) {
	w, now := world(), time.Unix(1e9, 0)
	l2(nil)(&w)
	w.Config.Pools[0].Addresses = set("10.0.0.0/8")
	w.Nodes = nil
	members := announce.MembersKnown{Joined: true}
	for i := range nodes {
		n := node(fmt.Sprintf("n%03d", i), fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250))
		n.Interfaces[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
		w.Nodes = append(w.Nodes, n)
		members.Members = append(members.Members, announce.Member{Node: n.Name, Health: announce.Alive, Since: now})
	}
	s := announce.NewState("n000")
	facts := []announce.Fact{
		announce.Configured{Config: w.Config},
		announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.GraceKnown{Grace: 30 * time.Second},
		announce.NodesKnown{Nodes: w.Nodes},
		members,
	}
	for i := range services {
		one := service(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String())
		one.Key.Name = fmt.Sprintf("s%d", i)
		one.Endpoints = map[name.NodeName]announce.Endpoints{"elsewhere": {Ready: 1}}
		facts = append(facts, announce.Known{Service: one})
	}
	s.Step(now, facts...)
	for range nodes { // by turns it claims all of them, as nobody else does
		now = now.Add(time.Minute)
		s.Step(now)
	}
	s.Outbox()
	return s, members, now
}

// A node dies that owns nothing, and is back.
func BenchmarkNodeThatOwnsNothingDiesAndReturns(b *testing.B) {
	for _, size := range []struct{ nodes, services int }{{3, 1000}, {3, 10000}, {200, 10000}} {
		b.Run(fmt.Sprintf("%d_nodes,%d_services", size.nodes, size.services), func(b *testing.B) {
			s, all, now := full(size.nodes, size.services)
			fewer := all
			fewer.Members = all.Members[:len(all.Members)-1]
			b.ResetTimer()
			for b.Loop() {
				s.Step(now, fewer)
				s.Step(now, all)
			}
		})
	}
}

// One Service of many changes.
func BenchmarkServiceChanges(b *testing.B) {
	for _, services := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("%d_services", services), func(b *testing.B) {
			s, _, now := full(3, services)
			one := service("10.2.0.1")
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				one.Announced = i%2 == 0
				s.Step(now, announce.Known{Service: one})
			}
		})
	}
}

// All that a node owns is planned anew.
func BenchmarkEverythingIsPlannedAnew(b *testing.B) {
	for _, size := range []struct{ nodes, services int }{{3, 1000}, {3, 10000}, {200, 1000}} {
		b.Run(fmt.Sprintf("%d_nodes,%d_services", size.nodes, size.services), func(b *testing.B) {
			s, all, now := full(size.nodes, size.services)
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				all.Deaf = i%2 == 0
				s.Step(now, all)
			}
		})
	}
}

// A node that something has changed for compares what it knows with another: once a second at most.
func BenchmarkCompare(b *testing.B) {
	s, _, now := full(3, 10000)
	for b.Loop() {
		s.Step(now)
		s.Compare()
	}
}

// A namespace comes that no advertisement selects by, and an interface flaps that is in no Service's network.
func BenchmarkWhatConcernsNobody(b *testing.B) {
	for _, size := range []struct{ nodes, services int }{{3, 1000}, {200, 10000}} {
		b.Run(fmt.Sprintf("namespace,%d_nodes,%d_services", size.nodes, size.services), func(b *testing.B) {
			s, _, now := full(size.nodes, size.services)
			for i := 0; b.Loop(); i++ {
				s.Step(now, announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}, "ci": {"n": fmt.Sprint(i)}}})
			}
		})
		b.Run(fmt.Sprintf("interface,%d_nodes,%d_services", size.nodes, size.services), func(b *testing.B) {
			s, _, now := full(size.nodes, size.services)
			nodes := s.Nodes()
			last := len(nodes) - 1
			for i := 0; b.Loop(); i++ {
				n := append([]announce.Node{}, nodes...)
				n[last].Interfaces = append(append([]announce.Interface{}, nodes[last].Interfaces...), announce.Interface{Name: "wlan9", Up: i%2 == 0})
				s.Step(now, announce.NodesKnown{Nodes: n})
			}
		})
	}
}
