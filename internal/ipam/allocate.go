package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// Request is what a Service wants.
type Request struct {
	Holder
	// Families are those of the Service, the primary one first; one or two.
	Families []Family
	// Required is how many of Families must have an address: 1, but 2 for RequireDualStack.
	Required int
	// Pool is the only pool to take from; empty: any that assigns automatically.
	Pool name.PoolName
	// Addresses are the only ones to take, at most one a family; empty: any.
	Addresses []netip.Addr
	// Labels are the Service's, NamespaceLabels its namespace's.
	Labels, NamespaceLabels labels.Set
}

// wanted returns the address that the request names for a family, if it names one.
func (r Request) wanted(f Family) (netip.Addr, bool) {
	i := slices.IndexFunc(r.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == f })
	if i < 0 {
		return netip.Addr{}, false
	}
	return r.Addresses[i], true
}

// Decision is what a Service gets.
type Decision struct {
	// Addresses are what the Service holds now, in the order of the request's families.
	// They may be non-empty though Reason is set: what is held stays until it is released.
	Addresses []netip.Addr
	// Pool is where the addresses come from; empty if no pool that exists knows them.
	Pool name.PoolName
	// Reason is empty if the request is fulfilled, else why not.
	Reason v1alpha1.Reason
	// Message says in a sentence what stands in the way and what helps.
	Message string
}

// refusal is why a rule says no; the zero value says yes.
type refusal struct {
	reason  v1alpha1.Reason
	message string
}

func refuse(reason v1alpha1.Reason, format string, args ...any) refusal {
	return refusal{reason, fmt.Sprintf(format, args...)}
}

// Allocate decides a request and holds what it decides. The rules, in order:
//
//  1. A Service that holds an address keeps it, unless its own request now names
//     another address, another pool or other families.
//  2. A request that contradicts itself gets nothing.
//  3. Requested addresses are given or refused, never replaced by others.
//  4. A missing family is added from the pool that the Service's address is from.
//  5. Otherwise pools are tried in order: first those that can give every family, then,
//     if one family is enough, those that can give the primary one.
//
// Where a rule refuses, what the Service held stays held.
func (a *Allocator) Allocate(r Request, now time.Time) Decision {
	before := a.Held(r.Service)
	if no := a.duplicate(r.Service, before); no.reason != "" {
		return a.decision(before, no)
	}
	kept := a.keep(r, before)
	a.asked[r.Service] = r.Pool
	got, no := a.complete(r, kept, now)
	if no.reason != "" {
		return a.decision(before, no)
	}
	a.Hold(r.Holder, got, now)
	return a.decision(got, refusal{})
}

func (a *Allocator) decision(addresses []netip.Addr, no refusal) Decision {
	d := Decision{Addresses: addresses, Reason: no.reason, Message: no.message}
	if len(addresses) > 0 {
		d.Pool = a.Pool(addresses[0])
	}
	return d
}

// duplicate refuses a Service whose address an older Service holds too.
func (a *Allocator) duplicate(service name.ServiceKey, held []netip.Addr) refusal {
	for _, addr := range held {
		if owner, _ := a.owner(addr); owner != service {
			return refuse(v1alpha1.ReasonDuplicate, "Service %s held %s first. Delete one of the two, or request another address for this one.", owner, addr)
		}
	}
	return refusal{}
}

// keep returns what of the held addresses the request still agrees with (rule 1).
func (a *Allocator) keep(r Request, held []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, f := range r.Families {
		i := slices.IndexFunc(held, func(addr netip.Addr) bool { return FamilyOf(addr) == f })
		if i < 0 {
			continue
		}
		if want, named := r.wanted(f); named && want != held[i] {
			continue
		}
		if last, known := a.asked[r.Service]; known && last != r.Pool && r.Pool != "" && a.Pool(held[i]) != r.Pool {
			continue // the Service asks for another pool now; where the pool moved away, it stays
		}
		kept = append(kept, held[i])
	}
	return kept
}

// complete adds to kept what the request still needs (rules 2 to 5).
func (a *Allocator) complete(r Request, kept []netip.Addr, now time.Time) ([]netip.Addr, refusal) {
	if no := contradiction(r); no.reason != "" {
		return nil, no
	}
	if len(kept) == len(r.Families) {
		return kept, refusal{}
	}
	got, no := a.assign(r, kept, now)
	enough := len(kept) >= r.Required && !slices.ContainsFunc(r.Addresses, func(want netip.Addr) bool { return !slices.Contains(kept, want) })
	if no.reason != "" && enough {
		return kept, refusal{} // no pool edit takes away what is held
	}
	return got, no
}

