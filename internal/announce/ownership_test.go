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

// begin is when the speakers of these tests have long joined.
func begin() time.Time { return time.Unix(1e9, 0) }

// three are the nodes a, b and c.
func three(edit ...func(*announce.Node)) announce.NodesKnown {
	list := []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3")}
	for _, e := range edit {
		for i := range list {
			e(&list[i])
		}
	}
	return announce.NodesKnown{Nodes: list}
}

// alive says that these speakers live.
func alive(nodes ...name.NodeName) announce.MembersKnown {
	known := announce.MembersKnown{Joined: true}
	for _, n := range nodes {
		known.Members = append(known.Members, announce.Member{Node: n, Health: announce.Alive, Since: begin()})
	}
	return known
}

// speaker is the State of a node that joined long ago and knows what facts say.
func speaker(self name.NodeName, facts ...announce.Fact) *announce.State {
	w := world()
	l2(nil)(&w)
	s := announce.NewState(self)
	s.Step(begin().Add(-time.Hour), announce.Configured{Config: w.Config}, announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.GraceKnown{Grace: 30 * time.Second}, three(), alive("a", "b", "c"))
	s.Step(begin(), facts...)
	return s
}

const lan = "10.0.0.130"

// owned is the news that a owns the address, with b to follow.
func owned(epoch uint64) announce.Heard {
	return announce.Heard{News: announce.News{Claims: []election.Claim{{Unit: netip.MustParseAddr(lan), Owner: "a", Successor: "b", Epoch: epoch}}}}
}

func drained(n *announce.Node) {
	if n.Name == "a" {
		n.Drain = "asked"
	}
}

func TestADrainedOwnerThatNobodyFollowsStopsAndRests(t *testing.T) {
	t.Parallel()
	s := speaker("a", owned(3), announce.Known{Service: service(lan)})
	s.Step(begin(), three(drained))
	if s.Answers() != 1 {
		t.Fatal("it does not answer until another claims")
	}
	s.Step(begin().Add(election.Handover))
	if s.Answers() != 0 || !s.Again().IsZero() {
		t.Errorf("it answers for %d units, and decides again at %v", s.Answers(), s.Again())
	}
}

func TestOneNodeClaimsAUnitThatBecomesPossibleLater(t *testing.T) {
	t.Parallel()
	claims := 0
	for _, self := range []name.NodeName{"a", "b", "c"} {
		s := speaker(self, announce.Known{Service: with(service(lan), func(x *announce.Service) { x.Endpoints = nil })})
		s.Step(begin().Add(10*time.Second), announce.Known{Service: service(lan)})
		claims += len(s.Outbox().Claims)
	}
	if claims != 1 {
		t.Errorf("%d nodes claim it when its endpoints are there, want 1", claims)
	}
}

func TestANodeThatHasJustJoinedLeavesTimeToOthers(t *testing.T) {
	t.Parallel()
	w := world()
	l2(nil)(&w)
	s := announce.NewState("a")
	s.Step(begin(), announce.Configured{Config: w.Config}, announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		three(), announce.Known{Service: service(lan)}, alive("a"))
	if s.Answers() != 0 {
		t.Error("the first of many that start takes all addresses at once")
	}
	if s.Step(begin().Add(time.Second)); s.Answers() != 1 {
		t.Error("nobody else came, and it does not answer")
	}
}

func TestTheBetterClaimIsToldToWhoeverDoesNotKnowIt(t *testing.T) {
	t.Parallel()
	s := speaker("a", owned(7), announce.Known{Service: service(lan)})
	s.Outbox()
	stale := announce.Heard{News: announce.News{Claims: []election.Claim{{Unit: netip.MustParseAddr(lan), Owner: "c", Epoch: 1}}}}
	s.Step(begin(), stale)
	if told := s.Outbox().Claims; len(told) != 1 || told[0].Owner != "a" || told[0].Epoch != 7 {
		t.Errorf("told %v", told)
	}
}

func TestAServiceThatChangesOftenIsFollowedAllTheSame(t *testing.T) {
	t.Parallel()
	s, now := speaker("c", owned(3), announce.Known{Service: service(lan)}), begin()
	s.Step(now, alive("b", "c")) // a is dead, and b does not claim
	for i := range 5 {
		now = now.Add(100 * time.Millisecond)
		s.Step(now, announce.Known{Service: with(service(lan), func(x *announce.Service) {
			x.Endpoints = map[name.NodeName]announce.Endpoints{"b": {Ready: 1 + i}}
		})})
	}
	if s.Answers() != 1 {
		t.Error("the next in line waits for ever")
	}
}

