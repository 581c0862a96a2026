package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

var (
	somePrefixes = []netip.Prefix{prefix("192.0.2.0/24"), prefix("192.0.2.1/32"), prefix("2001:db8::/64"), prefix("2001:db8::1/128")}
	somePeers    = []name.PeerName{"a", "b", "c"}
	someServices = []name.ServiceKey{service("x"), service("y"), service("z")}
)

func genAttributes(t *rapid.T) announce.Attributes {
	number := rapid.Ptr(rapid.Uint32Range(0, 2), true)
	communities := rapid.SliceOfNDistinct(rapid.SampledFrom([]announce.Community{{Global: 1, Local1: 2}, {Global: 2, Local1: 1}, large}), 0, 3, rapid.ID).Draw(t, "communities")
	slices.SortFunc(communities, announce.Community.Compare)
	return announce.Attributes{LocalPref: number.Draw(t, "pref"), MED: number.Draw(t, "med"), Prepend: number32(rapid.Uint32Range(0, 2).Draw(t, "prepend")), Communities: communities}
}

func genRoutes(t *rapid.T) []announce.Route {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) announce.Route {
		peers := rapid.SliceOfNDistinct(rapid.SampledFrom(somePeers), 1, 3, rapid.ID).Draw(t, "peers")
		slices.Sort(peers)
		return announce.Route{Prefix: rapid.SampledFrom(somePrefixes).Draw(t, "prefix"), Peers: peers, Attributes: genAttributes(t)}
	}), 0, 4).Draw(t, "routes")
}

// A prefix goes to exactly those peers for which some Service wants it, with what those Services want,
// and set names every prefix for which that has changed.
func TestTheTableAgreesWithAnOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table, oracle := newTable(), map[name.ServiceKey][]announce.Route{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			key, routes := rapid.SampledFrom(someServices).Draw(t, "service"), genRoutes(t)
			before := map[netip.Prefix]distributionKey{}
			for _, p := range somePrefixes {
				before[p] = table.distribution(p).key()
			}
			oracle[key] = routes
			touched := table.set(key, routes)
			for _, p := range somePrefixes {
				got := table.distribution(p)
				for _, peer := range somePeers {
					checkPeer(t, got, peer, wantedBy(oracle, p, peer), p)
				}
				if got.key() != before[p] && !slices.Contains(touched, p) {
					t.Fatalf("%s has changed, but is not among %v", p, touched)
				}
				if held := slices.Contains(table.prefixes(), p); held != (len(got) > 0) {
					t.Fatalf("%s: held %v, distribution %v", p, held, got)
				}
			}
			if again := table.set(key, routes); len(again) > 0 {
				t.Fatalf("setting the same again touches %v", again)
			}
		}
	})
}

// wantedBy asks each Service in order, each of its routes in order.
func wantedBy(oracle map[name.ServiceKey][]announce.Route, p netip.Prefix, peer name.PeerName) *announce.Attributes {
	var wanted *announce.Attributes
	for _, key := range someServices {
		for _, route := range oracle[key] {
			if route.Prefix != p || !slices.Contains(route.Peers, peer) {
				continue
			}
			attributes := route.Attributes
			if wanted != nil {
				attributes = wanted.Unite(attributes)
			}
			wanted = &attributes
		}
	}
	return wanted
}

func checkPeer(t *rapid.T, got distribution, peer name.PeerName, want *announce.Attributes, p netip.Prefix) {
	var found []announce.Attributes
	for _, s := range got {
		if slices.Contains(s.peers, peer) {
			found = append(found, s.Attributes)
		}
	}
	switch {
	case want == nil && len(found) == 0:
	case want != nil && len(found) == 1 && found[0].Equal(*want):
	default:
		t.Fatalf("%s for %s: got %+v, want %+v", p, peer, found, want)
	}
}

func TestKeysAreEqualExactlyForEqualValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genAttributes(t), genAttributes(t)
		if (keyOf(a) == keyOf(b)) != a.Equal(b) {
			t.Fatalf("keys of %+v and %+v", a, b)
		}
		x, y := newTable(), newTable()
		routes := genRoutes(t)
		x.set(service("x"), routes)
		shuffled := slices.Clone(routes)
		if rapid.Bool().Draw(t, "shuffle") {
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		} else {
			shuffled = genRoutes(t)
		}
		y.set(service("x"), shuffled)
		for _, p := range somePrefixes {
			dx, dy := x.distribution(p), y.distribution(p)
			if (dx.key() == dy.key()) != (fmt.Sprint(plain(dx)) == fmt.Sprint(plain(dy))) {
				t.Fatalf("keys of %v and %v", plain(dx), plain(dy))
			}
		}
	})
}

// plain is a distribution by peer, without pointers.
func plain(d distribution) map[name.PeerName]string {
	peers := map[name.PeerName]string{}
	for _, s := range d {
		for _, peer := range s.peers {
			value := func(n *uint32) string {
				if n == nil {
					return "-"
				}
				return fmt.Sprint(*n)
			}
			peers[peer] = fmt.Sprint(value(s.LocalPref), value(s.MED), s.Prepends(), s.Communities)
		}
	}
	return peers
}

func TestMarksAreUniqueAndKnownAsLongAsAPrefixHasThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMarks()
		held := map[string][]mark{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			peer := rapid.SampledFrom(somePeers).Draw(t, "peer")
			d := distribute(map[name.PeerName]announce.Attributes{peer: {}})
			if marks := held[string(peer)]; len(marks) > 0 && rapid.Bool().Draw(t, "release") {
				m.release(marks[0], ipv4)
				held[string(peer)] = marks[1:]
				continue
			}
			got, fresh, err := m.acquire(d, ipv4)
			if err != nil || got == 0 || fresh != (len(held[string(peer)]) == 0) {
				t.Fatalf("acquire: %d %v %v", got, fresh, err)
			}
			held[string(peer)] = append(held[string(peer)], got)
		}
		owners, inUse := map[mark]string{}, 0
		for peer, marks := range held {
			for _, got := range marks {
				if owner, taken := owners[got]; taken && owner != peer {
					t.Fatalf("mark %d is that of %s and %s", got, owner, peer)
				}
				owners[got] = peer
			}
			inUse += min(1, len(marks))
		}
		if len(m.sorted()) != inUse || len(m.byKey) != inUse {
			t.Fatalf("%d marks are known, %d are in use", len(m.sorted()), inUse)
		}
	})
}

func TestMarksRunOutWithoutHarm(t *testing.T) {
	t.Parallel()
	m := newMarks()
	one := func(n int) distribution {
		return distribution{{Attributes: announce.Attributes{Prepend: number32(uint32(n + 1))}, peers: somePeers[:1]}}
	}
	for n := range maxMarks {
		if _, _, err := m.acquire(one(n), ipv4); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := m.acquire(one(maxMarks), ipv4); err == nil {
		t.Fatalf("one too many: %d", got)
	}
	m.release(77, ipv4)
	if got, fresh, err := m.acquire(one(maxMarks), ipv4); err != nil || got != 77 || !fresh {
		t.Fatalf("after a release: %d %v %v", got, fresh, err)
	}
}
