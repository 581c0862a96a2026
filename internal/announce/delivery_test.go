package announce_test

import (
	"testing"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
)

// checking is the State of the node a, which finds out whether it delivers; facts are told in the first step.
func checking(facts ...announce.Fact) *announce.State {
	w := world()
	l2(ownNode)(&w)
	bgp(nil)(&w)
	s := announce.NewState("a")
	s.Step(begin(), append([]announce.Fact{
		announce.DeliveryChecked{},
		announce.Configured{Config: w.Config},
		announce.NamespacesKnown{Labels: w.Namespaces},
		announce.GraceKnown{Grace: 30 * time.Second},
		three(), alive("a", "b", "c"),
	}, facts...)...)
	return s
}

// announced says that some node has announced a Service.
func announced(s *announce.Service) { s.Announced = true }

// decide has a state learn facts, and returns what it decides of the Service by a while later; ok is false if that is
// nothing new.
func decide(s *announce.State, facts ...announce.Fact) (d announce.Decision, ok bool) {
	for i, step := range [][]announce.Fact{facts, nil} {
		for _, c := range s.Step(begin().Add(time.Duration(i+2)*time.Second), step...) {
			d, ok = c.Decision, true
		}
	}
	return d, ok
}

func TestAFirstAnnouncementWaitsUntilTheNodeDelivers(t *testing.T) {
	t.Parallel()
	web := service(lan)
	s := checking(alive("a")) // no others to announce it with
	d, _ := decide(s, announce.Known{Service: web})
	if d.Delivery != announce.Awaited || d.Owner != "a" || len(d.Layer2)+len(d.Routes) > 0 {
		t.Fatalf("a new Service: got %+v, want that a owns it and announces nothing yet", d)
	}
	if s.Answers() != 0 || !s.Withdrawn() {
		t.Errorf("%d answers, withdrawn %v: nothing is announced", s.Answers(), s.Withdrawn())
	}
	if d, ok := decide(s, announce.Known{Service: with(web, announced)}); ok {
		t.Errorf("others have announced it meanwhile: got %+v, want that a waits on", d)
	}
	d, _ = decide(s, announce.Known{Service: web}, announce.Delivered{Service: web.Key})
	if d.Delivery != announce.Delivers || len(d.Layer2) != 1 || len(d.Routes) == 0 || !d.Layer2[0].First || d.Verdict.Reason != v1alpha1.ReasonAnnounced {
		t.Errorf("a delivers: got %+v, want that it begins to answer for the first time", d)
	}
	if d, ok := decide(s, announce.Delivered{Service: web.Key, Doubted: true}); ok {
		t.Errorf("an answer that nobody asked for: got %+v", d)
	}
}

func TestANodeThatDoesNotDeliverAnnouncesWithAWarning(t *testing.T) {
	t.Parallel()
	web := service(lan)
	s := checking()
	decide(s, announce.Known{Service: web})
	d, _ := decide(s, announce.Delivered{Service: web.Key, Doubted: true})
	if d.Delivery != announce.Doubted || len(d.Layer2) != 1 || !d.Verdict.Announced || d.Verdict.Reason != v1alpha1.ReasonNotDelivered {
		t.Errorf("doubted: got %+v, want an announcement with a warning", d)
	}
	d, _ = decide(s, announce.Delivered{Service: web.Key})
	if d.Delivery != announce.Delivers || d.Verdict.Reason != v1alpha1.ReasonAnnounced {
		t.Errorf("it delivers later: got %+v, want no warning any more", d)
	}
}

func TestWhoHasNothingToWaitFor(t *testing.T) {
	t.Parallel()
	web, old := service(lan), with(service(lan), announced)
	for name, c := range map[string]struct {
		first, later []announce.Fact
		awaited      bool
	}{
		"a speaker that starts again":                {first: []announce.Fact{announce.Known{Service: old}}},
		"a Service that gets another address":        {first: []announce.Fact{announce.Known{Service: old}}, later: []announce.Fact{announce.Known{Service: with(service("10.0.0.131"), announced)}}, awaited: true},
		"a Service of the start that nobody has had": {first: []announce.Fact{announce.Known{Service: web}}, awaited: true},
		"a Service that is made anew":                {first: []announce.Fact{announce.Known{Service: old}}, later: []announce.Fact{announce.Gone{Service: web.Key}, announce.Known{Service: web}}, awaited: true},
	} {
		s := checking(c.first...)
		decide(s, c.later...)
		d, ok := decide(s, announce.Delivered{Service: web.Key, Doubted: true}) // heeded only by who waits
		if got := ok && d.Delivery == announce.Doubted; got != c.awaited {
			t.Errorf("%s: awaited %v, want %v (%+v)", name, got, c.awaited, d)
		}
	}
}

func TestFailoverDoesNotWait(t *testing.T) {
	t.Parallel()
	web := service(lan)
	s := checking()
	apart := with(web, func(s *announce.Service) { s.Endpoints = nil })
	decide(s, announce.Known{Service: apart})
	decide(s, announce.Known{Service: with(apart, announced)}) // another node is the first
	d, _ := decide(s, announce.Known{Service: with(web, announced)})
	if d.Delivery != announce.Delivers || len(d.Layer2) != 1 {
		t.Errorf("it falls to a later: got %+v, want that a answers at once", d)
	}
}

func TestOnlyANewAddressIsHeldBack(t *testing.T) {
	t.Parallel()
	old := with(service(lan), announced)
	both := with(service(lan+" 10.0.0.131"), announced)
	s := checking(announce.Known{Service: old})
	d, _ := decide(s, announce.Known{Service: both})
	if d.Delivery != announce.Awaited || len(d.Layer2) != 1 || len(d.Routes) != 1 || d.Layer2[0].Address.String() != lan || d.Routes[0].Prefix.String() != lan+"/32" {
		t.Fatalf("a second address: got %+v, want that a goes on with the first one", d)
	}
	if s.Answers() != 1 || s.Withdrawn() {
		t.Errorf("%d answers, withdrawn %v: the first address is announced", s.Answers(), s.Withdrawn())
	}
	if d, _ = decide(s, announce.Known{Service: old}); d.Delivery != announce.Delivers || len(d.Layer2) != 1 {
		t.Errorf("the second address goes again: got %+v, want nothing to wait for", d)
	}
	decide(s, announce.Known{Service: both})
	if d, _ = decide(s, announce.Delivered{Service: old.Key}); len(d.Layer2) != 2 || len(d.Routes) != 2 {
		t.Errorf("a delivers: got %+v, want both addresses", d)
	}
}
