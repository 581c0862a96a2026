package announce

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Change is a Service whose Decision is now another.
type Change struct {
	Service  Service // as last known; of one that is gone, its Key alone
	Gone     bool
	Decision Decision
}

// State knows the Services and the view, who claims what, and what was decided of each
// Service. It is not safe for concurrent use: one goroutine owns it.
type State struct {
	view    View
	nodes   []Node // as the API tells them
	members *MembersKnown
	self    *SelfKnown
	version int // counts changes of the view
	planned int // counts plans of units

	services map[name.ServiceKey]Service
	holders  map[netip.Addr][]name.ServiceKey
	decided  map[name.ServiceKey]Decision
	// arrivals are the Services with addresses of which delivery is a question, awaited the same by their prints; checks
	// says that it is found out.
	arrivals map[name.ServiceKey]*arrival
	awaited  map[uint64]*arrival
	early    early
	checks   bool

	units  map[netip.Addr]*unit
	unitOf map[name.ServiceKey]*unit
	// waiting are the units that are to be planned again at some time.
	waiting map[*unit]bool
	// measuring are the units whose claim depends on a quorum that is to be measured.
	measuring map[*unit]bool
	// dirty are the units that only what concerns many of them touched: each step plans some.
	dirty map[*unit]bool
	// stepped is when the last step was; zero: there was none.
	stepped time.Time
	// deputized counts the units of each owner in whose place the own node answers.
	deputized map[name.NodeName]int
	// places counts the units that are announced at each.
	places  map[Place]int
	claims  claims
	reports map[name.NodeName]Report // what nodes say of themselves
	// unknown is since when the API has said of nodes that nobody knows whether their speakers live.
	unknown map[name.NodeName]time.Time
	// surpass is the number of a report of the own node that others have, from an earlier run.
	surpass uint64
	asked   *string // what asked the own node for a rebalancing before; nil: not known yet
	outbox  News
	learned News
	// contests are the last claims that were answered with a better one of the own node's.
	contests map[netip.Addr]contest
	// sums are those of the digest of what is known; nil: not made since the last step. first is the part that
	// an answer to a digest begins with. fruitless counts answers without anything new, fruitful says that the
	// last had something, replied that there was one since this node compared.
	sums              []byte
	first, fruitless  int
	fruitful, replied bool
	counted           counted
	// won are Services of the own node's that another claimed, in vain.
	won []name.ServiceKey
}

// unit is what State keeps of a Unit.
type unit struct {
	name     netip.Addr
	services []name.ServiceKey
	// since is when it was first seen orphaned; zero: it is not.
	since time.Time
	// again is when to plan it though nothing changed; zero: never.
	again time.Time
	// claim is the best known one, by whose owner and successor it is indexed.
	claim            election.Claim
	owner, successor name.NodeName
	// fit says that the own node owned it when it was last planned, and could.
	fit     bool
	history history
	// measure are the own node's interfaces on which a quorum is to be measured for it.
	measure []string
	// deputizes is the owner in whose place the own node answers.
	deputizes name.NodeName
	// answers says that the own node answers as the owner, answered that it has before.
	answers, answered bool
	// announced is an address that its owner answers for, if there is one; bgp says that nodes
	// announce something of it by BGP.
	announced netip.Addr
	bgp       bool
	// places are where its owner announces it.
	places []Place
}

// NewState returns a State that knows nothing; self is the node to plan for, or "".
func NewState(self name.NodeName) *State {
	return &State{
		view:     View{Self: self, Owned: map[name.NodeName]int{}},
		arrivals: map[name.ServiceKey]*arrival{}, awaited: map[uint64]*arrival{},
		services: map[name.ServiceKey]Service{}, holders: map[netip.Addr][]name.ServiceKey{}, decided: map[name.ServiceKey]Decision{},
		units: map[netip.Addr]*unit{}, unitOf: map[name.ServiceKey]*unit{},
		waiting: map[*unit]bool{}, measuring: map[*unit]bool{}, dirty: map[*unit]bool{},
		claims: newClaims(), reports: map[name.NodeName]Report{}, deputized: map[name.NodeName]int{},
		contests: map[netip.Addr]contest{}, counted: counted{disputes: map[netip.Addr]time.Time{}},
		places: map[Place]int{},
	}
}

// touched is what a step has to plan anew.
type touched struct {
	units map[*unit]bool
	gone  []name.ServiceKey
	all   bool
}

// planAtOnce is how many dirty units a step plans at most, so that it lasts some 30 ms with 200 nodes.
const planAtOnce = 256

