package ipam

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ballast-lb/ballast/internal/name"
)

// Holder is a Service as a holder of addresses.
type Holder struct {
	Service name.ServiceKey
	// UID tells a Service from an earlier one of the same name; empty: not known.
	UID string
	// Foreign says that another implementation serves the Service.
	Foreign bool
	// Created orders holders: of two that hold one address, the older has it, but one of
	// Ballast's before a foreign one.
	Created time.Time
}

func (h Holder) compare(o Holder) int {
	if h.Foreign != o.Foreign {
		if o.Foreign {
			return -1
		}
		return 1
	}
	if c := h.Created.Compare(o.Created); c != 0 {
		return c
	}
	if c := cmp.Compare(h.Service.Namespace, o.Service.Namespace); c != 0 {
		return c
	}
	return cmp.Compare(h.Service.Name, o.Service.Name)
}

// held is one address in use.
type held struct {
	holders []Holder      // oldest first; the first one has the address
	pool    name.PoolName // where it came from; empty: from no pool that was ever seen
	inSpec  bool          // the pool still hands it out
}

// Allocator holds all pools and who holds what. The zero value is not usable: use New.
type Allocator struct {
	pools    []Pool // in the order in which they are tried
	index    []owned
	free     map[name.PoolName]map[Family]*free
	held     map[netip.Addr]held
	services map[name.ServiceKey][]netip.Addr
	asked    map[name.ServiceKey]name.PoolName // the pool that a Service named last
	assigned map[name.PoolName]map[Family]int
}

// owned is a range and the pool that it belongs to.
type owned struct {
	netipx.IPRange
	pool int // index into pools
}

// New returns an Allocator without pools.
func New() *Allocator {
	return &Allocator{
		free:     map[name.PoolName]map[Family]*free{},
		held:     map[netip.Addr]held{},
		services: map[name.ServiceKey][]netip.Addr{},
		asked:    map[name.ServiceKey]name.PoolName{},
		assigned: map[name.PoolName]map[Family]int{},
	}
}

// SetPools replaces the pools, given in the order in which they are to be tried. No
// held address moves: what no pool covers any more stays with its holder. Only pools
// that changed cost anything.
func (a *Allocator) SetPools(pools []Pool) {
	old := map[name.PoolName]Pool{}
	for _, p := range a.pools {
		old[p.Name] = p
	}
	a.pools, a.index = pools, nil
	fresh := map[name.PoolName]map[Family]*free{}
	changed := len(old) != len(pools)
	for i, p := range pools {
		for _, r := range p.Ranges {
			a.index = append(a.index, owned{r, i})
		}
		if was, ok := old[p.Name]; ok && was.Equal(p) {
			fresh[p.Name] = a.free[p.Name]
			continue
		}
		changed = true
		fresh[p.Name] = freeOf(p, a.free[p.Name])
	}
	slices.SortFunc(a.index, func(x, y owned) int { return x.From().Compare(y.From()) })
	a.free = fresh
	if changed {
		a.attribute()
	}
}

// freeOf makes the free lists of a pool; what cooled in the old ones goes on cooling.
func freeOf(p Pool, old map[Family]*free) map[Family]*free {
	lists := map[Family]*free{}
	for _, family := range []Family{IPv4, IPv6} {
		var ranges []netipx.IPRange
		for _, r := range p.Ranges {
			if FamilyOf(r.From()) == family {
				ranges = append(ranges, r)
			}
		}
		avoid := p.AvoidBuggyIPs
		f := newFree(ranges, func(a netip.Addr) bool { return never(a) || avoid && buggy(a) })
		if was := old[family]; was != nil {
			for _, c := range was.cooling {
				if was.place[c.addr] == c.serial {
					f.put(c.addr, c.until)
				}
			}
		}
		lists[family] = f
	}
	return lists
}

// attribute finds anew which pool each held address belongs to.
func (a *Allocator) attribute() {
	a.assigned = map[name.PoolName]map[Family]int{}
	for addr, h := range a.held {
		h.pool, h.inSpec = a.origin(addr, h.pool)
		a.held[addr] = h
		a.count(addr, h, 1)
	}
}

// origin returns the pool of an address, and whether that pool still hands it out.
func (a *Allocator) origin(addr netip.Addr, before name.PoolName) (name.PoolName, bool) {
	if p := a.poolOf(addr); p != nil {
		return p.Name, true
	}
	for _, p := range a.pools {
		if p.Name == before || before == "" && inAny(p.Retained, addr) {
			return p.Name, false
		}
	}
	return before, false
}

