package config

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// compiledPool is a pool with what allocation order and announcing need beside.
type compiledPool struct {
	ipam.Pool
	labels   labels.Set
	priority int32       // lower first
	listed   []intervals // what each entry of spec.addresses spans
	never    intervals   // what spec.addresses span and is not handed out
	excluded intervals   // what is excluded as written
	spec     intervals   // all that spec.addresses span
	origin   intervals   // Pool.Origin
	former   intervals   // Pool.Former
	announce intervals   // what an aggregate may span: spec without what is excluded, or an older pool's
}

// pools compiles pools, the oldest first: what an older pool contains, a younger one does not get.
func (c *compiler) pools(o Objects) []compiledPool {
	reserved := setOf(o.Reserved)
	var pools []compiledPool
	var specs []intervals
	for _, obj := range byAge(o.Pools) {
		p := c.pool(obj, reserved)
		pools, specs = append(pools, p), append(specs, p.spec)
	}
	type pair struct{ younger, older int }
	shared := map[pair]intervals{}
	own := firstComes(specs, func(part netipx.IPRange, younger, older int) {
		shared[pair{younger, older}] = shared[pair{younger, older}].with(part)
	})
	for _, both := range slices.SortedFunc(maps.Keys(shared), func(x, y pair) int {
		return cmp.Or(cmp.Compare(x.younger, y.younger), cmp.Compare(x.older, y.older))
	}) {
		c.problem(KindPool, string(pools[both.younger].Name), v1alpha1.ReasonOverlap, "It overlaps the older IPAddressPool %s at %s, which keeps these addresses.", pools[both.older].Name, listRanges(shared[both]))
	}
	for i := range pools {
		p := &pools[i]
		p.announce = subtract(own[i], p.excluded)
		usable := subtract(own[i], p.never)
		for _, entry := range firstComes(p.listed, nil) {
			p.Ranges = append(p.Ranges, intersect(entry, usable)...)
		}
	}
	former(pools, o.Pools)
	return pools
}

// former says of each pool what it handed out before an edit: what its status retains, and
// what it was compiled from when the controller last looked, unless another pool was too.
func former(pools []compiledPool, objects []v1alpha1.IPAddressPool) {
	status := map[name.PoolName]*v1alpha1.IPAddressPoolStatus{}
	for i := range objects {
		status[name.PoolName(objects[i].Name)] = &objects[i].Status
	}
	var observed []intervals
	for _, p := range pools {
		observed = append(observed, spanned(status[p.Name].ObservedAddresses))
	}
	for i, own := range alone(observed) {
		p := &pools[i]
		p.former = unite(subtract(own, p.spec), spanned(status[p.Name].Retained))
		p.Former = p.former
	}
}

// ranges reads entries; those that cannot be read are problems.
func (c *compiler) ranges(pool string, entries []string) []netipx.IPRange {
	var list []netipx.IPRange
	for _, entry := range entries {
		r, err := ParseRange(entry)
		if err != nil {
			c.problem(KindPool, pool, v1alpha1.ReasonInvalidAddress, "%v. The pool assigns nothing new until this is mended.", err)
			continue
		}
		list = append(list, r)
	}
	return list
}

// pool compiles one pool by itself.
func (c *compiler) pool(obj v1alpha1.IPAddressPool, reserved intervals) compiledPool {
	before := len(c.problems)
	listed := c.ranges(obj.Name, obj.Spec.Addresses)
	excluded := c.ranges(obj.Name, obj.Spec.Exclude)
	invalid := len(c.problems) > before
	var entries []intervals
	never := slices.Clone(excluded)
	for _, r := range listed {
		entries = append(entries, intervals{r})
		if p, ok := r.Prefix(); ok && p.Addr().Is6() && !p.IsSingleIP() {
			never = append(never, netipx.IPRangeFrom(p.Addr(), p.Addr())) // the all-zero host part: RFC 4291 section 2.6.1
		}
	}
	spec := unite(listed)
	from, kept, taken := origin(obj, spec), intersect(spec, unite(never)), intersect(spec, reserved)
	c.state(obj, taken)
	p := compiledPool{
		labels: obj.Labels, priority: math.MaxInt32, spec: spec, origin: from,
		listed: entries, never: unite(kept, taken), excluded: unite(excluded), Pool: ipam.Pool{
			Name: name.PoolName(obj.Name), Excluded: kept, Reserved: taken, Origin: from,
			AvoidBuggyIPs: orTrue(obj.Spec.AvoidBuggyIPs), AutoAssign: orTrue(obj.Spec.AutoAssign),
			Drain: obj.Spec.Drain || invalid, Deleting: !obj.DeletionTimestamp.IsZero(), ReuseDelay: time.Minute,
			Reassign: obj.Spec.ReclaimPolicy == v1alpha1.ReclaimReassign && !invalid, // a slip of the pen moves nobody
		},
	}
	if obj.Spec.ReuseDelay != nil {
		p.ReuseDelay = obj.Spec.ReuseDelay.Duration
	}
	c.admission(&p, obj)
	return p
}

