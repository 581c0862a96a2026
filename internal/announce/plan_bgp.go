package announce

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// bgpPlan is what the cluster announces of a Service by BGP, an offer for each address.
type bgpPlan []offer

// offer is one address, the advertisements that select it and the nodes that may announce it.
type offer struct {
	address netip.Addr
	pool    *Pool
	advs    []*BGPAdvertisement
	nodes   []*Node
}

// planBGP decides which nodes may announce which addresses.
func (v *View) planBGP(s *Service, endpoints map[name.NodeName]bool) (bgpPlan, refusal) {
	var plan bgpPlan
	first := refuse(v1alpha1.ReasonNoAdvertisement, "No BGPAdvertisement selects the Service and its pool.")
	for _, a := range s.Addresses {
		o := offer{address: a, pool: v.pool(a)}
		var selections []Selectors
		for i := range v.Config.BGP {
			if adv := &v.Config.BGP[i]; v.selects(adv.Selection, s, o.pool) {
				o.advs = append(o.advs, adv)
				selections = append(selections, adv.Nodes)
			}
		}
		if len(o.advs) == 0 {
			continue
		}
		var no refusal
		if o.nodes, no = v.usable(s, endpoints, selections); no.reason != "" {
			first = no
			continue
		}
		plan = append(plan, o)
	}
	if len(plan) == 0 {
		return nil, first
	}
	return plan, refusal{}
}

// to calls yield for each peer that a node announces an offer to, with the
// advertisements that say so, in the order of Config.Peers.
func (v *View) to(o offer, n *Node, yield func(*NodePeer, []*BGPAdvertisement)) {
	for i := range v.Config.Peers {
		p := &v.Config.Peers[i]
		if !p.Nodes.Matches(n.Labels) || o.address.Is4() && !p.IPv4 || o.address.Is6() && !p.IPv6 {
			continue
		}
		var advs []*BGPAdvertisement
		for _, adv := range o.advs {
			if adv.Nodes.Matches(n.Labels) && (len(adv.Peers) == 0 || slices.Contains(adv.Peers, p.Name)) {
				advs = append(advs, adv)
			}
		}
		if len(advs) > 0 {
			yield(p, advs)
		}
	}
}

// routes returns what a node announces of a plan: for each prefix and set of attributes
// the peers that get it.
func (v *View) routes(n *Node, plan bgpPlan) []Route {
	var routes []Route
	for _, o := range plan {
		if !slices.Contains(o.nodes, n) {
			continue
		}
		v.to(o, n, func(p *NodePeer, advs []*BGPAdvertisement) {
			for _, r := range o.prefixes(advs) {
				r.Peers = []name.PeerName{p.Name}
				routes = addRoute(routes, r)
			}
		})
	}
	for i := range routes {
		slices.Sort(routes[i].Peers)
	}
	slices.SortStableFunc(routes, func(x, y Route) int {
		return cmp.Or(x.Prefix.Addr().Compare(y.Prefix.Addr()), cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()))
	})
	return routes
}

// prefixes returns the prefixes that advertisements want announced for an offer, each
// with the united attributes of those that want it; their Peers are unset.
func (o offer) prefixes(advs []*BGPAdvertisement) []Route {
	var routes []Route
	for _, adv := range advs {
		prefix := adv.prefix(o.address, o.pool)
		i := slices.IndexFunc(routes, func(r Route) bool { return r.Prefix == prefix })
		if i < 0 {
			routes = append(routes, Route{Prefix: prefix, Attributes: adv.Attributes})
			continue
		}
		routes[i].Attributes = routes[i].Unite(adv.Attributes)
	}
	return routes
}

// prefix returns the aggregate of an address if it lies wholly in what the pool hands
// out, else the host route.
func (adv *BGPAdvertisement) prefix(a netip.Addr, pool *Pool) netip.Prefix {
	host, length := a.BitLen(), adv.Length4
	if a.Is6() {
		length = adv.Length6
	}
	if aggregate := netip.PrefixFrom(a, length).Masked(); length < host && pool.Addresses.ContainsPrefix(aggregate) {
		return aggregate
	}
	return netip.PrefixFrom(a, host)
}

// addRoute adds a route for one peer, joining it with one that differs in nothing else.
func addRoute(routes []Route, r Route) []Route {
	for i := range routes {
		if routes[i].Prefix == r.Prefix && routes[i].Equal(r.Attributes) {
			if !slices.Contains(routes[i].Peers, r.Peers[0]) {
				routes[i].Peers = append(routes[i].Peers, r.Peers[0])
			}
			return routes
		}
	}
	return append(routes, r)
}

// reach is what established sessions carry of a plan.
type reach struct {
	addresses []netip.Addr
	peers     []name.PeerName // sorted
}

// established returns what of a plan goes out over sessions that are up, or why nothing does.
func (v *View) established(s *Service, plan bgpPlan) (reach, refusal) {
	var r reach
	peers := map[name.PeerName]bool{}
	wanted := 0 // sessions that should carry what none does
	for _, o := range plan {
		up, sessions := false, 0
		for _, n := range o.nodes {
			v.to(o, n, func(p *NodePeer, _ []*BGPAdvertisement) {
				sessions++
				if n.Health != Alive && n.Name != v.Self {
					return // what a dead speaker said last
				}
				if _, found := slices.BinarySearch(n.Established, p.Name); found {
					up, peers[p.Name] = true, true
				}
			})
		}
		if up {
			r.addresses = append(r.addresses, o.address)
		} else {
			wanted += sessions
		}
	}
	r.peers = slices.Sorted(maps.Keys(peers))
	switch {
	case len(r.addresses) == len(s.Addresses):
		return r, refusal{}
	case wanted == 0:
		return r, refuse(v1alpha1.ReasonSessionsDown, "No BGPPeer that the advertisements name is for an eligible node and the address's family.")
	}
	return r, refuse(v1alpha1.ReasonSessionsDown, "None of the BGP sessions that should carry it is established (%d wanted); kubectl get speakers tells their state.", wanted)
}
