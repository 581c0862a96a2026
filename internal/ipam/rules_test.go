package ipam_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// scene is an allocator, and what it told each holder last.
type scene struct {
	*ipam.Allocator
	asks map[ipam.Key]ipam.Request
	got  map[ipam.Key]ipam.Decision
	now  time.Time
}

// event is something that happens in a scene.
type event func(*scene)

// play lets events happen one after the other; after each, those who wait are tried again,
// and what was decided is written.
func play(events ...event) *scene {
	s := &scene{ipam.New(), map[ipam.Key]ipam.Request{}, map[ipam.Key]ipam.Decision{}, start}
	for _, e := range events {
		e(s)
		for range 2 { // what is written may help others
			for _, k := range s.Retry(s.now) {
				s.got[k] = s.Allocate(s.asks[k], s.now)
			}
			for k := range s.asks {
				s.Settle(k, s.Held(k), s.now)
			}
		}
	}
	return s
}

// says is what a holder has, or, after a dash, why not what it asks for.
func (s *scene) says(k ipam.Key) string {
	var said []string
	for _, addr := range s.Held(k) {
		said = append(said, addr.String())
	}
	if d := s.got[k]; d.Reason != "" {
		said = append(said, "-", string(d.Reason))
	}
	return strings.Join(said, " ")
}

// who is a Service "namespace/name", or with a leading "@" a claim.
func who(s string) ipam.Key {
	kind := ipam.ServiceKey
	if claim, isClaim := strings.CutPrefix(s, "@"); isClaim {
		kind, s = func(k name.ServiceKey) ipam.Key { return ipam.ClaimKey(k.Namespace, k.Name) }, claim
	}
	namespace, n, _ := strings.Cut(s, "/")
	return kind(name.ServiceKey{Namespace: namespace, Name: n})
}

// asks is a Service or claim that is created, or edited to ask for what edits say. It
// wants IPv4 and port 80 unless they say otherwise.
func asks(holder string, edits ...func(*ipam.Request)) event {
	return func(s *scene) {
		k := who(holder)
		r := ipam.Request{Families: []ipam.Family{ipam.IPv4}, Required: 1}
		r.Key, r.UID, r.Created = k, "1", start.Add(time.Duration(len(s.asks))*time.Second)
		if before, exists := s.asks[k]; exists {
			r.UID, r.Created = before.UID, before.Created
		}
		r.Sharing.Ports = []ipam.Port{{Protocol: "TCP", Number: 80}}
		for _, edit := range edits {
			edit(&r)
		}
		s.asks[k], s.got[k] = r, s.Allocate(r, s.now)
	}
}

func gone(holder string) event {
	return func(s *scene) {
		s.Release(who(holder), s.now)
		delete(s.asks, who(holder))
		delete(s.got, who(holder))
	}
}

// pools replaces the pools. Each knows what it retains, as its status tells the next leader.
func pools(list ...ipam.Pool) event {
	return func(s *scene) {
		for i := range list {
			list[i].Former = s.Retained(list[i].Name)
		}
		s.SetPools(list)
	}
}

func with(p ipam.Pool, edit func(*ipam.Pool)) ipam.Pool { edit(&p); return p }

func limited(p ipam.Pool, n int32) ipam.Pool {
	return with(p, func(p *ipam.Pool) { p.MaxPerNamespace = &n })
}

// under shares under a key, with these namespaces beside its own.
func under(sharing string, from ...string) func(*ipam.Request) {
	return func(r *ipam.Request) { r.Sharing.Key, r.Sharing.From = sharing, from }
}

func port(n int32, protocol string) func(*ipam.Request) {
	return func(r *ipam.Request) { r.Sharing.Ports = []ipam.Port{{Protocol: protocol, Number: n}} }
}

// local is externalTrafficPolicy Local with a selector.
func local(selector string) func(*ipam.Request) {
	return func(r *ipam.Request) { r.Sharing.Local, r.Sharing.Selector = true, selector }
}

func claim(n string) func(*ipam.Request) { return func(r *ipam.Request) { r.Claim = n } }

func address(list string) func(*ipam.Request) {
	return func(r *ipam.Request) { r.Addresses = addrs(list) }
}

