package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// model is the slow and obvious way to allocate: it looks at every address of every pool.
type model struct {
	pools []ipam.Pool
	held  map[string][]netip.Addr
}

// lowest returns the first free address of a family in the order of pools and ranges.
func (m *model) lowest(f ipam.Family) (netip.Addr, bool) {
	for _, p := range m.pools {
		for _, r := range p.Ranges {
			for a := r.From(); ipam.FamilyOf(a) == f && r.Contains(a); a = a.Next() {
				if last := a.AsSlice()[len(a.AsSlice())-1]; !m.taken(a) && last != 0 && (a.Is6() || last != 255) {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

func (m *model) taken(a netip.Addr) bool {
	for _, held := range m.held {
		if slices.Contains(held, a) {
			return true
		}
	}
	return false
}

// TestAllocatorAgreesWithModel runs random sequences of what users do and checks after
// each step: nobody's address changed, none is held twice, who got one got the lowest
// free one, and who got none could have none.
func TestAllocatorAgreesWithModel(t *testing.T) {
	t.Parallel()
	all := []ipam.Pool{
		pool("a", "192.0.2.250-192.0.3.5", "198.51.100.1-198.51.100.3"),
		pool("b", "192.0.3.6-192.0.3.9", "2001:db8::-2001:db8::5"),
		pool("c", "203.0.113.254-203.0.114.1"),
	}
	rapid.Check(t, func(t *rapid.T) {
		a := ipam.New()
		m := &model{held: map[string][]netip.Addr{}}
		now := start
		service := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("s%d", rapid.IntRange(0, 19).Draw(t, "service")) })
		check := func() {
			owners := map[netip.Addr]string{}
			for s, held := range m.held {
				if got := a.Held(key(s)); !slices.Equal(got, held) {
					t.Fatalf("%s holds %v, want %v", s, got, held)
				}
				for _, addr := range held {
					if other, twice := owners[addr]; twice {
						t.Fatalf("%s is held by %s and %s", addr, s, other)
					}
					owners[addr] = s
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { check() },
			"edit pools": func(t *rapid.T) {
				m.pools = rapid.Permutation(all).Draw(t, "order")[:rapid.IntRange(0, len(all)).Draw(t, "how many")]
				a.SetPools(slices.Clone(m.pools))
			},
			"allocate": func(t *rapid.T) {
				s := service.Draw(t, "s")
				f := rapid.SampledFrom([]ipam.Family{ipam.IPv4, ipam.IPv6}).Draw(t, "family")
				if held := m.held[s]; len(held) > 0 {
					f = ipam.FamilyOf(held[0])
				}
				want, free := m.lowest(f)
				got := a.Allocate(ipam.Request{Holder: ipam.Holder{Key: key(s)}, Families: []ipam.Family{f}, Required: 1}, now)
				switch {
				case len(m.held[s]) > 0:
					if !slices.Equal(got.Addresses, m.held[s]) {
						t.Fatalf("%s held %v and got %v", s, m.held[s], got.Addresses)
					}
				case !free:
					if got.Reason == "" || len(got.Addresses) > 0 {
						t.Fatalf("nothing is free, and %s got %+v", s, got)
					}
				default:
					if !slices.Equal(got.Addresses, []netip.Addr{want}) {
						t.Fatalf("%s got %+v, want %s", s, got, want)
					}
					m.held[s] = got.Addresses
				}
			},
			"ask": func(t *rapid.T) {
				s := service.Draw(t, "s")
				if len(m.held[s]) > 0 {
					t.Skip("holds one")
				}
				want := rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("192.0.3.2"), netip.MustParseAddr("192.0.3.8"), netip.MustParseAddr("198.51.100.2")}).Draw(t, "address")
				inPool := slices.ContainsFunc(m.pools, func(p ipam.Pool) bool {
					return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(want) })
				})
				got := a.Allocate(ipam.Request{Holder: ipam.Holder{Key: key(s)}, Families: []ipam.Family{ipam.IPv4}, Required: 1, Addresses: []netip.Addr{want}}, now)
				if could := inPool && !m.taken(want); could != (got.Reason == "") {
					t.Fatalf("%s asked for %s (possible: %t) and got %+v", s, want, could, got)
				}
				if got.Reason == "" {
					m.held[s] = got.Addresses
				}
			},
			"release": func(t *rapid.T) {
				s := service.Draw(t, "s")
				a.Release(key(s), now)
				delete(m.held, s)
				now = now.Add(time.Second)
			},
			"restart": func(*rapid.T) {
				a = ipam.New()
				for s, held := range m.held {
					a.Hold(ipam.Holder{Key: key(s)}, held, now)
				}
				a.SetPools(slices.Clone(m.pools))
			},
		})
	})
}

func key(service string) ipam.Key {
	return ipam.ServiceKey(name.ServiceKey{Namespace: "shop", Name: service})
}