// assign gives what kept lacks.
func (a *Allocator) assign(r Request, kept []netip.Addr, now time.Time) ([]netip.Addr, refusal) {
	if no := a.usable(r); no.reason != "" {
		return nil, no
	}
	switch {
	case len(r.Addresses) > 0:
		return a.requested(r, kept, now)
	case len(kept) > 0:
		return a.second(r, kept, now)
	}
	return a.choose(r, now)
}

// contradiction refuses requests that contradict themselves (rule 2).
func contradiction(r Request) refusal {
	if len(r.Families) == 0 {
		return refuse(v1alpha1.ReasonInvalidRequest, "The Service has no IP family.")
	}
	for i, addr := range r.Addresses {
		if !slices.Contains(r.Families, FamilyOf(addr)) {
			return refuse(v1alpha1.ReasonInvalidRequest, "The Service asks for %s, but has no %s among its ipFamilies.", addr, FamilyOf(addr))
		}
		if slices.ContainsFunc(r.Addresses[:i], func(o netip.Addr) bool { return FamilyOf(o) == FamilyOf(addr) }) {
			return refuse(v1alpha1.ReasonInvalidRequest, "The Service asks for more than one %s address; it can have one a family.", FamilyOf(addr))
		}
	}
	return refusal{}
}

// usable refuses requests for a pool that is not there or not for the Service.
func (a *Allocator) usable(r Request) refusal {
	if r.Pool != "" && a.named(r.Pool) == nil {
		return refuse(v1alpha1.ReasonNoPool, "The requested IPAddressPool %s does not exist.", r.Pool)
	}
	if r.Pool != "" && !a.named(r.Pool).Admission.admits(r) {
		return refuse(v1alpha1.ReasonPoolNotAllowed, "The requested IPAddressPool %s does not admit the Service (serviceAllocation).", r.Pool)
	}
	return refusal{}
}

func (a *Allocator) named(pool name.PoolName) *Pool {
	i := slices.IndexFunc(a.pools, func(p Pool) bool { return p.Name == pool })
	if i < 0 {
		return nil
	}
	return &a.pools[i]
}

// requested gives the named addresses, and the rest from the same pool (rule 3).
func (a *Allocator) requested(r Request, kept []netip.Addr, now time.Time) ([]netip.Addr, refusal) {
	pool := a.Pool(r.Addresses[0])
	got := slices.DeleteFunc(slices.Clone(kept), func(addr netip.Addr) bool { return a.Pool(addr) != pool }) // both are from one pool
	for _, want := range r.Addresses {
		if slices.Contains(got, want) {
			continue
		}
		if no := a.grantable(r, want); no.reason != "" {
			return nil, no
		}
		got = append(got, want)
	}
	if first, second := a.Pool(got[0]), a.Pool(got[len(got)-1]); first != second {
		return nil, refuse(v1alpha1.ReasonInvalidRequest, "%s is from IPAddressPool %s and %s from %s; both must be from one pool.", got[0], first, got[len(got)-1], second)
	}
	if len(got) < len(r.Families) {
		both, no := a.second(r, got, now)
		if no.reason != "" && r.Required > len(got) {
			return nil, no
		}
		if no.reason == "" {
			got = both
		}
	}
	return inOrder(got, r.Families), refusal{}
}

// grantable says whether a named address can be given.
func (a *Allocator) grantable(r Request, want netip.Addr) refusal {
	if owner, used := a.owner(want); used && owner != r.Service {
		return refuse(v1alpha1.ReasonAddressInUse, "%s belongs to Service %s.", want, owner)
	}
	p := a.poolOf(want)
	if p == nil {
		return a.whyNot(want)
	}
	if r.Pool != "" && p.Name != r.Pool {
		return refuse(v1alpha1.ReasonAddressNotInPool, "%s is in IPAddressPool %s, not in the requested pool %s.", want, p.Name, r.Pool)
	}
	if !p.Admission.admits(r) {
		return refuse(v1alpha1.ReasonPoolNotAllowed, "IPAddressPool %s, which contains %s, does not admit the Service (serviceAllocation).", p.Name, want)
	}
	if p.Drain {
		return refuse(v1alpha1.ReasonDraining, "IPAddressPool %s, which contains %s, is draining and takes no new assignment.", p.Name, want)
	}
	return refusal{}
}