// state reports what a pool is in the middle of, and what of it is never assigned.
func (c *compiler) state(obj v1alpha1.IPAddressPool, reserved intervals) {
	if len(reserved) > 0 {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonReservedOverlap, "It contains addresses of nodes, Services or pods, which are never assigned: %s.", listRanges(reserved))
	}
	if len(obj.Status.Retained) > 0 {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonRetained, "Services hold addresses that its spec no longer covers: %s.", strings.Join(obj.Status.Retained[:min(len(obj.Status.Retained), 5)], ", "))
	}
	if !obj.DeletionTimestamp.IsZero() {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonDraining, "It is being deleted and waits until no Service holds an address of it any more; it takes no new assignment.")
	}
	if obj.Spec.Drain {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonDraining, "It takes no new assignment (drain); holders keep their addresses.")
	}
}

// origin is all that belongs to a pool when it is held: what spec spans, what it spanned
// when the controller last looked, and what it spanned before that and is still held.
func origin(obj v1alpha1.IPAddressPool, spec intervals) intervals {
	return unite(spec, spanned(obj.Status.ObservedAddresses), spanned(obj.Status.Retained))
}

// spanned is what entries of a pool's status span. What cannot be read was reported of its
// spec already.
func spanned(entries []string) intervals {
	var ranges []netipx.IPRange
	for _, entry := range entries {
		if r, err := ParseRange(entry); err == nil {
			ranges = append(ranges, r)
		}
	}
	return unite(ranges)
}

// admission compiles who may use a pool, and in which order it is tried.
func (c *compiler) admission(p *compiledPool, obj v1alpha1.IPAddressPool) {
	sa := obj.Spec.ServiceAllocation
	if sa == nil {
		return
	}
	p.MaxPerNamespace = sa.MaxPerNamespace
	p.Admission = &ipam.Admission{
		Namespaces:         sa.Namespaces,
		NamespaceSelectors: c.selectors(KindPool, obj.Name, sa.NamespaceSelectors),
		ServiceSelectors:   c.selectors(KindPool, obj.Name, sa.ServiceSelectors),
	}
	p.priority = math.MaxInt32 - 1 // before the open ones
	if sa.Priority != nil && *sa.Priority > 0 {
		p.priority = *sa.Priority
	}
}

// allocationOrder sorts pools as they are tried: those that say who may use them first,
// by priority, then the open ones; each by name.
func allocationOrder(pools []compiledPool) []ipam.Pool {
	sorted := slices.Clone(pools)
	slices.SortFunc(sorted, func(x, y compiledPool) int {
		return cmp.Or(cmp.Compare(x.priority, y.priority), cmp.Compare(x.Name, y.Name))
	})
	var list []ipam.Pool
	for _, p := range sorted {
		list = append(list, p.Pool)
	}
	return list
}

func announcePools(pools []compiledPool) []announce.Pool {
	var list []announce.Pool
	for _, p := range pools {
		list = append(list, announce.Pool{Name: p.Name, Labels: p.labels, Addresses: p.announce, Former: p.former, Origin: p.origin})
	}
	return list
}

func setOf(prefixes []netip.Prefix) intervals {
	var ranges []netipx.IPRange
	for _, p := range prefixes {
		ranges = append(ranges, netipx.RangeOfPrefix(p))
	}
	return unite(ranges)
}

// listRanges writes at most five ranges, one address without its dash.
func listRanges(ranges []netipx.IPRange) string {
	said := FormatRanges(ranges[:min(len(ranges), 5)])
	if len(ranges) > 5 {
		said = append(said, "…")
	}
	return strings.Join(said, ", ")
}

// FormatRanges writes ranges as entries of a pool are written; ParseRange reads them.
func FormatRanges(ranges []netipx.IPRange) []string {
	var list []string
	for _, r := range ranges {
		if r.From() == r.To() {
			list = append(list, r.From().String())
			continue
		}
		list = append(list, r.String())
	}
	return list
}

func orTrue(b *bool) bool { return b == nil || *b }
