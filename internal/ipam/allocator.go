package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/name"
)

// Allocator holds all pools and who holds what. The zero value is not usable: use New.
type Allocator struct {
	pools   []*pool // in the order in which they are tried
	byName  map[name.PoolName]*pool
	index   []owned // sorted
	held    map[netip.Addr]*held
	members map[Key]*member
	retired map[netip.Addr]*held // those of held whose pool does not hand them out any more
	adrift  []cooled             // what cools and no pool hands out, the oldest first

	byKey   map[string]map[netip.Addr]int // how many holders have a sharing key, by address
	naming  map[Key]map[Key]*member       // the Services that name a claim
	waiting map[Key]*member
	news    news
	claims  claimQuota

	namespaces map[string]labels.Set

	spareMembers spare[member]
	spareHeld    spare[held]
}

// pool is a Pool and what is free and used of it.
type pool struct {
	Pool
	free     [2]*free // by Family.index
	cooling  *cooling
	assigned [2]int
	taken    int            // held addresses that were taken from it, in spec or not
	used     map[string]int // addresses by namespace, if their number is limited
}

// owned is a range and the pool that hands it out.
type owned struct {
	netipx.IPRange
	pool *pool
}

// held is one address in use.
type held struct {
	holders []*member     // oldest first; includes those that give it up but whose status still holds it
	origin  name.PoolName // the pool that it was taken from
	pool    *pool         // of that name; nil: there is none
	spec    *pool         // the pool that hands it out now; nil: none
	only    [1]*member    // room for holders, of which there is mostly one
}

// member is a holder, or one who waits.
type member struct {
	Request   // as last asked; of one that was only imported, its Holder alone
	addresses []netip.Addr
	leaving   []netip.Addr // given up, though its status may still hold them
	decision  Decision
	asked     bool // Request is one
	waits     bool
}

// spare keeps a few values for the next use, so that who comes and goes leaves no garbage.
type spare[T any] []*T

// get returns a zero value.
func (s *spare[T]) get() *T {
	last := len(*s) - 1
	if last < 0 {
		return new(T)
	}
	v := (*s)[last]
	*s = (*s)[:last]
	return v
}

// put takes a value that nobody refers to any more.
func (s *spare[T]) put(v *T) {
	if len(*s) < 64 {
		*v = *new(T)
		*s = append(*s, v)
	}
}

// New returns an Allocator without pools.
func New() *Allocator {
	return &Allocator{
		byName:  map[name.PoolName]*pool{},
		held:    map[netip.Addr]*held{},
		members: map[Key]*member{},
		retired: map[netip.Addr]*held{},
		byKey:   map[string]map[netip.Addr]int{},
		naming:  map[Key]map[Key]*member{},
		waiting: map[Key]*member{},

		namespaces: map[string]labels.Set{},
	}
}

// SetPools replaces the pools, given in the order in which they are to be tried. It moves
// nobody; Retry then gives to those who wait, and takes what a pool with Reassign no
// longer hands out. Only pools that changed cost anything.
func (a *Allocator) SetPools(pools []Pool) {
	old, loose := a.byName, a.adrift
	changed := len(old) != len(pools)
	a.pools, a.index, a.byName = nil, nil, map[name.PoolName]*pool{}
	for _, p := range pools {
		state := old[p.Name]
		if state == nil || !state.Equal(p) {
			changed = true
			state = newPool(p)
		}
		state.Former, state.Origin = p.Former, p.Origin
		a.pools = append(a.pools, state)
		a.byName[p.Name] = state
		for _, r := range p.Ranges {
			a.index = append(a.index, owned{r, state})
		}
	}
	slices.SortFunc(a.index, func(x, y owned) int { return x.From().Compare(y.From()) })
	if changed {
		for n, was := range old {
			if a.byName[n] != was {
				loose = append(loose, was.cooling.all()...)
			}
		}
		a.recool(loose)
		a.attribute()
		a.news.pools = true
	}
}

