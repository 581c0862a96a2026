package announce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Decision is what Plan decides of one Service.
type Decision struct {
	// Layer2 is what the view's node answers for, as owner or deputy, in the order of the addresses.
	Layer2 []Layer2
	// Routes are what the view's node announces by BGP, sorted by prefix.
	Routes []Route
	// Owner is the node that answers for the Service in layer 2, or is about to, whoever it is;
	// empty: none.
	Owner name.NodeName
	// Claimed says that the owner has claimed the unit. Before, it must not say that it answers: it
	// would then take the address for one that was answered before.
	Claimed bool
	// Delivery says whether the view's node is known to deliver what it announces; State fills it in.
	Delivery Delivery
	// Verdict is about the whole cluster. The zero value: there is nothing to say of a
	// Service that holds no address.
	Verdict Verdict
}

// refusal is the first rule that said no; the zero value says yes.
type refusal struct {
	reason  v1alpha1.Reason
	message string
}

func refuse(reason v1alpha1.Reason, format string, args ...any) refusal {
	return refusal{reason, fmt.Sprintf(format, args...)}
}

// Plans is what Plan decides of a unit.
type Plans struct {
	// Decisions are those of the unit's Services, in their order.
	Decisions []Decision
	// Claim is one that the view's node makes now, or the zero value.
	Claim election.Claim
	// Orphaned says that nobody has claimed the unit, or an owner that may not go on, though
	// there are candidates.
	Orphaned bool
	// Announced is an address of the unit that its owner answers for, if there is one.
	Announced netip.Addr
	// BGP says that nodes announce something of it by BGP.
	BGP bool
	// Places are where its owner announces it in layer 2, each once.
	Places []Place
	// Deputizes is the owner in whose place the view's node answers, or empty.
	Deputizes name.NodeName
	// Measure are the own node's interfaces on which the quorum is to be measured, since a claim
	// depends on it.
	Measure []string
	// Fit says that the view's node owns the unit, to its own knowledge, and can.
	Fit bool
	// Again is when to plan again though nothing changed; zero: never.
	Again time.Time
}

// Plan says what the view's node announces of the Services of a unit, and whether the cluster
// does. The rules, in order:
//
//  1. A Service whose status does not hold its addresses with Allocated True is not announced.
//  2. An advertisement must select the Service and the pool of its address.
//  3. Some endpoint must be ready or, if none is anywhere, terminating but serving.
//  4. A node must be selected, wanted by load balancers, not drained, with a working network,
//     a service proxy that is ready and, for externalTrafficPolicy Local, with such an endpoint.
//  5. Layer 2: it has an interface that is up, neither deaf nor cut off unless all are, and suits every address. While any Node is on a
//     network that contains the address, only such nodes do, unless globs name interfaces.
//  6. Layer 2: of the nodes that are so for each Service of the unit that is announced, and
//     whose speaker lives, one owns the unit: see election.Decide.
//  7. BGP: each node announces to those of its peers that the advertisement names. The own node, once it is drained, goes
//     on for View.Shutdown with GRACEFUL_SHUTDOWN (RFC 8326), if rule 4 says nothing else against it.
func Plan(u Unit, v *View, now time.Time) Plans {
	own := v.own(&u, now)
	plans := Plans{Claim: own.Claim, Orphaned: own.orphaned, Again: own.Again, Measure: own.measure}
	plans.Fit = v.Joined && own.situation.Claim.Owner == v.Self && own.situation.Owner == election.Fit
	if v.Self != "" && own.Deputy == v.Self {
		plans.Deputizes = own.Owner
	}
	for i := range u.Services {
		s := &u.Services[i]
		if !s.Allocated || len(s.Addresses) == 0 {
			plans.Decisions = append(plans.Decisions, Decision{})
			continue
		}
		bgp, noB := v.planBGP(s, own.rosters[i].endpoints, now)
		var l2 layer2
		no2 := own.rosters[i].no
		if no2.reason == "" {
			l2 = v.layer2(&u, &own.rosters[i], &own)
			if l2.owner == "" {
				no2 = own.rosters[i].refusal()
			}
		}
		plans.BGP = plans.BGP || len(bgp) > 0
		if len(l2.announced) > 0 && !plans.Announced.IsValid() {
			plans.Announced = l2.announced[0]
		}
		plans.Places = append(plans.Places, l2.placesOf()...)
		d := Decision{Owner: l2.owner, Layer2: l2.answers}
		d.Claimed = l2.owner != "" && (u.Claim.Owner == l2.owner || own.Claim.Owner == l2.owner)
		if node, ok := v.node(v.Self); ok {
			d.Routes = v.routes(s, node, bgp)
			if len(d.Routes) > 0 && v.shuttingDown(node, now) {
				plans.Again = earliest(plans.Again, node.DrainedAt.Add(v.Shutdown))
			}
		}
		d.Verdict = v.verdict(s, l2, no2, bgp, noB)
		plans.Decisions = append(plans.Decisions, d)
	}
	slices.SortFunc(plans.Places, Place.Compare)
	plans.Places = slices.Compact(plans.Places)
	return plans
}

