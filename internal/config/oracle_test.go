package config_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

// The few addresses of the oracle: at both ends of IPv4, where it touches IPv6, and around a CIDR of IPv6.
func fewAddresses() []netip.Addr {
	var all []netip.Addr
	for i := range 24 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for i := range 4 {
		all = append(all, netip.AddrFrom4([4]byte{255, 255, 255, byte(252 + i)}))
	}
	for i := range 16 {
		all = append(all, netip.AddrFrom16([16]byte{15: byte(i)}))
	}
	return all
}

// drawEntries draws entries of a pool: ranges, single addresses and CIDRs.
func drawEntries(t *rapid.T, label string, most int) []string {
	all := fewAddresses()
	var list []string
	for range rapid.IntRange(0, most).Draw(t, label) {
		i := rapid.IntRange(0, len(all)-1).Draw(t, "first")
		j := min(i+rapid.IntRange(0, 7).Draw(t, "more"), len(all)-1)
		switch first, last := all[i], all[j]; {
		case i == j || first.Is4() != last.Is4() || first.As16()[12] != last.As16()[12]:
			list = append(list, first.String())
		case rapid.Bool().Draw(t, "CIDR"):
			list = append(list, netip.PrefixFrom(first, first.BitLen()-rapid.IntRange(0, 2).Draw(t, "bits")).Masked().String())
		default:
			list = append(list, first.String()+"-"+last.String())
		}
	}
	return list
}

// has says whether entries contain an address.
func has(entries []string, a netip.Addr) bool {
	return slices.ContainsFunc(entries, func(entry string) bool {
		r, err := config.ParseRange(entry)
		return err == nil && r.Contains(a)
	})
}

func TestPoolsAreWhatALookAtEachAddressFinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var o config.Objects
		for i := range rapid.IntRange(1, 4).Draw(t, "pools") {
			p := pool(fmt.Sprintf("p%d", i), i, drawEntries(t, "addresses", 4)...)
			p.Spec.Exclude = drawEntries(t, "exclude", 2)
			p.Status.ObservedAddresses, p.Status.Retained = drawEntries(t, "observed", 3), drawEntries(t, "retained", 1)
			o.Pools = append(o.Pools, p)
		}
		for _, a := range fewAddresses() {
			if rapid.IntRange(0, 9).Draw(t, "reserved") == 0 {
				o.Reserved = append(o.Reserved, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		c := config.Compile(o)
		for i := range o.Pools {
			for _, a := range fewAddresses() {
				if got, want := found(c, i, a), looked(o, i, a); got != want {
					t.Fatalf("%s of %s is %+v, want %+v", a, o.Pools[i].Name, got, want)
				}
			}
			checkOrder(t, c, o.Pools[i])
		}
		checkOverlaps(t, c, o)
	})
}

// what is what an address is to a pool.
type what struct{ handedOut, excluded, reserved, origin, former, spanned bool }

// found is what was compiled of an address; handed out twice is as good as never.
func found(c config.Compiled, pool int, a netip.Addr) what {
	name, w, times := fmt.Sprintf("p%d", pool), what{}, 0
	for _, p := range c.Pools {
		if string(p.Name) != name {
			continue
		}
		for _, r := range p.Ranges {
			if r.Contains(a) {
				times++
			}
		}
		w.excluded, w.reserved = has(config.FormatRanges(p.Excluded), a), has(config.FormatRanges(p.Reserved), a)
		w.origin, w.former = has(config.FormatRanges(p.Origin), a), has(config.FormatRanges(p.Former), a)
	}
	for _, p := range c.Announce.Pools {
		if string(p.Name) != name {
			continue
		}
		w.spanned = p.Addresses.Contains(a) && p.Addresses.ContainsPrefix(netip.PrefixFrom(a, a.BitLen()))
		if p.Origin.Contains(a) != w.origin || p.Former.Contains(a) != w.former {
			times = 2
		}
	}
	w.handedOut = times == 1
	return w
}

// looked is what an address is to a pool by the words of the API. Pools are in the order of age.
func looked(o config.Objects, pool int, a netip.Addr) what {
	p, older, elsewhere := o.Pools[pool], false, false
	for i, other := range o.Pools {
		older = older || i < pool && has(other.Spec.Addresses, a)
		elsewhere = elsewhere || i != pool && has(other.Status.ObservedAddresses, a)
	}
	first := func(entry string) bool { // the first address of several in IPv6
		r, err := config.ParseRange(entry)
		prefix, ok := r.Prefix()
		return err == nil && ok && a.Is6() && r.From() == a && !prefix.IsSingleIP()
	}
	in, cut := has(p.Spec.Addresses, a), has(p.Spec.Exclude, a)
	w := what{
		excluded: in && (cut || slices.ContainsFunc(p.Spec.Addresses, first)),
		reserved: in && slices.Contains(o.Reserved, netip.PrefixFrom(a, a.BitLen())),
		origin:   in || has(p.Status.ObservedAddresses, a) || has(p.Status.Retained, a),
		former:   has(p.Status.Retained, a) || has(p.Status.ObservedAddresses, a) && !elsewhere && !in,
		spanned:  in && !cut && !older,
	}
	w.handedOut = in && !older && !w.excluded && !w.reserved
	return w
}

// checkOrder checks that a pool hands out in the order of its entries.
func checkOrder(t *rapid.T, c config.Compiled, p v1alpha1.IPAddressPool) {
	last := 0
	for _, compiled := range c.Pools {
		if string(compiled.Name) != p.Name {
			continue
		}
		for _, r := range compiled.Ranges {
			entry := slices.IndexFunc(p.Spec.Addresses, func(e string) bool { return has([]string{e}, r.From()) })
			if entry < last || !has(p.Spec.Addresses[entry:entry+1], r.To()) {
				t.Fatalf("%s hands out %v in the order %v", p.Name, p.Spec.Addresses, compiled.Ranges)
			}
			last = entry
		}
	}
}

// checkOverlaps checks that a pool says so if and only if an older one has an address of its spec.
func checkOverlaps(t *rapid.T, c config.Compiled, o config.Objects) {
	for i, p := range o.Pools {
		want := map[string]bool{}
		for _, a := range fewAddresses() {
			for _, older := range o.Pools[:i] {
				if has(p.Spec.Addresses, a) && has(older.Spec.Addresses, a) {
					want[older.Name] = true
					break
				}
			}
		}
		got := map[string]bool{}
		for _, problem := range c.Problems {
			if problem.Name == p.Name && problem.Reason == v1alpha1.ReasonOverlap {
				older, _, _ := strings.Cut(strings.TrimPrefix(problem.Message, "It overlaps the older IPAddressPool "), " ")
				got[older] = true
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s overlaps %v, want %v, of %v", p.Name, got, want, c.Problems)
		}
	}
}
