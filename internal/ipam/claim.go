package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// claimed makes a Service's request one for the addresses of the claim that it names
// (rule 3). A claim of another namespace cannot be named. One that does not exist has left
// its addresses to a Service that holds some.
func (a *Allocator) claimed(r *Request, holds bool) (*Request, refusal) {
	if r.Kind == KindClaim && !holds {
		return r, a.claimRefused(r)
	}
	if r.Claim == "" || r.Kind == KindClaim {
		return r, refusal{}
	}
	key := ClaimKey(r.Namespace, r.Claim)
	claim := a.members[key]
	switch {
	case claim == nil && holds:
		return r, refusal{}
	case claim == nil:
		return r, refuse(v1alpha1.ReasonClaimMissing, "%s does not exist.", key)
	case len(claim.addresses) == 0 && claim.decision.Reason == "":
		return r, refuse(v1alpha1.ReasonClaimMissing, "%s has no address yet.", key)
	case len(claim.addresses) == 0:
		return r, refuse(claim.decision.Reason, "%s has no address: %s", key, claim.decision.Message)
	}
	var addresses []netip.Addr
	var families []Family
	for _, f := range r.Families {
		if i := slices.IndexFunc(claim.addresses, func(addr netip.Addr) bool { return FamilyOf(addr) == f }); i >= 0 {
			addresses, families = append(addresses, claim.addresses[i]), append(families, f)
		}
	}
	if len(families) < max(r.Required, 1) {
		return r, refuse(v1alpha1.ReasonFamilyUnavailable, "%s holds %v, which lacks a family of the Service.", key, claim.addresses)
	}
	for _, want := range r.Addresses {
		if !slices.Contains(addresses, want) {
			return r, refuse(v1alpha1.ReasonInvalidRequest, "The Service asks for %s and for %s, which holds %v; they must agree.", want, key, claim.addresses)
		}
	}
	bound := *r
	bound.Addresses, bound.Families = addresses, families
	return &bound, refusal{}
}

// reservedFor says whether an address is held by the claim that a Service names: the claim
// has met the rules of its pool, and an edit of that takes nothing away from it.
func (a *Allocator) reservedFor(r *Request, addr netip.Addr) bool {
	return r.Kind == KindService && r.Claim != "" && slices.Contains(a.Held(ClaimKey(r.Namespace, r.Claim)), addr)
}

// adopt finds, for a claim without address, what the oldest Service that names it holds:
// the claim takes that over if it may, so that the Service need not move.
func (a *Allocator) adopt(r *Request) ([]netip.Addr, bool) {
	for _, m := range inAge(maps.Values(a.naming[r.Key])) {
		asked := *r
		asked.Addresses = slices.DeleteFunc(slices.Clone(m.addresses), func(addr netip.Addr) bool { return !slices.Contains(r.Families, FamilyOf(addr)) })
		if len(asked.Addresses) == 0 {
			continue
		}
		if got, no := a.requested(&asked, nil); !no.says() {
			return got, true
		}
	}
	return nil, false
}
