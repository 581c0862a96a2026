package ipam_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func ranges(list ...string) []netipx.IPRange {
	var rs []netipx.IPRange
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			rs = append(rs, netipx.RangeOfPrefix(p))
			continue
		}
		rs = append(rs, netipx.MustParseIPRange(s))
	}
	return rs
}

func addrs(list string) []netip.Addr {
	var as []netip.Addr
	for _, s := range strings.Fields(list) {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func holder(service string, age int) ipam.Holder {
	return ipam.Holder{Key: ipam.ServiceKey(name.ServiceKey{Namespace: "shop", Name: service}), Created: start.Add(time.Duration(age) * time.Second)}
}

func request(service string, families ...ipam.Family) ipam.Request {
	return ipam.Request{Holder: holder(service, 0), Families: families, Required: 1}
}

func pool(n string, rs ...string) ipam.Pool {
	return ipam.Pool{Name: name.PoolName(n), Ranges: ranges(rs...), AutoAssign: true, AvoidBuggyIPs: true}
}

// formerly is a pool that handed out ranges which its spec no longer has.
func formerly(p ipam.Pool, rs ...string) ipam.Pool {
	p.Former, p.Origin = ranges(rs...), ranges(rs...)
	return p
}

func TestAllocate(t *testing.T) {
	t.Parallel()
	four, six := ipam.IPv4, ipam.IPv6
	dual := func(required int) ipam.Request {
		r := request("web", four, six)
		r.Required = required
		return r
	}
	asking := func(r ipam.Request, pool, addresses string) ipam.Request {
		r.Pool, r.Addresses = name.PoolName(pool), addrs(addresses)
		return r
	}
	manual := pool("manual", "203.0.113.0/24")
	manual.AutoAssign = false
	draining := pool("draining", "203.0.113.0/24")
	draining.Drain = true
	private := pool("private", "203.0.113.0/24")
	private.Admission = &ipam.Admission{Namespaces: []string{"bank"}}
	public := pool("public", "203.0.113.0/24")
	public.Admission = &ipam.Admission{Namespaces: []string{"bank"}, NamespaceSelectors: []labels.Selector{labels.Everything()}}
	nobody := pool("nobody", "203.0.113.0/24")
	nobody.Admission = &ipam.Admission{ServiceSelectors: []labels.Selector{labels.Nothing()}}
	special := pool("special", "192.0.2.0-192.0.2.9")
	special.Excluded, special.Reserved = ranges("192.0.2.10-192.0.2.19"), ranges("192.0.2.20-192.0.2.29")

	for _, tc := range []struct {
		name   string
		pools  []ipam.Pool
		holds  string // by the Service itself
		taken  string // by others
		ask    ipam.Request
		want   string
		reason v1alpha1.Reason
		says   string
	}{
		{name: "no pool at all", ask: request("web", four), reason: v1alpha1.ReasonNoPool, says: "Create one"},
		{name: "the lowest address comes first, but not .0", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: request("web", four), want: "192.0.2.1"},
		{name: ".0 comes first when it is not avoided", pools: []ipam.Pool{{Name: "a", AutoAssign: true, Ranges: ranges("192.0.2.0/24")}}, ask: request("web", four), want: "192.0.2.0"},
		{name: "a held address is passed over", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, taken: "192.0.2.1", ask: request("web", four), want: "192.0.2.2"},
		{name: "ranges are used in the order of spec", pools: []ipam.Pool{pool("a", "198.51.100.7-198.51.100.8", "192.0.2.0/24")}, ask: request("web", four), want: "198.51.100.7"},
		{name: "the IPv6 address with a zero host part is never handed out", pools: []ipam.Pool{pool("a", "2001:db8::/64")}, ask: request("web", six), want: "2001:db8::1"},
		{name: "a full pool makes way for the next", pools: []ipam.Pool{pool("a", "192.0.2.1-192.0.2.1"), pool("b", "192.0.2.9-192.0.2.9")}, taken: "192.0.2.1", ask: request("web", four), want: "192.0.2.9"},
		{name: "all pools full", pools: []ipam.Pool{pool("a", "192.0.2.1-192.0.2.1")}, taken: "192.0.2.1", ask: request("web", four), reason: v1alpha1.ReasonPoolExhausted, says: "a has no free IPv4"},
		{name: "no pool of the family", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: request("web", six), reason: v1alpha1.ReasonFamilyUnavailable, says: "no IPv6"},
		{name: "exhausted says more than the wrong family", pools: []ipam.Pool{pool("a", "2001:db8::/64"), pool("b", "192.0.2.1-192.0.2.1")}, taken: "192.0.2.1", ask: request("web", four), reason: v1alpha1.ReasonPoolExhausted},
		{name: "a pool without autoAssign gives nothing unasked", pools: []ipam.Pool{manual}, ask: request("web", four), reason: v1alpha1.ReasonNoPool},
		{name: "a pool without autoAssign gives when it is named", pools: []ipam.Pool{manual}, ask: asking(request("web", four), "manual", ""), want: "203.0.113.1"},
		{name: "a pool without autoAssign gives when the address is named", pools: []ipam.Pool{manual}, ask: asking(request("web", four), "", "203.0.113.77"), want: "203.0.113.77"},
		{name: "a draining pool gives nothing", pools: []ipam.Pool{draining}, ask: request("web", four), reason: v1alpha1.ReasonDraining},
		{name: "a draining pool lets holders keep theirs", pools: []ipam.Pool{draining}, holds: "203.0.113.5", ask: request("web", four), want: "203.0.113.5"},
		{name: "a pool of other namespaces is passed over, and says so", pools: []ipam.Pool{private}, ask: request("web", four), reason: v1alpha1.ReasonPoolNotAllowed},
		{name: "a pool of other namespaces refuses by name", pools: []ipam.Pool{private}, ask: asking(request("web", four), "private", ""), reason: v1alpha1.ReasonPoolNotAllowed},
		{name: "a pool that no longer admits the Service takes nothing away", pools: []ipam.Pool{private}, holds: "203.0.113.5", ask: asking(request("web", four), "private", ""), want: "203.0.113.5"},
		{name: "a requested address that is held stays though the pool drains", pools: []ipam.Pool{draining}, holds: "203.0.113.5", ask: asking(request("web", four), "draining", "203.0.113.5"), want: "203.0.113.5"},
		{name: "an address of a pool of other namespaces is refused", pools: []ipam.Pool{private}, ask: asking(request("web", four), "", "203.0.113.7"), reason: v1alpha1.ReasonPoolNotAllowed},
		{name: "namespaces and namespace selectors are ORed", pools: []ipam.Pool{public}, ask: request("web", four), want: "203.0.113.1"},
		{name: "a selector that matches nothing admits nobody", pools: []ipam.Pool{nobody}, ask: request("web", four), reason: v1alpha1.ReasonPoolNotAllowed},
		{name: "a named pool that does not exist", pools: []ipam.Pool{manual}, ask: asking(request("web", four), "nowhere", ""), reason: v1alpha1.ReasonNoPool, says: "nowhere does not exist"},
		{name: ".255 can be asked for", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: asking(request("web", four), "", "192.0.2.255"), want: "192.0.2.255"},
		{name: "an address in use is refused and says by whom", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, taken: "192.0.2.7", ask: asking(request("web", four), "", "192.0.2.7"), reason: v1alpha1.ReasonAddressInUse, says: "shop/other"},
		{name: "an address outside every pool is refused", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: asking(request("web", four), "", "203.0.113.7"), reason: v1alpha1.ReasonAddressNotInPool, says: "203.0.113.7 is in no IPAddressPool"},
		{name: "an address of another pool than the named one is refused", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), manual}, ask: asking(request("web", four), "a", "203.0.113.7"), reason: v1alpha1.ReasonAddressNotInPool, says: "not in the requested pool a"},
		{name: "an excluded address is refused", pools: []ipam.Pool{special}, ask: asking(request("web", four), "", "192.0.2.10"), reason: v1alpha1.ReasonAddressExcluded},
		{name: "a reserved address is refused", pools: []ipam.Pool{special}, ask: asking(request("web", four), "", "192.0.2.20"), reason: v1alpha1.ReasonAddressReserved},
		{name: "an all-zero host part is refused when asked for", pools: []ipam.Pool{pool("a", "2001:db8::/64")}, ask: asking(request("web", six), "", "2001:db8::"), reason: v1alpha1.ReasonAddressExcluded},
		{name: "an address of a family that the Service lacks", pools: []ipam.Pool{pool("a", "2001:db8::/64")}, ask: asking(request("web", four), "", "2001:db8::1"), reason: v1alpha1.ReasonInvalidRequest},
		{name: "two addresses of one family", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: asking(request("web", four), "", "192.0.2.1 192.0.2.2"), reason: v1alpha1.ReasonInvalidRequest},
		{name: "both families come from one pool", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "198.51.100.0/24", "2001:db8::/64")}, ask: dual(2), want: "198.51.100.1 2001:db8::1"},
		{name: "PreferDualStack takes a dual pool before an earlier single one", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "198.51.100.0/24", "2001:db8::/64")}, ask: dual(1), want: "198.51.100.1 2001:db8::1"},
		{name: "PreferDualStack takes the primary family if there is no dual pool", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, ask: dual(1), want: "192.0.2.1"},
		{name: "RequireDualStack waits for a dual pool", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "2001:db8::/64")}, ask: dual(2), reason: v1alpha1.ReasonFamilyUnavailable},
		{name: "the second family is added in place", pools: []ipam.Pool{pool("a", "192.0.2.0/24", "2001:db8::/64")}, holds: "192.0.2.50", ask: dual(1), want: "192.0.2.50 2001:db8::1"},
		{name: "PreferDualStack never jumps pools for the second family", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "198.51.100.0/24", "2001:db8::/64")}, holds: "192.0.2.50", ask: dual(1), want: "192.0.2.50"},
		{name: "a held address outside every pool stays", pools: []ipam.Pool{pool("b", "198.51.100.0/24", "2001:db8::/64")}, holds: "192.0.2.50", ask: dual(1), want: "192.0.2.50"},
		{name: "RequireDualStack does not give up a held address of no pool", pools: []ipam.Pool{pool("b", "198.51.100.0/24", "2001:db8::/64")}, holds: "192.0.2.50", ask: dual(2), want: "192.0.2.50", reason: v1alpha1.ReasonFamilyUnavailable},
		{name: "a family that the Service gave up is released", pools: []ipam.Pool{pool("a", "192.0.2.0/24", "2001:db8::/64")}, holds: "192.0.2.50 2001:db8::5", ask: request("web", six), want: "2001:db8::5"},
		{name: "asking for another address moves", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, holds: "192.0.2.50", ask: asking(request("web", four), "", "192.0.2.60"), want: "192.0.2.60"},
		{name: "an address that its named pool no longer contains stays, though another pool does", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), formerly(manual, "192.0.2.50-192.0.2.50")}, holds: "192.0.2.50", ask: asking(request("web", four), "manual", ""), want: "192.0.2.50"},
		{name: "a pool that was named while nobody looked is given", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), manual}, holds: "192.0.2.50", ask: asking(request("web", four), "manual", ""), want: "203.0.113.1"},
		{name: "an address of no pool stays though it names a pool that is gone", pools: []ipam.Pool{manual}, holds: "192.0.2.50", ask: asking(request("web", four), "gone", ""), want: "192.0.2.50"},
		{name: "asking for what is taken loses nothing", pools: []ipam.Pool{pool("a", "192.0.2.0/24")}, holds: "192.0.2.50", taken: "192.0.2.60", ask: asking(request("web", four), "", "192.0.2.60"), want: "192.0.2.50", reason: v1alpha1.ReasonAddressInUse},
		{name: "one named address brings the other family from its own pool", pools: []ipam.Pool{pool("a", "192.0.2.0/24", "2001:db8::/64"), pool("b", "198.51.100.0/24", "2001:db8:b::/64")}, holds: "192.0.2.50 2001:db8::5", ask: asking(dual(2), "", "198.51.100.3"), want: "198.51.100.3 2001:db8:b::1"},
		{name: "addresses of two pools are refused", pools: []ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "2001:db8::/64")}, ask: asking(dual(2), "", "192.0.2.3 2001:db8::3"), reason: v1alpha1.ReasonInvalidRequest, says: "one pool"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := ipam.New()
			a.SetPools(tc.pools)
			a.Hold(holder("web", 0), addrs(tc.holds), start)
			a.Hold(holder("other", 0), addrs(tc.taken), start)
			got := a.Allocate(tc.ask, start)
			if !slices.Equal(got.Addresses, addrs(tc.want)) || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("got %v, reason %q (%s); want %q, reason %q, a message with %q", got.Addresses, got.Reason, got.Message, tc.want, tc.reason, tc.says)
			}
			if (got.Reason == "") != (got.Message == "") {
				t.Errorf("reason %q and message %q: want both or none", got.Reason, got.Message)
			}
			if again := a.Allocate(tc.ask, start); !slices.Equal(again.Addresses, got.Addresses) {
				t.Errorf("asked again: got %v after %v", again.Addresses, got.Addresses)
			}
		})
	}
}

