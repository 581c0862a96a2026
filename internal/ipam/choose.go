package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// second adds the missing family from the pool of the address at hand (rule 6).
func (a *Allocator) second(r *Request, got []netip.Addr) ([]netip.Addr, refusal) {
	p := a.byName[a.Pool(got[0])]
	if p == nil {
		return nil, refuse(v1alpha1.ReasonFamilyUnavailable, "%s is from no IPAddressPool that exists, so the other family cannot be added to it.", got[0])
	}
	if no := a.admits(p, r); no.says() {
		return nil, no
	}
	var missing []Family
	for _, f := range r.Families {
		if !slices.ContainsFunc(got, func(addr netip.Addr) bool { return FamilyOf(addr) == f }) {
			missing = append(missing, f)
		}
	}
	more, _, no := a.pick(r, p, missing)
	if no.says() {
		return nil, no
	}
	both := inOrder(slices.Concat(got, more), r.Families)
	return both, a.quota(r, p, both)
}

// choose tries the pools in order (rule 7).
func (a *Allocator) choose(r *Request) ([]netip.Addr, refusal) {
	var noes []refusal
	for _, sharing := range []bool{true, false} {
		if sharing && len(a.byKey[r.Sharing.Key]) == 0 {
			continue
		}
		for n := len(r.Families); n >= r.Required; n-- {
			for _, p := range a.order(r.Key) {
				if r.Pool != "" && p.Name != r.Pool || r.Pool == "" && !p.AutoAssign {
					continue
				}
				got, shared, no := a.from(r, p, r.Families[:n])
				if !no.says() && (shared || !sharing) {
					return got, refusal{}
				}
				if no.says() && !sharing && n == r.Required {
					noes = append(noes, no)
				}
			}
		}
	}
	return nil, summary(noes)
}

// order lists the pools as they are tried: those first in which a requester had an address
// a moment ago.
func (a *Allocator) order(who Key) []*pool {
	had := func(p *pool) bool {
		_, four := p.cooling.last[formerly{who, IPv4}]
		_, six := p.cooling.last[formerly{who, IPv6}]
		return four || six
	}
	if !slices.ContainsFunc(a.pools, had) {
		return a.pools
	}
	others := slices.DeleteFunc(slices.Clone(a.pools), had)
	return slices.Concat(slices.DeleteFunc(slices.Clone(a.pools), func(p *pool) bool { return !had(p) }), others)
}

// from takes one address of each family from one pool, or none, and says whether one is shared.
func (a *Allocator) from(r *Request, p *pool, families []Family) ([]netip.Addr, bool, refusal) {
	if no := a.admits(p, r); no.says() {
		return nil, false, no
	}
	got, shared, no := a.pick(r, p, families)
	if !no.says() {
		no = a.quota(r, p, got)
	}
	return got, shared, no
}

// pick finds one address of each family in a pool: one that the Service can share, or else
// the first free one.
func (a *Allocator) pick(r *Request, p *pool, families []Family) (got []netip.Addr, shared bool, no refusal) {
	for _, f := range families {
		addr, mine, conflict := a.shareable(r, p, f)
		if !mine {
			var ok bool
			if addr, ok = a.unused(p, r.Key, f); !ok {
				return nil, false, p.exhausted(f, conflict)
			}
		}
		got, shared = append(got, addr), shared || mine
	}
	return got, shared, refusal{}
}

// shareable finds an address of a pool that others hold and the requester can have too: one
// that its namespace uses, which counts toward no quota again, before others, then the
// lowest. If there is none, it says who stands in the way at the first, if anybody does.
func (a *Allocator) shareable(r *Request, p *pool, f Family) (addr netip.Addr, found bool, conflict refusal) {
	candidates := slices.DeleteFunc(a.related(r), func(addr netip.Addr) bool {
		h := a.held[addr]
		return FamilyOf(addr) != f || h.pool != p || h.spec != p
	})
	others := func(addr netip.Addr) int {
		if a.held[addr].uses(r.Namespace, addr, nil) {
			return 0
		}
		return 1
	}
	slices.SortFunc(candidates, func(x, y netip.Addr) int { return cmp.Or(others(x)-others(y), x.Compare(y)) })
	for _, addr := range candidates {
		no := a.taken(&r.Holder, addr)
		if !no.says() {
			return addr, true, refusal{}
		}
		if !conflict.says() {
			conflict = no
		}
	}
	return netip.Addr{}, false, conflict
}

