package ipam

import (
	"net/netip"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// claimQuota bounds how many claims of a namespace have addresses. The zero value has no bound.
type claimQuota struct {
	limited bool
	limit   int
	have    map[string]int // claims with addresses, by namespace
}

// LimitClaims says how many claims of one namespace may have addresses; 0 is none. It takes nothing from anybody; Retry
// then decides for those who wait. Before the first call there is no limit.
func (a *Allocator) LimitClaims(perNamespace int) {
	if !a.claims.limited || a.claims.limit != perNamespace {
		a.claims.limited, a.claims.limit = true, perNamespace
		a.news.pools = true
	}
}

// claimRefused says why a claim without addresses gets none, if its namespace has as many as it may.
func (a *Allocator) claimRefused(r *Request) refusal {
	if !a.claims.limited || a.claims.have[r.Namespace] < a.claims.limit {
		return refusal{}
	}
	return refuse(v1alpha1.ReasonQuotaExceeded, "Namespace %s may have addresses for %d AddressClaims (Settings, addressClaims.maxPerNamespace), and has them for %d.",
		r.Namespace, a.claims.limit, a.claims.have[r.Namespace])
}

// countClaim notes that a member has other addresses than before. Another claim of its namespace may have some in its place.
func (a *Allocator) countClaim(m *member, before []netip.Addr) {
	had, has := len(before) > 0, len(m.addresses) > 0
	if m.Kind != KindClaim || had == has {
		return
	}
	if a.claims.have == nil {
		a.claims.have = map[string]int{}
	}
	if has {
		a.claims.have[m.Namespace]++
		return
	}
	if a.claims.have[m.Namespace]--; a.claims.have[m.Namespace] == 0 {
		delete(a.claims.have, m.Namespace)
	}
	a.news.namespaces = append(a.news.namespaces, m.Namespace)
}
