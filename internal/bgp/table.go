package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// share is what some peers get of one prefix.
type share struct {
	announce.Attributes
	// peers are sorted and never empty.
	peers []name.PeerName
}

// distribution is who gets a prefix, and with which attributes: sorted by attributes, each
// peer at most once. Empty is nobody.
type distribution []share

// transitive returns the weight that goes out as a transitive link bandwidth, if there is one. The weight is the
// node's, so all shares that have one have the same.
func (d distribution) transitive() (weight uint32, found bool) {
	for _, s := range d {
		if s.Weight > 0 && s.Transitive {
			return s.Weight, true
		}
	}
	return 0, false
}

// distributionKey is the canonical form of a distribution; empty for nobody.
type distributionKey string

// key returns the canonical form.
func (d distribution) key() distributionKey {
	var b strings.Builder
	for _, s := range d {
		attributes := keyOf(s.Attributes)
		writeCounted(&b, string(attributes))
		for _, peer := range s.peers {
			writeCounted(&b, string(peer))
		}
		b.WriteByte(0xff)
	}
	return distributionKey(b.String())
}

// writeCounted writes s with its length before it, at most 4 kB: 0xff is never the first byte.
func writeCounted(b *strings.Builder, s string) {
	b.WriteByte(byte(len(s) >> 8 & 0x7f))
	b.WriteByte(byte(len(s)))
	b.WriteString(s)
}

// table holds what every Service wants announced. A prefix that several Services want stays until
// the last has left.
type table struct {
	services map[name.ServiceKey]map[netip.Prefix][]announce.Route
	// holders are sorted.
	holders map[netip.Prefix][]name.ServiceKey
}

func newTable() *table {
	return &table{
		services: map[name.ServiceKey]map[netip.Prefix][]announce.Route{},
		holders:  map[netip.Prefix][]name.ServiceKey{},
	}
}

// set replaces what a Service wants (nothing: it leaves) and returns the prefixes that this touches.
func (t *table) set(key name.ServiceKey, routes []announce.Route) []netip.Prefix {
	old, now := t.services[key], byPrefix(routes)
	var touched []netip.Prefix
	for prefix := range old {
		if _, stays := now[prefix]; !stays {
			t.release(prefix, key)
			touched = append(touched, prefix)
		}
	}
	for prefix, routes := range now {
		before, held := old[prefix]
		if !held {
			t.hold(prefix, key)
		}
		if !held || !slices.EqualFunc(before, routes, equalRoutes) {
			touched = append(touched, prefix)
		}
	}
	if len(now) == 0 {
		delete(t.services, key)
	} else {
		t.services[key] = now
	}
	return touched
}

func (t *table) hold(prefix netip.Prefix, key name.ServiceKey) {
	holders := t.holders[prefix]
	at, _ := slices.BinarySearchFunc(holders, key, compareServices)
	t.holders[prefix] = slices.Insert(holders, at, key)
}

func (t *table) release(prefix netip.Prefix, key name.ServiceKey) {
	holders := t.holders[prefix]
	if at, found := slices.BinarySearchFunc(holders, key, compareServices); found {
		holders = slices.Delete(holders, at, at+1)
	}
	if len(holders) == 0 {
		delete(t.holders, prefix)
	} else {
		t.holders[prefix] = holders
	}
}

// prefixes returns all that some Service wants, in no order.
func (t *table) prefixes() []netip.Prefix {
	all := make([]netip.Prefix, 0, len(t.holders))
	for prefix := range t.holders {
		all = append(all, prefix)
	}
	return all
}

// distribution returns who gets a prefix: what its holders want, united. Where they disagree
// for one peer on an attribute that has a single value, the first Service in order is right.
func (t *table) distribution(prefix netip.Prefix) distribution {
	wanted := map[name.PeerName]announce.Attributes{}
	for _, key := range t.holders[prefix] {
		for _, route := range t.services[key][prefix] {
			for _, peer := range route.Peers {
				if before, found := wanted[peer]; found {
					wanted[peer] = before.Unite(route.Attributes)
				} else {
					wanted[peer] = route.Attributes
				}
			}
		}
	}
	return distribute(wanted)
}

// distribute turns attributes by peer into a distribution.
func distribute(wanted map[name.PeerName]announce.Attributes) distribution {
	shares := map[attributesKey]*share{}
	for peer, attributes := range wanted {
		key := keyOf(attributes)
		if shares[key] == nil {
			shares[key] = &share{Attributes: attributes}
		}
		shares[key].peers = append(shares[key].peers, peer)
	}
	result := make(distribution, 0, len(shares))
	for _, s := range shares {
		slices.Sort(s.peers)
		result = append(result, *s)
	}
	slices.SortFunc(result, func(a, b share) int { return cmp.Compare(keyOf(a.Attributes), keyOf(b.Attributes)) })
	return result
}

// byPrefix groups routes, whose prefixes become canonical ones; a route of no valid prefix or without peers is none.
func byPrefix(routes []announce.Route) map[netip.Prefix][]announce.Route {
	grouped := make(map[netip.Prefix][]announce.Route, len(routes))
	for _, route := range routes {
		route.Prefix = route.Prefix.Masked()
		if route.Prefix.IsValid() && len(route.Peers) > 0 {
			grouped[route.Prefix] = append(grouped[route.Prefix], route)
		}
	}
	return grouped
}

func equalRoutes(a, b announce.Route) bool {
	return a.Prefix == b.Prefix && a.Equal(b.Attributes) && slices.Equal(a.Peers, b.Peers)
}

func compareServices(a, b name.ServiceKey) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}
