package announce

import (
	"reflect"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// merge makes the view's nodes from what the API, the other speakers and the own node say, and
// has planned anew what that touches.
func (s *State) merge(now time.Time, t *touched) {
	before := s.view.Nodes
	s.view.Nodes = make([]Node, len(s.nodes))
	changed := map[name.NodeName]bool{} // in health alone
	more := len(before) != len(s.nodes)
	for i, n := range s.nodes {
		s.complete(&n)
		old := i < len(before) && before[i].Name == n.Name
		if old {
			n.Steady = before[i].Steady
		}
		switch {
		case !old:
			more = true
		case !same(before[i], n):
			more = true
		case before[i].Health != n.Health || !before[i].HealthSince.Equal(n.HealthSince):
			changed[n.Name] = true
		default:
			s.view.Nodes[i] = n
			continue
		}
		n.Steady = now
		s.view.Nodes[i] = n
	}
	if more {
		t.all = true
		return
	}
	if len(changed) == 0 {
		return
	}
	s.version++
	prefers := slices.ContainsFunc(s.view.Config.L2, func(a L2Advertisement) bool { return len(a.Preferred) > 0 })
	for _, u := range s.units {
		if prefers || u.owner == "" || u.successor == "" || !u.since.IsZero() || u.resting(s) || changed[u.owner] || changed[u.successor] {
			t.units[u] = true
		}
	}
}

// complete adds what is known at first hand to what the API says of a node.
func (s *State) complete(n *Node) {
	if r, known := s.reports[n.Name]; known && n.Name != s.view.Self {
		n.Interfaces, n.Proxy = r.Interfaces, r.Proxy
		if r.Leaving {
			n.Drain = leaving
		}
	}
	if s.members != nil {
		n.Health, n.HealthSince = Dead, time.Time{}
		i := slices.IndexFunc(s.members.Members, func(m Member) bool { return m.Node == n.Name })
		if i >= 0 {
			n.Health, n.HealthSince = s.members.Members[i].Health, s.members.Members[i].Since
		}
	}
	if s.self != nil && n.Name == s.view.Self {
		n.Interfaces, n.Established, n.Proxy = s.self.Interfaces, s.self.Established, s.self.Proxy
		if s.self.Leaving {
			n.Drain = leaving
		}
	}
}

// leaving is the drain signal of a speaker that stops for good.
const leaving = "its speaker leaves"

// resting says whether the owner of a unit is known, and neither fit nor dead.
func (u *unit) resting(s *State) bool {
	n, known := s.view.node(u.owner)
	return known && (n.Health == Silent || n.Health == Unheard)
}

// same says whether two states of a node differ in health at most.
func same(x, y Node) bool {
	x.Health, x.HealthSince, x.Steady = y.Health, y.HealthSince, y.Steady
	return reflect.DeepEqual(x, y)
}

// equal says whether two decisions are the same.
func (d Decision) equal(o Decision) bool { return reflect.DeepEqual(d, o) }
