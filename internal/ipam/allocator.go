package ipam

import (
	"iter"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"time"

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

	byKey   map[string]map[netip.Addr]int // how many holders have a sharing key, by address
	naming  map[Key]map[Key]*member       // the Services that name a claim
	waiting map[Key]*member
	news    news

	namespaces map[string]labels.Set

	spareMembers spare[member]
	spareHeld    spare[held]
}

// pool is a Pool and what is free and used of it.
type pool struct {
	Pool
	free     [2]*free // by Family.index
	assigned [2]int
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
	old := a.byName
	changed := len(old) != len(pools)
	a.pools, a.index, a.byName = nil, nil, map[name.PoolName]*pool{}
	for _, p := range pools {
		state := old[p.Name]
		if state == nil || !state.Equal(p) {
			changed = true
			state = newPool(p, state)
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

// newPool makes the free lists of a pool; what cooled in the old ones goes on cooling.
func newPool(p Pool, old *pool) *pool {
	state := &pool{Pool: p}
	for _, family := range []Family{IPv4, IPv6} {
		var ranges []netipx.IPRange
		for _, r := range p.Ranges {
			if FamilyOf(r.From()) == family {
				ranges = append(ranges, r)
			}
		}
		avoid := p.AvoidBuggyIPs
		f := newFree(ranges, func(a netip.Addr) bool { return never(a) || avoid && buggy(a) })
		if old != nil {
			was := old.free[family.index()]
			for _, c := range was.cooling.all() {
				if was.counts(c) {
					f.put(c.addr, c.until)
				}
			}
		}
		state.free[family.index()] = f
	}
	return state
}

// attribute finds anew which pool each held address belongs to.
func (a *Allocator) attribute() {
	for _, p := range a.pools {
		p.assigned, p.used = [2]int{}, nil
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
	if h.pool == nil || h.pool != h.spec {
		a.retired[addr] = h
	}
	if h.spec != nil {
		f := FamilyOf(addr).index()
		h.spec.assigned[f]++
		h.spec.free[f].hold(addr)
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

// has says whether a member holds an address and counts toward quotas.
func (m *member) has(addr netip.Addr) bool { return !m.Foreign && slices.Contains(m.addresses, addr) }

// limited says whether it matters how many addresses of the pool a namespace uses.
func (h *held) limited() bool { return h.pool != nil && h.pool.used != nil }

// uses says whether somebody of a namespace, other than one member, has an address.
func (h *held) uses(namespace string, addr netip.Addr, but *member) bool {
	return slices.ContainsFunc(h.holders, func(m *member) bool { return m != but && m.Namespace == namespace && m.has(addr) })
}

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

// Hold records that a holder has exactly these addresses, whatever the pools say: they
// are what its status says.
func (a *Allocator) Hold(h Holder, addresses []netip.Addr, now time.Time) {
	m := a.join(&h, now)
	a.know(m, &Request{Holder: h})
	a.give(m, slices.Clone(addresses), a.originOf)
	a.vacate(m, now)
}

// Settle says that a holder's status now holds exactly these addresses. What it has given
// up is free, but for those of them that it gave up since they were written.
func (a *Allocator) Settle(k Key, status []netip.Addr, now time.Time) {
	m := a.members[k]
	if m == nil {
		return
	}
	written := func(addr netip.Addr) bool { return slices.Contains(status, addr) }
	still := slices.DeleteFunc(slices.Clone(m.leaving), func(addr netip.Addr) bool { return !written(addr) })
	m.leaving = slices.DeleteFunc(slices.Clone(m.leaving), written)
	a.vacate(m, now)
	m.leaving = still
}

// Release forgets a holder and frees all that it has.
func (a *Allocator) Release(k Key, now time.Time) {
	m := a.members[k]
	if m == nil {
		return
	}
	a.give(m, nil, nil)
	a.vacate(m, now)
	a.enlist(m, false)
	a.wait(m, false)
	delete(a.members, k)
	a.spareMembers.put(m)
	if k.Kind == KindClaim {
		a.news.claims = append(a.news.claims, k)
	}
}

// join returns the member for a holder; an earlier object of that name is released.
func (a *Allocator) join(h *Holder, now time.Time) *member {
	m := a.members[h.Key]
	if m != nil && (m.UID != h.UID || m.Foreign != h.Foreign) {
		a.Release(h.Key, now)
		m = nil
	}
	if m == nil {
		m = a.spareMembers.get()
		m.Holder = *h
		a.members[h.Key] = m
		a.enlist(m, true)
		if h.Kind == KindClaim {
			a.news.claims = append(a.news.claims, h.Key)
		}
	}
	return m
}

// know replaces what a member asks for, and what is indexed by it.
func (a *Allocator) know(m *member, r *Request) {
	for _, addr := range m.addresses {
		a.share(m, addr, -1)
	}
	a.enlist(m, false)
	older := m.compare(&r.Holder) != 0
	terms := m.Claim != r.Claim || !m.Sharing.equal(r.Sharing)
	m.Request = *r
	a.enlist(m, true)
	for _, addr := range m.addresses {
		a.share(m, addr, 1)
		if older {
			a.held[addr].sort()
		}
		if terms {
			a.free(addr)
		}
	}
}

// enlist indexes a Service by the claim that it names.
func (a *Allocator) enlist(m *member, add bool) {
	if m.Claim == "" {
		return
	}
	claim := ClaimKey(m.Namespace, m.Claim)
	switch {
	case !add:
		delete(a.naming[claim], m.Key)
		if len(a.naming[claim]) == 0 {
			delete(a.naming, claim)
		}
	case a.naming[claim] == nil:
		a.naming[claim] = map[Key]*member{m.Key: m}
	default:
		a.naming[claim][m.Key] = m
	}
}

// share indexes an address by the sharing key of a holder.
func (a *Allocator) share(m *member, addr netip.Addr, n int) {
	key := m.Sharing.Key
	if key == "" {
		return
	}
	if a.byKey[key] == nil {
		a.byKey[key] = map[netip.Addr]int{}
	}
	if a.byKey[key][addr] += n; a.byKey[key][addr] == 0 {
		delete(a.byKey[key], addr)
		if len(a.byKey[key]) == 0 {
			delete(a.byKey, key)
		}
	}
}

// give makes a member hold exactly some addresses; origin says from which pool those are
// that nobody held. What it held beside is leaving. The slice is the member's from then on.
func (a *Allocator) give(m *member, addresses []netip.Addr, origin func(netip.Addr) name.PoolName) {
	before := m.addresses
	if slices.Equal(before, addresses) {
		return
	}
	for _, addr := range before {
		if !slices.Contains(addresses, addr) {
			a.leave(m, addr)
		}
	}
	m.addresses = addresses
	for _, addr := range addresses {
		if !slices.Contains(before, addr) {
			a.take(m, addr, origin)
		}
	}
}

// take adds a member to the holders of an address that is among its own now.
func (a *Allocator) take(m *member, addr netip.Addr, origin func(netip.Addr) name.PoolName) {
	h := a.held[addr]
	if h == nil {
		h = a.spareHeld.get()
		h.origin = origin(addr)
		h.holders = h.only[:0]
		a.held[addr] = h
		a.place(addr, h)
	}
	if h.limited() && !m.Foreign && !h.uses(m.Namespace, addr, m) {
		h.pool.used[m.Namespace]++
	}
	if i := slices.Index(m.leaving, addr); i >= 0 {
		m.leaving = slices.Delete(slices.Clone(m.leaving), i, i+1)
	} else {
		h.holders = append(h.holders, m)
		h.sort()
	}
	a.share(m, addr, 1)
	if m.Sharing.Key != "" || m.Claim != "" {
		a.free(addr) // somebody may have it too
	}
}

// leave ends that a member holds an address, but not that its status does.
func (a *Allocator) leave(m *member, addr netip.Addr) {
	if h := a.held[addr]; h.limited() && !m.Foreign && !h.uses(m.Namespace, addr, m) {
		h.pool.used[m.Namespace]--
		a.free(addr)
	}
	m.leaving = append(m.leaving, addr)
	a.share(m, addr, -1)
}

// vacate frees what a member has been leaving.
func (a *Allocator) vacate(m *member, now time.Time) {
	for _, addr := range m.leaving {
		a.free(addr)
		h := a.held[addr]
		h.holders = slices.DeleteFunc(h.holders, func(o *member) bool { return o == m })
		if len(h.holders) > 0 {
			continue
		}
		delete(a.held, addr)
		delete(a.retired, addr)
		if h.spec != nil {
			f := FamilyOf(addr).index()
			h.spec.assigned[f]--
			h.spec.free[f].put(addr, now.Add(h.spec.ReuseDelay).UnixNano())
		}
		a.spareHeld.put(h)
	}
	m.leaving = nil
}

// free notes that there is something at an address for one who waits.
func (a *Allocator) free(addr netip.Addr) {
	if len(a.waiting) > 0 {
		a.news.freed = append(a.news.freed, freed{addr, a.Pool(addr)})
	}
}

func (h *held) sort() {
	if len(h.holders) > 1 {
		slices.SortFunc(h.holders, func(x, y *member) int { return x.compare(&y.Holder) })
	}
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
