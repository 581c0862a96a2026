package announce

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

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
	// leaving is the own node if it may not announce any more, but is to say so first; or nil.
	leaving *Node
}

// planBGP decides which nodes may announce which addresses. With a refusal, a plan says only what the own node, which is
// drained, goes on announcing.
func (v *View) planBGP(s *Service, endpoints map[name.NodeName]bool, now time.Time) (bgpPlan, refusal) {
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
		if self, known := v.node(v.Self); known && v.shuttingDown(self, now) && v.delivers(s, self, endpoints, selections) {
			o.leaving = self
		}
		if o.nodes, no = v.usable(s, endpoints, selections); no.reason != "" {
			first = no
		}
		if no.reason == "" || o.leaving != nil {
			plan = append(plan, o)
		}
	}
	if !slices.ContainsFunc(plan, func(o offer) bool { return len(o.nodes) > 0 }) {
		return plan, first
	}
	return plan, refusal{}
}

// shuttingDown says whether a node was drained so lately that its routes are to go on with GRACEFUL_SHUTDOWN.
func (v *View) shuttingDown(n *Node, now time.Time) bool {
	return !n.DrainedAt.IsZero() && now.Before(n.DrainedAt.Add(v.Shutdown))
}

// delivers says whether a node passes all of rule 4, but that it is drained or excluded.
func (v *View) delivers(s *Service, n *Node, endpoints map[name.NodeName]bool, selections []Selectors) bool {
	return slices.ContainsFunc(selections, func(sel Selectors) bool { return sel.Matches(n.Labels) }) &&
		!n.NetworkUnavailable && n.Proxy != ProxyNotReady && len(endpoints) > 0 && (!s.Local || endpoints[n.Name])
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
func (v *View) routes(s *Service, n *Node, plan bgpPlan) []Route {
	var routes []Route
	for _, o := range plan {
		if !slices.Contains(o.nodes, n) && o.leaving != n {
			continue
		}
		weight := s.weight(n.Name)
		v.to(o, n, func(p *NodePeer, advs []*BGPAdvertisement) {
			for _, r := range o.prefixes(advs, weight) {
				r.Peers = []name.PeerName{p.Name}
				if o.leaving == n {
					r.Attributes = r.shutDown()
				}
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

// gracefulShutdown is the first half of the well-known community GRACEFUL_SHUTDOWN, 65535:0 (RFC 8326 section 5).
const gracefulShutdown = 0xffff

// shutDown are the attributes of a route that is about to be withdrawn (RFC 8326 sections 4.1 and 4.2).
func (a Attributes) shutDown() Attributes {
	zero := uint32(0)
	a.LocalPref = &zero
	return a.Unite(Attributes{Communities: []Community{{Global: gracefulShutdown}}})
}

// weight is a Service's weight on a node: its endpoints there, if no other node's get the traffic that comes in.
func (s *Service) weight(n name.NodeName) uint32 {
	if e := s.Endpoints[n]; s.Local {
		return uint32(cmp.Or(e.Ready, e.Serving))
	}
	return 0
}

// prefixes returns the prefixes that advertisements want announced for an offer, each
// with the united attributes of those that want it; their Peers are unset. weight is the node's.
func (o offer) prefixes(advs []*BGPAdvertisement, weight uint32) []Route {
	var routes []Route
	for _, adv := range advs {
		r := Route{Prefix: adv.prefix(o.address, o.pool), Attributes: adv.Attributes}
		if adv.Weigh && r.Prefix.IsSingleIP() {
			r.Weight = weight
		}
		r.Transitive = r.Transitive && r.Weight > 0
		i := slices.IndexFunc(routes, func(x Route) bool { return x.Prefix == r.Prefix })
		if i < 0 {
			routes = append(routes, r)
			continue
		}
		routes[i].Attributes = routes[i].Unite(r.Attributes)
	}
	return routes
}

// prefix returns the aggregate of an address if it lies wholly in what the pool hands
// out, else the host route.
func (adv *BGPAdvertisement) prefix(a netip.Addr, pool *Pool) netip.Prefix {
	host := netip.PrefixFrom(a, a.BitLen())
	if aggregate := adv.Aggregate(a); aggregate != host && pool.Addresses.ContainsPrefix(aggregate) {
		return aggregate
	}
	return host
}

// Aggregate returns the prefix of an address that an advertisement asks for.
func (adv *BGPAdvertisement) Aggregate(a netip.Addr) netip.Prefix {
	length := adv.Length4
	if a.Is6() {
		length = adv.Length6
	}
	return netip.PrefixFrom(a, length).Masked()
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
	wanted, hopless, unoffered := 0, 0, 0 // sessions that should carry what none does
	for _, o := range plan {
		up, sessions, without, unwilling := false, 0, 0, 0
		for _, n := range o.nodes {
			v.to(o, n, func(p *NodePeer, _ []*BGPAdvertisement) {
				sessions++
				if n.Health != Alive && n.Name != v.Self {
					return // what a dead speaker said last
				}
				session, found := n.session(p.Name)
				switch {
				case !found:
				case session.carries(o.address) == Carried:
					up, peers[p.Name] = true, true
				case session.carries(o.address) == NoNextHop:
					without++
				default:
					unwilling++
				}
			})
		}
		if up {
			r.addresses = append(r.addresses, o.address)
		} else {
			wanted += sessions
			hopless += without
			unoffered += unwilling
		}
	}
	r.peers = slices.Sorted(maps.Keys(peers))
	switch {
	case len(r.addresses) == len(s.Addresses):
		return r, refusal{}
	case wanted == 0:
		return r, refuse(v1alpha1.ReasonSessionsDown, "No BGPPeer that the advertisements name is for an eligible node and the address's family.")
	}
	if hopless > 0 {
		return r, refuse(v1alpha1.ReasonNoNextHop, "BGP sessions that should carry it are established (%d of %d), but the nodes have no address of its family on the interfaces that they go through, and the routers do not take another (RFC 8950).", hopless, wanted)
	}
	if unoffered > 0 {
		return r, refuse(v1alpha1.ReasonSessionsDown, "BGP sessions that should carry it are established (%d of %d), but their routers do not offer its address family: enable it there.", unoffered, wanted)
	}
	return r, refuse(v1alpha1.ReasonSessionsDown, "None of the BGP sessions that should carry it is established (%d wanted); kubectl get speakers tells their state.", wanted)
}

// session is the node's session with a peer, if it is up.
func (n *Node) session(peer name.PeerName) (Session, bool) {
	i, found := slices.BinarySearchFunc(n.Established, peer, func(s Session, peer name.PeerName) int { return cmp.Compare(s.Peer, peer) })
	if !found {
		return Session{}, false
	}
	return n.Established[i], true
}
