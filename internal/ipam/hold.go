package ipam

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// has says whether a member holds an address and counts toward quotas.
func (m *member) has(addr netip.Addr) bool { return !m.Foreign && slices.Contains(m.addresses, addr) }

// limited says whether it matters how many addresses of the pool a namespace uses.
func (h *held) limited() bool { return h.pool != nil && h.pool.used != nil }

// uses says whether somebody of a namespace, other than one member, has an address.
func (h *held) uses(namespace string, addr netip.Addr, but *member) bool {
	return slices.ContainsFunc(h.holders, func(m *member) bool { return m != but && m.Namespace == namespace && m.has(addr) })
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
	}
	if terms {
		for _, addr := range slices.Concat(m.addresses, m.leaving) {
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
	a.countClaim(m, before)
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
		if h.pool != nil {
			h.pool.taken--
		}
		if h.spec != nil {
			h.spec.assigned[FamilyOf(addr).index()]--
		}
		a.cool(cooled{addr: addr, last: m.Key, since: now.UnixNano()}, h.spec)
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
