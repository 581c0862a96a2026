package announce

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// option is a node that could answer for a Service, whether or not its speaker lives.
type option struct {
	node       *Node
	preference int
}

// placeAfter is how long a node that has just joined leaves units alone that nobody has
// claimed: when all nodes start at the same time, the first would take all.
const placeAfter = time.Second

const (
	// contestedAgain is how often a unit is planned while other nodes answer for it, too.
	contestedAgain = 500 * time.Millisecond
	// splitFor is how long a live node that answers for what it does not own may not have heard yet that
	// it does not. From then on it is not its speaker that answers.
	splitFor = 5 * time.Second
)

// roster is who could answer for one Service, or the first rule that said no.
type roster struct {
	service   *Service
	endpoints map[name.NodeName]bool // see Service.endpointNodes
	wanted    []wanted
	options   []option // sorted by node
	// deaf are nodes that could only answer on an interface that is deaf. If no other lives, they are
	// options after all: then nothing moves.
	deaf []option
	// usable is how many nodes pass rules 3 and 4, alive on how many of them the speaker lives.
	usable, alive int
	networks      []string // of the live ones, sorted
	no            refusal
}

// find returns the option of a node.
func (o *roster) find(n name.NodeName) *option {
	i, found := slices.BinarySearchFunc(o.options, n, func(x option, n name.NodeName) int { return cmp.Compare(x.node.Name, n) })
	if !found {
		return nil
	}
	return &o.options[i]
}

// wanted is an address of a Service and the advertisements that select it.
type wanted struct {
	address netip.Addr
	advs    []*L2Advertisement
	// listed says that some Node, whether or not its speaker lives, is on a network that contains the address.
	listed bool
}

// wanted returns the addresses of a Service that layer 2 is to announce.
func (v *View) wanted(s *Service) []wanted {
	var list []wanted
	for _, a := range s.Addresses {
		p := v.pool(a)
		var advs []*L2Advertisement
		for i := range v.Config.L2 {
			if adv := &v.Config.L2[i]; v.selects(adv.Selection, s, p) {
				advs = append(advs, adv)
			}
		}
		if len(advs) > 0 {
			list = append(list, wanted{a, advs, v.listed(a)})
		}
	}
	return list
}

// roster applies rules 2 to 5 to a Service.
func (v *View) roster(s *Service) roster {
	o := roster{service: s, endpoints: s.endpointNodes(), wanted: v.wanted(s)}
	if len(o.wanted) == 0 {
		o.no = refuse(v1alpha1.ReasonNoAdvertisement, "No L2Advertisement selects the Service and its pool.")
		return o
	}
	var selections []Selectors
	for _, w := range o.wanted {
		for _, adv := range w.advs {
			selections = append(selections, adv.Nodes)
		}
	}
	var nodes []*Node
	if nodes, o.no = v.usable(s, o.endpoints, selections); o.no.reason != "" {
		return o
	}
	o.usable = len(nodes)
	for _, n := range nodes {
		if n.Health == Alive {
			o.alive++
		}
		switch {
		case !slices.ContainsFunc(o.wanted, func(w wanted) bool { return !w.fits(n) }):
			o.options = append(o.options, option{n, preference(n, o.wanted)})
		case answersOf(n, o.wanted) != nil:
			o.deaf = append(o.deaf, option{n, preference(n, o.wanted)})
		}
	}
	if !slices.ContainsFunc(o.options, func(x option) bool { return x.node.Health == Alive }) {
		o.options = append(o.options, o.deaf...)
		slices.SortFunc(o.options, func(x, y option) int { return cmp.Compare(x.node.Name, y.node.Name) })
	}
	if !slices.ContainsFunc(o.options, func(x option) bool { return x.node.Health == Alive }) {
		o.networks = networks(nodes)
	}
	return o
}

// answersOf is what a node would answer, or nil if it lacks an interface for any address.
func answersOf(n *Node, addresses []wanted) []Layer2 {
	var list []Layer2
	for _, w := range addresses {
		found := w.interfaces(n)
		if len(found) == 0 {
			return nil
		}
		list = append(list, Layer2{Address: w.address, Interfaces: found})
	}
	return list
}

