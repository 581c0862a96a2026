package announce

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/name"
)

// Fact is something that State learns. Each is a value; what it holds is never changed
// after it was told.
type Fact interface{ tell(*State) scope }

// scope is what a fact touches: some Services, all, or nothing.
type scope struct {
	services []name.ServiceKey
	all      bool
}

// Known is the fact that a Service is as it is.
type Known struct{ Service Service }

// Gone is the fact that a Service is no more, or not Ballast's any more.
type Gone struct{ Service name.ServiceKey }

// Configured is the fact that the configuration is as it is.
type Configured struct{ Config Config }

// NodesKnown is the fact that the cluster has exactly these nodes.
type NodesKnown struct{ Nodes []Node }

// MembersKnown is the fact that exactly these speakers live. Once told, it counts in
// place of Node.Alive.
type MembersKnown struct{ Alive []name.NodeName }

// SelfKnown is what the own node knows of itself, at first hand. Once told, it counts in
// place of what the Speaker object says of it.
type SelfKnown struct {
	Interfaces  []Interface
	Established []name.PeerName // sorted
}

// NamespacesKnown is the fact that the cluster has exactly these namespaces, with their labels.
type NamespacesKnown struct{ Labels map[string]labels.Set }

func (f Known) tell(s *State) scope {
	before := s.unit(f.Service.Key)
	s.forget(f.Service.Key)
	s.services[f.Service.Key] = f.Service
	for _, a := range f.Service.Addresses {
		s.holders[a] = append(s.holders[a], f.Service.Key)
	}
	return scope{services: append(before, s.unit(f.Service.Key)...)}
}

func (f Gone) tell(s *State) scope {
	before := s.unit(f.Service)
	s.forget(f.Service)
	return scope{services: append(before, f.Service)}
}

// forget forgets a Service, and that it holds addresses.
func (s *State) forget(key name.ServiceKey) {
	for _, a := range s.services[key].Addresses {
		s.holders[a] = slices.DeleteFunc(s.holders[a], func(o name.ServiceKey) bool { return o == key })
		if len(s.holders[a]) == 0 {
			delete(s.holders, a)
		}
	}
	delete(s.services, key)
}

// unit returns a Service and all that are connected with it by addresses that they share,
// itself first. Of one that is not known there is none.
func (s *State) unit(key name.ServiceKey) []name.ServiceKey {
	if _, known := s.services[key]; !known {
		return nil
	}
	unit := []name.ServiceKey{key}
	for i := 0; i < len(unit); i++ {
		for _, a := range s.services[unit[i]].Addresses {
			for _, o := range s.holders[a] {
				if !slices.Contains(unit, o) {
					unit = append(unit, o)
				}
			}
		}
	}
	return unit
}

func (f Configured) tell(s *State) scope {
	if reflect.DeepEqual(f.Config, s.view.Config) {
		return scope{}
	}
	s.view.Config = f.Config
	return scope{all: true}
}

func (f NodesKnown) tell(s *State) scope {
	s.nodes = f.Nodes
	return s.mergeNodes()
}

func (f MembersKnown) tell(s *State) scope {
	s.members = &f
	return s.mergeNodes()
}

func (f SelfKnown) tell(s *State) scope {
	s.self = &f
	return s.mergeNodes()
}

// mergeNodes makes the view's nodes from what the API, gossip and the own node say.
func (s *State) mergeNodes() scope {
	nodes := slices.Clone(s.nodes)
	for i := range nodes {
		n := &nodes[i]
		if s.members != nil {
			n.Alive = slices.Contains(s.members.Alive, n.Name)
			n.Joined = n.Alive
		}
		if s.self != nil && n.Name == s.view.Self {
			n.Interfaces, n.Established = s.self.Interfaces, s.self.Established
		}
	}
	if reflect.DeepEqual(nodes, s.view.Nodes) {
		return scope{}
	}
	s.view.Nodes = nodes
	return scope{all: true}
}

func (f NamespacesKnown) tell(s *State) scope {
	if maps.EqualFunc(f.Labels, s.view.Namespaces, func(x, y labels.Set) bool { return maps.Equal(x, y) }) {
		return scope{}
	}
	s.view.Namespaces = f.Labels
	return scope{all: true}
}

// Change is a Service whose Decision is now another.
type Change struct {
	Service  Service // as last known; of one that is gone, its Key alone
	Gone     bool
	Decision Decision
}

// State knows the Services and the view and what was decided of each. It is not safe for
// concurrent use: one goroutine owns it.
type State struct {
	view     View
	nodes    []Node // as the API tells them
	members  *MembersKnown
	self     *SelfKnown
	version  int // counts changes of the view
	services map[name.ServiceKey]Service
	holders  map[netip.Addr][]name.ServiceKey
	decided  map[name.ServiceKey]Decision
}

// NewState returns a State that knows nothing; self is the node to plan for, or "".
func NewState(self name.NodeName) *State {
	return &State{view: View{Self: self}, services: map[name.ServiceKey]Service{}, holders: map[netip.Addr][]name.ServiceKey{}, decided: map[name.ServiceKey]Decision{}}
}

// Step learns facts and returns the changes that follow, sorted by Service. Services
// that no fact touches are not planned anew.
func (s *State) Step(facts ...Fact) []Change {
	all := false
	touched := map[name.ServiceKey]bool{}
	for _, f := range facts {
		sc := f.tell(s)
		if sc.all {
			all = true
			s.version++
		}
		for _, key := range sc.services {
			touched[key] = true
		}
	}
	if all {
		for key := range s.services {
			touched[key] = true
		}
	}
	keys := slices.SortedFunc(maps.Keys(touched), func(x, y name.ServiceKey) int {
		switch {
		case x.Less(y):
			return -1
		case y.Less(x):
			return 1
		}
		return 0
	})
	var changes []Change
	for _, key := range keys {
		if c, changed := s.plan(key); changed {
			changes = append(changes, c)
		}
	}
	return changes
}

func (s *State) plan(key name.ServiceKey) (Change, bool) {
	before, known := s.decided[key]
	svc, exists := s.services[key]
	if !exists {
		delete(s.decided, key)
		return Change{Service: Service{Key: key}, Gone: true}, known
	}
	var sharers []Service
	for _, other := range s.unit(key)[1:] {
		sharers = append(sharers, s.services[other])
	}
	d := Plan(svc, sharers, &s.view)
	s.decided[key] = d
	return Change{Service: svc, Decision: d}, !known || !reflect.DeepEqual(before, d)
}

// Sessions returns the BGP peers that the own node should have a session with, the oldest first.
func (s *State) Sessions() []Peer {
	node, known := s.view.node(s.view.Self)
	if !known {
		return nil
	}
	var peers []Peer
	for _, p := range s.view.Config.Peers {
		if p.Nodes.Matches(node.Labels) {
			peers = append(peers, p.Peer)
		}
	}
	return peers
}

// Version is another after each step that changed anything but Services.
func (s *State) Version() int { return s.version }

// Nodes returns the nodes that are known, sorted by name. The caller must not change them.
func (s *State) Nodes() []Node { return s.view.Nodes }