// related lists the addresses with a Service's sharing key, or of the Services that name a claim.
func (a *Allocator) related(r *Request) []netip.Addr {
	if r.Kind == KindService && len(a.byKey[r.Sharing.Key]) == 0 {
		return nil
	}
	if r.Kind == KindService {
		return slices.Collect(maps.Keys(a.byKey[r.Sharing.Key]))
	}
	var list []netip.Addr
	for _, m := range a.naming[r.Key] {
		list = append(list, m.addresses...)
	}
	return list
}

// exhausted says why a pool has no address of a family; conflict is who stands in the way
// of sharing one.
func (p *pool) exhausted(f Family, conflict refusal) refusal {
	switch {
	case !p.has(f):
		return refuse(v1alpha1.ReasonFamilyUnavailable, "IPAddressPool %s has no %s addresses.", p.Name, f)
	case conflict.says():
		return refuse(conflict.reason, "IPAddressPool %s has no free %s address. %s", p.Name, f, conflict.message)
	}
	if len(p.cooling.cooled) > 0 {
		return refuse(v1alpha1.ReasonPoolExhausted, "IPAddressPool %s has no free %s address that was not freed a moment ago (reuseDelay).", p.Name, f)
	}
	return refuse(v1alpha1.ReasonPoolExhausted, "IPAddressPool %s has no free %s address.", p.Name, f)
}

// admits says whether a pool takes new assignments of a requester.
func (a *Allocator) admits(p *pool, r *Request) refusal {
	switch {
	case !p.Admission.admits(r, a.namespaces[r.Namespace]):
		return refuse(v1alpha1.ReasonPoolNotAllowed, "IPAddressPool %s does not admit it (serviceAllocation).", p.Name)
	case p.Deleting:
		return refuse(v1alpha1.ReasonDraining, "IPAddressPool %s is being deleted and takes no new assignment.", p.Name)
	case p.Drain:
		return refuse(v1alpha1.ReasonDraining, "IPAddressPool %s is draining and takes no new assignment.", p.Name)
	}
	return refusal{}
}

// quota says whether a requester may hold these addresses of a pool beside what others of
// its namespace hold.
func (a *Allocator) quota(r *Request, p *pool, addresses []netip.Addr) refusal {
	if p == nil || p.MaxPerNamespace == nil {
		return refusal{}
	}
	limit, used, more := int(*p.MaxPerNamespace), p.used[r.Namespace], 0
	for _, addr := range addresses {
		if h := a.held[addr]; h == nil || !h.uses(r.Namespace, addr, nil) {
			more++
		}
	}
	// What the requester gives up in turn makes room.
	for _, addr := range a.Held(r.Key) {
		if h := a.held[addr]; h.pool == p && !slices.Contains(addresses, addr) && !h.uses(r.Namespace, addr, a.members[r.Key]) {
			used--
		}
	}
	if more == 0 || used+more <= limit {
		return refusal{}
	}
	return refuse(v1alpha1.ReasonQuotaExceeded, "Namespace %s may use %d addresses of IPAddressPool %s (maxPerNamespace), and has no room for %d more.", r.Namespace, limit, p.Name, more)
}

// summary joins what the pools said; a reason nearer to success stands for all.
func summary(noes []refusal) refusal {
	if len(noes) == 0 {
		return refuse(v1alpha1.ReasonNoPool, "No IPAddressPool assigns addresses automatically. Create one, or name a pool or an address in an annotation.")
	}
	var all refusal
	for _, reason := range []v1alpha1.Reason{
		v1alpha1.ReasonPoolNotAllowed, v1alpha1.ReasonFamilyUnavailable, v1alpha1.ReasonDraining, v1alpha1.ReasonQuotaExceeded,
		v1alpha1.ReasonPoolExhausted, v1alpha1.ReasonAddressInUse, v1alpha1.ReasonSharingConflict,
	} {
		if slices.ContainsFunc(noes, func(no refusal) bool { return no.reason == reason }) {
			all.reason = reason
		}
	}
	var said []string
	for _, no := range noes[:min(len(noes), 5)] {
		said = append(said, no.message)
	}
	if more := len(noes) - len(said); more > 0 {
		said = append(said, fmt.Sprintf("%d more pools cannot serve it either.", more))
	}
	all.message = strings.Join(said, " ")
	return all
}

// inOrder sorts one address a family by the order of families.
func inOrder(addresses []netip.Addr, families []Family) []netip.Addr {
	sorted := slices.Clone(addresses)
	slices.SortFunc(sorted, func(x, y netip.Addr) int {
		return slices.Index(families, FamilyOf(x)) - slices.Index(families, FamilyOf(y))
	})
	return sorted
}
