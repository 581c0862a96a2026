package ipam_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
)

// claims has claims c0, c1, ... of a namespace decided one after the other, and returns their reasons.
func claims(a *ipam.Allocator, ns string, n int) []v1alpha1.Reason {
	var reasons []v1alpha1.Reason
	for i := range n {
		reasons = append(reasons, a.Allocate(claimIn(ns, i), start).Reason)
	}
	return reasons
}

func claimIn(ns string, i int) ipam.Request {
	r := ipam.Request{Families: []ipam.Family{ipam.IPv4}, Required: 1}
	r.Key, r.Created = ipam.ClaimKey(ns, fmt.Sprintf("c%d", i)), start.Add(time.Duration(i)*time.Second)
	return r
}

func TestClaimsOfANamespaceAreLimited(t *testing.T) {
	t.Parallel()
	over := v1alpha1.ReasonQuotaExceeded
	a := ipam.New()
	a.SetPools([]ipam.Pool{pool("lan", "192.0.2.0/24")})
	a.LimitClaims(2)
	if got := fmt.Sprint(claims(a, "evil", 4)); got != fmt.Sprint([]v1alpha1.Reason{"", "", over, over}) {
		t.Errorf("of four claims: %v", got)
	}
	if got := claims(a, "bank", 1); got[0] != "" {
		t.Errorf("another namespace: %v", got)
	}
	if d := a.Allocate(request("web", ipam.IPv4), start); d.Reason != "" {
		t.Errorf("a Service: %+v", d)
	}
	a.Release(claimIn("evil", 0).Key, start)
	if changed := a.Retry(start); fmt.Sprint(changed) != fmt.Sprint([]ipam.Key{claimIn("evil", 2).Key}) {
		t.Errorf("once a claim has gone %v changed", changed)
	}
	a.LimitClaims(0)
	a.Retry(start)
	if held := a.Held(claimIn("evil", 1).Key); len(held) != 1 {
		t.Errorf("a lower limit took the address of a claim: %v", held)
	}
	if d := a.Allocate(claimIn("bank", 9), start); d.Reason != over {
		t.Errorf("a claim where there are to be none: %+v", d)
	}
	a.LimitClaims(3)
	if changed := a.Retry(start); len(changed) != 2 {
		t.Errorf("a higher limit changed %v", changed)
	}
}

func TestNoNamespaceEverClaimsMoreThanItMay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := ipam.New()
		a.SetPools([]ipam.Pool{pool("lan", "192.0.2.0/27")})
		limit := rapid.IntRange(0, 3).Draw(t, "limit")
		a.LimitClaims(limit)
		there := map[ipam.Key]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := claimIn(rapid.SampledFrom([]string{"evil", "bank"}).Draw(t, "namespace"), rapid.IntRange(0, 5).Draw(t, "claim"))
			if rapid.Bool().Draw(t, "goes") {
				a.Release(c.Key, start)
				delete(there, c.Key)
			} else {
				a.Allocate(c, start)
				there[c.Key] = true
			}
			a.Retry(start)
			have, wait := map[string]int{}, map[string]int{}
			for k := range there {
				if len(a.Held(k)) > 0 {
					have[k.Namespace]++
				} else {
					wait[k.Namespace]++
				}
			}
			for _, ns := range []string{"evil", "bank"} {
				if have[ns] > limit || have[ns] < limit && wait[ns] > 0 {
					t.Fatalf("%d claims of %s have addresses and %d wait, with a limit of %d", have[ns], ns, wait[ns], limit)
				}
			}
		}
	})
}