func TestAnOwnerWhoseNodeIsDeletedAnswersUntilAnotherClaims(t *testing.T) {
	t.Parallel()
	s := speaker("a", owned(3), announce.Known{Service: service(lan)})
	rest := three().Nodes[1:]
	if s.Step(begin(), announce.NodesKnown{Nodes: rest}); s.Answers() != 1 {
		t.Fatal("it stops at once")
	}
	follow := announce.Heard{News: announce.News{Claims: []election.Claim{{Unit: netip.MustParseAddr(lan), Owner: "b", Epoch: 4}}}}
	if s.Step(begin(), follow); s.Answers() != 0 {
		t.Error("it goes on though another has claimed")
	}
}

func TestASpeakerThatStartsOnANodeThatCannotDeliverAnswersNothing(t *testing.T) {
	t.Parallel()
	unready := announce.SelfKnown{Interfaces: three().Nodes[0].Interfaces, Proxy: announce.ProxyNotReady, Settled: true}
	s := speaker("a", unready, owned(3), announce.Known{Service: service(lan)})
	if s.Answers() != 0 {
		t.Error("it answers, as if it could hand over what it has not taken")
	}
}

func TestAUnitThatWasMergedStaysWithItsOwner(t *testing.T) {
	t.Parallel()
	named := func(n, addresses string) announce.Known {
		return announce.Known{Service: with(service(addresses), func(x *announce.Service) { x.Key.Name = n })}
	}
	claims := announce.Heard{News: announce.News{Claims: []election.Claim{
		{Unit: netip.MustParseAddr("10.0.0.130"), Owner: "b", Successor: "c", Epoch: 5},
		{Unit: netip.MustParseAddr("10.0.0.140"), Owner: "a", Successor: "c", Epoch: 3},
	}}}
	s := speaker("b", claims, named("x", "10.0.0.130"), named("y", "10.0.0.140"))
	s.Step(begin(), named("z", "10.0.0.130 10.0.0.140"))
	if s.Answers() != 1 {
		t.Fatal("the owner of the better claim does not answer for the merged unit")
	}
	s.Step(begin(), announce.Gone{Service: name.ServiceKey{Namespace: "shop", Name: "z"}})
	if s.Answers() != 2 {
		t.Errorf("after the split it answers for %d units", s.Answers())
	}
}

func TestOnlyWhatIsAnnouncedIsAskedFor(t *testing.T) {
	t.Parallel()
	s := speaker("b", owned(3), announce.Known{Service: with(service(lan), func(x *announce.Service) { x.Endpoints = nil })})
	if held := s.Held("a"); held.IsValid() {
		t.Errorf("the speaker of a would be asked for %v, which nobody answers for", held)
	}
	if s.Step(begin(), announce.Known{Service: service(lan)}); s.Held("a").String() != lan {
		t.Errorf("the speaker of a would be asked for %v", s.Held("a"))
	}
}

// A number that no honest speaker comes to would outlast all that follow: it is not believed, and
// what comes with it is.
func TestImpossibleNumbersAreNotBelievedAndCostNothingElse(t *testing.T) {
	t.Parallel()
	for _, number := range []uint64{1<<64 - 1, 1 << 62, 1 << 57} {
		other := netip.MustParseAddr("10.0.0.131")
		said := announce.News{
			Claims: []election.Claim{
				{Unit: netip.MustParseAddr(lan), Owner: "a", Epoch: number}, {Unit: other, Owner: "a", Successor: "c", Epoch: 1},
			},
			Reports: []announce.Report{{Node: "a", Number: number}, {Node: "c", Number: 1, Proxy: announce.ProxyReady}},
		}
		heard, err := announce.DecodeNews(said.Encode())
		if err != nil {
			t.Fatal(err)
		}
		both := with(service("10.0.0.131"), func(s *announce.Service) { s.Key.Name = "other" })
		s := speaker("b", owned(3), announce.Known{Service: service(lan)}, announce.Known{Service: both}, announce.Heard{News: heard})
		news := s.News()
		for _, c := range news.Claims {
			if c.Epoch == number {
				t.Errorf("it believes %+v", c)
			}
		}
		if len(news.Claims) != 2 || len(news.Reports) != 1 || news.Reports[0].Node != "c" {
			t.Errorf("it knows %+v", news)
		}
	}
}
