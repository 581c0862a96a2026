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
)

// card is an interface that is up.
func card(name string, prefixes ...string) announce.Interface {
	i := announce.Interface{Name: name, Up: true}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	return i
}

// elsewhere puts a node into another rack, where its address is its own only.
func elsewhere(n *announce.Node) {
	n.Addresses = []netip.Addr{netip.MustParseAddr("10.9.0.1")}
	n.Interfaces = []announce.Interface{card("eth0", "10.9.0.1/32")}
}

func TestAddressGoesToItsOwnNetwork(t *testing.T) {
	cards := func(list ...announce.Interface) func(*announce.View) {
		return func(v *announce.View) { v.Nodes[0].Interfaces = list }
	}
	for _, tt := range []struct {
		name    string
		address string
		view    func(*announce.View)
		on      string // where the own node answers
		reason  v1alpha1.Reason
		says    string
	}{
		{"a node in another rack does not answer while others are on the network", "10.0.0.200", func(v *announce.View) { elsewhere(&v.Nodes[0]) }, "", v1alpha1.ReasonNoInterface, "Their networks: none."},
		{"not even if the speakers of all others are dead", "10.0.0.200", func(v *announce.View) {
			elsewhere(&v.Nodes[0])
			v.Nodes[1].Health, v.Nodes[2].Health = announce.Dead, announce.Dead
		}, "", v1alpha1.ReasonNoInterface, "Their networks: none."},
		{"nor if the interface there is down", "10.0.0.200", func(v *announce.View) {
			elsewhere(&v.Nodes[0])
			v.Nodes[1].Interfaces[0].Up, v.Nodes[2].Interfaces[0].Up = false, false
		}, "", v1alpha1.ReasonNoInterface, "Their networks: none."},
		{"the networks that there are instead are named", "10.0.0.200", cards(card("eth0", "10.9.0.1/24")), "", v1alpha1.ReasonNoInterface, "Their networks: 10.9.0.0/24."},
		{"an address in nobody's network is announced where the Node's address is", "192.0.2.1", func(v *announce.View) { elsewhere(&v.Nodes[0]) }, "eth0", v1alpha1.ReasonAnnounced, ""},
		{"a card with a wide mask does not answer as well", "10.0.0.200", cards(card("eth0", "10.0.0.1/24"), card("a", "10.200.0.11/8")), "eth0", v1alpha1.ReasonAnnounced, ""},
		{"of two in the same network that with the Node's address answers", "10.0.0.200", cards(card("eth0", "10.0.0.1/24"), card("a", "10.0.0.9/24")), "eth0", v1alpha1.ReasonAnnounced, ""},
		{"and otherwise the first by name", "10.0.0.200", cards(card("eth0", "10.0.0.8/24"), card("a", "10.0.0.9/24")), "a", v1alpha1.ReasonAnnounced, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world()
			l2(nil)(&w)
			tt.view(&w)
			w.Config.L2[0].Nodes = only("name", "a")
			d := planned(service(tt.address), &w)
			var on []string
			for _, l := range d.Layer2 {
				on = append(on, l.Interfaces...)
			}
			if strings.Join(on, ",") != tt.on {
				t.Errorf("answers on %v, want %q: %+v", on, tt.on, d)
			}
			if d.Verdict.Reason != tt.reason || !strings.Contains(d.Verdict.Message, tt.says) {
				t.Errorf("verdict %+v, want %s, saying %q", d.Verdict, tt.reason, tt.says)
			}
		})
	}
}

func TestDeputyGivesTheAddressOfEachNetwork(t *testing.T) {
	plan := func(edit func(*announce.View)) []announce.Layer2 {
		w := world()
		l2(func(a *announce.L2Advertisement) { a.Interfaces = []string{"eth*"} })(&w)
		for i := range w.Nodes {
			for j := range w.Nodes[i].Interfaces {
				w.Nodes[i].Interfaces[j].MAC = announce.MAC{2, 0, 0, 0, byte(i + 1), byte(j)}
			}
		}
		w.Self, w.Grace, w.Nodes[0].Health = "b", 30*time.Second, announce.Silent
		edit(&w)
		a := netip.MustParseAddr("10.0.0.200")
		u := announce.Unit{Name: a, Services: []announce.Service{service(a.String())}, Claim: election.Claim{Unit: a, Owner: "a", Successor: "b", Epoch: 1}}
		if w.Deaf {
			u.Claim.Owner, u.Answered = "b", true
		}
		return announce.Plan(u, &w, time.Time{}).Decisions[0].Layer2
	}
	for _, tt := range []struct {
		name string
		edit func(*announce.View)
		want map[string]announce.MAC
	}{
		{"a deputy gives the owner's in each network", func(*announce.View) {}, map[string]announce.MAC{"eth0": {2, 0, 0, 0, 1, 0}, "eth1": {2, 0, 0, 0, 1, 1}}},
		{"and none where the owner is not", func(v *announce.View) { v.Nodes[0].Interfaces = v.Nodes[0].Interfaces[:1] }, map[string]announce.MAC{"eth0": {2, 0, 0, 0, 1, 0}}},
		{"an owner that hears nobody gives its own on each", func(v *announce.View) { v.Deaf = true }, map[string]announce.MAC{"eth0": {2, 0, 0, 0, 2, 0}, "eth1": {2, 0, 0, 0, 2, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := plan(tt.edit)
			seen := 0
			for _, l := range got {
				for _, i := range slices.Sorted(slices.Values(l.Interfaces)) {
					if seen++; tt.want[i] != l.For {
						t.Errorf("gives %v on %s, want %v", l.For, i, tt.want[i])
					}
				}
			}
			if seen != len(tt.want) {
				t.Errorf("answers %+v, want %v", got, tt.want)
			}
		})
	}
}