// Step learns facts and returns the changes that follow, sorted by Service. Units that no
// fact touches, and whose time has not come, are not planned anew. The first step plans all
// units; later, a fact that concerns all has them planned by and by: Again is then due at once.
func (s *State) Step(now time.Time, facts ...Fact) []Change {
	t := touched{units: map[*unit]bool{}}
	s.sums = nil
	s.claims.sweep(now, s.known)
	maps.DeleteFunc(s.counted.disputes, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) >= countTime })
	maps.DeleteFunc(s.contests, func(_ netip.Addr, c contest) bool { return now.Sub(c.at) >= contestTime })
	for _, f := range facts {
		f.tell(s, now, &t)
	}
	if t.all {
		s.version++
		for _, u := range s.units {
			s.dirty[u] = true
		}
	}
	for u := range s.waiting {
		if !now.Before(u.again) {
			t.units[u] = true
		}
	}
	s.pick(t.units)
	s.stepped = now
	var changes []Change
	for _, key := range t.gone {
		if _, known := s.decided[key]; known && s.unitOf[key] == nil {
			delete(s.decided, key)
			changes = append(changes, Change{Service: Service{Key: key}, Gone: true})
		}
	}
	ordered := slices.SortedFunc(maps.Keys(t.units), func(x, y *unit) int { return x.name.Compare(y.name) })
	for _, u := range ordered {
		if s.units[u.name] == u {
			changes = s.plan(u, now, changes)
		}
	}
	slices.SortFunc(changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Service.Key.Namespace, y.Service.Key.Namespace), cmp.Compare(x.Service.Key.Name, y.Service.Key.Name))
	})
	return changes
}

// pick moves dirty units to those that a step plans: all in the first, and later planAtOnce at
// most, first those that may be without a fit owner.
func (s *State) pick(planned map[*unit]bool) {
	for u := range s.dirty {
		if planned[u] || s.units[u.name] != u {
			delete(s.dirty, u)
		}
	}
	urgent := map[*unit]int{}
	for u := range s.dirty {
		if n, known := s.view.node(u.owner); !known || n.Health != Alive || n.drained() || n.deafened() || !u.since.IsZero() {
			urgent[u] = 1
		}
	}
	ordered := slices.SortedFunc(maps.Keys(s.dirty), func(x, y *unit) int {
		return cmp.Or(cmp.Compare(urgent[y], urgent[x]), x.name.Compare(y.name))
	})
	if !s.stepped.IsZero() {
		ordered = ordered[:min(len(ordered), planAtOnce)]
	}
	for _, u := range ordered {
		planned[u] = true
		delete(s.dirty, u)
	}
}

// plan plans a unit and appends the changes that follow.
func (s *State) plan(u *unit, now time.Time, changes []Change) []Change {
	full := s.full(u)
	p := Plan(full, &s.view, now)
	s.planned++
	if p.Claim.Epoch > 0 {
		s.claim(p.Claim, now)
		p.Orphaned = false
	}
	s.claimRest(u, now)
	u.announced, u.bgp = p.Announced, p.BGP
	u.fit = p.Fit || p.Claim.Epoch > 0
	s.measure(u, p.Measure)
	s.deputize(u, p.Deputizes)
	s.announce(u, p.Places)
	switch {
	case !p.Orphaned:
		u.since = time.Time{}
	case u.since.IsZero():
		u.since = now
	}
	u.answered, u.answers = u.answered || u.answers, false
	for i, d := range p.Decisions {
		key := u.services[i]
		p.Again = earliest(p.Again, s.withhold(&full.Services[i], &d, now))
		u.answers = u.answers || len(d.Layer2) > 0 && d.Owner == s.view.Self
		before, known := s.decided[key]
		s.decided[key] = d
		if !known || !before.equal(d) {
			changes = append(changes, Change{Service: s.services[key], Decision: d})
		}
	}
	s.wait(u, p.Again)
	return changes
}

// claimRest claims those other addresses of a unit of the own node's that somebody else has
// claimed, so that they stay together, whatever becomes of the unit.
func (s *State) claimRest(u *unit, now time.Time) {
	if u.owner != s.view.Self || u.owner == "" {
		return
	}
	for _, a := range s.addresses(u) {
		if c, known := s.claims.known[a]; known && c.Owner != s.view.Self {
			above := max(u.claim.Epoch, c.Epoch+1)
			s.claim(election.Claim{Unit: a, Owner: u.owner, Successor: u.successor, Epoch: above}, now)
		}
	}
}

// wait has a unit planned again at some time; zero: not before something changes.
func (s *State) wait(u *unit, again time.Time) {
	u.again = again
	delete(s.waiting, u)
	if !again.IsZero() {
		s.waiting[u] = true
	}
}

// deputize notes in whose place the own node answers for a unit.
func (s *State) deputize(u *unit, owner name.NodeName) {
	if u.deputizes == owner {
		return
	}
	if s.deputized[u.deputizes]--; s.deputized[u.deputizes] <= 0 {
		delete(s.deputized, u.deputizes)
	}
	if u.deputizes = owner; owner != "" {
		s.deputized[owner]++
	}
}

