package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// cooling is what was freed of a pool less than its reuseDelay ago. Until that is over, an
// address is for the namespace that had it last and for nobody else: its clients may still
// come, and whoever lies in wait for it gets nothing. Of that namespace, who had it has it
// again at once; others get it when they name it, or when nothing else is free.
//
// What cools is ordered by when it was freed, so an edit of the delay counts for all of it.
type cooling struct {
	cooled map[netip.Addr]cooled
	order  queue                   // all
	own    map[tenant]*queue       // by the namespace that had them
	count  map[tenant]int          // how many of them count
	last   map[formerly]netip.Addr // what each had last
	serial uint64
}

// cooled is an address that cools, and who had it last.
type cooled struct {
	addr   netip.Addr
	last   Key
	since  int64  // nanoseconds of Unix time
	serial uint64 // grows with each address that was freed
}

// tenant is a namespace and a family.
type tenant struct {
	namespace string
	family    Family
}

// formerly is one who had an address of a family.
type formerly struct {
	Key
	family Family
}

func (c cooled) tenant() tenant     { return tenant{c.last.Namespace, FamilyOf(c.addr)} }
func (c cooled) formerly() formerly { return formerly{c.last, FamilyOf(c.addr)} }

// queue is what cools, the oldest first, with what counts no more. Its front is cut off now
// and then, not each time.
type queue struct {
	entries []cooled
	front   int
}

// all returns what is queued, the oldest first.
func (q *queue) all() []cooled { return q.entries[q.front:] }

// drop forgets the oldest.
func (q *queue) drop() {
	if q.front++; 2*q.front >= len(q.entries) {
		q.entries = q.entries[:copy(q.entries, q.all())]
		q.front = 0
	}
}

// sweep forgets what counts no more.
func (q *queue) sweep(counts func(cooled) bool) {
	q.entries = slices.DeleteFunc(q.all(), func(e cooled) bool { return !counts(e) })
	q.front = 0
}

func newCooling() *cooling {
	return &cooling{cooled: map[netip.Addr]cooled{}, own: map[tenant]*queue{}, count: map[tenant]int{}, last: map[formerly]netip.Addr{}}
}

// counts says whether an entry is the one that counts for its address.
func (c *cooling) counts(e cooled) bool { return c.cooled[e.addr].serial == e.serial }

// put takes an address that nobody holds any more.
func (c *cooling) put(e cooled) {
	c.serial++
	e.serial = c.serial
	c.cooled[e.addr], c.last[e.formerly()] = e, e.addr
	c.order.entries = append(c.order.entries, e)
	own := c.own[e.tenant()]
	if own == nil {
		own = &queue{}
		c.own[e.tenant()] = own
	}
	own.entries = append(own.entries, e)
	c.count[e.tenant()]++
	if len(c.order.all()) > 2*len(c.cooled)+16 {
		c.sweep()
	}
}

// sweep forgets what was taken again before it had cooled.
func (c *cooling) sweep() {
	c.order.sweep(c.counts)
	for t, own := range c.own {
		if own.sweep(c.counts); len(own.entries) == 0 {
			delete(c.own, t)
		}
	}
}

// forget ends the cooling of an address.
func (c *cooling) forget(addr netip.Addr) {
	e, cools := c.cooled[addr]
	if !cools {
		return
	}
	delete(c.cooled, addr)
	if c.count[e.tenant()]--; c.count[e.tenant()] == 0 {
		delete(c.count, e.tenant())
	}
	if c.last[e.formerly()] == addr {
		delete(c.last, e.formerly())
	}
}

// oldest returns what a namespace has in a family that cools longest, of what a rule does not skip.
func (c *cooling) oldest(t tenant, skip func(netip.Addr) bool) (cooled, bool) {
	own := c.own[t]
	if own == nil {
		return cooled{}, false
	}
	for len(own.all()) > 0 && !c.counts(own.all()[0]) {
		own.drop()
	}
	for _, e := range own.all() {
		if c.counts(e) && !skip(e.addr) {
			return e, true
		}
	}
	if len(own.all()) == 0 {
		delete(c.own, t)
	}
	return cooled{}, false
}

// none is a rule that skips nothing.
func none(netip.Addr) bool { return false }

// first returns what cools longest of all.
func (c *cooling) first() (cooled, bool) {
	for len(c.order.all()) > 0 {
		e := c.order.all()[0]
		if c.counts(e) {
			return e, true
		}
		c.order.drop()
		c.oldest(e.tenant(), none) // drops the same there
	}
	return cooled{}, false
}

