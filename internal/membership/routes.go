package membership

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync"

	"github.com/ballast-lb/ballast/internal/name"
)

// route leads from an address of this node to one of another, of the same family.
type route struct{ from, to netip.Addr }

// routes knows at which addresses the other nodes are.
type routes struct {
	mu sync.Mutex
	// own are the addresses of this node at which sockets are open.
	own []netip.Addr
	// peers are the addresses that Kubernetes names, of whom says whose they are.
	peers map[name.NodeName][]netip.Addr
	of    map[netip.Addr]name.NodeName
	// last is where a node was last heard or reached.
	last map[name.NodeName]netip.Addr
}

func newRoutes() *routes { return &routes{last: map[name.NodeName]netip.Addr{}} }

// setOwn tells at which addresses sockets are open.
func (r *routes) setOwn(own []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = own
}

// setPeers tells which addresses Kubernetes names.
func (r *routes) setPeers(peers []Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers, r.of = map[name.NodeName][]netip.Addr{}, map[netip.Addr]name.NodeName{}
	for _, p := range peers {
		r.peers[p.Name] = p.Addresses
		for _, a := range p.Addresses {
			r.of[a] = p.Name
		}
	}
	for n := range r.last {
		if r.peers[n] == nil {
			delete(r.last, n)
		}
	}
}

// works notes that a node was heard or reached at an address.
func (r *routes) works(n name.NodeName, at netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last[n] != at {
		r.last[n] = at
	}
}

// first returns the first address that Kubernetes names for a node: a speaker that starts there
// advertises it.
func (r *routes) first(n name.NodeName) (netip.Addr, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.peers[n]; len(list) > 0 {
		return list[0], true
	}
	return netip.Addr{}, false
}

// to returns the routes to a node, best first: to the addresses that Kubernetes names, and to
// the one that the gossip says, unless that is another node's by now; it may be invalid. Without a
// name, the address is all there is.
func (r *routes) to(n name.NodeName, said netip.Addr) []route {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n == "" {
		return choose(r.own, []netip.Addr{said}, netip.Addr{})
	}
	theirs := r.peers[n]
	if owner, taken := r.of[said]; said.IsValid() && !slices.Contains(theirs, said) && (!taken || owner == n) {
		theirs = append(slices.Clip(theirs), said)
	}
	return choose(r.own, theirs, r.last[n])
}

// choose returns the routes from own to their addresses: first to that at which they were last
// heard, then in their order. Each begins at the own address that has the most leading bits in
// common with its end (RFC 6724 section 5, rule 8).
func choose(own, theirs []netip.Addr, last netip.Addr) []route {
	var list []route
	for _, to := range theirs {
		best, length := netip.Addr{}, -1
		for _, from := range own {
			if n := common(from, to); n > length {
				best, length = from, n
			}
		}
		switch {
		case length < 0:
		case to == last:
			list = slices.Insert(list, 0, route{best, to})
		default:
			list = append(list, route{best, to})
		}
	}
	return list
}

// common returns how many leading bits two addresses have in common; -1: their families differ.
func common(x, y netip.Addr) int {
	if x.Is4() != y.Is4() {
		return -1
	}
	n, b := 0, y.AsSlice()
	for i, octet := range x.AsSlice() {
		if differ := octet ^ b[i]; differ != 0 {
			return n + bits.LeadingZeros8(differ)
		}
		n += 8
	}
	return n
}

// related returns those of some peers that have an address of a family of own.
func related(own []netip.Addr, peers []Peer) []Peer {
	var list []Peer
	for _, p := range peers {
		if slices.ContainsFunc(p.Addresses, func(to netip.Addr) bool {
			return slices.ContainsFunc(own, func(from netip.Addr) bool { return from.Is4() == to.Is4() })
		}) {
			list = append(list, p)
		}
	}
	return list
}