// whyNot says why no pool hands an address out.
func (a *Allocator) whyNot(want netip.Addr) refusal {
	for _, p := range a.pools {
		switch {
		case inAny(p.Reserved, want):
			return refuse(v1alpha1.ReasonAddressReserved, "%s is in IPAddressPool %s, but belongs to a node or to the cluster's Service or pod network.", want, p.Name)
		case inAny(p.Excluded, want) || inAny(p.Ranges, want): // in a range and yet of no pool: never
			return refuse(v1alpha1.ReasonAddressExcluded, "IPAddressPool %s never hands %s out.", p.Name, want)
		}
	}
	return refuse(v1alpha1.ReasonAddressNotInPool, "%s is in no IPAddressPool.", want)
}

// second adds the missing family from the pool of the address at hand (rule 4).
func (a *Allocator) second(r Request, got []netip.Addr, now time.Time) ([]netip.Addr, refusal) {
	pool := a.Pool(got[0])
	p := a.named(pool)
	if p == nil {
		return got, refuse(v1alpha1.ReasonFamilyUnavailable, "%s is from no IPAddressPool that exists, so the other family cannot be added to it.", got[0])
	}
	for _, f := range r.Families {
		if slices.ContainsFunc(got, func(addr netip.Addr) bool { return FamilyOf(addr) == f }) {
			continue
		}
		addr, no := a.pick(p, f, now)
		if no.reason != "" {
			return got, no
		}
		got = append(slices.Clone(got), addr)
	}
	return inOrder(got, r.Families), refusal{}
}

// pick takes a free address of a family from a pool without holding it.
func (a *Allocator) pick(p *Pool, f Family, now time.Time) (netip.Addr, refusal) {
	if p.Drain {
		return netip.Addr{}, refuse(v1alpha1.ReasonDraining, "IPAddressPool %s is draining and takes no new assignment.", p.Name)
	}
	if !p.has(f) {
		return netip.Addr{}, refuse(v1alpha1.ReasonFamilyUnavailable, "IPAddressPool %s has no %s addresses.", p.Name, f)
	}
	addr, ok := a.free[p.Name][f].take(now, a.inUse)
	if !ok {
		return netip.Addr{}, refuse(v1alpha1.ReasonPoolExhausted, "IPAddressPool %s has no free %s address.", p.Name, f)
	}
	return addr, refusal{}
}

// choose tries the pools in order (rule 5).
func (a *Allocator) choose(r Request, now time.Time) ([]netip.Addr, refusal) {
	var noes []refusal
	for n := len(r.Families); n >= r.Required; n-- {
		noes = noes[:0]
		for i := range a.pools {
			p := &a.pools[i]
			if r.Pool != "" && p.Name != r.Pool || r.Pool == "" && !p.AutoAssign {
				continue
			}
			if !p.Admission.admits(r) {
				noes = append(noes, refuse(v1alpha1.ReasonPoolNotAllowed, "IPAddressPool %s does not admit the Service (serviceAllocation).", p.Name))
				continue
			}
			got, no := a.pickAll(p, r.Families[:n], now)
			if no.reason == "" {
				return got, refusal{}
			}
			noes = append(noes, no)
		}
	}
	return nil, summary(noes)
}

// pickAll takes one address of each family from one pool, or none.
func (a *Allocator) pickAll(p *Pool, families []Family, now time.Time) ([]netip.Addr, refusal) {
	var got []netip.Addr
	for _, f := range families {
		addr, no := a.pick(p, f, now)
		if no.reason != "" {
			for _, unused := range got {
				a.free[p.Name][FamilyOf(unused)].back(unused)
			}
			return nil, no
		}
		got = append(got, addr)
	}
	return got, refusal{}
}

// summary joins what the pools said; a reason nearer to success stands for all.
func summary(noes []refusal) refusal {
	if len(noes) == 0 {
		return refuse(v1alpha1.ReasonNoPool, "No IPAddressPool assigns addresses automatically. Create one, or name a pool or an address in an annotation.")
	}
	var all refusal
	for _, reason := range []v1alpha1.Reason{v1alpha1.ReasonPoolNotAllowed, v1alpha1.ReasonFamilyUnavailable, v1alpha1.ReasonDraining, v1alpha1.ReasonPoolExhausted} {
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
