package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// world is what a sequence of events has led to, and the slow and obvious way to say what
// would be right: it looks at every address of every pool, and at everybody who holds it.
type world struct {
	allocator *ipam.Allocator
	pools     []ipam.Pool
	labels    map[string]labels.Set        // of namespaces
	asks      map[ipam.Key]ipam.Request    // who exists, as last asked
	status    map[ipam.Key][]netip.Addr    // what the API says that each holds
	got       map[ipam.Key]ipam.Decision   // what each was told last
	before    map[ipam.Key][]netip.Addr    // what each held before the last event
	origin    map[netip.Addr]name.PoolName // where that was from
	changed   map[ipam.Key]bool            // who asked for something else with the last event
	restarted bool                         // the last event was a new leader
	unmet     map[ipam.Key]bool            // who had been refused before the last event
	using     map[netip.Addr][]ipam.Key    // who held each address when it was looked at last
	freed     []freed                      // what nobody holds any more, the last first
	now       time.Time
}

// freed is an address that nobody holds any more.
type freed struct {
	addr netip.Addr
	last []ipam.Key // who may have been the last
	at   time.Time
}

// look takes note of what was freed since it was called last, and of what is held again.
func (w *world) look() {
	using := map[netip.Addr][]ipam.Key{}
	for k := range w.asks {
		for _, addr := range slices.Concat(w.allocator.Held(k), w.allocator.Leaving(k)) {
			using[addr] = append(using[addr], k)
		}
	}
	w.freed = slices.DeleteFunc(w.freed, func(f freed) bool { return using[f.addr] != nil })
	for addr, last := range w.using {
		if using[addr] == nil {
			w.freed = slices.Insert(w.freed, 0, freed{addr, last, w.now})
		}
	}
	w.using = using
	w.thaw()
}

// thaw forgets what has cooled.
func (w *world) thaw() {
	w.freed = slices.DeleteFunc(w.freed, func(f freed) bool {
		return slices.ContainsFunc(w.pools, func(p ipam.Pool) bool { return spans(p, f.addr) && !f.at.Add(p.ReuseDelay).After(w.now) })
	})
}

// cooling says whether a holder may not have an address because another namespace had it a
// moment ago: it may be so, and it is so for sure. A quota bounds how many a namespace keeps
// from others, and of several who left at once each may have been the last.
func (w *world) cooling(k ipam.Key, addr netip.Addr) (may, sure bool) {
	limits := slices.ContainsFunc(w.pools, func(p ipam.Pool) bool { return p.MaxPerNamespace != nil })
	i := slices.IndexFunc(w.freed, func(f freed) bool { return f.addr == addr })
	if i < 0 || !slices.ContainsFunc(w.pools, func(p ipam.Pool) bool { return spans(p, addr) }) {
		return false, false
	}
	own := func(o ipam.Key) bool { return o.Namespace == k.Namespace }
	other := func(o ipam.Key) bool { return !own(o) }
	return slices.ContainsFunc(w.freed[i].last, other), !limits && !slices.ContainsFunc(w.freed[i].last, own)
}

// holders are those who hold an address, or whose status still does.
func (w *world) holders(addr netip.Addr) []ipam.Key {
	var keys []ipam.Key
	for k := range w.asks {
		if slices.Contains(w.allocator.Held(k), addr) || slices.Contains(w.allocator.Leaving(k), addr) {
			keys = append(keys, k)
		}
	}
	return keys
}

// mayShare says whether two holders may have one address.
func (w *world) mayShare(x, y ipam.Key) bool {
	a, b := w.asks[x], w.asks[y]
	if x.Kind != y.Kind { // a claim and a Service that names it
		if x.Kind == ipam.KindClaim {
			x, y, a = y, x, b
		}
		return a.Claim == y.Name && x.Namespace == y.Namespace
	}
	s, t := a.Sharing, b.Sharing
	if x.Kind == ipam.KindClaim || s.Key == "" || s.Key != t.Key || s.Local != t.Local {
		return false
	}
	if x.Namespace != y.Namespace && (s.Local || !slices.Contains(s.From, y.Namespace) || !slices.Contains(t.From, x.Namespace)) {
		return false
	}
	if s.Local && (s.Selector == "" || s.Selector != t.Selector) {
		return false
	}
	return !slices.ContainsFunc(s.Ports, func(p ipam.Port) bool { return slices.Contains(t.Ports, p) })
}

func (w *world) pool(n name.PoolName) (ipam.Pool, bool) {
	i := slices.IndexFunc(w.pools, func(p ipam.Pool) bool { return p.Name == n })
	if i < 0 {
		return ipam.Pool{}, false
	}
	return w.pools[i], true
}