// earliest is the earlier of two moments, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (v *View) node(n name.NodeName) (*Node, bool) {
	i, found := slices.BinarySearchFunc(v.Nodes, n, func(node Node, n name.NodeName) int { return cmp.Compare(node.Name, n) })
	if !found {
		return nil, false
	}
	return &v.Nodes[i], true
}

// usable returns the nodes that pass rules 3 and 4 for any of the given selections, and
// which rule said no if none does.
func (v *View) usable(s *Service, endpoints map[name.NodeName]bool, selections []Selectors) ([]*Node, refusal) {
	if len(endpoints) == 0 {
		return nil, refuse(v1alpha1.ReasonNoEndpoints, "The Service has no endpoint that is ready or serving.")
	}
	var nodes []*Node
	var no tally
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if !slices.ContainsFunc(selections, func(sel Selectors) bool { return sel.Matches(n.Labels) }) {
			continue
		}
		no.selected++
		switch {
		case n.Excluded:
			no.excluded++
		case n.Drain != "":
			no.drained = append(no.drained, fmt.Sprintf("%s (%s)", n.Name, n.Drain))
		case n.NetworkUnavailable:
			no.unavailable++
		case s.Local && !endpoints[n.Name]:
			no.without++
		case n.Proxy == ProxyNotReady:
			no.unready++
		default:
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil, no.refusal()
	}
	return nodes, refusal{}
}

// tally counts why nodes cannot announce.
type tally struct {
	selected, excluded, unavailable, without, unready int
	drained                                           []string
}

// refusal names what the user should mend first.
func (t tally) refusal() refusal {
	switch {
	case t.selected == 0:
		return refuse(v1alpha1.ReasonNoEligibleNode, "The nodeSelectors of the advertisements select no node.")
	case t.excluded == t.selected:
		return refuse(v1alpha1.ReasonAllNodesExcluded, "Every node that the advertisements select (%d) carries the label node.kubernetes.io/exclude-from-external-load-balancers. Remove it, or set ignoreExcludeLabel in Settings.", t.selected)
	case t.unready > 0:
		return refuse(v1alpha1.ReasonServiceProxyNotReady, "The service proxy of each of the %d nodes that could announce says that it cannot deliver yet; kubectl get speakers tells more.", t.unready)
	case t.without > 0:
		return refuse(v1alpha1.ReasonNoEligibleNode, "externalTrafficPolicy is Local, and no usable node that the advertisements select has an endpoint.")
	case len(t.drained) > 0:
		return refuse(v1alpha1.ReasonNoEligibleNode, "Every node that could announce is being taken out of service: %s.", list(t.drained))
	}
	return refuse(v1alpha1.ReasonNoEligibleNode, "The network of every node that the advertisements select is unavailable.")
}

// layer2 is who answers for a Service.
type layer2 struct {
	owner name.NodeName
	// announced are the addresses that the owner answers for, places on which interfaces.
	announced []netip.Addr
	places    []string
	answers   []Layer2 // of the own node
	// deaf says that nobody hears the owner there, and no other node takes its place.
	deaf refusal
	// conflict is one over an address that the own node answers for, contested what is said of it.
	conflict  Conflict
	contested refusal
}

// layer2 says who answers for one Service of a unit, and what the own node does of it.
func (v *View) layer2(u *Unit, r *roster, own *ownership) layer2 {
	if own.Owner == "" {
		return layer2{}
	}
	l2 := layer2{owner: own.Owner, answers: v.answers(u, r, own)}
	for _, w := range r.wanted {
		l2.announced = append(l2.announced, w.address)
	}
	if owner, known := v.node(own.Owner); known {
		for _, a := range answersOf(owner, r.wanted) {
			l2.places = append(l2.places, a.Interfaces...)
		}
	}
	slices.Sort(l2.places)
	l2.places = slices.Compact(l2.places)
	if own.deaf {
		l2.deaf = v.deafRefusal(own.Owner, l2.places)
	}
	if l2.conflict = v.conflict(l2); l2.conflict.Address.IsValid() {
		l2.contested = v.contested(l2.conflict, own.situation.Now)
	}
	return l2
}

// deafRefusal says that an owner is deaf where it would answer, and nobody takes its place.
func (v *View) deafRefusal(owner name.NodeName, places []string) refusal {
	var deaf []string
	if n, known := v.node(owner); known {
		deaf = slices.DeleteFunc(slices.Clone(places), func(i string) bool { return !n.deaf(i) })
	}
	return refuse(v1alpha1.ReasonInterfaceDeaf, "Node %s answers on %s, where no other node or gateway answers it any more though the link is up, and no other node can take its place. Look at the cable, the switch and its port.", owner, list(deaf))
}