// preference sums the weights of the preferences that a node meets, each advertisement's once.
func preference(n *Node, addresses []wanted) int {
	sum := 0
	var seen []*L2Advertisement
	for _, w := range addresses {
		for _, adv := range w.advs {
			if slices.Contains(seen, adv) {
				continue
			}
			seen = append(seen, adv)
			for _, p := range adv.Preferred {
				if p.Nodes.Matches(n.Labels) {
					sum += p.Weight
				}
			}
		}
	}
	return sum
}

// refusal says why nobody answers for the Service of a roster.
func (o *roster) refusal() refusal {
	switch {
	case o.no.reason != "":
		return o.no
	case o.alive == 0:
		return refuse(v1alpha1.ReasonNoEligibleNode, "On none of the %d nodes that could announce it is a speaker alive and in touch with the others; kubectl get speakers tells more.", o.usable)
	case !slices.ContainsFunc(o.options, func(x option) bool { return x.node.Health == Alive }):
		return refuse(v1alpha1.ReasonNoInterface, "None of the %d live nodes has an interface that is up and matches the advertisement, or a network that contains the address. Their networks: %s.", o.alive, cmp.Or(list(o.networks), "none"))
	}
	return refuse(v1alpha1.ReasonNoEligibleNode, "No node can announce both this Service and those that it shares an address with; give their advertisements the same nodes and interfaces.")
}

// Unit is a Service and all others that are connected with it by addresses that they share:
// they have one owner.
type Unit struct {
	// Services are all of them, at least one.
	Services []Service
	// Name is the lowest of their addresses.
	Name netip.Addr
	// Claim is the best known claim for any of the addresses.
	Claim election.Claim
	// Since is when the unit was first seen without a claim or with an unfit owner; zero: now.
	Since time.Time
	// Answered says that the own node has answered for it before.
	Answered bool
	// history is what became of it before.
	history history
}

// ownership is who owns a unit, as far as the own node knows.
type ownership struct {
	election.Outcome
	situation election.Situation
	// orphaned says that nobody has claimed the unit, or an owner that is unfit, though there
	// are candidates.
	orphaned bool
	rosters  []roster // of each Service
	// measure are the own node's interfaces on which the quorum is to be measured.
	measure []string
	// quiet says that the own node, as the owner, says nothing unasked.
	quiet bool
	// deaf says that the owner can only answer on an interface that is deaf, and that none follows it.
	deaf bool
	// yields says that the own node, which would answer, gives way to Owner.
	yields bool
}

// own decides who owns a unit: a node that could answer for each Service of it that anybody
// could answer for.
func (v *View) own(u *Unit, now time.Time) ownership {
	own := ownership{rosters: make([]roster, len(u.Services))}
	var common []option
	first := true
	for i := range u.Services {
		s := &u.Services[i]
		own.rosters[i] = v.roster(s)
		if o := &own.rosters[i]; s.Allocated && len(o.options) > 0 {
			if first {
				common, first = slices.Clone(o.options), false
				continue
			}
			common = slices.DeleteFunc(common, func(x option) bool { return o.find(x.node.Name) == nil })
		}
	}
	situation := v.situation(u, common, now)
	situation.Cut = situation.Owner == election.Unfit && own.cutOff(v, u.Claim.Owner)
	own.decide(v, situation, u, now)
	s := own.situation
	own.orphaned = (s.Claim.Epoch == 0 || s.Owner == election.Unfit) && len(s.Candidates) > 0
	switch {
	case v.Self == "":
	case !v.Joined:
		own.orphaned, own.Answers, own.Claim = false, false, election.Claim{}
	case s.Owner == election.Unfit && own.Claim.Epoch == 0 && !u.Answered:
		own.Answers = false // it cannot hand over what it has not taken since its speaker started
	}
	own.keep(v)
	own.yield(v, u)
	return own
}

