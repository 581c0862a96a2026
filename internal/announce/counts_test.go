package announce_test

import (
	"maps"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// owner is the State of node a, which owns 10.0.0.140 by a claim of term 9, among three that live.
func owner() (*announce.State, time.Time) {
	one := service("10.0.0.140")
	w := world()
	l2(nil)(&w)
	s, now := announce.NewState("a"), time.Unix(1e9, 0)
	members := announce.MembersKnown{Joined: true}
	for _, n := range []name.NodeName{"a", "b", "c"} {
		members.Members = append(members.Members, announce.Member{Node: n, Health: announce.Alive})
	}
	s.Step(now, announce.Configured{Config: w.Config}, announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.NodesKnown{Nodes: w.Nodes}, members, announce.Known{Service: one}, claimedBy("a", 9<<16))
	s.Outbox()
	s.Won()
	return s, now
}

// claimedBy is the fact that a node claims 10.0.0.140.
func claimedBy(n name.NodeName, epoch uint64) announce.Heard {
	return announce.Heard{News: announce.News{Claims: []election.Claim{
		{Unit: service("10.0.0.140").Addresses[0], Owner: n, Successor: "c", Epoch: epoch},
	}}}
}

func TestWhatAStateCounts(t *testing.T) {
	t.Parallel()
	answer := claimedBy("b", 10<<16)
	answer.News.Answer = true
	conflict := func(n name.NodeName) announce.SelfKnown {
		return announce.SelfKnown{Settled: true, Interfaces: node("a", "10.0.0.1").Interfaces, Conflicts: []announce.Conflict{
			{Address: service("10.0.0.140").Addresses[0], Interface: "eth0", MAC: announce.MAC{2, 0, 0, 0, 0, 9}, Node: n},
		}}
	}
	tests := []struct {
		name  string
		facts []announce.Fact
		after time.Duration
		want  announce.Counts
	}{
		{"nothing is wrong", nil, 0, announce.Counts{}},
		{"another claims in vain", []announce.Fact{claimedBy("b", 7<<16)}, 30 * time.Second, announce.Counts{Disputed: 1, Contested: 1}},
		{"another claimed in vain a while ago", []announce.Fact{claimedBy("b", 7<<16)}, time.Minute, announce.Counts{Contested: 1}},
		{"an old claim of its own is no dispute", []announce.Fact{claimedBy("a", 7<<16)}, 0, announce.Counts{}},
		{"a fellow answers too", []announce.Fact{conflict("b")}, time.Hour, announce.Counts{Disputed: 1}},
		{"a stranger answers too", []announce.Fact{conflict("")}, 0, announce.Counts{}},
		{"a live rival has it now", []announce.Fact{claimedBy("b", 10<<16)}, 0, announce.Counts{HeldDown: 1, Lost: 1}},
		{"the hold-down is over", []announce.Fact{claimedBy("b", 10<<16)}, time.Second, announce.Counts{Lost: 1}},
		{"it had missed that", []announce.Fact{answer}, time.Second, announce.Counts{Lost: 1, Mended: 1}},
		{"quorums are measured", []announce.Fact{
			announce.QuorumKnown{Interface: "eth0", Has: true}, announce.QuorumKnown{Interface: "eth1"},
		}, 59 * time.Second, announce.Counts{Quorum: map[string]bool{"eth0": true, "eth1": false}}},
		{"a quorum was measured long ago", []announce.Fact{announce.QuorumKnown{Interface: "eth0"}}, time.Minute, announce.Counts{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, now := owner()
			s.Step(now, tt.facts...)
			got := s.Counts(now.Add(tt.after))
			same := maps.Equal(got.Quorum, tt.want.Quorum)
			if got.Quorum, tt.want.Quorum = nil, nil; !same || got.Disputed != tt.want.Disputed || got.HeldDown != tt.want.HeldDown ||
				got.Contested != tt.want.Contested || got.Lost != tt.want.Lost || got.Mended != tt.want.Mended {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
		})
	}
}