func (a *Allocator) count(addr netip.Addr, h held, n int) {
	if !h.inSpec {
		return
	}
	if a.assigned[h.pool] == nil {
		a.assigned[h.pool] = map[Family]int{}
	}
	a.assigned[h.pool][FamilyOf(addr)] += n
}

// poolOf returns the pool that may hand an address out, or nil.
func (a *Allocator) poolOf(addr netip.Addr) *Pool {
	i, found := slices.BinarySearchFunc(a.index, addr, func(o owned, addr netip.Addr) int { return o.From().Compare(addr) })
	if !found {
		i--
	}
	if i < 0 || !a.index[i].Contains(addr) || never(addr) {
		return nil
	}
	return &a.pools[a.index[i].pool]
}

// Pool returns the name of the pool that an address was taken from, or "".
func (a *Allocator) Pool(addr netip.Addr) name.PoolName {
	if h, ok := a.held[addr]; ok {
		return h.pool
	}
	if p := a.poolOf(addr); p != nil {
		return p.Name
	}
	return ""
}

// Hold records that a Service holds exactly these addresses, whatever the pools say:
// they are what its status says. It releases what the Service held before and is not
// among them.
func (a *Allocator) Hold(h Holder, addresses []netip.Addr, now time.Time) {
	before := a.services[h.Service]
	for _, addr := range before {
		if !slices.Contains(addresses, addr) {
			a.drop(h.Service, addr, now)
		}
	}
	for _, addr := range addresses {
		if !slices.Contains(before, addr) {
			a.add(h, addr)
		}
	}
	if len(addresses) == 0 {
		delete(a.services, h.Service)
		return
	}
	a.services[h.Service] = slices.Clone(addresses)
}

// Release frees all that a Service holds and returns it.
func (a *Allocator) Release(service name.ServiceKey, now time.Time) []netip.Addr {
	freed := a.services[service]
	for _, addr := range freed {
		a.drop(service, addr, now)
	}
	delete(a.services, service)
	delete(a.asked, service)
	return freed
}

// Held returns what a Service holds. The caller must not change it.
func (a *Allocator) Held(service name.ServiceKey) []netip.Addr { return a.services[service] }

func (a *Allocator) add(who Holder, addr netip.Addr) {
	h, known := a.held[addr]
	if !known {
		h.pool, h.inSpec = a.origin(addr, "")
		a.count(addr, h, 1)
		if h.inSpec {
			a.free[h.pool][FamilyOf(addr)].hold(addr)
		}
	}
	h.holders = append(slices.Clone(h.holders), who)
	slices.SortFunc(h.holders, Holder.compare)
	a.held[addr] = h
}

func (a *Allocator) drop(service name.ServiceKey, addr netip.Addr, now time.Time) {
	h := a.held[addr]
	h.holders = slices.DeleteFunc(slices.Clone(h.holders), func(o Holder) bool { return o.Service == service })
	if len(h.holders) > 0 {
		a.held[addr] = h
		return
	}
	delete(a.held, addr)
	a.count(addr, h, -1)
	if p := a.poolOf(addr); p != nil {
		a.free[p.Name][FamilyOf(addr)].put(addr, now.Add(p.ReuseDelay))
	}
}

// owner returns the Service that has an address.
func (a *Allocator) owner(addr netip.Addr) (name.ServiceKey, bool) {
	h, ok := a.held[addr]
	if !ok {
		return name.ServiceKey{}, false
	}
	return h.holders[0].Service, true
}

func (a *Allocator) inUse(addr netip.Addr) bool { _, ok := a.held[addr]; return ok }

// Usage counts one family of a pool.
type Usage struct {
	// Total may be handed out, Assigned are held and within spec, Available is the
	// difference, never below zero.
	Total, Assigned, Available *big.Int
}

// Usage counts a family of a pool. An unknown pool has none of anything.
func (a *Allocator) Usage(pool name.PoolName, f Family) Usage {
	u := Usage{Total: new(big.Int), Assigned: big.NewInt(int64(a.assigned[pool][f])), Available: new(big.Int)}
	for _, p := range a.pools {
		if p.Name == pool {
			u.Total = p.Total(f)
		}
	}
	if u.Available.Sub(u.Total, u.Assigned); u.Available.Sign() < 0 {
		u.Available.SetInt64(0)
	}
	return u
}

// Retained returns, merged and in order, what is held of a pool that its spec no longer covers.
func (a *Allocator) Retained(pool name.PoolName) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for addr, h := range a.held {
		if h.pool == pool && !h.inSpec {
			b.Add(addr)
		}
	}
	set, err := b.IPSet()
	if err != nil { // only invalid addresses fail, and none is held
		return nil
	}
	return set.Ranges()
}
