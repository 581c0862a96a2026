package announce

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
)

// listed says whether some Node's interface has an on-link prefix that contains an address,
// whether or not it is up and the Node's speaker lives.
func (v *View) listed(a netip.Addr) bool {
	return slices.ContainsFunc(v.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.Interfaces, func(i Interface) bool { return i.onLink(a) > 0 })
	})
}

// Hears says whether an interface is up and not deaf.
func (i *Interface) Hears() bool { return i.Up && !i.Deaf }

// onLink is the length of the longest on-link prefix that contains an address; 0: none does.
func (i *Interface) onLink(a netip.Addr) int {
	longest := 0
	for _, p := range i.Prefixes {
		if p.Contains(a) && !p.IsSingleIP() {
			longest = max(longest, p.Bits())
		}
	}
	return longest
}

// fits says whether a node has an interface for an address that is neither deaf nor cut off.
func (w wanted) fits(n *Node) bool {
	return slices.ContainsFunc(w.interfaces(n), func(i string) bool { return !n.deaf(i) })
}

// deaf says whether an interface of a node is deaf or cut off.
func (n *Node) deaf(name string) bool {
	return slices.ContainsFunc(n.Interfaces, func(i Interface) bool { return i.Name == name && (i.Deaf || i.Cut) })
}

// deafened says whether some interface of a node is deaf or cut off.
func (n *Node) deafened() bool {
	return slices.ContainsFunc(n.Interfaces, func(i Interface) bool { return i.Deaf || i.Cut })
}

// interfaces returns on which interfaces a node may answer for an address under any of the
// advertisements that select the node, sorted. Deaf ones are among them: who owns an address
// answers there too, until another has claimed it.
func (w wanted) interfaces(n *Node) []string {
	var all []string
	for _, adv := range w.advs {
		switch {
		case !adv.Nodes.Matches(n.Labels):
		case len(adv.Interfaces) > 0:
			all = append(all, adv.globbed(n)...)
		default:
			if i := w.suit(n); i != nil {
				all = append(all, i.Name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// globbed returns the interfaces of a node that are up and match the globs.
func (adv *L2Advertisement) globbed(n *Node) []string {
	var names []string
	for _, i := range n.Interfaces {
		if i.Up && slices.ContainsFunc(adv.Interfaces, func(glob string) bool { ok, err := path.Match(glob, i.Name); return err == nil && ok }) {
			names = append(names, i.Name)
		}
	}
	return names
}

// suit returns the interface of a node that suits an address without globs: that with the
// longest on-link prefix that contains it, of several one that is not deaf, then one with the Node's
// address, then the first by name. Only if no Node is on such a network does one that merely holds the Node's
// address suit, first one of the same family. Nil: none, also if that with the longest prefix is
// down, since a wider prefix of another card does not reach the same hosts.
func (w wanted) suit(n *Node) *Interface {
	var best *Interface
	longest := 0
	for i := range n.Interfaces {
		x := &n.Interfaces[i]
		onLink := x.onLink(w.address)
		longest = max(longest, onLink)
		if x.Up && (onLink > 0 || !w.listed && x.holds(n, w.address) > 0) && (best == nil || w.compare(n, x, best) < 0) {
			best = x
		}
	}
	if best != nil && best.onLink(w.address) < longest {
		return nil
	}
	return best
}

// compare orders interfaces of a node, the better first.
func (w wanted) compare(n *Node, x, y *Interface) int {
	return cmp.Or(
		cmp.Compare(y.onLink(w.address), x.onLink(w.address)),
		cmp.Compare(deafness(x), deafness(y)),
		cmp.Compare(y.holds(n, w.address), x.holds(n, w.address)),
		cmp.Compare(x.Name, y.Name),
	)
}

// deafness is 1 for an interface that is deaf; whether one is cut off its node does not know, which chooses.
func deafness(i *Interface) int {
	if i.Deaf {
		return 1
	}
	return 0
}

// holds is 2 for an interface with an address of the Node of the family of a, 1 for one of the
// other family, 0 for none.
func (i *Interface) holds(n *Node, a netip.Addr) int {
	held := 0
	for _, p := range i.Prefixes {
		if !slices.Contains(n.Addresses, p.Addr()) {
			continue
		}
		if held = max(held, 1); p.Addr().Is4() == a.Is4() {
			held = 2
		}
	}
	return held
}

// networks returns the networks of the interfaces that are up of those nodes that live, sorted.
func networks(nodes []*Node) []string {
	var all []string
	for _, n := range nodes {
		for _, i := range n.Interfaces {
			for _, p := range i.Prefixes {
				if n.Health == Alive && i.Up && !p.IsSingleIP() {
					all = append(all, p.Masked().String())
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// mac is the hardware address of an interface of a node, if it is known.
func (n *Node) mac(name string) MAC {
	for _, i := range n.Interfaces {
		if i.Name == name {
			return i.MAC
		}
	}
	return MAC{}
}

// macBeside is the hardware address of the first of some interfaces of a node that is in the
// same network as an interface of another node. A link-local prefix says nothing of the network.
func (n *Node) macBeside(other *Node, theirs string, among []string) MAC {
	i := slices.IndexFunc(other.Interfaces, func(i Interface) bool { return i.Name == theirs })
	for _, mine := range n.Interfaces {
		if slices.Contains(among, mine.Name) && mine.beside(&other.Interfaces[i]) {
			return mine.MAC
		}
	}
	return MAC{}
}

// beside says whether on-link prefixes of two interfaces overlap: by mistake their masks may differ.
func (i *Interface) beside(o *Interface) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool {
		return !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() &&
			slices.ContainsFunc(o.Prefixes, func(q netip.Prefix) bool { return p.Overlaps(q) && !q.IsSingleIP() })
	})
}
