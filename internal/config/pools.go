package config

import (
	"cmp"
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
	priority int32         // lower first
	spec     *netipx.IPSet // all that spec.addresses span
	origin   *netipx.IPSet // Pool.Origin
	former   *netipx.IPSet // Pool.Former
	announce *netipx.IPSet // what an aggregate may span: spec without what is excluded, or an older pool's
}

// pools compiles pools, the oldest first: what an older pool contains, a younger one does not get.
func (c *compiler) pools(o Objects) []compiledPool {
	reserved := setOf(o.Reserved)
	var taken netipx.IPSetBuilder
	var pools []compiledPool
	for _, obj := range byAge(o.Pools) {
		p := c.pool(obj, reserved)
		for _, older := range pools {
			if shared := intersection(p.spec, older.spec); len(shared) > 0 {
				c.problem(KindPool, obj.Name, v1alpha1.ReasonOverlap, "It overlaps the older IPAddressPool %s at %s, which keeps these addresses.", older.Name, listRanges(shared))
			}
		}
		var own []netipx.IPRange
		before := build(&taken)
		for _, r := range p.Ranges {
			own = append(own, without(r, before)...)
		}
		p.Ranges = own
		p.announce = difference(p.announce, before)
		taken.AddSet(p.spec)
		pools = append(pools, p)
	}
	former(pools, o.Pools)
	return pools
}

// former says of each pool what it handed out before an edit: what its status retains, and
// what it was compiled from when the controller last looked, unless another pool was too.
func former(pools []compiledPool, objects []v1alpha1.IPAddressPool) {
	observed, retained := map[name.PoolName]*netipx.IPSet{}, map[name.PoolName]*netipx.IPSet{}
	for _, obj := range objects {
		observed[name.PoolName(obj.Name)] = spanned(obj.Status.ObservedAddresses)
		retained[name.PoolName(obj.Name)] = spanned(obj.Status.Retained)
	}
	for i := range pools {
		p := &pools[i]
		left := difference(observed[p.Name], p.spec)
		for other, theirs := range observed {
			if other != p.Name && len(left.Ranges()) > 0 {
				left = difference(left, theirs)
			}
		}
		var b netipx.IPSetBuilder
		b.AddSet(left)
		b.AddSet(retained[p.Name])
		p.former = build(&b)
		p.Former = p.former.Ranges()
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
func (c *compiler) pool(obj v1alpha1.IPAddressPool, reserved *netipx.IPSet) compiledPool {
	before := len(c.problems)
	listed := c.ranges(obj.Name, obj.Spec.Addresses)
	excluded := c.ranges(obj.Name, obj.Spec.Exclude)
	invalid := len(c.problems) > before
	var never netipx.IPSetBuilder
	for _, r := range excluded {
		never.AddRange(r)
	}
	excludedSet := build(&never)
	for _, r := range listed {
		if p, ok := r.Prefix(); ok && p.Addr().Is6() && !p.IsSingleIP() {
			never.Add(p.Addr()) // the all-zero host part: RFC 4291 section 2.6.1
		}
	}
	neverSet := build(&never)
	never.AddSet(reserved)
	unusable := build(&never)
	var ranges []netipx.IPRange
	var seen netipx.IPSetBuilder
	for _, r := range listed {
		earlier := build(&seen)
		for _, part := range without(r, unusable) {
			ranges = append(ranges, without(part, earlier)...)
		}
		seen.AddRange(r)
	}
	spec := build(&seen)
	if shared := intersection(spec, reserved); len(shared) > 0 {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonReservedOverlap, "It contains addresses of nodes, Services or pods, which are never assigned: %s.", listRanges(shared))
	}
	if len(obj.Status.Retained) > 0 {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonRetained, "Services hold addresses that its spec no longer covers: %s.", strings.Join(obj.Status.Retained[:min(len(obj.Status.Retained), 5)], ", "))
	}
	deleting := !obj.DeletionTimestamp.IsZero()
	if deleting {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonDraining, "It is being deleted and waits until no Service holds an address of it any more; it takes no new assignment.")
	}
	if obj.Spec.Drain {
		c.problem(KindPool, obj.Name, v1alpha1.ReasonDraining, "It takes no new assignment (drain); holders keep their addresses.")
	}
	from := origin(obj, spec)
	p := compiledPool{labels: obj.Labels, priority: math.MaxInt32, spec: spec, origin: from, announce: difference(spec, excludedSet), Pool: ipam.Pool{
		Name: name.PoolName(obj.Name), Ranges: ranges,
		Excluded: intersection(spec, neverSet), Reserved: intersection(spec, reserved), Origin: from.Ranges(),
		AvoidBuggyIPs: orTrue(obj.Spec.AvoidBuggyIPs), AutoAssign: orTrue(obj.Spec.AutoAssign),
		Drain: obj.Spec.Drain || invalid, Deleting: deleting, ReuseDelay: time.Minute,
		Reassign: obj.Spec.ReclaimPolicy == v1alpha1.ReclaimReassign && !invalid, // a slip of the pen moves nobody
	}}
	if obj.Spec.ReuseDelay != nil {
		p.ReuseDelay = obj.Spec.ReuseDelay.Duration
	}
	c.admission(&p, obj)
	return p
}

// origin is all that belongs to a pool when it is held: what spec spans, what it spanned
// when the controller last looked, and what it spanned before that and is still held.
func origin(obj v1alpha1.IPAddressPool, spec *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(spec)
	b.AddSet(spanned(obj.Status.ObservedAddresses))
	b.AddSet(spanned(obj.Status.Retained))
	return build(&b)
}

// spanned is what entries of a pool's status span. What cannot be read was reported of its
// spec already.
func spanned(entries []string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, entry := range entries {
		if r, err := ParseRange(entry); err == nil {
			b.AddRange(r)
		}
	}
	return build(&b)
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

// without returns the parts of a range that a set does not contain, in order.
func without(r netipx.IPRange, set *netipx.IPSet) []netipx.IPRange {
	var b netipx.IPSetBuilder
	b.AddRange(r)
	b.RemoveSet(set)
	return build(&b).Ranges()
}

func difference(x, y *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(x)
	b.RemoveSet(y)
	return build(&b)
}

func intersection(x, y *netipx.IPSet) []netipx.IPRange {
	var b netipx.IPSetBuilder
	b.AddSet(x)
	b.Intersect(y)
	return build(&b).Ranges()
}

// build finishes a set; its error names invalid ranges, of which none is ever added.
func build(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return set
}

func setOf(prefixes []netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	return build(&b)
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
