package announce

import (
	"net/netip"
	"path"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// What a fact concerns: a label matters if that which it selects changes, an interface to the addresses of its networks.

// selectedAnew says whether what is selected by labels of nodes changes with those of one.
func (c *Config) selectedAnew(before, after labels.Set) bool {
	if reflect.DeepEqual(before, after) {
		return false
	}
	other := func(s Selectors) bool { return s.Matches(before) != s.Matches(after) }
	return slices.ContainsFunc(c.L2, func(a L2Advertisement) bool {
		return other(a.Nodes) || slices.ContainsFunc(a.Preferred, func(p Preference) bool { return other(Selectors{p.Nodes}) })
	}) ||
		slices.ContainsFunc(c.BGP, func(a BGPAdvertisement) bool { return other(a.Nodes) }) ||
		slices.ContainsFunc(c.Peers, func(p NodePeer) bool { return other(p.Nodes) })
}

// relabeled returns the namespaces whose Services other advertisements select than before.
func (c *Config) relabeled(before, after map[string]labels.Set) map[string]bool {
	changed := map[string]bool{}
	look := func(ns string) {
		x, y := before[ns], after[ns]
		other := func(s Selectors) bool { return s.Matches(x) != s.Matches(y) }
		if slices.ContainsFunc(c.L2, func(a L2Advertisement) bool { return other(a.Namespaces) }) ||
			slices.ContainsFunc(c.BGP, func(a BGPAdvertisement) bool { return other(a.Namespaces) }) {
			changed[ns] = true
		}
	}
	for ns := range after {
		look(ns)
	}
	for ns := range before {
		if _, still := after[ns]; !still {
			look(ns)
		}
	}
	return changed
}

// rewiring is what a change of a node's interfaces concerns.
type rewiring struct {
	any      bool // something changed
	all      bool // every unit
	networks []netip.Prefix
}

// rewired compares the interfaces of two states of a node. One that is deaf or cut off, holds an address of the Node's or is named by
// an advertisement concerns every unit, any other the addresses in its networks.
func (c *Config) rewired(before, after *Node) rewiring {
	var r rewiring
	if slices.EqualFunc(before.Interfaces, after.Interfaces, Interface.equal) {
		return r
	}
	differ := append(lacking(before.Interfaces, after.Interfaces), lacking(after.Interfaces, before.Interfaces)...)
	r.any, r.all = true, len(differ) == 0 // only their order did
	for _, i := range differ {
		named := slices.ContainsFunc(c.L2, func(a L2Advertisement) bool {
			return slices.ContainsFunc(a.Interfaces, func(glob string) bool { ok, err := path.Match(glob, i.Name); return ok && err == nil })
		})
		held := slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool {
			return slices.Contains(before.Addresses, p.Addr()) || slices.Contains(after.Addresses, p.Addr())
		})
		r.all = r.all || i.Deaf || i.Cut || named || held
		for _, p := range i.Prefixes {
			if !p.IsSingleIP() {
				r.networks = append(r.networks, p)
			}
		}
	}
	return r
}

// lacking returns the interfaces of x that y does not have as they are.
func lacking(x, y []Interface) []Interface {
	return slices.DeleteFunc(slices.Clone(x), func(i Interface) bool { return slices.ContainsFunc(y, i.equal) })
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && i.Up == o.Up && i.Deaf == o.Deaf && i.Cut == o.Cut && i.MAC == o.MAC && slices.Equal(i.Prefixes, o.Prefixes)
}

// near says whether a unit has an address in one of some networks, or a Service that lacks an interface and says which
// networks there are instead.
func (s *State) near(u *unit, networks []netip.Prefix) bool {
	for _, key := range u.services {
		if s.decided[key].Verdict.Reason == v1alpha1.ReasonNoInterface {
			return true
		}
		for _, a := range s.services[key].Addresses {
			if slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
				return true
			}
		}
	}
	return false
}
