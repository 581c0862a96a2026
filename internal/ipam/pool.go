// Package ipam decides which Service or AddressClaim gets which address. It is pure: it takes requests
// and the time as values, reads no clock, writes no log and does no I/O, so that the
// controller and a dry run decide alike.
//
// An Allocator knows the pools, what each holder has, who waits, and what is free. Its
// costs do not depend on how many addresses a pool has (a /64 costs what a /24 does) and
// hardly on how many are held. It is not safe for concurrent use: one goroutine owns it.
package ipam

import (
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/name"
)

// Family is an IP version, 4 or 6. The zero value is none.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns IPv4 or IPv6, as Kubernetes spells them.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// index is 0 for IPv4 and 1 for IPv6.
func (f Family) index() int {
	if f == IPv6 {
		return 1
	}
	return 0
}

// FamilyOf returns the family of a valid address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Pool is a compiled IPAddressPool: its ranges are disjoint from those of every other pool.
type Pool struct {
	Name name.PoolName
	// Ranges may be handed out, in the order of spec; each is of one family, and they are disjoint.
	Ranges []netipx.IPRange
	// Excluded lie in spec, but are never handed out.
	Excluded []netipx.IPRange
	// Reserved lie in spec, but belong to nodes, Services or pods of the cluster.
	Reserved []netipx.IPRange
	// Former were handed out by this pool, if they are held: they lay in spec before. They
	// stay the pool's though another may hand them out now.
	Former []netipx.IPRange
	// Origin are the pool's when they are held and nobody hands them out: they lie in spec
	// but are excluded or reserved, or they lay in spec before.
	Origin []netipx.IPRange
	// AvoidBuggyIPs keeps automatic choice away from IPv4 .0 and .255.
	AvoidBuggyIPs bool
	// AutoAssign lets Services have addresses that name neither the pool nor an address.
	AutoAssign bool
	// Drain stops new assignments; holders keep theirs.
	Drain bool
	// Deleting says that the pool only waits for its last holder; it takes no new assignment.
	Deleting bool
	// Reassign takes from holders what the pool no longer hands out, or all if it is Deleting.
	Reassign bool
	// ReuseDelay is for how long a freed address is only for the namespace that had it last.
	ReuseDelay time.Duration
	// Admission is who may use the pool; nil: everybody.
	Admission *Admission
	// MaxPerNamespace is how many addresses the holders of one namespace may have together; nil: any number.
	MaxPerNamespace *int32
}

// Admission is who may use a pool: a Service whose namespace matches and that matches itself.
type Admission struct {
	// Namespaces and NamespaceSelectors are ORed; both empty: all namespaces.
	Namespaces         []string
	NamespaceSelectors []labels.Selector
	// ServiceSelectors are ORed; empty: all Services.
	ServiceSelectors []labels.Selector
}

// admits says whether a Service, in a namespace with these labels, may use the pool.
func (a *Admission) admits(r *Request, namespaceLabels labels.Set) bool {
	if a == nil {
		return true
	}
	matches := func(selectors []labels.Selector, l labels.Set) bool {
		return slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(l) })
	}
	namespace := len(a.Namespaces) == 0 && len(a.NamespaceSelectors) == 0 ||
		slices.Contains(a.Namespaces, r.Namespace) || matches(a.NamespaceSelectors, namespaceLabels)
	return namespace && (len(a.ServiceSelectors) == 0 || matches(a.ServiceSelectors, r.Labels))
}

// Equal says whether two pools hand out alike; their Former and Origin may differ.
func (p Pool) Equal(o Pool) bool {
	return p.Name == o.Name && p.AvoidBuggyIPs == o.AvoidBuggyIPs && p.AutoAssign == o.AutoAssign &&
		p.Drain == o.Drain && p.Deleting == o.Deleting && p.Reassign == o.Reassign && p.ReuseDelay == o.ReuseDelay &&
		slices.Equal(p.Ranges, o.Ranges) && slices.Equal(p.Excluded, o.Excluded) &&
		slices.Equal(p.Reserved, o.Reserved) && reflect.DeepEqual(p.Admission, o.Admission) && reflect.DeepEqual(p.MaxPerNamespace, o.MaxPerNamespace)
}

// has says whether the pool has addresses of a family, free or held.
func (p Pool) has(f Family) bool {
	return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return FamilyOf(r.From()) == f })
}

func inAny(ranges []netipx.IPRange, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r netipx.IPRange) bool { return r.Contains(a) })
}

// never says whether an address is handed out in no case: the IPv6 address whose
// interface identifier is zero belongs to all routers of its link (RFC 4291 section 2.6.1).
func never(a netip.Addr) bool {
	if a.Is4() {
		return false
	}
	b := a.As16()
	return [8]byte(b[8:]) == [8]byte{}
}

// buggy says whether an address is one that some old devices take for a network or a
// broadcast address: IPv4 .0 and .255.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

// Total counts the addresses of a family that automatic choice may hand out.
func (p Pool) Total(f Family) *big.Int {
	total := new(big.Int)
	for _, r := range p.Ranges {
		if FamilyOf(r.From()) == f {
			total.Add(total, size(r, p.AvoidBuggyIPs))
		}
	}
	return total
}

// size counts what a range hands out: all but what never and, if avoided, buggy name.
func size(r netipx.IPRange, avoidBuggy bool) *big.Int {
	from, to := number(r.From()), number(r.To())
	n := new(big.Int).Sub(to, from)
	n.Add(n, big.NewInt(1))
	if r.From().Is6() {
		return n.Sub(n, multiples(from, to, 0, 64))
	}
	if avoidBuggy {
		n.Sub(n, multiples(from, to, 0, 8))
		n.Sub(n, multiples(from, to, 255, 8))
	}
	return n
}

// multiples counts the numbers in [from, to] that are congruent to rest modulo 2^bits.
func multiples(from, to *big.Int, rest int64, bits uint) *big.Int {
	upTo := func(n *big.Int) *big.Int { // how many in [0, n], n >= -1
		k := new(big.Int).Sub(n, big.NewInt(rest))
		return k.Add(k.Rsh(k, bits), big.NewInt(1)) // an arithmetic shift: -1 gives 0
	}
	below := new(big.Int).Sub(from, big.NewInt(1))
	return new(big.Int).Sub(upTo(to), upTo(below))
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
