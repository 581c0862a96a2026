package arp

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesAgreeWithAMap(t *testing.T) {
	t.Parallel()
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{192, 0, rapid.Byte().Draw(t, "b") % 2, rapid.Byte().Draw(t, "c") % 8})
	})
	entry := rapid.Custom(func(t *rapid.T) Entry {
		return Entry{address.Draw(t, "address"), MAC{2, rapid.Byte().Draw(t, "mac") % 3}}
	})
	rapid.Check(t, func(t *rapid.T) {
		var set Addresses
		oracle := map[netip.Addr]MAC{}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			before, had := set, maps.Clone(oracle)
			if rapid.Bool().Draw(t, "add") {
				added := rapid.SliceOfN(entry, 0, 6).Draw(t, "added")
				set = set.With(added...)
				for _, e := range added {
					oracle[e.Address] = e.MAC
				}
			} else {
				removed := rapid.SliceOfN(address, 0, 6).Draw(t, "removed")
				set = set.Without(removed...)
				for _, a := range removed {
					delete(oracle, a)
				}
			}
			same(t, before, had) // a set that was shared does not change
			same(t, set, oracle)
		}
	})
	if (Addresses{}).Contains(netip.MustParseAddr("::1")) {
		t.Error("a set of IPv4 addresses contains an IPv6 one")
	}
}

func same(t *rapid.T, set Addresses, oracle map[netip.Addr]MAC) {
	t.Helper()
	if set.Len() != len(oracle) || !slices.IsSorted(set.sorted) {
		t.Fatalf("the set holds %d of %d, sorted: %v", set.Len(), len(oracle), set.sorted)
	}
	for a, want := range oracle {
		if mac, found := set.Find(a); !found || mac != want {
			t.Fatalf("Find(%v) = %v, %v, want %v", a, mac, found, want)
		}
	}
}
