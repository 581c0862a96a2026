package announce

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Fact is something that State learns. Each is a value; what it holds is never changed
// after it was told.
type Fact interface {
	tell(*State, time.Time, *touched)
}

// Known is the fact that a Service is as it is.
type Known struct{ Service Service }

// Gone is the fact that a Service is no more, or not Ballast's any more.
type Gone struct{ Service name.ServiceKey }

// Configured is the fact that the configuration is as it is.
type Configured struct{ Config Config }

// NodesKnown is the fact that the cluster has exactly these nodes.
type NodesKnown struct{ Nodes []Node }

// Member is how the speaker of a node is, at first hand.
type Member struct {
	Node   name.NodeName
	Health Health
	Since  time.Time
	// Witnessed says of one that is not Alive that another node heard it a moment ago.
	Witnessed bool
}

// MembersKnown is the fact that the speakers are as they are; those that are not named are
// dead. Once told, it counts in place of Node.Health.
type MembersKnown struct {
	Members []Member
	// Joined says that this node has learned what the others own, Deaf that it hears nobody.
	Joined, Deaf bool
}

// SelfKnown is what the own node knows of itself, at first hand. Once told, it counts in
// place of what the Speaker object says of it, and is reported to the other speakers.
type SelfKnown struct {
	Interfaces  []Interface
	Established []Session // sorted by peer
	Proxy       ProxyState
	// Settled says that links and service proxy have been looked at. Before, nothing of this is
	// reported to others, who go on with what they know.
	Settled bool
	// Leaving says that the speaker hands over all that it owns and then stops.
	Leaving bool
	// Stale says that the API server could not be reached for so long that this node takes nothing
	// from an owner that lives.
	Stale bool
	// Conflicts are other hosts that answer for what this node answers for.
	Conflicts []Conflict
	// Missed are places of other nodes that did not answer this node on the LAN when it asked often
	// enough, sorted.
	Missed []Place
}

// NamespacesKnown is the fact that the cluster has exactly these namespaces, with their labels.
type NamespacesKnown struct{ Labels map[string]labels.Set }

// GraceKnown is the fact that owners may be silent for so long, and that routes of a drained node go on for so long.
type GraceKnown struct{ Grace, Shutdown time.Duration }

func (f Known) tell(s *State, now time.Time, t *touched) {
	s.expect(s.services[f.Service.Key], f.Service)
	s.change(f.Service.Key, now, t, func() {
		s.services[f.Service.Key] = f.Service
		for _, a := range f.Service.Addresses {
			s.holders[a] = append(s.holders[a], f.Service.Key)
		}
	})
}

func (f Gone) tell(s *State, now time.Time, t *touched) {
	s.change(f.Service, now, t, func() {})
	if a := s.arrivals[f.Service]; a != nil {
		s.arrived(a)
	}
	t.gone = append(t.gone, f.Service)
}

// change forgets a Service, lets know make another of it, and forms the units anew that it
// was or is in.
func (s *State) change(key name.ServiceKey, now time.Time, t *touched, know func()) {
	affected := s.connected(key)
	for _, a := range s.services[key].Addresses {
		s.holders[a] = slices.DeleteFunc(s.holders[a], func(o name.ServiceKey) bool { return o == key })
		if len(s.holders[a]) == 0 {
			delete(s.holders, a)
			s.claims.stray(a, now)
		}
	}
	delete(s.services, key)
	know()
	for _, other := range s.connected(key) {
		if !slices.Contains(affected, other) {
			affected = append(affected, other)
		}
	}
	s.form(affected, now, t)
}

// form makes the units of some Services anew. A unit that nobody has claimed inherits the
// claim of the one that its first Service was in: who owned it goes on.
func (s *State) form(keys []name.ServiceKey, now time.Time, t *touched) {
	before := map[name.ServiceKey]*unit{}
	for _, key := range keys {
		u := s.unitOf[key]
		if u == nil {
			continue
		}
		before[key] = u
		delete(s.unitOf, key)
		if s.units[u.name] == u {
			delete(s.units, u.name)
			s.count(u.owner, -1)
			s.wait(u, time.Time{})
			s.measure(u, nil)
			s.deputize(u, "")
			s.announce(u, nil)
		}
	}
	for _, key := range keys {
		if _, exists := s.services[key]; !exists || s.unitOf[key] != nil {
			continue
		}
		u := &unit{services: s.connected(key)}
		slices.SortFunc(u.services, func(x, y name.ServiceKey) int {
			if x.Less(y) {
				return -1
			}
			return 1
		})
		u.name = s.nameOf(u)
		old := before[key]
		if old != nil {
			u.answered = old.answered && old.name == u.name
			u.history, u.fit, u.claim = old.history, old.fit, old.claim
		}
		for _, member := range u.services {
			s.unitOf[member] = u
		}
		s.units[u.name] = u
		if all := s.addresses(u); old != nil && old.owner != "" && len(all) > 0 && s.claims.best(u.name, all).Epoch == 0 {
			s.claims.learn(election.Claim{Unit: u.name, Owner: old.owner, Successor: old.successor, Epoch: 1}, now)
		}
		s.index(u, now)
		if old != nil && old.owner == u.owner {
			u.since = old.since
		}
		t.units[u] = true
	}
}