func from(p name.PoolName) func(*ipam.Request) { return func(r *ipam.Request) { r.Pool = p } }

func dual(required int) func(*ipam.Request) {
	return func(r *ipam.Request) { r.Families, r.Required = []ipam.Family{ipam.IPv4, ipam.IPv6}, required }
}

// outcome is what holders say in the end: who, what, who, what.
type outcome []string

// check compares, and looks for a text in the message of the first.
func (o outcome) check(t *testing.T, s *scene, message string) {
	t.Helper()
	for pair := range slices.Chunk(o, 2) {
		if got := s.says(who(pair[0])); got != pair[1] {
			t.Errorf("%s: got %q (%s), want %q", pair[0], got, s.got[who(pair[0])].Message, pair[1])
		}
	}
	if got := s.got[who(o[0])].Message; !strings.Contains(got, message) {
		t.Errorf("%s: got message %q, want one with %q", o[0], got, message)
	}
}

// one is a pool of a single address, two of two.
func one() ipam.Pool { return pool("a", "192.0.2.1-192.0.2.1") }
func two() ipam.Pool { return pool("a", "192.0.2.1-192.0.2.2") }

func TestSharing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "equal keys and different ports share", events: []event{pools(two()), asks("n/a", under("k")), asks("n/b", under("k"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "one port of two protocols is shared", events: []event{pools(two()), asks("n/a", under("k"), port(53, "TCP")), asks("n/b", under("k"), port(53, "UDP"))}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "the address with the key is preferred to a lower free one", events: []event{pools(two()), asks("n/x"), asks("n/a", under("k")), gone("n/x"), asks("n/b", under("k"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.2"}},
		{name: "a port clash takes another address if there is one", events: []event{pools(two()), asks("n/a", under("k")), asks("n/b", under("k"))}, want: outcome{"n/b", "192.0.2.2"}},
		{name: "a port clash names the Service in the way", events: []event{pools(one()), asks("n/a", under("k")), asks("n/b", under("k"))}, want: outcome{"n/b", "- SharingConflict"}, message: "Service n/a, which uses port 80 of TCP"},
		{name: "a port that one sharer gives up wakes the one who waits", events: []event{pools(one()), asks("n/a", under("k")), asks("n/b", under("k")), asks("n/a", under("k"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.1", "n/a", "192.0.2.1"}},
		{name: "without a key nothing is shared", events: []event{pools(one()), asks("n/a"), asks("n/b", port(81, "TCP"), address("192.0.2.1"))}, want: outcome{"n/b", "- AddressInUse"}, message: "belongs to Service n/a"},
		{name: "another key is a conflict that says so", events: []event{pools(one()), asks("n/a", under("k")), asks("n/b", under("l"), port(81, "TCP"), address("192.0.2.1"))}, want: outcome{"n/b", "- SharingConflict"}, message: "another key"},
		{name: "a Service that ends sharing leaves, and the other stays", events: []event{pools(two()), asks("n/a", under("k")), asks("n/b", under("k"), port(81, "TCP")), asks("n/a")}, want: outcome{"n/a", "192.0.2.2", "n/b", "192.0.2.1"}},
		{name: "across namespaces each side names the other", events: []event{pools(one()), asks("n/a", under("k", "m")), asks("m/b", under("k", "n"), port(81, "TCP"))}, want: outcome{"m/b", "192.0.2.1"}},
		{name: "across namespaces the holder must consent", events: []event{pools(one()), asks("n/a", under("k")), asks("m/b", under("k", "n"), port(81, "TCP"))}, want: outcome{"m/b", "- SharingConflict"}, message: "does not share with namespace m"},
		{name: "across namespaces the newcomer must consent", events: []event{pools(one()), asks("n/a", under("k", "m")), asks("m/b", under("k"), port(81, "TCP"))}, want: outcome{"m/b", "- SharingConflict"}, message: "name namespace n"},
		{name: "consent that comes later wakes the one who waits", events: []event{pools(one()), asks("n/a", under("k")), asks("m/b", under("k", "n"), port(81, "TCP")), asks("n/a", under("k", "m"))}, want: outcome{"m/b", "192.0.2.1"}},
		{name: "Local needs the same selector", events: []event{pools(one()), asks("n/a", under("k"), local("app=x")), asks("n/b", under("k"), local("app=y"), port(81, "TCP"))}, want: outcome{"n/b", "- SharingConflict"}, message: "same selector"},
		{name: "Local with the same selector shares", events: []event{pools(one()), asks("n/a", under("k"), local("app=x")), asks("n/b", under("k"), local("app=x"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "Local without a selector shares with nobody", events: []event{pools(one()), asks("n/a", under("k"), local("")), asks("n/b", under("k"), local(""), port(81, "TCP"))}, want: outcome{"n/b", "- SharingConflict"}},
		{name: "Local does not share across namespaces, consent or not", events: []event{pools(one()), asks("n/a", under("k", "m"), local("app=x")), asks("m/b", under("k", "n"), local("app=x"), port(81, "TCP"))}, want: outcome{"m/b", "- SharingConflict"}},
		{name: "Local and Cluster do not share", events: []event{pools(one()), asks("n/a", under("k")), asks("n/b", under("k"), local("app=x"), port(81, "TCP"))}, want: outcome{"n/b", "- SharingConflict"}, message: "externalTrafficPolicy"},
		{name: "who shares needs permission for the pool too", events: []event{
			pools(with(one(), func(p *ipam.Pool) { p.Admission = &ipam.Admission{Namespaces: []string{"n"}} })),
			asks("n/a", under("k", "m")), asks("m/b", under("k", "n"), port(81, "TCP"), address("192.0.2.1")),
		}, want: outcome{"m/b", "- PoolNotAllowed"}},
		{name: "the last sharer frees the address", events: []event{pools(one()), asks("n/a", under("k")), asks("n/b", under("k"), port(81, "TCP")), asks("n/c"), gone("n/a"), gone("n/b")}, want: outcome{"n/c", "192.0.2.1"}},
		{name: "both families are shared", events: []event{pools(pool("a", "192.0.2.1-192.0.2.9", "2001:db8::/64")), asks("n/a", under("k"), dual(2)), asks("n/b", under("k"), dual(2), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.1 2001:db8::1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "a claim holds an address that nobody uses", events: []event{pools(one()), asks("@n/c"), asks("n/a")}, want: outcome{"n/a", "- PoolExhausted", "@n/c", "192.0.2.1"}},
		{name: "a Service that names the claim gets its address", events: []event{pools(two()), asks("n/x"), asks("@n/c"), gone("n/x"), asks("n/a", claim("c"))}, want: outcome{"n/a", "192.0.2.2"}},
		{name: "a Service that is deleted and created anew gets it again", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c")), gone("n/a"), asks("n/b"), asks("n/a", claim("c"))}, want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "and also when the pool has lost the address meanwhile", events: []event{pools(one()), asks("@n/c"), asks("n/a", claim("c")), pools(pool("a", "198.51.100.0/24")), gone("n/a"), asks("n/a", claim("c"))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "a claim that is deleted leaves the address with the Service", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c")), gone("@n/c"), asks("n/b")}, want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "a Service waits for a claim that does not exist", events: []event{pools(two()), asks("n/a", claim("c"))}, want: outcome{"n/a", "- ClaimMissing"}, message: "AddressClaim n/c does not exist"},
		{name: "a claim that comes later wakes the Service", events: []event{pools(two()), asks("n/a", claim("c")), asks("@n/c")}, want: outcome{"n/a", "192.0.2.1", "@n/c", "192.0.2.1"}},
		{name: "a claim of another namespace is out of reach", events: []event{pools(two()), asks("@m/c"), asks("n/a", claim("c"))}, want: outcome{"n/a", "- ClaimMissing", "@m/c", "192.0.2.1"}},
		{name: "a claim takes over what its Service holds", events: []event{pools(two()), asks("n/x"), asks("n/a"), gone("n/x"), asks("n/a", claim("c")), asks("@n/c")}, want: outcome{"@n/c", "192.0.2.2", "n/a", "192.0.2.2"}},
		{name: "a claim that waits takes over what a Service that comes to name it holds", events: []event{pools(one()), asks("n/a"), asks("@n/c"), asks("n/a", claim("c"))}, want: outcome{"@n/c", "192.0.2.1", "n/a", "192.0.2.1"}},
		{name: "a Service says why its claim has none", events: []event{pools(one()), asks("n/x"), asks("@n/c"), asks("n/a", claim("c"))}, want: outcome{"n/a", "- PoolExhausted", "@n/c", "- PoolExhausted"}, message: "AddressClaim n/c has no address"},
		{name: "a second Service does not get a claim's address without sharing", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c")), asks("n/b", claim("c"))}, want: outcome{"n/b", "- AddressInUse", "n/a", "192.0.2.1"}, message: "belongs to Service n/a"},
		{name: "Services that share may have one claim", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c"), under("k")), asks("n/b", claim("c"), under("k"), port(81, "TCP"))}, want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.1"}},
		{name: "a claim's address is not shared with others that have the key", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c"), under("k")), asks("n/b", under("k"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.2", "n/a", "192.0.2.1"}},
		{name: "a claim that asks for another address moves its Service", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c")), asks("@n/c", address("192.0.2.2"))}, want: outcome{"n/a", "192.0.2.2", "@n/c", "192.0.2.2"}},
		{name: "an address that the Service asks for must be the claim's", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c"), address("192.0.2.2"))}, want: outcome{"n/a", "- InvalidRequest"}, message: "they must agree"},
		{name: "a claim must have every family that the Service requires", events: []event{pools(pool("a", "192.0.2.1-192.0.2.9", "2001:db8::/64")), asks("@n/c"), asks("n/a", claim("c"), dual(2))}, want: outcome{"n/a", "- FamilyUnavailable"}},
		{name: "a claim that waits takes over what comes from a pool that assigns nothing by itself", events: []event{
			pools(with(two(), func(p *ipam.Pool) { p.AutoAssign = false })), asks("n/a", from("a")), asks("@n/c"), asks("n/a", from("a"), claim("c")),
		}, want: outcome{"@n/c", "192.0.2.1", "n/a", "192.0.2.1"}},
		{name: "a claim's name that makes no sense loses nothing", events: []event{pools(two()), asks("@n/c"), asks("n/a", claim("c")), asks("n/a", func(r *ipam.Request) { r.Invalid = "It makes no sense." })}, want: outcome{"n/a", "192.0.2.1 - InvalidRequest"}},
		{name: "PreferDualStack is content with what the claim has", events: []event{pools(pool("a", "192.0.2.1-192.0.2.9", "2001:db8::/64")), asks("@n/c"), asks("n/a", claim("c"), dual(1))}, want: outcome{"n/a", "192.0.2.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	many := pool("a", "192.0.2.1-192.0.2.9", "2001:db8::/64")
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "a namespace gets as many as it may", events: []event{pools(limited(many, 1)), asks("n/a"), asks("n/b"), asks("m/c")}, want: outcome{"n/b", "- QuotaExceeded", "m/c", "192.0.2.2"}, message: "maxPerNamespace"},
		{name: "a limit of none means none", events: []event{pools(limited(many, 0)), asks("n/a")}, want: outcome{"n/a", "- QuotaExceeded"}},
		{name: "addresses count, not Services", events: []event{pools(limited(many, 1)), asks("n/a", dual(2))}, want: outcome{"n/a", "- QuotaExceeded"}},
		{name: "PreferDualStack takes what the limit leaves", events: []event{pools(limited(many, 1)), asks("n/a", dual(1))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "a shared address counts once", events: []event{pools(limited(many, 1)), asks("n/a", under("k")), asks("n/b", under("k"), port(81, "TCP"))}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "a shared address counts in each namespace", events: []event{pools(limited(many, 1)), asks("m/x"), asks("n/a", under("k", "m")), asks("m/b", under("k", "n"), port(81, "TCP"))}, want: outcome{"m/b", "- QuotaExceeded", "m/x", "192.0.2.1", "n/a", "192.0.2.2"}},
		{name: "a claim and its Service count once", events: []event{pools(limited(many, 1)), asks("@n/c"), asks("n/a", claim("c"))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "lowering the limit moves nothing", events: []event{pools(limited(many, 2)), asks("n/a"), asks("n/b"), pools(limited(many, 1))}, want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "raising the limit wakes who waits", events: []event{pools(limited(many, 1)), asks("n/a"), asks("n/b"), pools(limited(many, 2))}, want: outcome{"n/b", "192.0.2.2"}},
		{name: "an address that the namespace gives up wakes who waits", events: []event{pools(limited(many, 1)), asks("n/a"), asks("n/b"), gone("n/a")}, want: outcome{"n/b", "192.0.2.1"}},
		{name: "the next pool is tried when the limit of one is reached", events: []event{pools(limited(many, 1), pool("b", "198.51.100.1-198.51.100.9")), asks("n/a"), asks("n/b")}, want: outcome{"n/b", "198.51.100.1"}},
		{name: "asking for another address needs no room", events: []event{pools(limited(many, 1)), asks("n/a"), asks("n/a", address("192.0.2.5"))}, want: outcome{"n/a", "192.0.2.5"}},
		{name: "what a pool retains counts still", events: []event{pools(limited(many, 1)), asks("n/a"), pools(limited(pool("a", "198.51.100.1-198.51.100.9"), 1)), asks("n/b")}, want: outcome{"n/b", "- QuotaExceeded", "n/a", "192.0.2.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}

func TestReclaim(t *testing.T) {
	t.Parallel()
	reassign := func(p ipam.Pool) ipam.Pool { return with(p, func(p *ipam.Pool) { p.Reassign = true }) }
	deleting := func(p ipam.Pool) ipam.Pool { return with(p, func(p *ipam.Pool) { p.Deleting = true }) }
	other, b := pool("a", "198.51.100.1-198.51.100.9"), pool("b", "203.0.113.1-203.0.113.9")
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "Retain: an edit moves nothing", events: []event{pools(one()), asks("n/a"), pools(other)}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "Retain: not even an address that another pool hands out now", events: []event{pools(one()), asks("n/a", from("a")), pools(other, pool("b", "192.0.2.1-192.0.2.9")), asks("n/a", from("a"))}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "Retain: a deletion moves nothing", events: []event{pools(one(), b), asks("n/a"), pools(deleting(one()), b)}, want: outcome{"n/a", "192.0.2.1"}},
		{name: "Reassign: an edit gives another address of what is left", events: []event{pools(one()), asks("n/a"), pools(reassign(other))}, want: outcome{"n/a", "198.51.100.1"}},
		{name: "Reassign: what is still in spec stays", events: []event{pools(two()), asks("n/a"), asks("n/b"), pools(reassign(one()))}, want: outcome{"n/b", "- PoolExhausted", "n/a", "192.0.2.1"}},
		{name: "Reassign: a deletion moves to another pool", events: []event{pools(one(), b), asks("n/a"), pools(deleting(reassign(one())), b)}, want: outcome{"n/a", "203.0.113.1"}},
		{name: "Reassign: who finds nothing else waits with a reason", events: []event{pools(one()), asks("n/a"), pools(deleting(reassign(one())))}, want: outcome{"n/a", "- Draining"}},
		{name: "Reassign: an address that was asked for is not replaced", events: []event{pools(one()), asks("n/a", address("192.0.2.1")), pools(reassign(other))}, want: outcome{"n/a", "- AddressNotInPool"}},
		{name: "Reassign: a claim and its Service move together", events: []event{pools(one()), asks("@n/c"), asks("n/a", claim("c")), pools(reassign(other))}, want: outcome{"n/a", "198.51.100.1", "@n/c", "198.51.100.1"}},
		{name: "drain moves nothing and gives nothing", events: []event{pools(two()), asks("n/a"), pools(with(two(), func(p *ipam.Pool) { p.Drain = true })), asks("n/b")}, want: outcome{"n/b", "- Draining", "n/a", "192.0.2.1"}},
		{name: "a retained address goes to whoever hands it out now, once it is free", events: []event{pools(one()), asks("n/a"), pools(other, pool("b", "192.0.2.1-192.0.2.1")), gone("n/a"), asks("n/b", from("b"))}, want: outcome{"n/b", "192.0.2.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}

func TestWhoWaitsIsTriedInOrder(t *testing.T) {
	t.Parallel()
	gold := with(one(), func(p *ipam.Pool) {
		p.Admission = &ipam.Admission{NamespaceSelectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"tier": "gold"})}}
	})
	relabel := func(namespace, tier string) event {
		return func(s *scene) { s.Relabel(namespace, labels.Set{"tier": tier}) }
	}
	restart := func(s *scene) { // a new leader, which hears of the holders in any order
		fresh := ipam.New()
		for _, r := range s.asks {
			fresh.Hold(r.Holder, s.Held(r.Key), start)
			fresh.Ask(r, start)
		}
		s.Allocator = fresh
	}
	for _, tc := range []struct {
		name   string
		events []event
		want   outcome
	}{
		{name: "the oldest gets what another gives up", events: []event{pools(one()), asks("n/x"), asks("n/b"), asks("n/a"), gone("n/x")}, want: outcome{"n/b", "192.0.2.1", "n/a", "- PoolExhausted"}},
		{name: "a younger one that could have it does not wait for an older that could not", events: []event{pools(one()), asks("n/x"), asks("n/b", from("missing")), asks("n/a"), gone("n/x")}, want: outcome{"n/a", "192.0.2.1", "n/b", "- NoPool"}},
		{name: "a pool that comes wakes the oldest first", events: []event{asks("n/b"), asks("n/a"), pools(one())}, want: outcome{"n/b", "192.0.2.1", "n/a", "- PoolExhausted"}},
		{name: "a namespace with other labels wakes its own", events: []event{pools(gold), asks("m/a"), asks("n/b"), relabel("n", "gold")}, want: outcome{"n/b", "192.0.2.1", "m/a", "- PoolNotAllowed"}},
		{name: "a new leader tries the oldest first", events: []event{asks("n/e"), asks("n/d"), asks("n/c"), asks("n/b"), asks("n/a"), restart, pools(two())}, want: outcome{"n/e", "192.0.2.1", "n/d", "192.0.2.2", "n/c", "- PoolExhausted", "n/a", "- PoolExhausted"}},
		{name: "a second family is added in place when the pool gains it", events: []event{pools(one()), asks("n/a", dual(1)), pools(pool("a", "192.0.2.1-192.0.2.1", "2001:db8::/64"))}, want: outcome{"n/a", "192.0.2.1 2001:db8::1"}},
		{name: "a family that the pool loses stays with its holder", events: []event{pools(pool("a", "192.0.2.1-192.0.2.1", "2001:db8::/64")), asks("n/a", dual(2)), pools(one())}, want: outcome{"n/a", "192.0.2.1 2001:db8::1"}},
		{name: "naming an address of another pool does not give up the other family", events: []event{
			pools(one(), pool("six", "2001:db8::/64")), asks("n/a", dual(1)), asks("n/a", dual(1), address("2001:db8::9")),
		}, want: outcome{"n/a", "192.0.2.1 - FamilyUnavailable"}},
		{name: "a Service that needs one family alone now gives the other up", events: []event{pools(pool("a", "192.0.2.1-192.0.2.1", "2001:db8::1-2001:db8::1")), asks("n/a", dual(2)), asks("n/b", dual(2)), asks("n/a"), gone("n/a")}, want: outcome{"n/b", "192.0.2.1 2001:db8::1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), "")
		})
	}
}

// TestDifferentReasons tells four states apart that a user mends in four ways.
func TestDifferentReasons(t *testing.T) {
	t.Parallel()
	closed := with(one(), func(p *ipam.Pool) { p.Admission = &ipam.Admission{Namespaces: []string{"m"}} })
	for reason, p := range map[v1alpha1.Reason][]ipam.Pool{
		v1alpha1.ReasonNoPool: nil, v1alpha1.ReasonPoolNotAllowed: {closed}, v1alpha1.ReasonQuotaExceeded: {limited(two(), 1)}, v1alpha1.ReasonPoolExhausted: {one()},
	} {
		s := play(pools(p...), asks("n/x"), asks("n/a"))
		if got := s.says(who("n/a")); got != fmt.Sprintf("- %s", reason) {
			t.Errorf("got %q, want %s", got, reason)
		}
	}
}