// spans says whether a pool hands an address out.
func spans(p ipam.Pool, addr netip.Addr) bool {
	zero := addr.Is6() && [8]byte(addr.AsSlice()[8:]) == [8]byte{}
	return !zero && slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) })
}

// admits says whether a pool takes new assignments of a holder.
func (w *world) admits(p ipam.Pool, r ipam.Request) bool {
	if p.Drain || p.Deleting {
		return false
	}
	if p.Admission == nil {
		return true
	}
	a, namespace, service := p.Admission, len(p.Admission.Namespaces)+len(p.Admission.NamespaceSelectors) == 0, len(p.Admission.ServiceSelectors) == 0
	for _, n := range a.Namespaces {
		namespace = namespace || n == r.Namespace
	}
	for _, s := range a.NamespaceSelectors {
		namespace = namespace || s.Matches(w.labels[r.Namespace])
	}
	for _, s := range a.ServiceSelectors {
		service = service || s.Matches(r.Labels)
	}
	return namespace && service
}

// free says whether nobody stands in the way of a holder at an address.
func (w *world) free(k ipam.Key, addr netip.Addr) bool {
	return !slices.ContainsFunc(w.holders(addr), func(o ipam.Key) bool { return o != k && !w.mayShare(k, o) })
}

// grantable says whether a holder could get one more address of a pool without naming it.
func (w *world) grantable(k ipam.Key, p ipam.Pool, addr netip.Addr) bool {
	if cools, _ := w.cooling(k, addr); cools || !spans(p, addr) || !w.free(k, addr) {
		return false
	}
	if holders := w.holders(addr); len(holders) > 0 { // shared, unless its own status alone has it
		others := slices.ContainsFunc(holders, func(o ipam.Key) bool {
			return o != k && o.Kind == ipam.KindService && slices.Contains(w.allocator.Held(o), addr)
		})
		return others && w.allocator.Pool(addr) == p.Name
	}
	last := addr.AsSlice()[len(addr.AsSlice())-1]
	return !p.AvoidBuggyIPs || addr.Is6() || last != 0 && last != 255
}

// fits says whether a holder's namespace may have these addresses of a pool.
func (w *world) fits(k ipam.Key, p ipam.Pool, addresses []netip.Addr) bool {
	if p.MaxPerNamespace == nil {
		return true
	}
	used := map[netip.Addr]bool{} // by others of the namespace
	more := false
	for o := range w.asks {
		for _, addr := range w.allocator.Held(o) {
			if o != k && o.Namespace == k.Namespace && w.allocator.Pool(addr) == p.Name {
				used[addr] = true
			}
		}
	}
	for _, addr := range addresses {
		more = more || !used[addr] && !slices.Contains(w.allocator.Held(k), addr)
		used[addr] = true
	}
	return !more || len(used) <= int(*p.MaxPerNamespace)
}

// addresses lists what a pool spans of a family.
func addresses(p ipam.Pool, f ipam.Family) []netip.Addr {
	var list []netip.Addr
	for _, r := range p.Ranges {
		for a := r.From(); ipam.FamilyOf(a) == f && r.Contains(a); a = a.Next() {
			list = append(list, a)
		}
	}
	return list
}

// possible says whether a holder could have, beside what it has got, one address of each
// of some families from a pool.
func (w *world) possible(k ipam.Key, p ipam.Pool, got []netip.Addr, families []ipam.Family) bool {
	if len(families) == 0 {
		return w.fits(k, p, got)
	}
	return slices.ContainsFunc(addresses(p, families[0]), func(addr netip.Addr) bool {
		return w.grantable(k, p, addr) && w.possible(k, p, append(slices.Clip(got), addr), families[1:])
	})
}

// resolved is a request with the addresses of the claim that it names; false: it has none.
func (w *world) resolved(r ipam.Request) (ipam.Request, bool) {
	if r.Claim == "" {
		return r, true
	}
	claim := ipam.ClaimKey(r.Namespace, r.Claim)
	if _, exists := w.asks[claim]; !exists {
		return r, len(w.allocator.Held(r.Key)) > 0
	}
	var named []netip.Addr
	var families []ipam.Family
	for _, f := range r.Families {
		for _, addr := range w.allocator.Held(claim) {
			if ipam.FamilyOf(addr) == f {
				named, families = append(named, addr), append(families, f)
			}
		}
	}
	agree := !slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return !slices.Contains(named, a) })
	if len(named) < max(r.Required, 1) || !agree {
		return r, false
	}
	r.Addresses, r.Families = named, families
	return r, true
}

