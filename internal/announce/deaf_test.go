package announce_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

func TestADeafInterfaceAnnouncesOnlyWhileNoOtherCan(t *testing.T) {
	t.Parallel()
	deafen := func(nodes ...int) func(*announce.View) {
		return func(v *announce.View) {
			for _, n := range nodes {
				v.Nodes[n].Interfaces[0].Deaf = true
			}
		}
	}
	onlyA := func(v *announce.View) { v.Config.L2[0].Nodes = only("name", "a") }
	globs := func(v *announce.View) { v.Config.L2[0].Interfaces = []string{"eth*"} }
	second := func(v *announce.View) {
		v.Nodes[0].Interfaces = append(v.Nodes[0].Interfaces, card("eth2", "10.0.0.9/24"))
	}
	dead := func(v *announce.View) { v.Nodes[1].Health, v.Nodes[2].Health = announce.Dead, announce.Dead }
	for _, tt := range []struct {
		name    string
		self    name.NodeName
		views   []func(*announce.View)
		since   time.Duration // for how long the owner is unfit
		claims  bool
		answers string // where the own node does
		reason  v1alpha1.Reason
	}{
		{"the owner answers until another has claimed", "a", []func(*announce.View){deafen(0)}, 0, false, "eth0", v1alpha1.ReasonAnnounced},
		{"another claims", "b", []func(*announce.View){deafen(0)}, 0, true, "eth0", v1alpha1.ReasonAnnounced},
		{"an owner that nobody follows says so", "a", []func(*announce.View){deafen(0)}, time.Minute, false, "eth0", v1alpha1.ReasonInterfaceDeaf},
		{"when all are deaf the owner stays", "a", []func(*announce.View){deafen(0, 1, 2)}, 0, false, "eth0", v1alpha1.ReasonInterfaceDeaf},
		{"and nobody claims", "b", []func(*announce.View){deafen(0, 1, 2)}, time.Minute, false, "", v1alpha1.ReasonInterfaceDeaf},
		{"a deaf node does not count that is dead", "a", []func(*announce.View){deafen(0), dead}, time.Minute, false, "eth0", v1alpha1.ReasonInterfaceDeaf},
		{"the only node that may stays", "a", []func(*announce.View){deafen(0), onlyA}, 0, false, "eth0", v1alpha1.ReasonInterfaceDeaf},
		{"another card on the same network answers instead", "a", []func(*announce.View){deafen(0), second}, time.Minute, false, "eth2", v1alpha1.ReasonAnnounced},
		{"of several networks one that is not deaf is enough", "a", []func(*announce.View){deafen(0), globs}, time.Minute, false, "eth0,eth1", v1alpha1.ReasonAnnounced},
		{"a deaf node that owns nothing takes nothing", "c", []func(*announce.View){deafen(2)}, time.Minute, false, "", v1alpha1.ReasonAnnounced},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := world()
			l2(nil)(&w)
			w.Self = tt.self
			for _, edit := range tt.views {
				edit(&w)
			}
			a := netip.MustParseAddr("10.0.0.200")
			now := time.Unix(1e9, 0)
			u := announce.Unit{
				Name: a, Services: []announce.Service{service(a.String())}, Since: now.Add(-tt.since), Answered: tt.self == "a",
				Claim: election.Claim{Unit: a, Owner: "a", Successor: "b", Epoch: 1 << 16},
			}
			p := announce.Plan(u, &w, now)
			d := p.Decisions[0]
			var on []string
			for _, l := range d.Layer2 {
				on = append(on, l.Interfaces...)
			}
			slices.Sort(on)
			if p.Claim.Epoch > 0 != tt.claims || strings.Join(on, ",") != tt.answers || d.Verdict.Reason != tt.reason {
				t.Errorf("claims %+v, answers on %v, says %+v", p.Claim, on, d.Verdict)
			}
			if d.Verdict.Announced != (tt.reason == v1alpha1.ReasonAnnounced) {
				t.Errorf("announced: %v", d.Verdict)
			}
			if tt.reason == v1alpha1.ReasonInterfaceDeaf && (!strings.Contains(d.Verdict.Message, "Node a ") || !strings.Contains(d.Verdict.Message, "eth0")) {
				t.Errorf("the message names neither: %s", d.Verdict.Message)
			}
		})
	}
}

func TestTheOthersLearnThatANodeIsDeaf(t *testing.T) {
	t.Parallel()
	interfaces := []announce.Interface{{Name: "eth0", Up: true, Deaf: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}
	news := announce.News{Reports: []announce.Report{{Node: "a", Number: 1, Interfaces: interfaces, Proxy: announce.ProxyReady}}}
	decoded, err := announce.DecodeNews(news.Encode())
	if err != nil || len(decoded.Reports) != 1 || !decoded.Reports[0].Interfaces[0].Deaf {
		t.Fatalf("got %+v, %v", decoded, err)
	}
	s := speaker("b", announce.Known{Service: service(lan)}, owned(1<<16))
	took := func() bool {
		now := begin().Add(time.Minute)
		for range 100 {
			now = now.Add(100 * time.Millisecond)
			if changes := s.Step(now); slices.ContainsFunc(changes, func(c announce.Change) bool { return c.Decision.Owner == "b" }) {
				return true
			}
		}
		return s.Owns() > 0
	}
	if took() {
		t.Fatal("it takes from a healthy owner")
	}
	s.Step(begin().Add(time.Minute), announce.Heard{News: decoded})
	if !took() {
		t.Error("it takes nothing from a deaf owner")
	}
}

func TestWhoHearsFirstAgainTakesNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	report := func(n name.NodeName, number uint64, deaf bool) announce.Report {
		i := announce.Interface{Name: "eth0", Up: true, Deaf: deaf, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
		return announce.Report{Node: n, Number: number, Interfaces: []announce.Interface{i}, Proxy: announce.ProxyReady}
	}
	for name, tt := range map[string]struct {
		answers, recovers bool // the owner
		takes             bool
	}{
		"the owner's node answers, and soon hears too": {true, true, false},
		"the owner's node answers, but stays deaf":     {true, false, true},
		"the owner's node does not answer":             {false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			self := announce.SelfKnown{Settled: true, Proxy: announce.ProxyReady, Interfaces: report("b", 0, true).Interfaces}
			s := speaker("b", announce.Known{Service: service(lan)}, owned(1<<16), announce.QuorumMeasured{}, self)
			now := begin().Add(time.Minute)
			step := func(facts ...announce.Fact) {
				now = now.Add(50 * time.Millisecond)
				s.Step(now, facts...)
				if due := s.Unmeasured(now); len(due) > 0 {
					known := announce.QuorumKnown{Interface: "eth0", Has: true, Witness: true, Asked: due[0].Suspects}
					if tt.answers {
						known.Answered = known.Asked
					}
					s.Step(now, known)
				}
			}
			step(announce.Heard{News: announce.News{Reports: []announce.Report{report("a", 1, true), report("c", 1, true)}}})
			step()
			self.Interfaces = report("b", 0, false).Interfaces
			step(self)
			for i := range 100 {
				if i == 20 && tt.recovers {
					step(announce.Heard{News: announce.News{Reports: []announce.Report{report("a", 2, false)}}})
				}
				step()
			}
			if took := s.Owns() > 0; took != tt.takes {
				t.Errorf("took it: %v", took)
			}
		})
	}
}
