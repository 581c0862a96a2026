package announce_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// retreat is a state of node a, with one Service for each of the given addresses that is announced by BGP to r4.
func retreat(t *testing.T, nodes func() []announce.Node, services ...announce.Service) (*announce.State, func(facts ...announce.Fact) string, *time.Time) {
	t.Helper()
	now := time.Unix(1000, 0)
	s := announce.NewState("a")
	w := world()
	bgp(nil)(&w)
	routes := map[name.ServiceKey]string{}
	step := func(facts ...announce.Fact) string {
		t.Helper()
		for _, c := range s.Step(now, facts...) {
			routes[c.Service.Key] = ""
			for _, r := range c.Decision.Routes {
				routes[c.Service.Key] += fmt.Sprintf("%s %v", r.Prefix, r.Communities)
				if r.LocalPref != nil {
					routes[c.Service.Key] += fmt.Sprintf(" pref %d", *r.LocalPref)
				}
			}
		}
		return routes[services[0].Key]
	}
	facts := []announce.Fact{
		announce.Configured{Config: w.Config},
		announce.NamespacesKnown{Labels: w.Namespaces},
		announce.NodesKnown{Nodes: nodes()},
		announce.GraceKnown{Grace: time.Minute, Shutdown: 5 * time.Second},
	}
	for _, one := range services {
		facts = append(facts, announce.Known{Service: one})
	}
	step(facts...)
	return s, step, &now
}

func TestADrainedNodeSaysSoBeforeItWithdraws(t *testing.T) {
	t.Parallel()
	const plain, going = "192.0.2.1/32 []", "192.0.2.1/32 [{false 65535 0 0}] pref 0"
	for signal, drain := range map[string]func(*announce.Node){
		"annotation":    func(n *announce.Node) { n.Drain = "annotation" },
		"exclude label": func(n *announce.Node) { n.Excluded = true },
	} {
		nodes := func(edit ...func(*announce.Node)) []announce.Node {
			return []announce.Node{node("a", "10.0.0.1", edit...), node("b", "10.0.0.2")}
		}
		s, step, now := retreat(t, func() []announce.Node { return nodes() }, service("192.0.2.1"))
		if got := step(); got != plain || s.Withdrawn() {
			t.Fatalf("%s: before, %q", signal, got)
		}
		if got := step(announce.NodesKnown{Nodes: nodes(drain)}); got != going || s.Withdrawn() {
			t.Errorf("%s: drained, %q", signal, got)
		}
		if again := s.Again(); !again.Equal(now.Add(5 * time.Second)) {
			t.Errorf("%s: again at %v", signal, again)
		}
		*now = now.Add(4 * time.Second)
		if got := step(announce.NodesKnown{Nodes: nodes(drain, func(n *announce.Node) { n.Labels["x"] = "y" })}); got != going {
			t.Errorf("%s: after 4 s and a change of the Node, %q", signal, got)
		}
		// A way back.
		if got := step(announce.NodesKnown{Nodes: nodes()}); got != plain {
			t.Errorf("%s: no longer drained, %q", signal, got)
		}
		step(announce.NodesKnown{Nodes: nodes(drain)})
		*now = now.Add(5 * time.Second)
		if got := step(); got != "" || !s.Withdrawn() {
			t.Errorf("%s: after gracefulShutdownTime, %q", signal, got)
		}
		if again := s.Again(); !again.IsZero() {
			t.Errorf("%s: in the end, again at %v", signal, again)
		}
	}
}

func TestALeavingSpeakerAndADeletedNodeSaySoToo(t *testing.T) {
	t.Parallel()
	const going = "192.0.2.1/32 [{false 65535 0 0}] pref 0"
	both := func() []announce.Node { return []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")} }
	self := announce.SelfKnown{Proxy: announce.ProxyReady, Established: both()[0].Established, Interfaces: both()[0].Interfaces}
	leaving := self
	leaving.Leaving = true
	_, step, _ := retreat(t, both, service("192.0.2.1"))
	step(self)
	if got := step(leaving); got != going {
		t.Errorf("leaving: %q", got)
	}
	s, step, _ := retreat(t, both, service("192.0.2.1"))
	if got := step(announce.NodesKnown{Nodes: both()[1:]}); got != going || len(s.Sessions()) == 0 {
		t.Errorf("deleted: %q, %d sessions", got, len(s.Sessions()))
	}
}

func TestWhatANodeCannotDeliverIsWithdrawnAtOnce(t *testing.T) {
	t.Parallel()
	drained := func(edit ...func(*announce.Node)) []announce.Node {
		return []announce.Node{node("a", "10.0.0.1", append(edit, func(n *announce.Node) { n.Drain = "annotation" })...), node("b", "10.0.0.2")}
	}
	first := func() []announce.Node { return []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")} }
	for what, nodes := range map[string][]announce.Node{
		"service proxy not ready": drained(func(n *announce.Node) { n.Proxy = announce.ProxyNotReady }),
		"network unavailable":     drained(func(n *announce.Node) { n.NetworkUnavailable = true }),
	} {
		_, step, _ := retreat(t, first, service("192.0.2.1"))
		if got := step(announce.NodesKnown{Nodes: nodes}); got != "" {
			t.Errorf("%s: %q", what, got)
		}
	}
	// A node that was drained when the speaker started has announced nothing.
	_, step, _ := retreat(t, func() []announce.Node { return drained() }, service("192.0.2.1"))
	if got := step(); got != "" {
		t.Errorf("drained from the start: %q", got)
	}
}

func TestTheVerdictDoesNotCountADrainedNode(t *testing.T) {
	t.Parallel()
	w := world()
	bgp(nil)(&w)
	w.Shutdown = time.Hour
	for i := range w.Nodes {
		w.Nodes[i].Drain = "annotation"
	}
	w.Nodes[0].DrainedAt = time.Time{}.Add(time.Second)
	u := announce.Unit{Services: []announce.Service{service("192.0.2.1")}}
	d := announce.Plan(u, &w, time.Time{}.Add(time.Minute)).Decisions[0]
	if len(d.Routes) != 1 || d.Verdict.Announced {
		t.Errorf("%+v", d)
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	w := world()
	bgp(func(a *announce.BGPAdvertisement) { a.Weigh, a.Transitive = true, true })(&w)
	local := with(service("192.0.2.1"), func(s *announce.Service) {
		s.Local = true
		s.Endpoints["a"] = announce.Endpoints{Ready: 3, Serving: 1}
	})
	for what, x := range map[string]struct {
		service announce.Service
		length  int
		weight  uint32
	}{
		"endpoints of the node": {local, 32, 3},
		"terminating endpoints, where there are no others": {with(local, func(s *announce.Service) {
			s.Endpoints = map[name.NodeName]announce.Endpoints{"a": {Serving: 2}}
		}), 32, 2},
		"none with externalTrafficPolicy Cluster": {service("192.0.2.1"), 32, 0},
		"none on an aggregate":                    {local, 24, 0},
	} {
		w.Config.BGP[0].Length4 = x.length
		d := planned(x.service, &w)
		if len(d.Routes) != 1 || d.Routes[0].Weight != x.weight || d.Routes[0].Transitive != (x.weight > 0) {
			t.Errorf("%s: %+v", what, d.Routes)
		}
	}
}