// full is what Plan is to know of a unit.
func (s *State) full(u *unit) Unit {
	full := Unit{
		Name: u.name, Claim: s.claims.best(u.name, s.addresses(u)), Since: u.since, Answered: u.answered || u.answers, history: u.history,
	}
	for _, key := range u.services {
		full.Services = append(full.Services, s.services[key])
	}
	return full
}

// claim makes a claim of the own node known here, and puts it into the outbox.
func (s *State) claim(c election.Claim, now time.Time) {
	s.learn(c, now)
	s.outbox.Claims = append(s.outbox.Claims, c)
}

// learn notes a claim; it returns whether it is news.
func (s *State) learn(c election.Claim, now time.Time) bool {
	if !s.claims.learn(c, now) {
		return false
	}
	for _, key := range s.holders[c.Unit] {
		s.index(s.unitOf[key], now)
	}
	return true
}

// index notes who owns a unit by the claims now known.
func (s *State) index(u *unit, now time.Time) {
	best := s.claims.best(u.name, s.addresses(u))
	s.count(u.owner, -1)
	if u.owner != best.Owner {
		u.since = time.Time{}
	}
	if best != u.claim {
		lost := u.owner == s.view.Self && u.owner != ""
		if u.history.follow(u.claim, best, u.fit && lost, best.Owner == s.view.Self, now) {
			s.counted.lost++
		}
	}
	u.claim, u.owner, u.successor = best, best.Owner, best.Successor
	s.count(u.owner, 1)
}

// count changes how many units a node owns.
func (s *State) count(n name.NodeName, by int) {
	if n == "" {
		return
	}
	if s.view.Owned[n] += by; s.view.Owned[n] == 0 {
		delete(s.view.Owned, n)
	}
}

// known says whether some Service holds an address.
func (s *State) known(a netip.Addr) bool { return len(s.holders[a]) > 0 }

// addresses returns all addresses of a unit.
func (s *State) addresses(u *unit) []netip.Addr {
	var all []netip.Addr
	for _, key := range u.services {
		all = append(all, s.services[key].Addresses...)
	}
	return all
}

// Again is when to step though there is no new fact; zero: never.
func (s *State) Again() time.Time {
	if len(s.dirty) > 0 {
		return s.stepped
	}
	var first time.Time
	for u := range s.waiting {
		if first.IsZero() || u.again.Before(first) {
			first = u.again
		}
	}
	return first
}

// Outbox returns what is to be told to the other speakers since the last call.
func (s *State) Outbox() News {
	out := s.outbox
	s.outbox = News{}
	return out
}

// Won returns the Services that the own node owns and another has claimed in vain since the last
// call: that may have announced their addresses.
func (s *State) Won() []name.ServiceKey {
	won := s.won
	s.won = nil
	return won
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

// Planned counts the plans of units since the state was made: what a fact costs.
func (s *State) Planned() int { return s.planned }

// Nodes returns the nodes that are known, sorted by name. The caller must not change them.
func (s *State) Nodes() []Node { return s.view.Nodes }

// Deputized returns the owners in whose place the own node answers, sorted.
func (s *State) Deputized() []name.NodeName { return slices.Sorted(maps.Keys(s.deputized)) }

// Apart says whether there may be an owner that the own node does not hear, of what it owns itself; and
// which nodes it does not hear, sorted.
func (s *State) Apart() (apart bool, unheard []name.NodeName) {
	alone := s.view.alone()
	for i := range s.view.Nodes {
		n := &s.view.Nodes[i]
		if n.Name == s.view.Self || n.Health == Alive {
			continue
		}
		apart = apart || n.Health == Unheard || alone && n.Health == Silent
		unheard = append(unheard, n.Name)
	}
	return apart, unheard
}

// Held returns an address that the speaker of a node should answer for, if there is any.
func (s *State) Held(n name.NodeName) netip.Addr {
	for _, u := range s.units {
		if u.owner == n && u.announced.IsValid() {
			return u.announced
		}
	}
	return netip.Addr{}
}

// Announcers returns the other nodes that conditions name as those that answer in layer 2, each with
// an address that it does so for.
func (s *State) Announcers() map[name.NodeName]netip.Addr {
	found := map[name.NodeName]netip.Addr{}
	for _, x := range s.services {
		if x.Owner != "" && x.Owner != s.view.Self && len(x.Addresses) > 0 {
			found[x.Owner] = x.Addresses[0]
		}
	}
	return found
}

// Answers returns for how many units the own node answers as the owner.
func (s *State) Answers() int {
	n := 0
	for _, u := range s.units {
		if u.answers {
			n++
		}
	}
	return n
}

// Withdrawn says whether the own node announces nothing by BGP.
func (s *State) Withdrawn() bool {
	for _, d := range s.decided {
		if len(d.Routes) > 0 {
			return false
		}
	}
	return true
}

// Owns returns how many units the own node owns.
func (s *State) Owns() int { return s.view.Owned[s.view.Self] }