// contestedUnit says whether a node that is not heard answers for what the own node does.
func (v *View) contestedUnit(u *Unit) bool {
	if len(v.Conflicts) == 0 {
		return false
	}
	for i := range u.Services {
		for _, a := range u.Services[i].Addresses {
			c, contested := v.Conflicts[a]
			if other, known := v.node(c.Node); contested && known && other.Health != Alive {
				return true
			}
		}
	}
	return false
}

// yield has the own node, an owner by its claim, give way to a node that answers too and that it does
// not hear, so that claims do not decide; see election.Yields.
func (own *ownership) yield(v *View, u *Unit) {
	if !own.Answers || own.Owner != v.Self || len(v.Conflicts) == 0 {
		return
	}
	now := own.situation.Now
	for i := range u.Services {
		for _, a := range u.Services[i].Addresses {
			c, contested := v.Conflicts[a]
			other, known := v.node(c.Node)
			if !contested || !known {
				continue
			}
			own.Again = earliest(own.Again, now.Add(contestedAgain))
			after, yields := election.Yields(u.Name, v.Self, c.Node, own.situation.Claim.Step() > 0 || v.alone())
			if c.Probe {
				after = 0 // it is not answered anyway
			}
			switch due := c.Since.Add(after); {
			case !yields || other.Health == Alive:
			case now.Before(due):
				own.Again = earliest(own.Again, due)
			default:
				own.Owner, own.yields = c.Node, true
				return
			}
		}
	}
}

// alone says whether the own node hears no other speaker.
func (v *View) alone() bool {
	return !slices.ContainsFunc(v.Nodes, func(n Node) bool { return n.Health == Alive && n.Name != v.Self })
}

// keep has the own node, if it is the owner and unfit only because it is deaf, answer until another has
// claimed: that others live is not known for sure by who is deaf, and who asks it shows that it is not.
func (own *ownership) keep(v *View) {
	deaf, able := false, true
	for i := range own.rosters {
		if r := &own.rosters[i]; r.service.Allocated && len(r.options)+len(r.deaf) > 0 {
			among := slices.ContainsFunc(r.deaf, func(x option) bool { return x.node.Name == own.situation.Claim.Owner })
			deaf, able = deaf || among, able && (among || r.find(own.situation.Claim.Owner) != nil)
		}
	}
	if !deaf || !able || own.Claim.Epoch > 0 {
		return
	}
	if own.situation.Owner == election.Fit {
		own.deaf = own.Owner == own.situation.Claim.Owner
		return
	}
	if v.Self != "" && v.Joined && own.situation.Claim.Owner == v.Self {
		own.deaf = !own.Answers // it could have been taken over by now
		own.Owner, own.Answers = v.Self, true
	}
}

// decide has the election decide. Only if that depends on it, the quorum is looked up: most units
// have an owner that is fit.
func (own *ownership) decide(v *View, s election.Situation, u *Unit, now time.Time) {
	if v.Self != "" && v.Quorum != nil {
		s.Quorum = election.Unmeasured
	}
	own.situation, own.Outcome = s, election.Decide(s)
	if !own.Measure || v.Self == "" || v.Quorum == nil {
		return
	}
	own.measure = v.places(own.rosters)
	q := v.quorum(own.measure, v.suspect(s.Claim.Owner), now)
	s.Answering = q.answering
	if s.Quorum = q.is; s.Quorum != election.Unmeasured {
		if s.Quorum == election.Quorate {
			s.QuorateSince = latest(q.since, u.history.heard)
		}
		own.situation, own.Outcome = s, election.Decide(s)
		if own.Measure && own.Claim.Epoch == 0 {
			own.Again = earliest(own.Again, q.expires)
		}
	}
	if !own.Measure {
		own.measure = nil
	}
	claim := s.Claim
	if own.Claim.Epoch > 0 {
		claim = own.Claim
	}
	own.quiet = claim.Owner == v.Self && claim.Step() > 0 && !q.witness
}

