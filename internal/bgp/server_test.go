package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
)

func lines(l ...string) string { return strings.Join(l, "\n") }

func number32(n uint32) *uint32 { return &n }

var large = announce.Community{Large: true, Global: 64512, Local1: 1, Local2: 2}

func TestRoutesReachThePeersTheyAreMeantForWithTheirAttributes(t *testing.T) {
	t.Parallel()
	external, internal := startRouter(t, "127.0.1.1", 64513, 64512), startRouter(t, "127.0.1.2", 64512, 64512)
	s := start(t)
	full := announce.Attributes{LocalPref: number32(300), MED: number32(0), Prepend: number32(2), Communities: []announce.Community{
		{Global: 64512, Local1: 7}, {Global: 0xffff, Local1: 0xff01}, large,
	}}
	s.SetPeers([]announce.Peer{external.peer("external", 64512), internal.peer("internal", 64512)})
	s.Set(service("both"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "external", "internal")})
	s.Set(service("full"), []announce.Route{to("192.0.2.2/32", full, "external", "internal"), to("2001:db8:1::1/128", full, "external", "internal")})
	s.Set(service("zero"), []announce.Route{to("192.0.2.3/32", announce.Attributes{LocalPref: number32(0)}, "internal")})
	s.Set(service("split"), []announce.Route{
		to("192.0.2.4/32", announce.Attributes{MED: number32(300)}, "external"), to("192.0.2.4/32", announce.Attributes{}, "internal"),
	})
	if got := states(s); got != "external Idle, internal Idle" {
		t.Fatalf("before Sync: %s", got)
	}
	s.Sync()
	eventually(t, "external", external.routes, lines(
		"192.0.2.1/32 via 127.0.0.1 path [64512]",
		"192.0.2.2/32 via 127.0.0.1 path [64512 64512 64512] med 0 64512:7 65535:65281 64512:1:2",
		"192.0.2.4/32 via 127.0.0.1 path [64512] med 300",
		"2001:db8:1::1/128 via 2001:db8::1 path [64512 64512 64512] med 0 64512:7 65535:65281 64512:1:2",
	))
	eventually(t, "internal", internal.routes, lines(
		"192.0.2.1/32 via 127.0.0.1 pref 100",
		"192.0.2.2/32 via 127.0.0.1 med 0 pref 300 64512:7 65535:65281 64512:1:2",
		"192.0.2.3/32 via 127.0.0.1 pref 0",
		"192.0.2.4/32 via 127.0.0.1 pref 100",
		"2001:db8:1::1/128 via 2001:db8::1 med 0 pref 300 64512:7 65535:65281 64512:1:2",
	))

	// Another set of peers, other attributes, gone.
	s.Set(service("both"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "internal")})
	s.Set(service("full"), []announce.Route{to("192.0.2.2/32", announce.Attributes{MED: number32(300)}, "external")})
	s.Remove(service("zero"))
	eventually(t, "external", external.routes, lines(
		"192.0.2.2/32 via 127.0.0.1 path [64512] med 300", "192.0.2.4/32 via 127.0.0.1 path [64512] med 300"))
	eventually(t, "internal", internal.routes, lines("192.0.2.1/32 via 127.0.0.1 pref 100", "192.0.2.4/32 via 127.0.0.1 pref 100"))
}

func TestASharedPrefixStaysUntilTheLastServiceLeaves(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.2.1", 64513, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{r.peer("r", 64512)})
	aggregate := func(communities ...announce.Community) []announce.Route {
		return []announce.Route{to("192.0.2.0/24", announce.Attributes{Communities: communities}, "r")}
	}
	s.Set(service("a"), aggregate(announce.Community{Global: 64512, Local1: 1}))
	s.Set(service("b"), aggregate(large))
	s.Sync()
	eventually(t, "both", r.routes, "192.0.2.0/24 via 127.0.0.1 path [64512] 64512:1 64512:1:2")
	s.Remove(service("a"))
	eventually(t, "one left", r.routes, "192.0.2.0/24 via 127.0.0.1 path [64512] 64512:1:2")
	s.Remove(service("b"))
	eventually(t, "none left", r.routes, "")
}