func TestAskingForAnotherPoolMoves(t *testing.T) {
	t.Parallel()
	a := ipam.New()
	a.SetPools([]ipam.Pool{pool("a", "192.0.2.0/24"), pool("b", "198.51.100.0/24")})
	r := request("web", ipam.IPv4)
	a.Allocate(r, start)
	for _, ask := range []struct {
		pool name.PoolName
		want string
	}{{"a", "192.0.2.1"}, {"b", "198.51.100.1"}, {"", "198.51.100.1"}, {"a", "192.0.2.1"}} {
		r.Pool = ask.pool
		if got := a.Allocate(r, start); got.Reason != "" || !slices.Equal(got.Addresses, addrs(ask.want)) {
			t.Errorf("asked for pool %q: got %+v, want %s", ask.pool, got, ask.want)
		}
		a.Settle(r.Key, a.Held(r.Key), start)
	}
}

func TestForeignHolderTakesNothingAway(t *testing.T) {
	t.Parallel()
	a := ipam.New()
	a.SetPools([]ipam.Pool{pool("a", "192.0.2.0/24")})
	a.Hold(holder("ours", 2), addrs("192.0.2.9"), start)
	foreign := holder("older", 1)
	foreign.Foreign = true
	a.Hold(foreign, addrs("192.0.2.9"), start)
	if got := a.Allocate(request("ours", ipam.IPv4), start); got.Reason != "" {
		t.Errorf("a foreign Service took an address that Ballast had assigned: %+v", got)
	}
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	a := ipam.New()
	a.SetPools([]ipam.Pool{pool("a", "192.0.2.0/24")})
	a.Hold(holder("younger", 2), addrs("192.0.2.9"), start)
	a.Hold(holder("older", 1), addrs("192.0.2.9"), start)

	younger, older := request("younger", ipam.IPv4), request("older", ipam.IPv4)
	younger.Holder, older.Holder = holder("younger", 2), holder("older", 1)
	if got := a.Allocate(younger, start); got.Reason != v1alpha1.ReasonDuplicate || !strings.Contains(got.Message, "shop/older") {
		t.Errorf("younger: got %+v, want Duplicate that names shop/older", got)
	}
	if got := a.Allocate(older, start); got.Reason != "" || !slices.Equal(got.Addresses, addrs("192.0.2.9")) {
		t.Errorf("older: got %+v, want that it keeps 192.0.2.9", got)
	}
	a.Release(older.Key, start)
	if got := a.Allocate(younger, start); got.Reason != "" || !slices.Equal(got.Addresses, addrs("192.0.2.9")) {
		t.Errorf("younger alone: got %+v, want 192.0.2.9", got)
	}
}

