package announce

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Decision is what Plan decides of one Service.
type Decision struct {
	// Layer2 is what the view's node answers for, sorted by address.
	Layer2 []Layer2
	// Routes are what the view's node announces by BGP, sorted by prefix.
	Routes []Route
	// Owner is the node that answers for the Service in layer 2, whoever it is; empty: none.
	Owner name.NodeName
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

// Plan says what the view's node announces of a Service, and whether the cluster does.
// Sharers are all other Services of its unit: those that it shares an address with, those
// that share one with these, and so on. The rules, in order:
//
//  1. A Service whose status does not hold its addresses with Allocated True is not announced.
//  2. An advertisement must select the Service and the pool of its address.
//  3. Some endpoint must be ready or, if none is anywhere, terminating but serving.
//  4. A node must be selected, wanted by load balancers, with a working network and,
//     for externalTrafficPolicy Local, with such an endpoint.
//  5. Layer 2: the node's speaker lives and it has an interface that is up and suits
//     every address; of the nodes that are so for each Service of the unit that is
//     announced, one owns the unit.
//  6. BGP: each such node announces to those of its peers that the advertisement names.
func Plan(s Service, sharers []Service, v *View) Decision {
	if !s.Allocated || len(s.Addresses) == 0 {
		return Decision{}
	}
	l2, no2 := v.planLayer2(&s, sharers)
	bgp, noB := v.planBGP(&s, s.endpointNodes())
	d := Decision{Owner: l2.owner}
	if l2.owner != "" && l2.owner == v.Self {
		d.Layer2 = l2.answers
	}
	if node, ok := v.node(v.Self); ok {
		d.Routes = v.routes(node, bgp)
	}
	d.Verdict = v.verdict(&s, l2, no2, bgp, noB)
	return d
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
	selected, excluded := 0, 0
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if !slices.ContainsFunc(selections, func(sel Selectors) bool { return sel.Matches(n.Labels) }) {
			continue
		}
		selected++
		if n.Excluded {
			excluded++
			continue
		}
		if n.NetworkUnavailable || s.Local && !endpoints[n.Name] {
			continue
		}
		nodes = append(nodes, n)
	}
	switch {
	case len(nodes) > 0:
		return nodes, refusal{}
	case selected == 0:
		return nil, refuse(v1alpha1.ReasonNoEligibleNode, "The nodeSelectors of the advertisements select no node.")
	case excluded == selected:
		return nil, refuse(v1alpha1.ReasonAllNodesExcluded, "Every node that the advertisements select (%d) carries the label node.kubernetes.io/exclude-from-external-load-balancers. Remove it, or set ignoreExcludeLabel in Settings.", selected)
	case s.Local:
		return nil, refuse(v1alpha1.ReasonNoEligibleNode, "externalTrafficPolicy is Local, and no usable node that the advertisements select has an endpoint.")
	}
	return nil, refuse(v1alpha1.ReasonNoEligibleNode, "The network of every node that the advertisements select is unavailable.")
}

// layer2 is who answers for a Service.
type layer2 struct {
	owner   name.NodeName
	answers []Layer2 // on the owner
}

// planLayer2 decides the owner of the Service's IPv4 addresses.
func (v *View) planLayer2(s *Service, sharers []Service) (layer2, refusal) {
	answers, no := v.candidates(s)
	if no.reason != "" {
		return layer2{}, no
	}
	candidates, unit := slices.Collect(maps.Keys(answers)), slices.Clone(s.Addresses)
	for i := range sharers {
		other := &sharers[i]
		unit = append(unit, other.Addresses...)
		theirs, no := v.candidates(other)
		if !other.Allocated || no.reason != "" {
			continue // nobody answers for it, so it does not matter
		}
		candidates = slices.DeleteFunc(candidates, func(n name.NodeName) bool { return theirs[n] == nil })
	}
	if len(candidates) == 0 {
		return layer2{}, refuse(v1alpha1.ReasonNoEligibleNode, "No node can announce both this Service and those that it shares an address with; give their advertisements the same nodes and interfaces.")
	}
	owner := election.Owner(slices.MinFunc(unit, netip.Addr.Compare), candidates)
	return layer2{owner: owner, answers: answers[owner]}, refusal{}
}