// places returns the own node's interfaces on which it would answer for Services, sorted.
func (v *View) places(rosters []roster) []string {
	self, known := v.node(v.Self)
	if !known {
		return nil
	}
	var all []string
	for i := range rosters {
		for _, a := range answersOf(self, rosters[i].wanted) {
			all = append(all, a.Interfaces...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// latest is the later of two moments.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// situation is what election is to know of a unit that these nodes could answer for.
func (v *View) situation(u *Unit, able []option, now time.Time) election.Situation {
	s := election.Situation{
		Self: v.Self, Unit: u.Name, Claim: u.Claim, Since: u.Since, Now: now,
		Usurped: u.history.usurped, Heard: u.history.heard, Hold: u.history.hold, Stale: v.Stale,
		Contested: v.contestedUnit(u),
	}
	if owner, known := v.node(u.Claim.Owner); known {
		s.Rival = owner.Health == Alive || owner.Health == Unheard
	}
	if s.Since.IsZero() {
		s.Since = now
	}
	if begin := v.JoinedAt.Add(placeAfter); u.Claim.Epoch == 0 && !v.JoinedAt.IsZero() && s.Since.Before(begin) {
		s.Since = begin
	}
	for _, o := range able {
		n := o.node
		if n.Health == Alive {
			s.Candidates = append(s.Candidates, election.Candidate{Node: n.Name, Preference: o.preference, Owned: v.Owned[n.Name], Since: n.Steady})
		}
		if n.Name == u.Claim.Owner {
			s.Owner, s.Until = v.standing(n, now)
		}
	}
	return s
}

// standing says how a node stands that could answer, and until when at most.
func (v *View) standing(n *Node, now time.Time) (election.Standing, time.Time) {
	switch n.Health {
	case Alive:
		return election.Fit, time.Time{}
	case Unheard:
		lost := n.lost()
		if lost.IsZero() {
			return election.Resting, time.Time{}
		}
		if until := lost.Add(v.Grace); now.Before(until) {
			return election.Resting, until
		}
	case Silent:
		if until := n.HealthSince.Add(v.Grace); now.Before(until) {
			return election.Resting, until
		}
	case Dead:
	}
	return election.Unfit, time.Time{}
}

// lost is since when neither another node nor the API server has heard of the speaker of a node that is
// unheard; zero: one of them does.
func (n *Node) lost() time.Time {
	if n.Witnessed || n.UnknownSince.IsZero() {
		return time.Time{}
	}
	return latest(n.HealthSince, n.UnknownSince)
}

// answers returns what the own node answers of a Service of a unit.
func (v *View) answers(u *Unit, o *roster, own *ownership) []Layer2 {
	self, known := v.node(v.Self)
	if !known || !o.service.Allocated {
		return nil
	}
	switch {
	case own.Answers:
		answers := answersOf(self, o.wanted) // also of one that hands over
		if v.Deaf || own.quiet && !own.yields {
			answers = each(answers, self.mac)
		}
		for i := range answers {
			answers[i].First, answers[i].Yields = !o.service.Announced && !u.Answered, own.yields
		}
		return answers
	case own.Deputy == v.Self && v.Joined && o.find(v.Self) != nil && o.find(own.Owner) != nil:
		owner := o.find(own.Owner).node
		var all []Layer2
		theirs := answersOf(owner, o.wanted)
		for i, mine := range answersOf(self, o.wanted) {
			all = append(all, each([]Layer2{mine}, func(own string) MAC {
				return owner.macBeside(self, own, theirs[i].Interfaces)
			})...)
		}
		return slices.DeleteFunc(all, func(l Layer2) bool { return l.For == MAC{} })
	}
	return nil
}

// each splits answers by interface, each with the hardware address to give there.
func each(answers []Layer2, mac func(string) MAC) []Layer2 {
	var all []Layer2
	for _, l := range answers {
		for _, i := range l.Interfaces {
			all = append(all, Layer2{Address: l.Address, Interfaces: []string{i}, For: mac(i)})
		}
	}
	return all
}