func TestReuseDelay(t *testing.T) {
	t.Parallel()
	a := ipam.New()
	p := pool("a", "192.0.2.1-192.0.2.3")
	p.ReuseDelay = time.Minute
	a.SetPools([]ipam.Pool{p})
	take := func(service string, at time.Duration) string {
		return a.Allocate(request(service, ipam.IPv4), start.Add(at)).Addresses[0].String()
	}
	free := func(service string, at time.Duration) {
		a.Release(holder(service, 0).Key, start.Add(at))
	}
	take("one", 0)
	free("one", 0)
	if got := take("two", time.Second); got != "192.0.2.2" {
		t.Errorf("one second after its release: got %s, want the next one, 192.0.2.2", got)
	}
	if got := take("three", time.Second); got != "192.0.2.3" {
		t.Errorf("got %s, want 192.0.2.3", got)
	}
	if got := take("four", time.Second); got != "192.0.2.1" {
		t.Errorf("nothing else is free: got %s, want the cooling 192.0.2.1", got)
	}
	free("two", 2*time.Second)
	free("four", 3*time.Second)
	a.SetPools([]ipam.Pool{func() ipam.Pool { q := p; q.Ranges = ranges("192.0.2.1-192.0.2.4"); return q }()})
	if got := take("five", 4*time.Second); got != "192.0.2.4" {
		t.Errorf("a pool edit forgot what cools: got %s, want 192.0.2.4", got)
	}
	if got := take("six", 2*time.Minute); got != "192.0.2.1" {
		t.Errorf("after the delay: got %s, want the lowest, 192.0.2.1", got)
	}
}

