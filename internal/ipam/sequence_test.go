package ipam_test

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// TestMain makes property tests run many long sequences, unless flags say otherwise: for a
// longer run, -rapid.checks=20000.
func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for flagName, value := range map[string]string{"rapid.checks": "700", "rapid.steps": "200"} {
		if !given[flagName] {
			if err := flag.Set(flagName, value); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// TestAnySequenceKeepsThePromises runs random sequences of all that users and the
// controller do, and checks after each step that no address is held twice, that nobody's
// address moved without being asked to, and that nobody waits for what it could have.
func TestAnySequenceKeepsThePromises(t *testing.T) {
	t.Parallel()
	var steps atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			labels: map[string]labels.Set{}, asks: map[ipam.Key]ipam.Request{}, status: map[ipam.Key][]netip.Addr{},
			got: map[ipam.Key]ipam.Decision{}, allocator: ipam.New(),
		}
		w.now = start
		serial := 0
		w.edit(drawPools(t))
		act := func(event func(*rapid.T)) func(*rapid.T) {
			return func(t *rapid.T) {
				steps.Add(1)
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
				w.remember()
				w.retry() // what has cooled
				w.verify(t)
				w.remember()
				event(t)
				w.look()
				w.retry()
				w.verify(t)
				for _, k := range w.keys() {
					if w.before[k] != nil && !w.restarted && rapid.IntRange(0, 9).Draw(t, "late") == 9 {
						w.writeLate(k, w.before[k]) // decided before the event, written after it; the fence keeps an old leader from that
						continue
					}
					if rapid.IntRange(0, 9).Draw(t, "written") < 9 {
						w.write(k)
					}
				}
				w.remember()
				w.retry()
				w.verify(t)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": act(func(t *rapid.T) {
				r := drawRequest(t, ipam.KindService)
				serial++
				w.ask(t, r, serial)
			}),
			"claim": act(func(t *rapid.T) {
				r := drawRequest(t, ipam.KindClaim)
				serial++
				w.ask(t, r, serial)
			}),
			"delete": act(func(t *rapid.T) {
				if keys := w.keys(); len(keys) > 0 {
					k := rapid.SampledFrom(keys).Draw(t, "who")
					w.allocator.Release(k, w.now)
					delete(w.asks, k)
					delete(w.status, k)
					delete(w.got, k)
				}
			}),
			"edit pools": act(func(t *rapid.T) { w.edit(drawPools(t)) }),
			"relabel": act(func(t *rapid.T) {
				n := rapid.SampledFrom(namespaces).Draw(t, "namespace")
				w.labels[n] = labels.Set{"tier": rapid.SampledFrom([]string{"gold", "lead"}).Draw(t, "tier")}
				w.allocator.Relabel(n, w.labels[n])
			}),
			"restart": act(func(*rapid.T) { w.restart() }),
		})
	})
	t.Logf("%d steps", steps.Load())
	if checks := flag.Lookup("rapid.checks").Value.String(); checks == "700" && steps.Load() < 100_000 && !t.Failed() {
		t.Errorf("%d steps are too few to say anything", steps.Load())
	}
}

var namespaces = []string{"bank", "shop"}

// drawRequest makes a request of one of a few Services or claims.
func drawRequest(t *rapid.T, kind ipam.Kind) ipam.Request {
	often := func(what string) bool { return rapid.IntRange(0, 2).Draw(t, what) < 2 }
	r := ipam.Request{Required: 1}
	r.Kind, r.Namespace = kind, rapid.SampledFrom(namespaces).Draw(t, "namespace")
	families := [][]ipam.Family{{ipam.IPv4}, {ipam.IPv6}, {ipam.IPv4, ipam.IPv6}, {ipam.IPv6, ipam.IPv4}}
	r.Families = rapid.SampledFrom(families).Draw(t, "families")
	if rapid.Bool().Draw(t, "all") {
		r.Required = len(r.Families)
	}
	if !often("any pool") {
		r.Pool = rapid.SampledFrom([]name.PoolName{"a", "b", "c", "missing"}).Draw(t, "pool")
	}
	if !often("any address") {
		for _, f := range r.Families[:rapid.IntRange(1, len(r.Families)).Draw(t, "named")] {
			r.Addresses = append(r.Addresses, rapid.SampledFrom(universe(f)).Draw(t, "address"))
		}
	}
	r.Labels = labels.Set{"app": rapid.SampledFrom([]string{"web", "db"}).Draw(t, "app")}
	if kind == ipam.KindClaim {
		r.Name, r.Required = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"), len(r.Families)
		return r
	}
	r.Name = rapid.SampledFrom([]string{"s", "t", "u", "v", "w"}).Draw(t, "name")
	if !often("no claim") {
		r.Claim = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "claim")
	}
	if often("share") {
		r.Sharing.Key = rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key")
		r.Sharing.Local, r.Sharing.Selector = !often("cluster"), rapid.SampledFrom([]string{"", "app=a", "app=b"}).Draw(t, "selector")
		if rapid.Bool().Draw(t, "consent") {
			r.Sharing.From = namespaces
		}
	}
	r.Sharing.Ports = []ipam.Port{{Protocol: "TCP", Number: rapid.Int32Range(1, 5).Draw(t, "port")}}
	if rapid.IntRange(0, 19).Draw(t, "sense") == 19 {
		r.Invalid = "It makes no sense."
	}
	return r
}