// nameOf is the lowest address of a unit. Services without addresses are units too, whose
// names only tell them apart.
func (s *State) nameOf(u *unit) netip.Addr {
	if all := s.addresses(u); len(all) > 0 {
		return slices.MinFunc(all, netip.Addr.Compare)
	}
	return netip.IPv6Unspecified().WithZone(u.services[0].String())
}

// connected returns a Service and all that are connected with it by addresses that they share,
// itself first. Of one that is not known there is none.
func (s *State) connected(key name.ServiceKey) []name.ServiceKey {
	if _, known := s.services[key]; !known {
		return []name.ServiceKey{key}
	}
	found := []name.ServiceKey{key}
	seen := map[name.ServiceKey]bool{key: true}
	for i := 0; i < len(found); i++ {
		for _, a := range s.services[found[i]].Addresses {
			for _, o := range s.holders[a] {
				if !seen[o] {
					seen[o] = true
					found = append(found, o)
				}
			}
		}
	}
	return found
}

func (f Configured) tell(s *State, _ time.Time, t *touched) {
	if !reflect.DeepEqual(f.Config, s.view.Config) {
		s.view.Config, t.all = f.Config, true
	}
}

func (f NamespacesKnown) tell(s *State, _ time.Time, _ *touched) {
	relabeled := s.view.Config.relabeled(s.view.Namespaces, f.Labels)
	s.view.Namespaces = f.Labels
	if len(relabeled) == 0 {
		return
	}
	for key, u := range s.unitOf {
		if relabeled[key.Namespace] {
			s.dirty[u] = true
		}
	}
}

func (f GraceKnown) tell(s *State, _ time.Time, t *touched) {
	if f.Grace != s.view.Grace || f.Shutdown != s.view.Shutdown {
		s.view.Grace, s.view.Shutdown, t.all = f.Grace, f.Shutdown, true
	}
}

func (f NodesKnown) tell(s *State, now time.Time, t *touched) {
	s.nodes = f.Nodes
	unknown := map[name.NodeName]time.Time{}
	for _, n := range f.Nodes {
		if since, was := s.unknown[n.Name]; n.Unknown && was {
			unknown[n.Name] = since
		} else if n.Unknown {
			unknown[n.Name] = now
		}
	}
	s.unknown = unknown
	maps.DeleteFunc(s.reports, func(n name.NodeName, _ Report) bool {
		return n != s.view.Self && !slices.ContainsFunc(f.Nodes, func(x Node) bool { return x.Name == n })
	})
	s.merge(now, t)
	if n, known := s.view.node(s.view.Self); known {
		if s.asked != nil && *s.asked != n.Rebalance && n.Rebalance != "" {
			s.rebalance(now, t)
		}
		asked := n.Rebalance
		s.asked = &asked
	}
}

func (f MembersKnown) tell(s *State, now time.Time, t *touched) {
	if s.members == nil || s.members.Joined != f.Joined || s.members.Deaf != f.Deaf {
		t.all = true
	}
	if f.Joined && !s.view.Joined {
		s.view.JoinedAt = now
	}
	s.members = &f
	s.view.Joined, s.view.Deaf = f.Joined, f.Deaf
	s.merge(now, t)
}

func (f SelfKnown) tell(s *State, now time.Time, t *touched) {
	s.self = &f
	if s.view.Stale != f.Stale {
		s.view.Stale, t.all = f.Stale, true
	}
	s.report(0)
	s.merge(now, t)
	conflicts := map[netip.Addr]Conflict{}
	for _, c := range f.Conflicts {
		c.Since = now
		if before, was := s.view.Conflicts[c.Address]; was && before.Node == c.Node {
			c.Since = before.Since
		}
		conflicts[c.Address] = c
	}
	for a, c := range conflicts {
		if s.view.Conflicts[a] != c {
			s.touch(a, t)
		}
	}
	for a := range s.view.Conflicts {
		if _, still := conflicts[a]; !still {
			s.touch(a, t)
		}
	}
	s.view.Conflicts = conflicts
}

// touch has the unit of an address planned anew.
func (s *State) touch(a netip.Addr, t *touched) {
	for _, key := range s.holders[a] {
		t.units[s.unitOf[key]] = true
	}
}

// rebalance takes over what falls to the own node when all is evened out.
func (s *State) rebalance(now time.Time, t *touched) {
	var all []election.Situation
	byName := map[netip.Addr]*unit{}
	for _, u := range slices.SortedFunc(maps.Values(s.units), func(x, y *unit) int { return x.name.Compare(y.name) }) {
		full := s.full(u)
		own := s.view.own(&full, now)
		if own.situation.Claim.Epoch > 0 {
			all = append(all, own.situation)
			byName[u.name] = u
		}
	}
	for _, moved := range election.Rebalance(s.view.Self, all) {
		i := slices.IndexFunc(all, func(x election.Situation) bool { return x.Unit == moved })
		s.claim(election.Take(all[i]), now)
		t.units[byName[moved]] = true
	}
}
