package main

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// poolChange is what is planned for a pool.
type poolChange string

// What is planned for a pool.
const (
	added     poolChange = "added"
	edited    poolChange = "edited"
	removed   poolChange = "removed"   // and gone, unless somebody holds an address of it
	unchanged poolChange = "unchanged" // what others change may concern it
)

// poolForecast is what becomes of one pool.
type poolForecast struct {
	Name   string     `json:"name"`
	Change poolChange `json:"change"`
	// Now is nil if the pool does not exist yet, Then if it is gone.
	Now  *poolStanding `json:"now,omitempty"`
	Then *poolStanding `json:"then,omitempty"`
}

// poolStanding is how a pool is at one time, as its status would say.
type poolStanding struct {
	IPv4     v1alpha1.AddressCounts `json:"ipv4"`
	IPv6     v1alpha1.AddressCounts `json:"ipv6"`
	Retained []string               `json:"retained,omitempty"`
	// Problems are why its condition Ready is False; none: it is True.
	Problems []problem `json:"problems,omitempty"`
}

// problem is something wrong with a pool.
type problem struct {
	Reason  v1alpha1.Reason `json:"reason"`
	Message string          `json:"message"`
}

// comparePools says what becomes of each pool that is named, edited or removed, or that, by
// what becomes of others, counts otherwise or has other problems.
func comparePools(s situation, now, then snapshot) []poolForecast {
	var names []string
	for _, p := range slices.Concat(s.live, s.planned) {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	var list []poolForecast
	for _, name := range slices.Compact(names) {
		f := poolForecast{Name: name, Change: plannedFor(find(s.live, name), find(s.planned, name))}
		if p, exists := now.pools[name]; exists {
			f.Now = &p
		}
		if p, exists := then.pools[name]; exists {
			f.Then = &p
		}
		if f.Change != unchanged || slices.Contains(s.named, name) || !reflect.DeepEqual(f.Now, f.Then) {
			list = append(list, f)
		}
	}
	return list
}

func plannedFor(live, planned *v1alpha1.IPAddressPool) poolChange {
	switch {
	case live == nil:
		return added
	case live.DeletionTimestamp.IsZero() && !planned.DeletionTimestamp.IsZero():
		return removed
	case !equality.Semantic.DeepEqual(live.Spec, planned.Spec):
		return edited
	}
	return unchanged
}