// universe is all addresses that pools are made of.
func universe(f ipam.Family) []netip.Addr {
	first, n := netip.MustParseAddr("192.0.2.252"), 10
	if f == ipam.IPv6 {
		first, n = netip.MustParseAddr("2001:db8::"), 7
	}
	var list []netip.Addr
	for a := first; len(list) < n; a = a.Next() {
		list = append(list, a)
	}
	return list
}

// drawPools cuts the universe into three and gives each pool its part and its rules.
func drawPools(t *rapid.T) []ipam.Pool {
	pools := []ipam.Pool{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		all := universe(f)
		cuts := []int{0, rapid.IntRange(0, len(all)).Draw(t, "cut"), rapid.IntRange(0, len(all)).Draw(t, "cut"), rapid.IntRange(0, len(all)).Draw(t, "cut")}
		slices.Sort(cuts)
		for i := range pools {
			if from, to := cuts[i], cuts[i+1]; from < to {
				pools[i].Ranges = append(pools[i].Ranges, netipx.IPRangeFrom(all[from], all[to-1]))
			}
		}
	}
	pools = rapid.Permutation(pools).Draw(t, "order")[:rapid.IntRange(1, 3).Draw(t, "pools")]
	for i := range pools {
		p := &pools[i]
		seldom := func(what string) bool { return rapid.IntRange(0, 5).Draw(t, what) == 5 }
		p.AutoAssign, p.AvoidBuggyIPs = !seldom("manual"), rapid.Bool().Draw(t, "avoid")
		p.Drain, p.Deleting, p.Reassign = seldom("drain"), seldom("deleting"), rapid.IntRange(0, 2).Draw(t, "reassign") == 2
		p.ReuseDelay = time.Duration(rapid.IntRange(0, 60).Draw(t, "delay")) * time.Second
		if seldom("limited") || seldom("limited too") {
			limit := rapid.Int32Range(0, 4).Draw(t, "limit")
			p.MaxPerNamespace = &limit
		}
		if seldom("admits") || seldom("admits too") {
			p.Admission = rapid.SampledFrom([]*ipam.Admission{
				{Namespaces: []string{"shop"}},
				{NamespaceSelectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"tier": "gold"})}},
				{ServiceSelectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"app": "web"})}},
				{Namespaces: []string{"bank"}, NamespaceSelectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"tier": "gold"})}, ServiceSelectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"app": "web"})}},
			}).Draw(t, "admission")
		}
	}
	return pools
}

func (w *world) keys() []ipam.Key {
	return slices.SortedFunc(maps.Keys(w.asks), func(x, y ipam.Key) int {
		return int(x.Kind)*100 - int(y.Kind)*100 + slices.Compare([]string{x.Namespace, x.Name}, []string{y.Namespace, y.Name})
	})
}

// remember notes who holds what.
func (w *world) remember() {
	w.before, w.origin = map[ipam.Key][]netip.Addr{}, map[netip.Addr]name.PoolName{}
	w.changed, w.unmet, w.restarted = map[ipam.Key]bool{}, map[ipam.Key]bool{}, false
	for k := range w.asks {
		w.before[k] = w.allocator.Held(k)
		w.unmet[k] = w.got[k].Reason != ""
		for _, addr := range w.before[k] {
			w.origin[addr] = w.allocator.Pool(addr)
		}
	}
}