func TestNothingIsTakenFromAPeer(t *testing.T) {
	t.Parallel()
	giver, other := startRouter(t, "127.0.3.1", 64513, 64512), startRouter(t, "127.0.3.2", 64514, 64512)
	_, err := giver.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{pathOf(path{prefix: prefix("203.0.113.0/24"), mark: 1}), pathOf(path{prefix: prefix("192.0.2.1/32"), mark: 1})}})
	must(t, err)
	s := New(Config{NodeName: "node"})
	w := newWorker(s)
	s.SetPeers([]announce.Peer{giver.peer("giver", 64512), other.peer("other", 64512)})
	// The peer's paths bear the mark of ours: it must not help them.
	s.Set(service("a"), []announce.Route{to("192.0.2.9/32", announce.Attributes{}, "giver", "other")})
	s.Sync()
	_, err = w.round(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, w.stop(false)) })
	received := func() string {
		var n int
		_ = w.engine.gobgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: giver.address.String(), Family: ipv4.gobgp()},
			counter(&n))
		return fmt.Sprint(n)
	}
	eventually(t, "routes received", received, "2")
	eventually(t, "other router", other.routes, "192.0.2.9/32 via 127.0.0.1 path [64512]")
	if got, want := routesOf(w.engine.gobgp), "192.0.2.9/32 via 0.0.0.0 pref 0 0:1"; got != want {
		t.Errorf("own table: got %s, want %s", got, want)
	}
}

func TestAPeerThatComesLaterGetsAllRoutesAndNobodyElseNotices(t *testing.T) {
	t.Parallel()
	first, second := startRouter(t, "127.0.4.1", 64513, 64512), startRouter(t, "127.0.4.2", 64514, 64500)
	s := start(t)
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "first", "second")})
	s.SetPeers([]announce.Peer{first.peer("first", 64512)})
	s.Sync()
	eventually(t, "first", first.routes, "192.0.2.1/32 via 127.0.0.1 path [64512]")
	before := s.Peers()[0]

	// It has an AS number of ours of its own.
	s.SetPeers([]announce.Peer{first.peer("first", 64512), second.peer("second", 64500)})
	eventually(t, "second", second.routes, "192.0.2.1/32 via 127.0.0.1 path [64500]")
	// A router of the same address under another name, now one that gets other routes.
	s.Set(service("b"), []announce.Route{to("192.0.2.2/32", announce.Attributes{}, "renamed")})
	s.SetPeers([]announce.Peer{first.peer("first", 64512), second.peer("renamed", 64500)})
	eventually(t, "renamed", second.routes, "192.0.2.2/32 via 127.0.0.1 path [64500]")
	s.SetPeers([]announce.Peer{first.peer("first", 64512)})
	eventually(t, "removed", second.routes, "")
	if after := s.Peers()[0]; after != before {
		t.Errorf("first session: was %+v, is %+v", before, after)
	}
}

func TestOnlyAChangeThatTheProtocolDemandsResetsASession(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.5.1", 64513, 64512)
	s := start(t)
	peer := r.peer("r", 64512)
	s.Set(service("a"), []announce.Route{to("2001:db8:1::1/128", announce.Attributes{}, "r")})
	s.SetPeers([]announce.Peer{peer})
	s.Sync()
	eventually(t, "start", r.routes, "2001:db8:1::1/128 via 2001:db8::1 path [64512]")
	before := s.Peers()[0]

	peer.Connect = 5 * time.Second
	peer.NextHop6 = netip.MustParseAddr("2001:db8::2")
	s.SetPeers([]announce.Peer{peer})
	eventually(t, "next hop changed", r.routes, "2001:db8:1::1/128 via 2001:db8::2 path [64512]")
	peer.NextHop6 = netip.Addr{}
	s.SetPeers([]announce.Peer{peer})
	eventually(t, "next hop gone", r.routes, "")
	if state := s.Peers()[0]; state.IPv6 != NoNextHop || state.IPv4 != Carried || state.Since != before.Since {
		t.Errorf("state without next hop: %+v", state)
	}

	peer.IPv6 = false
	s.SetPeers([]announce.Peer{peer})
	eventually(t, "families changed", func() string {
		return fmt.Sprintln(s.Peers()[0].Since.After(before.Since), states(s), s.Peers()[0].IPv6)
	}, "true r Established NotConfigured\n")
}

func TestAnotherRouterIDRestartsAndAnnouncesAllAgain(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.6.1", 64513, 64512)
	s := start(t)
	peer := r.peer("r", 64512)
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r")})
	s.SetPeers([]announce.Peer{peer})
	s.Sync()
	id := func() (id string) {
		_ = r.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) { id = p.State.RouterId })
		return id + " " + r.routes()
	}
	eventually(t, "start", id, "127.0.0.1 192.0.2.1/32 via 127.0.0.1 path [64512]")
	peer.RouterID = netip.MustParseAddr("10.9.9.9")
	s.SetPeers([]announce.Peer{peer})
	eventually(t, "restarted", id, "10.9.9.9 192.0.2.1/32 via 127.0.0.1 path [64512]")
}