// Relabel says which labels a namespace has from now on. Retry then gives to those of the
// namespace who wait. A namespace that was never named has none.
func (a *Allocator) Relabel(namespace string, l labels.Set) {
	if maps.Equal(a.namespaces[namespace], l) {
		return
	}
	if len(l) == 0 {
		delete(a.namespaces, namespace)
	} else {
		a.namespaces[namespace] = l
	}
	a.news.namespaces = append(a.news.namespaces, namespace)
}

// Labeled says whether Relabel has given a namespace labels.
func (a *Allocator) Labeled(namespace string) bool { return len(a.namespaces[namespace]) > 0 }

// newPool makes the free lists of a pool.
func newPool(p Pool) *pool {
	state := &pool{Pool: p, cooling: newCooling()}
	for _, family := range []Family{IPv4, IPv6} {
		var ranges []netipx.IPRange
		for _, r := range p.Ranges {
			if FamilyOf(r.From()) == family {
				ranges = append(ranges, r)
			}
		}
		avoid := p.AvoidBuggyIPs
		state.free[family.index()] = newFree(ranges, func(a netip.Addr) bool { return never(a) || avoid && buggy(a) })
	}
	return state
}

// attribute finds anew which pool each held address belongs to.
func (a *Allocator) attribute() {
	for _, p := range a.pools {
		p.assigned, p.taken, p.used = [2]int{}, 0, nil
		if p.MaxPerNamespace != nil {
			p.used = map[string]int{}
		}
	}
	clear(a.retired)
	for addr, h := range a.held {
		a.place(addr, h)
		if h.limited() {
			h.recount(addr)
		}
	}
}

// recount counts an address once for each namespace that uses it.
func (h *held) recount(addr netip.Addr) {
	var counted []string
	for _, m := range h.holders {
		if m.has(addr) && !slices.Contains(counted, m.Namespace) {
			counted = append(counted, m.Namespace)
			h.pool.used[m.Namespace]++
		}
	}
}

// place finds the pools of a held address: the one that it was taken from, which stays the
// same for as long as that exists, and the one that hands it out now, which counts it.
func (a *Allocator) place(addr netip.Addr, h *held) {
	h.spec = a.poolOf(addr)
	if h.origin == "" || a.byName[h.origin] == nil && h.spec != nil {
		h.origin = a.originOf(addr)
	}
	h.pool = a.byName[h.origin]
	if h.pool != nil {
		h.pool.taken++
	}
	if h.pool == nil || h.pool != h.spec {
		a.retired[addr] = h
	}
	if h.spec != nil {
		f := FamilyOf(addr).index()
		h.spec.assigned[f]++
		h.spec.free[f].hold(addr)
		h.spec.cooling.forget(addr)
	}
}

// originOf finds out which pool an address was taken from that was held before, by what
// pools say of themselves.
func (a *Allocator) originOf(addr netip.Addr) name.PoolName {
	for _, p := range a.pools {
		if inAny(p.Former, addr) {
			return p.Name
		}
	}
	if p := a.poolOf(addr); p != nil {
		return p.Name
	}
	for _, p := range a.pools {
		if inAny(p.Origin, addr) {
			return p.Name
		}
	}
	return ""
}

// poolOf returns the pool that may hand an address out, or nil.
func (a *Allocator) poolOf(addr netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(a.index, addr, func(o owned, addr netip.Addr) int { return o.From().Compare(addr) })
	if !found {
		i--
	}
	if i < 0 || !a.index[i].Contains(addr) || never(addr) {
		return nil
	}
	return a.index[i].pool
}

// Pool returns the name of the pool that an address was taken from, or "".
func (a *Allocator) Pool(addr netip.Addr) name.PoolName {
	if h := a.held[addr]; h != nil {
		return h.origin
	}
	return a.source(addr)
}

// source returns the name of the pool that hands an address out, or "".
func (a *Allocator) source(addr netip.Addr) name.PoolName {
	if p := a.poolOf(addr); p != nil {
		return p.Name
	}
	return ""
}
