package bgp

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// defaultLocalPref is what iBGP peers get when nothing else is asked for, as usual among BGP speakers.
const defaultLocalPref = 100

// The names of the two policies in gobgp.
const (
	importPolicy = "import"
	exportPolicy = "export"
)

// family is an address family, both of them unicast.
type family bool

const (
	ipv4 family = false
	ipv6 family = true
)

func (f family) api() *api.Family {
	if f == ipv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}

func (f family) gobgp() bgp.Family {
	if f == ipv6 {
		return bgp.RF_IPv6_UC
	}
	return bgp.RF_IPv4_UC
}

// hop is the next hop that the routes of one family get on a session.
type hop struct {
	// none says that there is no next hop: the family is not announced on the session.
	none bool
	// address is the next hop; the zero value without none: the session's own local address.
	address netip.Addr
}

// hops are those of both families.
type hops struct{ ipv4, ipv6 hop }

// hopsOf decides the next hops of a session. Between global addresses, the routes of the session's own family get its local
// address. IPv4 over IPv6 gets the interface's IPv4 address; without one, the session's local address if the peer
// can do RFC 8950 (extended), which is known once the session was up. IPv6 over IPv4 needs an
// IPv6 address on the interface. On a link-local session, IPv6 prefers the interface's global address. An unnumbered
// session prefers RFC 8950 for IPv4.
func hopsOf(peer announce.Peer, extended bool) hops {
	var h hops
	if peer.Address.Is4() {
		h.ipv6 = hop{address: peer.NextHop6, none: !peer.NextHop6.IsValid()}
		return h
	}
	h.ipv4 = hop{address: peer.NextHop4, none: !peer.NextHop4.IsValid() && !extended}
	if peer.Interface != "" && extended {
		h.ipv4 = hop{} // the router may know no IPv4 network there
	}
	if peer.Address.IsLinkLocalUnicast() {
		h.ipv6.address = peer.NextHop6
	}
	return h
}

// route is a session as the export policy sees it.
type route struct {
	announce.Peer
	hops
}

// policies are the whole routing policy: a function of the sessions (keyed by address) and the distributions in use. asn
// is the AS number that link bandwidths bear.
func policies(sessions map[netip.Addr]route, marks *marks, asn uint16) *api.SetPoliciesRequest {
	c := &compiler{addresses: map[name.PeerName]string{}}
	for _, address := range slices.SortedFunc(maps.Keys(sessions), netip.Addr.Compare) {
		session := sessions[address]
		c.addresses[session.Name] = single(address)
		c.nextHop(session, ipv4, session.ipv4)
		c.nextHop(session, ipv6, session.ipv6)
	}
	for _, m := range marks.sorted() {
		c.distribution(m, marks.all[m].distribution, asn)
	}
	return &api.SetPoliciesRequest{
		DefinedSets: c.sets,
		Policies: []*api.Policy{
			{Name: exportPolicy, Statements: c.statements},
			// Our own paths pass through the import policy too.
			{Name: importPolicy, Statements: []*api.Statement{{
				Name:       "own",
				Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
				Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
			}}},
		},
	}
}

// compiler collects the export policy.
type compiler struct {
	// addresses are those of the sessions, as prefixes.
	addresses  map[name.PeerName]string
	sets       []*api.DefinedSet
	statements []*api.Statement
}

// nextHop adds what a session needs for one family, before all distributions: nothing in the usual case.
func (c *compiler) nextHop(session route, f family, h hop) {
	if !h.none && !h.address.IsValid() {
		return
	}
	id := fmt.Sprintf("hop-%s-%s", session.Address, map[family]string{ipv4: "ipv4", ipv6: "ipv6"}[f])
	actions := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT}
	if !h.none {
		actions = &api.Actions{Nexthop: &api.NexthopAction{Address: h.address.WithZone("").String()}}
	}
	c.add(id, api.DefinedType_DEFINED_TYPE_NEIGHBOR, []string{single(session.Address)})
	c.statements = append(c.statements, &api.Statement{
		Name: id,
		Conditions: &api.Conditions{
			NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: id},
			AfiSafiIn:   []*api.Family{f.api()},
		},
		Actions: actions,
	})
}