func TestFailuresAreSaidInWords(t *testing.T) {
	t.Parallel()
	wrongAS := startRouter(t, "127.0.7.1", 64513, 64512)
	refusing := wrongAS.peer("refusing", 64512)
	refusing.Address, refusing.Port = netip.MustParseAddr("127.0.7.2"), freePort(t, "127.0.7.2")
	mistaken, twice := wrongAS.peer("mistaken", 64512), wrongAS.peer("twice", 64512)
	mistaken.PeerASN = 64599
	s := start(t)
	s.SetPeers([]announce.Peer{refusing, mistaken, twice})
	s.Sync()
	reasons := func() string {
		var all []string
		for _, p := range s.Peers() {
			all = append(all, fmt.Sprintf("%s: %s", p.Name, p.LastError))
		}
		return lines(all...)
	}
	eventually(t, "reasons", reasons, lines(
		"refusing: connect: connection refused",
		"mistaken: sent NOTIFICATION: OPEN message error: bad peer AS (2/2)",
		"twice: peer mistaken already has a session with 127.0.7.1"))
	right := mistaken
	right.PeerASN = 64513
	s.SetPeers([]announce.Peer{right})
	eventually(t, "corrected", func() string { return states(s) }, "mistaken Established")

	// A router that closes a connection before it has read all resets it (RFC 9293 section 3.6), and its last words may be lost.
	want := "leaving: received NOTIFICATION: cease: peer de-configured (6/3)"
	last := ""
	for i := range 5 {
		leaving := startRouter(t, fmt.Sprintf("127.0.7.%d", 10+i), 64513, 64512)
		s.SetPeers([]announce.Peer{leaving.peer("leaving", 64512)})
		eventually(t, "up", func() string { return states(s) }, "leaving Established")
		must(t, leaving.StopBgp(t.Context(), &api.StopBgpRequest{}))
		eventually(t, "router stops", func() string {
			if last = reasons(); last == want || strings.Contains(last, "connection") {
				return "down"
			}
			return last
		}, "down")
		if last == want {
			return
		}
	}
	t.Errorf("a router that stops says why, and it is never said: %s", last)
}

// A session that comes up while routes change misses none of the changes.
func TestChangesDuringTheStartOfASessionArrive(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.8.1", 64513, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{r.peer("r", 64512)})
	s.Sync()
	up := func() bool { return s.Peers()[0].State == Established }
	deadline := time.Now().Add(patience)
	n := 0
	for after := 0; after < 50 && time.Now().Before(deadline); n++ {
		s.Set(service("even"), []announce.Route{to(fmt.Sprintf("192.0.2.%d/32", n%250), announce.Attributes{}, "r")})
		s.Set(service("odd"), []announce.Route{to(fmt.Sprintf("198.51.100.%d/32", n%250), announce.Attributes{Prepend: number32(uint32(n % 2))}, "r")})
		if up() {
			after++
		}
		poll(t)
	}
	n--
	path := "[64512]"
	if n%2 == 1 {
		path = "[64512 64512]"
	}
	eventually(t, "routes", r.routes, lines(
		fmt.Sprintf("192.0.2.%d/32 via 127.0.0.1 path [64512]", n%250), fmt.Sprintf("198.51.100.%d/32 via 127.0.0.1 path %s", n%250, path)))
}

func counter(n *int) func(nlri bgp.NLRI, paths []*apiutil.Path) {
	*n = 0
	return func(bgp.NLRI, []*apiutil.Path) { *n++ }
}

// There is no session on an interface that does not exist; the other peer does not notice.
func TestAPeerOnAnInterfaceThatIsNotThereHoldsUpNobody(t *testing.T) {
	t.Parallel()
	good := startRouter(t, "127.0.9.1", 64513, 64512)
	bad := good.peer("bad", 64512)
	bad.Address, bad.Source = netip.MustParseAddr("fe80::1%nosuch"), netip.Addr{}
	s := start(t)
	s.SetPeers([]announce.Peer{bad, good.peer("good", 64512)})
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "bad", "good")})
	s.Sync()
	eventually(t, "good", good.routes, "192.0.2.1/32 via 127.0.0.1 path [64512]")
	s.Set(service("a"), []announce.Route{to("192.0.2.2/32", announce.Attributes{}, "bad", "good")})
	eventually(t, "good", good.routes, "192.0.2.2/32 via 127.0.0.1 path [64512]")
	eventually(t, "bad", func() string { return fmt.Sprint(strings.HasPrefix(s.Peers()[0].LastError, connecting)) }, "true")
}
