package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// Request is what a Service or an AddressClaim wants.
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
	// Labels are the holder's own; those of its namespace are told by Relabel.
	Labels labels.Set
	// Invalid is a sentence that says why the request makes no sense; empty: it does.
	Invalid string
}

// wanted returns the address that the request names for a family, if it names one.
func (r *Request) wanted(f Family) (netip.Addr, bool) {
	i := slices.IndexFunc(r.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == f })
	if i < 0 {
		return netip.Addr{}, false
	}
	return r.Addresses[i], true
}

// Decision is what a holder gets.
type Decision struct {
	// Addresses are what it holds now, in the order of the request's families. They may
	// be non-empty though Reason is set: what is held stays until it is released.
	Addresses []netip.Addr
	// Pool is where the addresses come from; empty if no pool that exists knows them.
	Pool name.PoolName
	// Reason is empty if the request is fulfilled, else why not.
	Reason v1alpha1.Reason
	// Message says in a sentence what stands in the way and what helps.
	Message string
}

// Equal says whether two decisions say the same.
func (d Decision) Equal(o Decision) bool {
	return slices.Equal(d.Addresses, o.Addresses) && d.Pool == o.Pool && d.Reason == o.Reason && d.Message == o.Message
}

// refusal is why a rule says no; the zero value says yes.
type refusal struct {
	reason  v1alpha1.Reason
	message string
}

func (no refusal) says() bool { return no.reason != "" }

func refuse(reason v1alpha1.Reason, format string, args ...any) refusal {
	return refusal{reason, fmt.Sprintf(format, args...)}
}

// Allocate decides a request and holds what it decides. The rules, in order:
//
//  1. A holder keeps its addresses, unless its own request now disagrees with them: it
//     names another address, pool, claim or other families, or it shares on terms that
//     the others at that address do not accept; or unless a pool with Reassign no longer
//     hands an address out.
//  2. A request that contradicts itself gets nothing.
//  3. A Service that names a claim gets the claim's addresses.
//  4. An address that an older holder has and does not share is not its own.
//  5. Requested addresses are given or refused, never replaced by others.
//  6. A missing family is added from the pool that the holder's address is from.
//  7. Otherwise pools are tried in order: first those where the Service can share an
//     address, then those that can give every family, then, if one family is enough,
//     those that can give the primary one.
//
// Where a rule refuses, what rule 1 leaves to the holder stays with it. What it gives up
// stays reserved until Settle says that its status no longer holds it. Who did not get
// all that it could want waits: see Retry.
func (a *Allocator) Allocate(r Request, now time.Time) Decision {
	m := a.join(&r.Holder, now)
	old := m.Holder
	a.ask(m, &r)
	a.thaw(now)
	return a.decide(m, &old)
}

// Ask records a request without deciding it: the next Retry does, for the oldest first. It
// is for all that were there before the Allocator was.
func (a *Allocator) Ask(r Request, now time.Time) {
	m := a.join(&r.Holder, now)
	a.ask(m, &r)
	a.wait(m, true)
	a.news.pools = true // all that there are are new to it
}

// ask takes note of a request. One that makes no sense changes no terms: a slip of the pen
// loses nothing.
func (a *Allocator) ask(m *member, r *Request) {
	if r.Invalid != "" {
		r.Sharing, r.Claim = m.Sharing, m.Claim
	}
	a.know(m, r)
	m.asked = true
}

// decide applies the rules to a member; old is what it was when it got its addresses.
func (a *Allocator) decide(m *member, old *Holder) Decision {
	stays := a.stays(m, old)
	got, no := a.rules(m, stays)
	if no.says() {
		got = stays
	}
	before := m.addresses
	a.give(m, got, a.source)
	d := Decision{Addresses: got, Reason: no.reason, Message: no.message}
	if len(got) > 0 && a.byName[a.Pool(got[0])] != nil {
		d.Pool = a.Pool(got[0])
	}
	if m.Kind == KindClaim && (!d.Equal(m.decision) || !slices.Equal(before, got)) {
		a.news.claims = append(a.news.claims, m.Key)
	}
	m.decision = d
	a.wait(m, no.says() || len(got) < len(m.Families))
	return d
}

