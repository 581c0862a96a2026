package announce

import (
	"cmp"
	"maps"
	"slices"

	"github.com/ballast-lb/ballast/internal/name"
)

// missersMax is how many nodes tell that they miss a place: one that asked in its turn, and two that it
// made ask.
const missersMax = 3

// Place is an interface of a node.
type Place struct {
	Node      name.NodeName `json:"n"`
	Interface string        `json:"i"`
}

// Compare orders places by node, then by interface.
func (p Place) Compare(o Place) int {
	return cmp.Or(cmp.Compare(p.Node, o.Node), cmp.Compare(p.Interface, o.Interface))
}

// Announcing returns the places on which owners announce in layer 2, those of the own node among them,
// sorted.
func (s *State) Announcing() []Place { return slices.SortedFunc(maps.Keys(s.places), Place.Compare) }

// Missed returns the places of other nodes of which some other live node says that they do not answer it on
// the LAN, sorted.
func (s *State) Missed() []Place {
	missed := map[Place]bool{}
	for from, r := range s.reports {
		for _, p := range r.Missed {
			if p.Node != s.view.Self && s.misses(from, p) {
				missed[p] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(missed), Place.Compare)
}

// misses says whether a node, another one that lives, says that it misses a place.
func (s *State) misses(from name.NodeName, p Place) bool {
	if from == s.view.Self || from == p.Node || !slices.Contains(s.reports[from].Missed, p) {
		return false
	}
	return s.members == nil || slices.ContainsFunc(s.members.Members, func(m Member) bool { return m.Node == from && m.Health == Alive })
}

// missers counts the other live nodes that say that they miss a place.
func (s *State) missers(p Place) int {
	n := 0
	for from := range s.reports {
		if s.misses(from, p) {
			n++
		}
	}
	return n
}

// missed are those of the places that the own node misses that it tells others: enough of them are to know,
// but in a large cluster not all are to say so.
func (s *State) missed() []Place {
	var list []Place
	told := s.reports[s.view.Self].Missed
	for _, p := range s.self.Missed {
		if slices.Contains(told, p) || s.missers(p) < missersMax {
			list = append(list, p)
		}
	}
	return list
}

// cut notes which interfaces of another node are cut off, if its speaker lives: otherwise the membership
// finds out what became of it.
func (s *State) cut(n *Node) {
	if s.self == nil || len(s.self.Missed) == 0 || n.Name == s.view.Self || n.Health != Alive {
		return
	}
	n.Interfaces = slices.Clone(n.Interfaces)
	for i := range n.Interfaces {
		p := Place{n.Name, n.Interfaces[i].Name}
		n.Interfaces[i].Cut = slices.Contains(s.self.Missed, p) && s.missers(p) > 0
	}
}

// announce notes where a unit is announced.
func (s *State) announce(u *unit, places []Place) {
	for _, p := range u.places {
		if s.places[p]--; s.places[p] <= 0 {
			delete(s.places, p)
		}
	}
	for _, p := range places {
		s.places[p]++
	}
	u.places = places
}

// placesOf returns where the owner of a Service announces it.
func (l layer2) placesOf() []Place {
	var all []Place
	for _, i := range l.places {
		all = append(all, Place{l.owner, i})
	}
	return all
}

// cutOff says whether an owner is unfit only because its interfaces are cut off.
func (own *ownership) cutOff(v *View, owner name.NodeName) bool {
	n, known := v.node(owner)
	if !known || n.Health != Alive {
		return false
	}
	cut := false
	for i := range own.rosters {
		r := &own.rosters[i]
		if !r.service.Allocated || len(r.options) == 0 || r.find(owner) != nil {
			continue
		}
		hears := func(w wanted) bool {
			return slices.ContainsFunc(w.interfaces(n), func(i string) bool { return !n.deaf(i) || n.cut(i) })
		}
		cut = slices.ContainsFunc(r.deaf, func(x option) bool { return x.node.Name == owner }) &&
			!slices.ContainsFunc(r.wanted, func(w wanted) bool { return !hears(w) })
		if !cut {
			return false
		}
	}
	return cut
}

// cut says whether an interface of a node is cut off, and not deaf to its own knowledge.
func (n *Node) cut(name string) bool {
	return slices.ContainsFunc(n.Interfaces, func(i Interface) bool { return i.Name == name && i.Cut && !i.Deaf })
}
