package ndp

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesAgreeWithAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var set Addresses
		oracle := map[netip.Addr]MAC{}
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 7: rapid.Byte().Draw(t, "b") % 2, 15: rapid.Byte().Draw(t, "c") % 8})
		})
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			batch := rapid.SliceOfN(address, 0, 6).Draw(t, "batch")
			before, was := set, map[netip.Addr]MAC{}
			for a, m := range oracle {
				was[a] = m
			}
			if rapid.Bool().Draw(t, "add") {
				var entries []Entry
				for _, a := range batch {
					e := Entry{a, MAC{2, rapid.Byte().Draw(t, "mac")}}
					entries = append(entries, e)
					oracle[a] = e.MAC
				}
				set = set.With(entries...)
			} else {
				set = set.Without(batch...)
				for _, a := range batch {
					delete(oracle, a)
				}
			}
			agree(t, before, was)
			agree(t, set, oracle)
		}
	})
}

// TestLargeSetsAgreeWithAMap changes runs of neighboring addresses, long and short.
func TestLargeSetsAgreeWithAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var set Addresses
		oracle := map[netip.Addr]MAC{}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			first, length := rapid.IntRange(0, 1000).Draw(t, "first"), rapid.SampledFrom([]int{1, 2, 60, 130, 700}).Draw(t, "length")
			step := rapid.IntRange(1, 3).Draw(t, "step")
			mac, add := MAC{2, rapid.Byte().Draw(t, "mac")}, rapid.Bool().Draw(t, "add")
			before, was := set, maps.Clone(oracle)
			var added []Entry
			var removed []netip.Addr
			for i := first; i < first+length; i += step {
				added, removed = append(added, Entry{numbered(i), mac}), append(removed, numbered(i))
				if add {
					oracle[numbered(i)] = mac
				} else {
					delete(oracle, numbered(i))
				}
			}
			if add {
				set = set.With(added...)
			} else {
				set = set.Without(removed...)
			}
			agree(t, before, was)
			agree(t, set, oracle)
		}
	})
}

func agree(t *rapid.T, set Addresses, oracle map[netip.Addr]MAC) {
	whole := slices.Concat(set.chunks...)
	if len(whole) != set.count || !slices.IsSortedFunc(whole, func(x, y entry) int { return x.address.compare(y.address) }) {
		t.Fatalf("counts %d of %d addresses, or they are not in order", set.count, len(whole))
	}
	for i, chunk := range set.chunks {
		if len(chunk) == 0 || len(chunk) > chunkLen || i > 0 && len(set.chunks[i-1])+len(chunk) <= chunkLen/2 {
			t.Fatalf("chunk %d holds %d addresses", i, len(chunk))
		}
	}
	if set.Len() != len(oracle) {
		t.Fatalf("Len() = %d, want %d", set.Len(), len(oracle))
	}
	for a, m := range oracle {
		if got, found := set.Find(a); !found || got != m || !set.Contains(a) {
			t.Fatalf("%v has %v, %v, want %v", a, got, found, m)
		}
	}
}

func TestASetContainsNothingButIPv6(t *testing.T) {
	t.Parallel()
	set := Addresses{}.With(Entry{Address: vip}, Entry{Address: netip.MustParseAddr("::c000:201")})
	for _, text := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::10%eth0", "2001:db8::1"} {
		if set.Contains(netip.MustParseAddr(text)) {
			t.Errorf("contains %s", text)
		}
	}
	if set.Contains(netip.Addr{}) {
		t.Error("contains the zero address")
	}
}

func TestLookingUpDoesNotAllocate(t *testing.T) {
	set := many(10000)
	if n := testing.AllocsPerRun(100, func() { set.Contains(vip); set.Contains(foreign) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

func many(n int) Addresses {
	var entries []Entry
	for i := range n {
		entries = append(entries, Entry{Address: numbered(i)})
	}
	return Addresses{}.With(entries...)
}

// numbered returns an address whose solicited-node group is that of no other up to 1<<24.
func numbered(i int) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 1}
	binary.BigEndian.PutUint32(b[12:], uint32(i))
	return netip.AddrFrom16(b)
}

func BenchmarkWithOneByOne(b *testing.B) {
	for _, n := range []int{2000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				var set Addresses
				for i := range n {
					set = set.With(Entry{Address: numbered(i)})
				}
			}
		})
	}
}

func BenchmarkWithoutOneByOne(b *testing.B) {
	all := many(10000)
	for b.Loop() {
		set := all
		for i := range 10000 {
			set = set.Without(numbered(i))
		}
	}
}

func BenchmarkFind(b *testing.B) {
	set := many(10000)
	for b.Loop() {
		set.Contains(numbered(7777))
	}
}

func BenchmarkWithInOneBatch(b *testing.B) {
	for b.Loop() {
		many(10000)
	}
}
