package ipam

import (
	"iter"
	"maps"
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ballast-lb/ballast/internal/name"
)

// Keys are all holders and waiters, in no order.
func (a *Allocator) Keys() iter.Seq[Key] { return maps.Keys(a.members) }

// Known says whether a holder or waiter is known, and as what.
func (a *Allocator) Known(k Key) (Holder, bool) {
	m := a.members[k]
	if m == nil {
		return Holder{}, false
	}
	return m.Holder, true
}

// Held returns what a holder has. The caller must not change it.
func (a *Allocator) Held(k Key) []netip.Addr {
	if m := a.members[k]; m != nil {
		return m.addresses
	}
	return nil
}

// Leaving returns what a holder gives up and its status may still hold. The caller must not change it.
func (a *Allocator) Leaving(k Key) []netip.Addr {
	if m := a.members[k]; m != nil {
		return m.leaving
	}
	return nil
}

// Bound returns the oldest Service that holds an address of a claim, and names the claim.
func (a *Allocator) Bound(claim Key) (name.ServiceKey, bool) {
	for _, addr := range a.Held(claim) {
		for _, m := range a.held[addr].holders {
			if m.names(&Holder{Key: claim}) && slices.Contains(m.addresses, addr) {
				return m.ServiceKey, true
			}
		}
	}
	return name.ServiceKey{}, false
}

// Holders returns at most n holders of addresses of a pool, the oldest first, and how many there are.
func (a *Allocator) Holders(pool name.PoolName, n int) ([]Key, int) {
	all := map[Key]*member{}
	for _, h := range a.held {
		if h.origin == pool {
			for _, m := range h.holders {
				all[m.Key] = m
			}
		}
	}
	var keys []Key
	for _, m := range inAge(maps.Values(all))[:min(n, len(all))] {
		keys = append(keys, m.Key)
	}
	return keys, len(all)
}

// Taken counts the held addresses that were taken from a pool, whether its spec still has
// them or not.
func (a *Allocator) Taken(pool name.PoolName) int {
	if p := a.byName[pool]; p != nil {
		return p.taken
	}
	return 0
}

// Usage counts one family of a pool.
type Usage struct {
	// Total may be handed out, Assigned are held and within spec, Available is the
	// difference, never below zero.
	Total, Assigned, Available *big.Int
}

// Usage counts a family of a pool. An unknown pool has none of anything.
func (a *Allocator) Usage(pool name.PoolName, f Family) Usage {
	u := Usage{Total: new(big.Int), Assigned: new(big.Int), Available: new(big.Int)}
	if p := a.byName[pool]; p != nil {
		u.Total, u.Assigned = p.Total(f), big.NewInt(int64(p.assigned[f.index()]))
	}
	if u.Available.Sub(u.Total, u.Assigned); u.Available.Sign() < 0 {
		u.Available.SetInt64(0)
	}
	return u
}

// Retained returns, merged and in order, what is held of a pool that its spec no longer covers.
func (a *Allocator) Retained(pool name.PoolName) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for addr, h := range a.retired {
		if h.origin == pool {
			b.Add(addr)
		}
	}
	set, err := b.IPSet()
	if err != nil { // only invalid addresses fail, and none is held
		return nil
	}
	return set.Ranges()
}

// Decided returns the last decision about a holder; the zero value if it was never asked
// for, or not decided yet. The caller must not change its Addresses.
func (a *Allocator) Decided(k Key) Decision {
	if m := a.members[k]; m != nil {
		return m.decision
	}
	return Decision{}
}