func TestPoolEditMovesNothing(t *testing.T) {
	t.Parallel()
	a := ipam.New()
	a.SetPools([]ipam.Pool{pool("a", "192.0.2.0/24")})
	r := request("web", ipam.IPv4)
	a.Allocate(r, start)
	for _, pools := range [][]ipam.Pool{{pool("a", "192.0.2.128/25")}, {pool("b", "192.0.2.128/25")}, nil} {
		a.SetPools(pools)
		if got := a.Allocate(r, start); got.Reason != "" || !slices.Equal(got.Addresses, addrs("192.0.2.1")) {
			t.Fatalf("with pools %v: got %+v, want 192.0.2.1 kept", pools, got)
		}
	}
	a.SetPools([]ipam.Pool{pool("a", "192.0.2.128/25")})
	if got := a.Retained("a"); len(got) != 1 || got[0].String() != "192.0.2.1-192.0.2.1" {
		t.Errorf("retained: got %v, want 192.0.2.1", got)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, v4, v6 string
		pool         ipam.Pool
	}{
		{"both ends of every /24 are left out", "508", "0", pool("a", "192.0.2.0/24", "198.51.0.0/24")},
		{"a /8", "16646144", "0", pool("a", "10.0.0.0/8")},
		{"a /64 lacks its zero host part", "0", "18446744073709551615", pool("a", "2001:db8::/64")},
		{"a range that ends at .255", "5", "0", pool("a", "192.0.2.250-192.0.2.255")},
		{"the whole of IPv4 space does not overflow", "4261412864", "0", pool("a", "0.0.0.0/0")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := ipam.New()
			a.SetPools([]ipam.Pool{tc.pool})
			if v4, v6 := a.Usage("a", ipam.IPv4), a.Usage("a", ipam.IPv6); v4.Total.String() != tc.v4 || v6.Total.String() != tc.v6 {
				t.Errorf("got %s and %s, want %s and %s", v4.Total, v6.Total, tc.v4, tc.v6)
			}
		})
	}
}