// distribution adds one statement a share. Peers without a session are left out, and a share of none
// altogether: to gobgp an empty set of neighbors is everybody.
func (c *compiler) distribution(m mark, d distribution, asn uint16) {
	_, carried := d.transitive()
	community := fmt.Sprintf("mark-%d", m)
	first := true
	for i, s := range d {
		var neighbors []string
		for _, peer := range s.peers {
			if address, found := c.addresses[peer]; found {
				neighbors = append(neighbors, address)
			}
		}
		if len(neighbors) == 0 {
			continue
		}
		if first {
			c.add(community, api.DefinedType_DEFINED_TYPE_COMMUNITY, []string{fmt.Sprintf("0:%d", m)})
			first = false
		}
		id := fmt.Sprintf("share-%d-%d", m, i)
		c.add(id, api.DefinedType_DEFINED_TYPE_NEIGHBOR, neighbors)
		c.statements = append(c.statements, &api.Statement{
			Name: id,
			Conditions: &api.Conditions{
				NeighborSet:  &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: id},
				CommunitySet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: community},
			},
			Actions: weigh(actions(s.Attributes), s.Attributes, carried, asn),
		})
	}
}

func (c *compiler) add(id string, kind api.DefinedType, list []string) {
	c.sets = append(c.sets, &api.DefinedSet{DefinedType: kind, Name: id, List: list})
}

// actions turn a marked path into what goes on the wire. gobgp itself removes LOCAL_PREF towards eBGP peers. It cannot set
// LOCAL_PREF 0, which is why every path has it to begin with. It prepends to what stands leftmost, the
// local AS of the session; iBGP peers get an empty AS_PATH and hence no prepending.
func actions(attributes announce.Attributes) *api.Actions {
	a := &api.Actions{
		RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
		Community:   &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE},
		LocalPref:   &api.LocalPrefAction{Value: defaultLocalPref},
	}
	if attributes.LocalPref != nil {
		a.LocalPref.Value = *attributes.LocalPref
	}
	if attributes.MED != nil {
		a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*attributes.MED)}
	}
	if n := attributes.Prepends(); n > 0 {
		a.AsPrepend = &api.AsPrependAction{UseLeftMost: true, Repeat: n}
	}
	for _, community := range attributes.Communities {
		if !community.Large {
			a.Community.Communities = append(a.Community.Communities, fmt.Sprintf("%d:%d", community.Global, community.Local1))
			continue
		}
		if a.LargeCommunity == nil {
			a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE}
		}
		a.LargeCommunity.Communities = append(a.LargeCommunity.Communities,
			fmt.Sprintf("%d:%d:%d", community.Global, community.Local1, community.Local2))
	}
	return a
}

// bytesPerEndpoint makes a link bandwidth, which is in octets per second, of a number of endpoints: 1 Mbit/s each, since
// routers weigh by the ratios and some of them round to whole megabits.
const bytesPerEndpoint = 125_000

// bandwidth is the link bandwidth of a weight, within the numbers that gobgp can write.
func bandwidth(weight uint32) uint32 {
	return min(weight, math.MaxUint32/bytesPerEndpoint) * bytesPerEndpoint
}

// weigh adds what makes the link bandwidth right that goes out. carried says that the path has a transitive one, which
// gobgp's policies cannot make.
func weigh(a *api.Actions, attributes announce.Attributes, carried bool, asn uint16) *api.Actions {
	switch {
	case attributes.Weight > 0 && !attributes.Transitive:
		a.ExtCommunity = &api.CommunityAction{
			Type: api.CommunityAction_TYPE_REPLACE, Communities: []string{fmt.Sprintf("lb:%d:%d", asn, bandwidth(attributes.Weight))},
		}
	case attributes.Weight == 0 && carried:
		a.ExtCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE}
	}
	return a
}

// single is the prefix of one address, without its zone.
func single(address netip.Addr) string {
	address = address.WithZone("")
	return netip.PrefixFrom(address, address.BitLen()).String()
}
