package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// poolLines says what becomes of each pool: its cells, and its problems.
func poolLines(f forecast) []string {
	var all []string
	for _, p := range f.Pools {
		for _, row := range p.rows() {
			all = append(all, strings.Join(row, " | "))
		}
		all = append(all, p.problems()...)
	}
	return all
}

func TestWhatBecomesOfPools(t *testing.T) {
	t.Parallel()
	lan := pool("lan", "192.0.2.1-192.0.2.9")
	web := []corev1.Service{service("web", "192.0.2.9")}
	for name, row := range map[string]foreseen{
		"a new pool counts from nothing": {
			edit: write(pool("lan", "192.0.2.1-192.0.2.9")), services: []corev1.Service{service("web")},
			want: []string{"lan | added | IPv4 | - -> 9 | - -> 1 | - -> 8 | True"},
		},
		"an edited pool says what its status would say": {
			live: []v1alpha1.IPAddressPool{lan}, services: web, edit: write(pool("lan", "192.0.2.1-192.0.2.5", "2001:db8::1")),
			want: []string{
				"lan | edited | IPv4 | 9 -> 5 | 1 -> 0 | 8 -> 5 | Retained",
				"lan | edited | IPv6 | 0 -> 1 | 0 | 0 -> 1 | Retained",
				"IPAddressPool lan: Retained: Services hold addresses that its spec no longer covers: 192.0.2.9.",
			},
		},
		"an entry that cannot be read is a problem, not an error": {
			edit: write(pool("lan", "192.0.2.9-192.0.2.1")),
			want: []string{
				"lan | added | - | - | - | - | InvalidAddress",
				`IPAddressPool lan: InvalidAddress: "192.0.2.9-192.0.2.1" ends before it begins; did you mean 192.0.2.1-192.0.2.9. The pool assigns nothing new until this is mended.`,
			},
		},
		"a file that says what there is changes nothing": {
			live: []v1alpha1.IPAddressPool{lan, pool("wan", "198.51.100.1")}, services: web, edit: write(lan),
			want: []string{"lan | unchanged | IPv4 | 9 | 1 | 8 | True"},
		},
		"a removed pool that nobody uses is gone": {
			live: []v1alpha1.IPAddressPool{lan}, edit: edit{remove: []string{"lan"}},
			want: []string{"lan | removed | IPv4 | 9 -> - | 0 -> - | 9 -> - | -"},
		},
		"a removed pool that is in use names its holders": {
			live: []v1alpha1.IPAddressPool{lan}, services: web, edit: edit{remove: []string{"lan"}},
			want: []string{
				"lan | removed | IPv4 | 9 | 1 | 8 | Draining",
				"IPAddressPool lan: Draining: It is being deleted and waits until no Service holds an address of it any more; it takes no new assignment.",
				"IPAddressPool lan: Draining: It is held by Service shop/web.",
			},
		},
		"a removed pool that somebody else's finalizer holds stays without holders": {
			live: []v1alpha1.IPAddressPool{with(lan, func(p *v1alpha1.IPAddressPool) { p.Finalizers = []string{v1alpha1.FinalizerHeld, "example.com/mine"} })},
			edit: edit{remove: []string{"lan"}},
			want: []string{
				"lan | removed | IPv4 | 9 | 0 | 9 | Draining",
				"IPAddressPool lan: Draining: It is being deleted and waits until no Service holds an address of it any more; it takes no new assignment.",
			},
		},
		"a younger pool that an edit overlaps is listed with its new problem": {
			live: []v1alpha1.IPAddressPool{lan, with(pool("wan", "198.51.100.1"), func(p *v1alpha1.IPAddressPool) { p.CreationTimestamp.Time = start().Add(time.Minute) })},
			edit: write(pool("lan", "192.0.2.1-192.0.2.9", "198.51.100.1")),
			want: []string{
				"lan | edited | IPv4 | 9 -> 10 | 0 | 9 -> 10 | True",
				"wan | unchanged | IPv4 | 1 -> 0 | 0 | 1 -> 0 | Overlap",
				"IPAddressPool wan: Overlap: It overlaps the older IPAddressPool lan at 198.51.100.1, which keeps these addresses.",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, "pools", poolLines(row.forecast(t)), row.want)
		})
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	has := func(addresses ...netip.Addr) standing { return standing{Addresses: addresses} }
	refused := func(addresses ...netip.Addr) standing { return standing{Addresses: addresses, Reason: "Test"} }
	for name, row := range map[string]struct {
		now, then standing
		want      change
	}{
		"who has nothing before and after waits":                        {refused(), refused(), waits},
		"who has the same keeps it":                                     {has(a, b), has(b, a), keeps},
		"who keeps an address that is not announced keeps it":           {refused(a), refused(a), keeps},
		"an address that is no longer announced is lost":                {has(a), refused(a), loses},
		"an address that is announced again is got":                     {refused(a), has(a), gets},
		"who has nothing any more loses":                                {has(a), refused(), loses},
		"who has one of two loses":                                      {has(a, b), has(a), loses},
		"who has one of two, and that is not announced any more, loses": {has(a, b), refused(a), loses},
		"who had nothing gets":                                          {refused(), has(a), gets},
		"who has a second one gets":                                     {has(a), has(a, b), gets},
		"who has another one changes":                                   {has(a), has(b), changes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := compare(row.now, row.then); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestTheTable(t *testing.T) {
	t.Parallel()
	f := foreseen{
		live:     []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1-192.0.2.3")},
		services: []corev1.Service{service("a", "192.0.2.1"), service("b", "192.0.2.2"), service("c", "192.0.2.3")},
		edit:     write(with(pool("lan", "192.0.2.1", "192.0.2.4"), reassign)),
	}.forecast(t).changed()
	want := `HOLDER           NOW         THEN        CHANGE    REASON
Service shop/c   192.0.2.3   -           loses     PoolExhausted: IPAddressPool lan has no free IPv4 address.
Service shop/b   192.0.2.2   192.0.2.4   changes   IPAddressPool lan no longer hands 192.0.2.2 out.

loses: 1, changes: 1, gets: 0, waits: 0, keeps: 1 (1 unchanged are not listed: --all)

POOL   CHANGE   FAMILY   TOTAL    ASSIGNED   AVAILABLE   READY
lan    edited   IPv4     3 -> 2   3 -> 2     0           True
`
	if got := string(f.table()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var b bytes.Buffer
	if err := f.print(&b, outputJSON); err != nil {
		t.Fatal(err)
	}
	var back forecast
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Summary[loses] != 1 || len(back.Holders) != 2 || back.Holders[0].Then.Reason != v1alpha1.ReasonPoolExhausted {
		t.Errorf("JSON: got %+v", back)
	}
}

func TestAStatusThatIsBehindIsCounted(t *testing.T) {
	t.Parallel()
	f := foreseen{
		live: []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1-192.0.2.3")}, services: []corev1.Service{service("a", "192.0.2.1"), service("b")},
		claims: []v1alpha1.AddressClaim{claim("c")}, edit: write(pool("lan", "192.0.2.1-192.0.2.3")),
	}.forecast(t)
	if f.Unsettled != 2 {
		t.Errorf("got %d, want 2", f.Unsettled)
	}
	if got := f.changed().Holders; len(got) > 0 {
		t.Errorf("what the controller has still to do is not due to the edit: %+v", got)
	}
}

// Whatever there is, an edit that changes nothing changes nothing, and with Retain no edit
// takes an address away.
func TestRetainTakesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.Custom(func(t *rapid.T) string {
			from := rapid.IntRange(0, 12).Draw(t, "from")
			return fmt.Sprintf("192.0.2.%d-192.0.2.%d", from, from+rapid.IntRange(0, 5).Draw(t, "length"))
		})
		pools := func(label string) []v1alpha1.IPAddressPool {
			var list []v1alpha1.IPAddressPool
			for i := range rapid.IntRange(0, 3).Draw(t, label) {
				p := pool(fmt.Sprint("p", i), rapid.SliceOfN(entry, 1, 2).Draw(t, "addresses")...)
				p.CreationTimestamp = metav1.Time{Time: start().Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Minute)}
				p.Spec.Drain = rapid.Bool().Draw(t, "drain")
				list = append(list, p)
			}
			return list
		}
		now := start().Add(time.Hour)
		s := situation{now: now, live: pools("live")}
		for i := range rapid.IntRange(0, 8).Draw(t, "services") {
			var held []string
			if last := rapid.IntRange(-8, 16).Draw(t, "held"); last >= 0 {
				held = []string{fmt.Sprint("192.0.2.", last)}
			}
			s.holders.Services = append(s.holders.Services, service(fmt.Sprint("s", i), held...))
		}
		s.planned = s.live
		if got := foretell(s).changed(); len(got.Holders)+len(got.Pools) > 0 {
			t.Fatalf("nothing is edited, and yet: %s", got.table())
		}
		var err error
		if s.planned, err = (edit{write: pools("written"), prune: true}).apply(s.live, now); err != nil {
			t.Fatal(err)
		}
		if got := foretell(s); got.Summary[loses]+got.Summary[changes] > 0 {
			t.Fatalf("Retain takes something: %s", got.table())
		}
	})
}
