package config

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
)

// Holders are all objects that may hold addresses, and the namespaces that they are in.
type Holders struct {
	Services   []corev1.Service
	Claims     []v1alpha1.AddressClaim
	Namespaces []corev1.Namespace
}

// Import tells an allocator who holds what, by their status, and what those of Ballast ask
// for; it may be called for one part of them after the other. It decides nothing: SetPools
// and Retry do, once all are known. It counts the Services with an address: those of a
// Ballast that runs with a load balancer class, and those of others.
func (h Holders) Import(a *ipam.Allocator, class string, now time.Time) (ours, others int) {
	for i := range h.Namespaces {
		a.Relabel(h.Namespaces[i].Name, h.Namespaces[i].Labels)
	}
	for i := range h.Claims {
		a.Hold(ClaimHolder(&h.Claims[i]), Claimed(&h.Claims[i]), now)
	}
	for i := range h.Services {
		s := &h.Services[i]
		if len(Ingress(s)) == 0 {
			continue
		}
		held := Held(s, class)
		a.Hold(held, Ingress(s), now)
		if held.Foreign {
			others++
		} else {
			ours++
		}
	}
	for i := range h.Claims {
		a.Ask(ClaimRequest(&h.Claims[i]), now)
	}
	for i := range h.Services {
		if s := &h.Services[i]; !Held(s, class).Foreign {
			a.Ask(Request(s), now)
		}
	}
	return ours, others
}

// Named is how many holders HeldBy names at most.
const Named = 5

// HeldBy says in a sentence who holds addresses of a pool: the oldest, of so many in all.
// It is "" if nobody does.
func HeldBy(oldest []ipam.Key, all int) string {
	if all == 0 {
		return ""
	}
	var list []string
	for _, key := range oldest {
		list = append(list, key.String())
	}
	if more := all - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return "It is held by " + strings.Join(list, ", ") + "."
}