// ask is a Service or claim that is created or edited.
func (w *world) ask(t *rapid.T, r ipam.Request, serial int) {
	if before, exists := w.asks[r.Key]; exists {
		r.UID, r.Created = before.UID, before.Created
		if r.Invalid != "" {
			r.Sharing, r.Claim = before.Sharing, before.Claim
		}
	} else {
		r.UID, r.Created = fmt.Sprint(serial), w.now
	}
	w.asks[r.Key], w.changed[r.Key] = r, true
	before := w.allocator.Held(r.Key)
	d := w.allocator.Allocate(r, w.now)
	if d.Reason != "" && slices.ContainsFunc(d.Addresses, func(a netip.Addr) bool { return !slices.Contains(before, a) }) {
		t.Fatalf("%s was refused and got something else: %+v; it held %v", r.Key, d, before)
	}
	w.got[r.Key] = d
}

// retry does what the controller does after each event: it asks for whom something has
// changed, and looks at them.
func (w *world) retry() {
	w.thaw()
	for keys := w.allocator.Retry(w.now); len(keys) > 0; keys = w.allocator.Retry(w.now) {
		for _, k := range keys {
			w.got[k] = w.allocator.Allocate(w.asks[k], w.now)
		}
	}
	w.look()
}

// write is that the status of a holder was written, with what it has.
func (w *world) write(k ipam.Key) { w.writeLate(k, w.allocator.Held(k)) }

// writeLate is that a holder's status was written with what was decided a while ago.
func (w *world) writeLate(k ipam.Key, decided []netip.Addr) {
	w.status[k] = decided
	w.allocator.Settle(k, decided, w.now)
	w.look()
}

// edit puts pools into effect; each knows what it retains. One that is missing, but whose
// addresses are held, only waits to be deleted.
func (w *world) edit(pools []ipam.Pool) {
	for _, before := range w.pools {
		_, held := w.allocator.Holders(before.Name, 0)
		if held > 0 && !slices.ContainsFunc(pools, func(p ipam.Pool) bool { return p.Name == before.Name }) {
			pools = append(pools, ipam.Pool{Name: before.Name, Deleting: true})
		}
	}
	for i := range pools {
		p := &pools[i]
		p.Former = w.allocator.Retained(p.Name)
		p.Origin = slices.Concat(p.Ranges, p.Former)
	}
	w.pools = pools
	w.allocator.SetPools(slices.Clone(pools))
}

// restart is a new leader, which knows of pools and holders what their status says.
func (w *world) restart() {
	for k, r := range w.asks { // a crash in the middle of a change of terms is not this test's
		for o := range w.asks {
			shared := slices.ContainsFunc(w.status[k], func(a netip.Addr) bool { return slices.Contains(w.status[o], a) })
			if k != o && shared && !w.mayShare(k, o) || len(w.allocator.Leaving(k)) > 0 {
				w.write(k)
			}
		}
		w.changed[k] = !slices.Equal(w.status[k], w.allocator.Held(k)) || r.Claim != ""
	}
	before := w.allocator
	w.restarted = true
	w.allocator, w.freed, w.using = ipam.New(), nil, nil
	for n, l := range w.labels {
		w.allocator.Relabel(n, l)
	}
	for k, r := range w.asks {
		if len(w.status[k]) > 0 {
			w.allocator.Hold(r.Holder, w.status[k], w.now)
		}
	}
	for _, r := range w.asks {
		w.allocator.Ask(r, w.now)
	}
	for i := range w.pools {
		w.pools[i].Former = before.Retained(w.pools[i].Name)
		w.pools[i].Origin = slices.Concat(w.pools[i].Ranges, w.pools[i].Former)
	}
	w.allocator.SetPools(slices.Clone(w.pools))
	w.allocator.Retry(w.now)
	for k, r := range w.asks {
		w.got[k] = w.allocator.Allocate(r, w.now)
	}
}

// verify checks what must hold after every event.
func (w *world) verify(t *rapid.T) {
	for _, p := range w.pools {
		taken := map[netip.Addr]bool{}
		for k := range w.asks {
			for _, addr := range slices.Concat(w.allocator.Held(k), w.allocator.Leaving(k)) {
				if w.allocator.Pool(addr) == p.Name {
					taken[addr] = true
				}
			}
		}
		if got := w.allocator.Taken(p.Name); got != len(taken) {
			t.Fatalf("%d addresses of pool %s are taken, want %d", got, p.Name, len(taken))
		}
	}
	for _, k := range w.keys() {
		held, d := w.allocator.Held(k), w.got[k]
		if !slices.Equal(held, d.Addresses) {
			t.Fatalf("%s holds %v and was told %+v", k, held, d)
		}
		for _, addr := range held {
			w.verifyAlone(t, k, addr)
			w.verifyAllowed(t, k, addr)
		}
		w.verifyKept(t, k, held)
		if d.Reason == "" {
			w.verifyContent(t, k, held)
		}
		if d.Reason != "" || len(held) < len(w.asks[k].Families) {
			if could := w.could(k); could != "" {
				t.Fatalf("%s asks for %+v, was told %+v, and could %s", k, w.asks[k], d, could)
			}
		}
	}
}