// stays returns what a member holds, less what it may no longer share and what a pool
// takes back (rule 1).
func (a *Allocator) stays(m *member, old *Holder) []netip.Addr {
	lost := func(addr netip.Addr) bool {
		if a.reclaimed(addr) {
			return true
		}
		return slices.ContainsFunc(a.held[addr].holders, func(o *member) bool {
			return o != m && !old.conflict(&o.Holder, addr).says() && m.conflict(&o.Holder, addr).says()
		})
	}
	if !slices.ContainsFunc(m.addresses, lost) {
		return m.addresses
	}
	return slices.DeleteFunc(slices.Clone(m.addresses), lost)
}

// reclaimed says whether the pool of a held address takes it back.
func (a *Allocator) reclaimed(addr netip.Addr) bool {
	h := a.held[addr]
	return h.pool != nil && h.pool.Reassign && (h.pool != h.spec || h.pool.Deleting)
}

// rules returns what a member gets (rules 2 to 7).
func (a *Allocator) rules(m *member, stays []netip.Addr) ([]netip.Addr, refusal) {
	r, no := a.claimed(&m.Request, len(stays) > 0)
	if no.says() {
		return nil, no
	}
	if no := contradiction(r); no.says() {
		return nil, no
	}
	kept := a.keep(r, stays)
	for _, addr := range kept {
		if older := a.olderThan(m, addr); older.says() {
			return nil, older
		}
	}
	if len(kept) == len(r.Families) {
		return kept, refusal{}
	}
	got, no := a.assign(r, kept)
	enough := len(kept) >= r.Required && !slices.ContainsFunc(r.Addresses, func(want netip.Addr) bool { return !slices.Contains(kept, want) })
	if no.says() && enough {
		return kept, refusal{} // no pool edit takes away what is held
	}
	return got, no
}

// contradiction refuses requests that contradict themselves (rule 2).
func contradiction(r *Request) refusal {
	if r.Invalid != "" {
		return refuse(v1alpha1.ReasonInvalidRequest, "%s", r.Invalid)
	}
	if len(r.Families) == 0 {
		return refuse(v1alpha1.ReasonInvalidRequest, "The Service has no IP family.")
	}
	for i, addr := range r.Addresses {
		if !slices.Contains(r.Families, FamilyOf(addr)) {
			return refuse(v1alpha1.ReasonInvalidRequest, "%s is asked for, but %s is not among ipFamilies.", addr, FamilyOf(addr))
		}
		if slices.ContainsFunc(r.Addresses[:i], func(o netip.Addr) bool { return FamilyOf(o) == FamilyOf(addr) }) {
			return refuse(v1alpha1.ReasonInvalidRequest, "More than one %s address is asked for; there can be one a family.", FamilyOf(addr))
		}
	}
	return refusal{}
}

// olderThan refuses an address that an older holder has and does not share (rule 4).
func (a *Allocator) olderThan(m *member, addr netip.Addr) refusal {
	for _, o := range a.held[addr].holders {
		if o == m {
			break
		}
		if slices.Contains(o.addresses, addr) && m.conflict(&o.Holder, addr).says() {
			return refuse(v1alpha1.ReasonDuplicate, "%s held %s first. Delete one of the two, or request another address for this one.", o.Key, addr)
		}
	}
	return refusal{}
}

// keep returns what of its addresses the request still agrees with (rule 1).
func (a *Allocator) keep(r *Request, stays []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, f := range r.Families {
		i := slices.IndexFunc(stays, func(addr netip.Addr) bool { return FamilyOf(addr) == f })
		if i < 0 {
			continue
		}
		if want, named := r.wanted(f); named && want != stays[i] {
			continue
		}
		if !a.agrees(r.Pool, stays[i]) {
			continue
		}
		kept = append(kept, stays[i])
	}
	return kept
}

