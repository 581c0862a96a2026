package config

import (
	"path"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// selection are the fields that both kinds of advertisement have in common.
type selection struct {
	kind                      Kind
	name                      string
	pools                     []string
	poolSelectors, namespaces []metav1.LabelSelector
	services, nodes           []metav1.LabelSelector
}

func (c *compiler) selection(s selection) announce.Selection {
	var pools []name.PoolName
	for _, pool := range s.pools {
		if !c.named[identity{KindPool, pool}] {
			c.problem(s.kind, s.name, v1alpha1.ReasonPoolMissing, "The IPAddressPool %s, which it names, does not exist.", pool)
		}
		pools = append(pools, name.PoolName(pool))
	}
	return announce.Selection{
		Name:       name.AdvertisementName(s.name),
		Pools:      announce.Names[name.PoolName]{Names: pools, Selectors: c.selectors(s.kind, s.name, s.poolSelectors)},
		Namespaces: c.selectors(s.kind, s.name, s.namespaces),
		Services:   c.selectors(s.kind, s.name, s.services),
		Nodes:      c.selectors(s.kind, s.name, s.nodes),
	}
}

func (c *compiler) l2Advertisements(o Objects) []announce.L2Advertisement {
	var list []announce.L2Advertisement
	for _, obj := range byAge(o.L2) {
		spec := obj.Spec
		for _, glob := range spec.Interfaces {
			if _, err := path.Match(glob, ""); err != nil {
				c.problem(KindL2, obj.Name, v1alpha1.ReasonInvalid, "The interface glob %q is malformed and matches nothing.", glob)
			}
		}
		list = append(list, announce.L2Advertisement{
			Selection: c.selection(selection{
				KindL2, obj.Name, spec.IPAddressPools, spec.IPAddressPoolSelectors,
				spec.NamespaceSelectors, spec.ServiceSelectors, spec.NodeSelectors,
			}),
			Interfaces: spec.Interfaces, Preferred: c.preferences(obj.Name, spec.PreferredNodeSelectors),
		})
	}
	return list
}

func (c *compiler) preferences(advertisement string, terms []v1alpha1.PreferredNodeSelector) []announce.Preference {
	var list []announce.Preference
	for _, term := range terms {
		for _, s := range c.selectors(KindL2, advertisement, []metav1.LabelSelector{term.Preference}) {
			list = append(list, announce.Preference{Weight: int(term.Weight), Nodes: s})
		}
	}
	return list
}

func (c *compiler) bgpAdvertisements(o Objects, pools []compiledPool, aliases map[string]announce.Community) []announce.BGPAdvertisement {
	var list []announce.BGPAdvertisement
	for _, obj := range byAge(o.BGP) {
		spec := obj.Spec
		adv := announce.BGPAdvertisement{
			Selection: c.selection(selection{
				KindBGP, obj.Name, spec.IPAddressPools, spec.IPAddressPoolSelectors,
				spec.NamespaceSelectors, spec.ServiceSelectors, spec.NodeSelectors,
			}),
			Length4: length(spec.AggregationLength, 32), Length6: length(spec.AggregationLengthV6, 128),
			Attributes: announce.Attributes{LocalPref: uint32Of(spec.LocalPref), MED: uint32Of(spec.MED), Prepend: uint32Of(spec.ASPathPrepend)},
		}
		for _, peer := range spec.Peers {
			if !c.named[identity{KindPeer, peer}] {
				c.problem(KindBGP, obj.Name, v1alpha1.ReasonPeerMissing, "The BGPPeer %s, which it names, does not exist.", peer)
			}
			adv.Peers = append(adv.Peers, name.PeerName(peer))
		}
		for _, written := range spec.Communities {
			community, err := parseCommunity(written, aliases)
			if err != nil {
				c.problem(KindBGP, obj.Name, v1alpha1.ReasonInvalid, "%v; it is announced without.", err)
				continue
			}
			adv.Communities = append(adv.Communities, community)
		}
		slices.SortFunc(adv.Communities, announce.Community.Compare)
		adv.Communities = slices.Compact(adv.Communities)
		adv.Weigh = spec.WeightByEndpoints == v1alpha1.WeightNonTransitive || spec.WeightByEndpoints == v1alpha1.WeightTransitive
		adv.Transitive = spec.WeightByEndpoints == v1alpha1.WeightTransitive
		c.tooWide(pools, adv)
		c.conflicts(o, adv, list)
		list = append(list, adv)
	}
	return list
}

// tooWide reports an advertisement some of whose aggregates do not lie wholly in the pool that their addresses are from. In
// a range without gaps, only the aggregates at its ends can be such.
func (c *compiler) tooWide(pools []compiledPool, adv announce.BGPAdvertisement) {
	if adv.Length4 == 32 && adv.Length6 == 128 {
		return // host routes
	}
	for _, p := range pools {
		if !adv.Pools.Matches(p.Name, p.labels) {
			continue
		}
		for _, r := range p.announce {
			first, last := adv.Aggregate(r.From()), adv.Aggregate(r.To())
			if !p.announce.ContainsPrefix(first) || !p.announce.ContainsPrefix(last) {
				c.problem(KindBGP, string(adv.Name), v1alpha1.ReasonAggregateTooWide,
					"Aggregates of length /%d do not all lie wholly in what IPAddressPool %s hands out; where they do not, host routes are announced.", first.Bits(), p.Name)
				break
			}
		}
	}
}

// conflicts reports an advertisement that asks for another value of an attribute than an older one does for the same
// routes to the same peer. The older one is right.
func (c *compiler) conflicts(o Objects, adv announce.BGPAdvertisement, older []announce.BGPAdvertisement) {
	for _, other := range older {
		var differ []string
		for field, differs := range map[string]bool{
			"localPref":         different(other.LocalPref, adv.LocalPref),
			"med":               different(other.MED, adv.MED),
			"asPathPrepend":     different(other.Prepend, adv.Prepend),
			"weightByEndpoints": other.Weigh && adv.Weigh && other.Transitive != adv.Transitive,
		} {
			if differs {
				differ = append(differ, field)
			}
		}
		if len(differ) > 0 && c.meet(o, adv, other) {
			slices.Sort(differ)
			c.problem(KindBGP, string(adv.Name), v1alpha1.ReasonAttributeConflict,
				"The older BGPAdvertisement %s gives other values of %v to the same routes for the same peers, and is right where both apply. Give both the same, or have them select different Services, nodes or peers.", other.Name, differ)
			return
		}
	}
}

func different(older, newer *uint32) bool { return older != nil && newer != nil && *older != *newer }

// meet says whether two advertisements can be for one route to one peer, as far as configuration tells: of selectors,
// only those that are equal, or absent on one side, are taken to select the same thing.
func (c *compiler) meet(o Objects, a, b announce.BGPAdvertisement) bool {
	pools := slices.ContainsFunc(o.Pools, func(p v1alpha1.IPAddressPool) bool {
		pool := name.PoolName(p.Name)
		return a.Pools.Matches(pool, p.Labels) && b.Pools.Matches(pool, p.Labels) && a.Length4 == b.Length4 && a.Length6 == b.Length6
	})
	peers := len(a.Peers) == 0 || len(b.Peers) == 0 || slices.ContainsFunc(a.Peers, func(p name.PeerName) bool { return slices.Contains(b.Peers, p) })
	alike := func(x, y announce.Selectors) bool { return len(x) == 0 || len(y) == 0 || reflect.DeepEqual(x, y) }
	return pools && peers && alike(a.Namespaces, b.Namespaces) && alike(a.Services, b.Services) && alike(a.Nodes, b.Nodes)
}

func length(l *int32, host int) int {
	if l == nil {
		return host
	}
	return int(*l)
}

// uint32Of converts what the schema holds within 0..4294967295.
func uint32Of[N int32 | int64](n *N) *uint32 {
	if n == nil {
		return nil
	}
	u := uint32(*n)
	return &u
}
