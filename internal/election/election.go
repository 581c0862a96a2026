// Package election says which node owns an address in layer 2. It is pure: it knows the
// candidates, not how they were found, and two nodes that know the same candidates
// decide alike. It never talks to anybody.
package election

import (
	"hash/fnv"
	"net/netip"

	"github.com/ballast-lb/ballast/internal/name"
)

// Owner returns the candidate with the highest rendezvous weight for a unit (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998), or "" if there
// is none. A unit is named by the lowest of its addresses. When a candidate goes, only
// the units that it owned move; when one comes, only those that it wins.
func Owner(unit netip.Addr, candidates []name.NodeName) name.NodeName {
	var owner name.NodeName
	var best uint64
	for _, c := range candidates {
		if w := weight(unit, c); owner == "" || w > best || w == best && c < owner {
			owner, best = c, w
		}
	}
	return owner
}

// weight hashes a unit and a node; the last steps are the finalizer of SplitMix64,
// because FNV alone leaves the weights of similar names alike.
func weight(unit netip.Addr, node name.NodeName) uint64 {
	h := fnv.New64a()
	b := unit.As16()
	h.Write(b[:])
	h.Write([]byte(node))
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