// verifyAlone checks that nobody else has an address who may not share it.
func (w *world) verifyAlone(t *rapid.T, k ipam.Key, addr netip.Addr) {
	for o := range w.asks { // what a status holds, nobody else gets
		fresh := !slices.Contains(w.before[k], addr) && !slices.Contains(w.status[k], addr)
		if o != k && fresh && !w.restarted && slices.Contains(w.status[o], addr) && !w.mayShare(k, o) {
			t.Fatalf("%s got %s, which the status of %s holds", k, addr, o)
		}
	}
	if _, sure := w.cooling(k, addr); sure {
		t.Fatalf("%s got %s, which another namespace had a moment ago: %+v", k, addr, w.freed)
	}
	for _, o := range w.holders(addr) {
		both := slices.Contains(w.allocator.Held(o), addr)
		fresh := !slices.Contains(w.before[k], addr)
		if o != k && (both || fresh) && !w.mayShare(k, o) {
			t.Fatalf("%s has %s, and so has %s; they may not share it: %+v, %+v", k, addr, o, w.asks[k], w.asks[o])
		}
	}
}

// verifyAllowed checks that pools that take back have taken back, and that no new address
// is one too many for its namespace.
func (w *world) verifyAllowed(t *rapid.T, k ipam.Key, addr netip.Addr) {
	p, exists := w.pool(w.allocator.Pool(addr))
	if exists && p.Reassign && (p.Deleting || !spans(p, addr)) {
		t.Fatalf("%s still has %s, which pool %s takes back", k, addr, p.Name)
	}
	used, fresh := map[netip.Addr]bool{}, true
	for o := range w.asks {
		for _, other := range w.allocator.Held(o) {
			if o.Namespace == k.Namespace && w.allocator.Pool(other) == p.Name {
				used[other] = true
			}
		}
		fresh = fresh && (o.Namespace != k.Namespace || !slices.Contains(w.before[o], addr))
	}
	if fresh && !w.restarted && p.MaxPerNamespace != nil && len(used) > int(*p.MaxPerNamespace) {
		t.Fatalf("%s got %s of pool %s, and its namespace has %d of at most %d", k, addr, p.Name, len(used), *p.MaxPerNamespace)
	}
}

// verifyKept checks that a holder has what it had before, if nobody asked for a change.
func (w *world) verifyKept(t *rapid.T, k ipam.Key, held []netip.Addr) {
	claim := w.allocator.Held(ipam.ClaimKey(k.Namespace, w.asks[k].Claim))
	for _, addr := range w.before[k] {
		p, exists := w.pool(w.origin[addr])
		reclaimed := exists && p.Reassign && (p.Deleting || !spans(p, addr))
		rebound := w.asks[k].Claim != "" && len(claim) > 0 && !slices.Contains(claim, addr)
		met := w.unmet[k] && w.got[k].Reason == "" // it gave up what it did not ask for any more
		if !slices.Contains(held, addr) && !w.changed[k] && !reclaimed && !rebound && !met {
			t.Fatalf("%s lost %s of pool %s without being asked to: it holds %v", k, addr, w.origin[addr], held)
		}
	}
}

// verifyContent checks that who was told that all is well has what it asked for.
func (w *world) verifyContent(t *rapid.T, k ipam.Key, held []netip.Addr) {
	r := w.asks[k]
	order := slices.IsSortedFunc(held, func(x, y netip.Addr) int {
		return slices.Index(r.Families, ipam.FamilyOf(x)) - slices.Index(r.Families, ipam.FamilyOf(y))
	})
	if len(held) < r.Required || len(held) > len(r.Families) || !order {
		t.Fatalf("%s asks for %v (at least %d) and is content with %v", k, r.Families, r.Required, held)
	}
	for _, addr := range r.Addresses {
		if !slices.Contains(held, addr) {
			t.Fatalf("%s asks for %v and is content with %v", k, r.Addresses, held)
		}
	}
	_, exists := w.pool(r.Pool)
	for _, addr := range held {
		if from := w.allocator.Pool(addr); r.Pool != "" && from != r.Pool && (exists || from != "") {
			t.Fatalf("%s asks for pool %s and is content with %s of %q", k, r.Pool, addr, from)
		}
	}
}