// candidates returns the nodes that could answer for a Service's IPv4 addresses, and what each would.
func (v *View) candidates(s *Service) (map[name.NodeName][]Layer2, refusal) {
	type claim struct {
		address netip.Addr
		advs    []*L2Advertisement
	}
	var claims []claim
	var selections []Selectors
	for _, a := range s.Addresses {
		if !a.Is4() {
			continue
		}
		p := v.pool(a)
		var advs []*L2Advertisement
		for i := range v.Config.L2 {
			if adv := &v.Config.L2[i]; v.selects(adv.Selection, s, p) {
				advs = append(advs, adv)
				selections = append(selections, adv.Nodes)
			}
		}
		if len(advs) > 0 {
			claims = append(claims, claim{a, advs})
		}
	}
	if len(claims) == 0 {
		return nil, refuse(v1alpha1.ReasonNoAdvertisement, "No L2Advertisement selects the Service and its pool%s.", v.onlyIPv4(s))
	}
	nodes, no := v.usable(s, s.endpointNodes(), selections)
	if no.reason != "" {
		return nil, no
	}
	answers := map[name.NodeName][]Layer2{}
	alive := 0
	for _, n := range nodes {
		if !n.Alive || !n.Joined {
			continue
		}
		alive++
		var list []Layer2
		for _, c := range claims {
			if ifs := interfaces(n, c.address, c.advs); len(ifs) > 0 {
				list = append(list, Layer2{Address: c.address, Interfaces: ifs})
			}
		}
		if len(list) == len(claims) {
			answers[n.Name] = list
		}
	}
	switch {
	case alive == 0:
		return nil, refuse(v1alpha1.ReasonNoEligibleNode, "On none of the %d nodes that could announce it is a speaker alive and in touch with the others; kubectl get speakers tells more.", len(nodes))
	case len(answers) == 0:
		return nil, refuse(v1alpha1.ReasonNoInterface, "None of the %d live nodes has an interface that is up and matches the advertisement, or a network that contains the address.", alive)
	}
	return answers, refusal{}
}

// onlyIPv4 explains the absence of layer 2 for a Service without IPv4.
func (v *View) onlyIPv4(s *Service) string {
	if slices.ContainsFunc(s.Addresses, netip.Addr.Is4) {
		return ""
	}
	return " (layer 2 announces IPv4 alone in this version)"
}

// interfaces returns on which interfaces a node may answer for an address under any of
// the advertisements that select the node.
func interfaces(n *Node, a netip.Addr, advs []*L2Advertisement) []string {
	var all []string
	for _, adv := range advs {
		if adv.Nodes.Matches(n.Labels) {
			all = append(all, adv.interfaces(n, a)...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// interfaces applies the globs or, without, takes the interfaces with an on-link prefix
// that contains the address, or else those that hold one of the Node's addresses.
func (adv *L2Advertisement) interfaces(n *Node, a netip.Addr) []string {
	matching := func(match func(Interface) bool) []string {
		var names []string
		for _, i := range n.Interfaces {
			if i.Up && match(i) {
				names = append(names, i.Name)
			}
		}
		return names
	}
	if len(adv.Interfaces) > 0 {
		return matching(func(i Interface) bool {
			return slices.ContainsFunc(adv.Interfaces, func(glob string) bool { ok, err := path.Match(glob, i.Name); return err == nil && ok })
		})
	}
	onLink := matching(func(i Interface) bool {
		return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) && !p.IsSingleIP() })
	})
	if len(onLink) > 0 {
		return onLink
	}
	return matching(func(i Interface) bool {
		return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return slices.Contains(n.Addresses, p.Addr()) })
	})
}

// verdict sums up what layer 2 and BGP do for each address.
func (v *View) verdict(s *Service, l2 layer2, no2 refusal, bgp bgpPlan, noB refusal) Verdict {
	var said []string
	done := map[netip.Addr]bool{}
	if l2.owner != "" {
		var names []string
		for _, a := range l2.answers {
			done[a.Address] = true
			names = append(names, a.Interfaces...)
		}
		slices.Sort(names)
		said = append(said, fmt.Sprintf("Node %s answers on %s.", l2.owner, strings.Join(slices.Compact(names), ", ")))
	}
	up, noUp := v.established(s, bgp)
	if len(up.peers) > 0 {
		for _, a := range up.addresses {
			done[a] = true
		}
		said = append(said, fmt.Sprintf("Announced by BGP to %s.", listPeers(up.peers)))
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
		return Verdict{Announced: true, Reason: v1alpha1.ReasonAnnounced, Message: strings.Join(said, " ")}
	}
	no := worst(no2, noB, l2.owner != "")
	if len(said) > 0 {
		no.message = fmt.Sprintf("%s Not announced: %s. %s", strings.Join(said, " "), strings.Join(missing, ", "), no.message)
	}
	return Verdict{Reason: no.reason, Message: no.message}
}

// worst picks, of what layer 2 and BGP said, what the user should mend: an absent
// advertisement matters only if both are absent.
func worst(no2, noB refusal, owned bool) refusal {
	switch {
	case owned && noB.reason == v1alpha1.ReasonNoAdvertisement:
		return refuse(v1alpha1.ReasonNoAdvertisement, "Layer 2 announces IPv4 alone in this version; a BGPAdvertisement can announce the rest.")
	case no2.reason == v1alpha1.ReasonNoAdvertisement && noB.reason == v1alpha1.ReasonNoAdvertisement:
		return refuse(v1alpha1.ReasonNoAdvertisement, "%s %s", no2.message, noB.message)
	case noB.reason == "" || noB.reason == v1alpha1.ReasonNoAdvertisement:
		return no2
	case no2.reason == "" || no2.reason == v1alpha1.ReasonNoAdvertisement:
		return noB
	}
	return no2
}

// listPeers names up to five peers, then counts.
func listPeers(peers []name.PeerName) string {
	var names []string
	for _, p := range peers[:min(len(peers), 5)] {
		names = append(names, string(p))
	}
	if more := len(peers) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