// until is when an address of a pool has cooled.
func (p *pool) until(e cooled) int64 { return e.since + p.ReuseDelay.Nanoseconds() }

// thaw gives back what has cooled, to be handed out in order again.
func (p *pool) thaw(now time.Time, thawed func(netip.Addr)) {
	for {
		e, some := p.cooling.first()
		if !some || p.until(e) > now.UnixNano() {
			return
		}
		p.release(e.addr)
		thawed(e.addr)
	}
}

// release ends the cooling of an address that nobody holds.
func (p *pool) release(addr netip.Addr) {
	p.cooling.forget(addr)
	p.free[FamilyOf(addr).index()].put(addr)
}

// cool takes an address that nobody holds any more. A namespace whose addresses are limited
// keeps no more than that many from others by it: otherwise it could fill the pool, one
// Service after the other.
func (p *pool) cool(e cooled) {
	p.cooling.put(e)
	if p.MaxPerNamespace == nil {
		return
	}
	for p.cooling.count[e.tenant()] > int(*p.MaxPerNamespace) {
		oldest, _ := p.cooling.oldest(e.tenant(), none)
		p.release(oldest.addr)
	}
}

// thaw gives back all that has cooled, which may help those who wait.
func (a *Allocator) thaw(now time.Time) {
	for _, p := range a.pools {
		p.thaw(now, a.free)
	}
}

// cools refuses an address that was freed a moment ago to all but the namespace that had it.
func (a *Allocator) cools(r *Request, addr netip.Addr) refusal {
	p := a.poolOf(addr)
	if p == nil {
		return refusal{}
	}
	e, cools := p.cooling.cooled[addr]
	if !cools || e.last.Namespace == r.Namespace {
		return refusal{}
	}
	return refuse(v1alpha1.ReasonAddressInUse, "%s was freed less than %s ago (reuseDelay of IPAddressPool %s); until then it is kept for the namespace that had it.", addr, p.ReuseDelay, p.Name)
}

// unused finds a free address of a pool for a requester: the one that it had a moment ago,
// or else the first in order, or else one that its namespace had a moment ago.
func (a *Allocator) unused(p *pool, who Key, f Family) (netip.Addr, bool) {
	free := p.free[f.index()]
	if addr, had := p.cooling.last[formerly{who, f}]; had && !free.skip(addr) {
		return addr, true
	}
	used := func(addr netip.Addr) bool {
		_, cools := p.cooling.cooled[addr]
		return cools || a.held[addr] != nil
	}
	if addr, some := free.first(used); some {
		return addr, true
	}
	e, some := p.cooling.oldest(tenant{who.Namespace, f}, free.skip)
	return e.addr, some
}

// memory is for how long it is remembered who had an address that no pool hands out any
// more: the longest reuseDelay that a pool may have.
const memory = 24 * time.Hour

// cool lets an address cool that nobody holds any more.
func (a *Allocator) cool(e cooled, spec *pool) {
	if spec != nil {
		spec.cool(e)
		return
	}
	old := slices.IndexFunc(a.adrift, func(o cooled) bool { return o.since > e.since-memory.Nanoseconds() })
	if old < 0 {
		old = len(a.adrift)
	}
	a.adrift = append(slices.Delete(a.adrift, 0, old), e)
}

// recool lets what cooled in pools that are gone, or have changed, cool on in those that have it now.
func (a *Allocator) recool(loose []cooled) {
	slices.SortStableFunc(loose, func(x, y cooled) int { return cmp.Compare(x.since, y.since) })
	a.adrift = nil
	for _, e := range loose {
		switch p := a.poolOf(e.addr); {
		case a.held[e.addr] != nil:
		case p == nil:
			a.adrift = append(a.adrift, e)
		default:
			p.cool(e)
		}
	}
}

// all returns what cools, the oldest first.
func (c *cooling) all() []cooled {
	return slices.DeleteFunc(slices.Clone(c.order.all()), func(e cooled) bool { return !c.counts(e) })
}

// Next returns when Retry is to be called at the latest, though nothing else happens until
// then: something has cooled that one who waits may want. False: not at all.
func (a *Allocator) Next() (at time.Time, some bool) {
	if len(a.waiting) == 0 {
		return time.Time{}, false
	}
	for _, p := range a.pools {
		e, cools := p.cooling.first()
		if !cools {
			continue
		}
		if until := time.Unix(0, p.until(e)); !some || until.Before(at) {
			at, some = until, true
		}
	}
	return at, some
}
