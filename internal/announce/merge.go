package announce

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// merge makes the view's nodes from what the API, the other speakers and the own node say, and
// has planned anew what that touches.
func (s *State) merge(now time.Time, t *touched) {
	before := s.view
	nodes := s.nodes
	if self, known := before.node(before.Self); known && !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == self.Name }) {
		gone := *self // until another has what it owned
		gone.Drain = deleted
		nodes = append(slices.Clone(nodes), gone)
		slices.SortFunc(nodes, func(x, y Node) int { return cmp.Compare(x.Name, y.Name) })
	}
	s.view.Nodes = make([]Node, len(nodes))
	changed := map[name.NodeName]bool{} // in health alone
	more, sessions := len(before.Nodes) != len(nodes), false
	var wires rewiring // of all nodes
	for i, n := range nodes {
		s.complete(&n)
		n.Steady = now
		old, known := before.node(n.Name)
		if known && n.Name == before.Self && n.drained() {
			if n.DrainedAt = old.DrainedAt; !old.drained() {
				n.DrainedAt = now
			}
		}
		var wired rewiring
		if known {
			wired = s.view.Config.rewired(old, &n)
			wires.any, wires.networks = wires.any || wired.any, append(wires.networks, wired.networks...)
		}
		switch {
		case !known || wired.all || !same(*old, n) || s.view.Config.selectedAnew(old.Labels, n.Labels):
			more = true
		case old.Health != n.Health || !old.HealthSince.Equal(n.HealthSince) || !old.lost().Equal(n.lost()):
			changed[n.Name] = true
		default:
			if len(wired.networks) == 0 {
				n.Steady = old.Steady
			}
			sessions = sessions || !slices.Equal(old.Established, n.Established)
		}
		s.view.Nodes[i] = n
	}
	if more {
		t.all = true
		return
	}
	if sessions || wires.any || len(changed) > 0 {
		s.version++
	}
	for _, u := range s.units {
		if sessions && u.bgp {
			t.units[u] = true
		}
		if len(wires.networks) > 0 && s.near(u, wires.networks) {
			s.dirty[u] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	prefers := slices.ContainsFunc(s.view.Config.L2, func(a L2Advertisement) bool { return len(a.Preferred) > 0 })
	for _, u := range s.units {
		if prefers || u.owner == "" || u.successor == "" || !u.since.IsZero() || u.resting(s) || changed[u.owner] || changed[u.successor] {
			t.units[u] = true
		}
	}
}

// complete adds what is known at first hand to what the API says of a node.
func (s *State) complete(n *Node) {
	n.UnknownSince = s.unknown[n.Name]
	if r, known := s.reports[n.Name]; known && n.Name != s.view.Self {
		n.Interfaces, n.Proxy = r.Interfaces, r.Proxy
		if r.Leaving {
			n.Drain = leaving
		}
	}
	if s.members != nil {
		n.Health, n.HealthSince, n.Witnessed = Dead, time.Time{}, false
		i := slices.IndexFunc(s.members.Members, func(m Member) bool { return m.Node == n.Name })
		if i >= 0 {
			m := s.members.Members[i]
			n.Health, n.HealthSince, n.Witnessed = m.Health, m.Since, m.Witnessed
		}
	}
	if s.self != nil && n.Name == s.view.Self {
		n.Interfaces, n.Established, n.Proxy = s.self.Interfaces, s.self.Established, s.self.Proxy
		if s.self.Leaving {
			n.Drain = leaving
		}
	}
	s.cut(n)
}

// leaving and deleted are the drain signals of a speaker that stops for good, and, to the own
// node, of its own Node that is no more.
const (
	leaving = "its speaker leaves"
	deleted = "its Node is deleted"
)

// drained says whether something asks to take the node out of service.
func (n *Node) drained() bool { return n.Excluded || n.Drain != "" }

// resting says whether the owner of a unit is known, and neither fit nor dead.
func (u *unit) resting(s *State) bool {
	n, known := s.view.node(u.owner)
	return known && (n.Health == Silent || n.Health == Unheard)
}

// same says whether two states of a node differ in what is looked at by itself at most: health, sessions, labels and interfaces.
func same(x, y Node) bool {
	x.Labels, x.Interfaces = y.Labels, y.Interfaces
	x.Health, x.HealthSince, x.Steady, x.Established = y.Health, y.HealthSince, y.Steady, y.Established
	x.Witnessed, x.Unknown, x.UnknownSince = y.Witnessed, y.Unknown, y.UnknownSince
	return reflect.DeepEqual(x, y)
}

// equal says whether two decisions are the same.
func (d Decision) equal(o Decision) bool { return reflect.DeepEqual(d, o) }
