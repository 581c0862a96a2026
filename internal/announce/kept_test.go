package announce_test

import (
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// restarted is the State of a node whose speaker was started a moment ago with claims that were kept.
func restarted(self name.NodeName, kept ...announce.Fact) *announce.State {
	w := world()
	l2(nil)(&w)
	s := announce.NewState(self)
	facts := []announce.Fact{
		announce.Configured{Config: w.Config},
		announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.GraceKnown{Grace: 30 * time.Second},
		three(),
		announce.Known{Service: service(lan)},
		announce.MembersKnown{},
		announce.SelfKnown{},
		announce.QuorumMeasured{},
	}
	s.Step(begin(), append(facts, kept...)...)
	return s
}

func claimed(owner name.NodeName, epoch uint64) []election.Claim {
	return []election.Claim{{Unit: netip.MustParseAddr(lan), Owner: owner, Successor: "b", Epoch: epoch}}
}

func TestASpeakerThatHasNotJoinedMakesNothingOfKeptClaims(t *testing.T) {
	t.Parallel()
	for _, self := range []name.NodeName{"a", "b", "c"} { // the owner, its successor, and another
		s := restarted(self, owned(3))
		for at := begin(); at.Before(begin().Add(2 * time.Minute)); at = at.Add(100 * time.Millisecond) {
			s.Step(at)
			if out := s.Outbox(); s.Answers() != 0 || !out.Empty() || len(s.Deputized()) != 0 || len(s.Unmeasured(at)) != 0 {
				t.Fatalf("%s after %s: it answers for %d units, in the place of %v, and says %+v", self, at.Sub(begin()), s.Answers(), s.Deputized(), out)
			}
		}
	}
}

func TestKeptClaimsCountOnceASpeakerHasJoined(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		heard []announce.Fact
		owner name.NodeName
	}{
		{"who owned a unit owns it again", nil, "a"},
		{"what others say later counts", []announce.Fact{announce.Heard{News: announce.News{Claims: claimed("c", 4)}}}, "c"},
		{"what others say of earlier does not", []announce.Fact{announce.Heard{News: announce.News{Claims: claimed("c", 2)}}}, "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, self := range []name.NodeName{"a", "b", "c"} {
				s := restarted(self, owned(3))
				s.Step(begin().Add(time.Second), append(test.heard, alive("a", "b", "c"))...)
				claims := s.News().Claims
				if len(claims) != 1 || claims[0].Owner != test.owner {
					t.Errorf("%s knows %v, want the owner %s", self, claims, test.owner)
				}
			}
		})
	}
}
