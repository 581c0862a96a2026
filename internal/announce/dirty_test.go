package announce_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// settle steps while that is due, and returns how often.
func settle(s *announce.State, now time.Time) (steps int) {
	for again := s.Again(); !again.IsZero() && !again.After(now) && steps < 1000; again = s.Again() {
		s.Step(now)
		steps++
	}
	return steps
}

func TestWhatConcernsAllIsPlannedByAndBy(t *testing.T) {
	s, all, now := full(3, 1000)
	settle(s, now)
	all.Deaf = true
	if n := len(s.Step(now, all)); n == 0 || n > 256 {
		t.Errorf("one step changed %d of 1000 decisions, want some and 256 at most", n)
	}
	if steps := settle(s, now); steps != 3 {
		t.Errorf("the others took %d more steps, want 3", steps)
	}
}

func TestPlanningByAndByEndsWhereAllAtOnceDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, all, now := full(3, 600)
		for range rapid.IntRange(1, 5).Draw(t, "facts") {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				all.Deaf = !all.Deaf
				s.Step(now, all)
			case 1:
				i := card("eth0", rapid.SampledFrom([]string{"10.0.0.9/8", "172.16.0.1/24"}).Draw(t, "network"))
				s.Step(now, announce.SelfKnown{Interfaces: []announce.Interface{i}, Proxy: announce.ProxyReady, Settled: true})
			default:
				s.Step(now)
			}
		}
		settle(s, now)
		var facts []announce.Fact // touch every unit
		for i := range 600 {
			one := service(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String())
			one.Key.Name, one.Endpoints = fmt.Sprintf("s%d", i), map[name.NodeName]announce.Endpoints{"elsewhere": {Ready: 1}}
			facts = append(facts, announce.Known{Service: one})
		}
		if changes := s.Step(now, facts...); len(changes) > 0 {
			t.Fatalf("planning all at once changes %d decisions, first to %+v", len(changes), changes[0])
		}
	})
}