// agrees says whether a held address is of the pool that is asked for, "" being any. One of
// no pool that is known agrees with a pool that does not exist: it may be that one's.
func (a *Allocator) agrees(asked name.PoolName, held netip.Addr) bool {
	origin := a.Pool(held)
	return asked == "" || asked == origin || origin == "" && a.byName[asked] == nil
}

// assign gives what kept lacks.
func (a *Allocator) assign(r *Request, kept []netip.Addr) ([]netip.Addr, refusal) {
	if r.Pool != "" && a.byName[r.Pool] == nil {
		return nil, refuse(v1alpha1.ReasonNoPool, "The requested IPAddressPool %s does not exist.", r.Pool)
	}
	switch {
	case len(r.Addresses) > 0:
		return a.requested(r, kept)
	case len(kept) > 0:
		return a.second(r, kept)
	}
	if r.Kind == KindClaim {
		if got, ok := a.adopt(r); ok {
			return got, refusal{}
		}
	}
	return a.choose(r)
}

// requested gives the named addresses, and the rest from the same pool (rule 5). An address
// of another pool that the request does not speak of is replaced, never merely given up.
func (a *Allocator) requested(r *Request, kept []netip.Addr) ([]netip.Addr, refusal) {
	origin := a.Pool(r.Addresses[0])
	got := slices.DeleteFunc(slices.Clone(kept), func(addr netip.Addr) bool { return a.Pool(addr) != origin }) // both are from one pool
	for _, want := range r.Addresses {
		if slices.Contains(got, want) {
			continue
		}
		if no := a.grantable(r, want); no.says() {
			return nil, no
		}
		got = append(got, want)
	}
	if first, last := a.Pool(got[0]), a.Pool(got[len(got)-1]); first != last {
		return nil, refuse(v1alpha1.ReasonInvalidRequest, "%s is from IPAddressPool %s and %s from %s; both must be from one pool.", got[0], first, got[len(got)-1], last)
	}
	if no := a.quota(r, a.byName[origin], got); no.says() {
		return nil, no
	}
	if len(got) < len(r.Families) {
		both, no := a.second(r, got)
		if gaveUp := lacks(got, kept); no.says() && (gaveUp || r.Required > len(got)) {
			return nil, no
		}
		if !no.says() {
			got = both
		}
	}
	return inOrder(got, r.Families), refusal{}
}

// lacks says whether got has no address of a family that kept has one of.
func lacks(got, kept []netip.Addr) bool {
	return slices.ContainsFunc(kept, func(k netip.Addr) bool {
		return !slices.ContainsFunc(got, func(g netip.Addr) bool { return FamilyOf(g) == FamilyOf(k) })
	})
}

// grantable says whether a named address can be given.
func (a *Allocator) grantable(r *Request, want netip.Addr) refusal {
	if no := a.taken(&r.Holder, want); no.says() {
		return no
	}
	p, from := a.poolOf(want), a.Pool(want)
	switch {
	case r.Pool != "" && from != "" && from != r.Pool:
		return refuse(v1alpha1.ReasonAddressNotInPool, "%s is in IPAddressPool %s, not in the requested pool %s.", want, from, r.Pool)
	case a.reservedFor(r, want):
		return refusal{}
	case p == nil:
		return a.whyNot(want)
	case p.Name != from:
		return refuse(v1alpha1.ReasonAddressNotInPool, "%s is held from IPAddressPool %s, which does not hand it out any more.", want, from)
	}
	if no := a.admits(p, r); no.says() {
		return no
	}
	return a.cools(r, want)
}

// taken says who stands in the way of a holder at an address.
func (a *Allocator) taken(who *Holder, addr netip.Addr) refusal {
	if h := a.held[addr]; h != nil {
		for _, o := range h.holders {
			if no := who.conflict(&o.Holder, addr); no.says() {
				return no
			}
		}
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