// could says what a holder that is not content could have; "" is nothing.
func (w *world) could(k ipam.Key) string {
	r, ok := w.resolved(w.asks[k])
	if !ok || r.Invalid != "" {
		return ""
	}
	for _, addr := range r.Addresses {
		if !slices.Contains(r.Families, ipam.FamilyOf(addr)) {
			return ""
		}
	}
	_, exists := w.pool(r.Pool)
	var kept []netip.Addr
	for _, addr := range w.allocator.Held(k) {
		origin := w.allocator.Pool(addr)
		agrees := r.Pool == "" || origin == r.Pool || origin == "" && !exists
		for _, named := range r.Addresses {
			agrees = agrees && (ipam.FamilyOf(named) != ipam.FamilyOf(addr) || named == addr)
		}
		if agrees && slices.Contains(r.Families, ipam.FamilyOf(addr)) {
			kept = append(kept, addr)
		}
	}
	content := w.got[k].Reason == ""
	switch {
	case len(kept) == len(r.Families):
		return tell(!content, "keep what it holds")
	case len(r.Addresses) > 0:
		return w.couldBeGiven(r, kept, content)
	case len(kept) > 0:
		return tell(!content && len(kept) >= r.Required, "keep what it holds") + w.couldGain(r, kept)
	}
	for o, named := range w.asks { // a claim may take over what a Service that names it holds
		adopted := r
		adopted.Addresses = slices.DeleteFunc(slices.Clone(w.allocator.Held(o)), func(a netip.Addr) bool { return !slices.Contains(r.Families, ipam.FamilyOf(a)) })
		if k.Kind == ipam.KindClaim && named.Claim == k.Name && o.Namespace == k.Namespace && len(adopted.Addresses) > 0 {
			if could := w.couldBeGiven(adopted, nil, content); could != "" {
				return could + ", from " + o.String()
			}
		}
	}
	for _, p := range w.pools {
		if r.Pool != "" && p.Name != r.Pool || r.Pool == "" && !p.AutoAssign || !w.admits(p, r) {
			continue
		}
		for n := r.Required; n <= len(r.Families); n++ {
			if w.possible(k, p, nil, r.Families[:n]) {
				return fmt.Sprintf("have %v of pool %s", r.Families[:n], p.Name)
			}
		}
	}
	return ""
}

// couldBeGiven is could for one who asks for addresses.
func (w *world) couldBeGiven(r ipam.Request, kept []netip.Addr, content bool) string {
	have := slices.Clone(kept)
	var from []name.PoolName
	for _, named := range r.Addresses {
		if slices.Contains(kept, named) {
			from = append(from, w.allocator.Pool(named))
			continue
		}
		source := w.allocator.Pool(named)
		p, _ := w.pool(source)
		reserved := r.Claim != "" && slices.Contains(w.allocator.Held(ipam.ClaimKey(r.Namespace, r.Claim)), named)
		cools, _ := w.cooling(r.Key, named)
		if r.Pool != "" && source != "" && source != r.Pool || !w.free(r.Key, named) || !reserved && (cools || !spans(p, named) || !w.admits(p, r)) {
			return ""
		}
		have, from = append(have, named), append(from, source)
	}
	if slices.ContainsFunc(from, func(n name.PoolName) bool { return n != from[0] }) {
		return ""
	}
	have = slices.DeleteFunc(have, func(addr netip.Addr) bool { return w.allocator.Pool(addr) != from[0] })
	p, _ := w.pool(from[0])
	if !w.fits(r.Key, p, have) {
		return ""
	}
	gaveUp := slices.ContainsFunc(kept, func(k netip.Addr) bool { // of a family that it did not name
		return !slices.ContainsFunc(have, func(h netip.Addr) bool { return ipam.FamilyOf(h) == ipam.FamilyOf(k) })
	})
	if len(have) >= r.Required && !gaveUp && !content {
		return fmt.Sprintf("have %v, as it asks", have)
	}
	if len(have) < len(r.Families) {
		return w.couldGain(r, have)
	}
	return tell(!content, fmt.Sprintf("have %v, as it asks", have))
}

// couldGain says whether who has addresses of a pool could have those of all its families.
func (w *world) couldGain(r ipam.Request, have []netip.Addr) string {
	p, exists := w.pool(w.allocator.Pool(have[0]))
	missing := slices.DeleteFunc(slices.Clone(r.Families), func(f ipam.Family) bool {
		return slices.ContainsFunc(have, func(addr netip.Addr) bool { return ipam.FamilyOf(addr) == f })
	})
	return tell(exists && w.admits(p, r) && w.possible(r.Key, p, have, missing), fmt.Sprintf("have %v of pool %s too", missing, p.Name))
}

func tell(could bool, what string) string {
	if could {
		return what
	}
	return ""
}