// verdict sums up what layer 2 and BGP do for each address.
func (v *View) verdict(s *Service, l2 layer2, no2 refusal, bgp bgpPlan, noB refusal) Verdict {
	var said []string
	done := map[netip.Addr]bool{}
	if l2.deaf.reason != "" {
		no2 = l2.deaf
	} else if l2.owner != "" {
		for _, a := range l2.announced {
			done[a] = true
		}
		said = append(said, v1alpha1.AnswersOn(string(l2.owner), l2.places))
	}
	if l2.conflict.Probe {
		said, done = nil, map[netip.Addr]bool{}
		no2 = l2.contested
	}
	up, noUp := v.established(s, bgp)
	if len(up.peers) > 0 {
		for _, a := range up.addresses {
			done[a] = true
		}
		said = append(said, fmt.Sprintf("Announced by BGP to %s.", list(up.peers)))
	}
	if noB.reason == "" {
		noB = noUp
	}
	var missing []string
	for _, a := range s.Addresses {
		if !done[a] {
			missing = append(missing, a.String())
		}
	}
	if len(missing) == 0 {
		return v.warned(l2, Verdict{Announced: true, Reason: v1alpha1.ReasonAnnounced, Message: strings.Join(said, " ")})
	}
	no := worst(no2, noB)
	if len(said) > 0 {
		no.message = fmt.Sprintf("%s Not announced: %s. %s", strings.Join(said, " "), strings.Join(missing, ", "), no.message)
	}
	return Verdict{Reason: no.reason, Message: no.message}
}

// conflict returns a conflict over an address that the own node answers for, one that keeps
// it from answering first; the zero value: there is none.
func (v *View) conflict(l2 layer2) Conflict {
	var found Conflict
	for _, a := range l2.announced {
		if c, is := v.Conflicts[a]; is && l2.owner == v.Self && (c.Probe || !found.Address.IsValid()) {
			found = c
			if c.Probe {
				break
			}
		}
	}
	return found
}

// contested says in which words a conflict is told.
func (v *View) contested(c Conflict, now time.Time) refusal {
	m := c.MAC
	mac := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
	switch other, known := v.node(c.Node); {
	case known && other.Health != Alive:
		return refuse(v1alpha1.ReasonSplitOwner, "Node %s (%s) answers for %s too, and its speaker and this one do not hear each other: are the ports of the gossip open between the nodes? Until they hear each other again, one of the two gives way.", c.Node, mac, c.Address)
	case known && !c.Since.IsZero() && now.Sub(c.Since) < splitFor:
		return refuse(v1alpha1.ReasonSplitOwner, "Node %s (%s) answered for %s too; it is told to stop.", c.Node, mac, c.Address)
	case c.Node != "":
		return refuse(v1alpha1.ReasonStrictARPMissing, "Node %s (%s) answers for %s though it should not: set arp_ignore=1 there (strictARP of kube-proxy).", c.Node, mac, c.Address)
	}
	return refuse(v1alpha1.ReasonAddressConflict, "Another host, %s on %s, uses %s. Find it and give it another address, or exclude this one from the pool.", mac, c.Interface, c.Address)
}

// warned adds to a verdict what users should know of an address that is announced.
func (v *View) warned(l2 layer2, said Verdict) Verdict {
	if no := l2.contested; no.reason != "" {
		return Verdict{Announced: true, Reason: no.reason, Message: said.Message + " " + no.message}
	}
	if owner, known := v.node(l2.owner); known && owner.Proxy == ProxyUnknown {
		return Verdict{Announced: true, Reason: v1alpha1.ReasonServiceProxyUnknown, Message: said.Message + " Its service proxy does not say whether it can deliver: nobody answers at its health port."}
	}
	return said
}

// worst picks, of what layer 2 and BGP said, what the user should mend: an absent
// advertisement matters only if both are absent.
func worst(no2, noB refusal) refusal {
	switch {
	case no2.reason == v1alpha1.ReasonNoAdvertisement && noB.reason == v1alpha1.ReasonNoAdvertisement:
		return refuse(v1alpha1.ReasonNoAdvertisement, "%s %s", no2.message, noB.message)
	case noB.reason == "" || noB.reason == v1alpha1.ReasonNoAdvertisement:
		if no2.reason != "" {
			return no2
		}
		return refuse(v1alpha1.ReasonNoAdvertisement, "No advertisement selects it.")
	case no2.reason == "" || no2.reason == v1alpha1.ReasonNoAdvertisement:
		return noB
	}
	return no2
}

// list names up to five things, then counts.
func list[T ~string](things []T) string {
	var names []string
	for _, t := range things[:min(len(things), 5)] {
		names = append(names, string(t))
	}
	if more := len(things) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
