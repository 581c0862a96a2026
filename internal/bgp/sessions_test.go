package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func aPeer(n name.PeerName, address string, change func(*announce.Peer)) announce.Peer {
	p := announce.Peer{Name: n, MyASN: 64512, PeerASN: 64513, Address: addr(address), IPv4: true}
	if change != nil {
		change(&p)
	}
	return p
}

func TestPlanSessions(t *testing.T) {
	t.Parallel()
	asks := func(id string) func(*announce.Peer) { return func(p *announce.Peer) { p.RouterID = addr(id) } }
	tests := map[string]struct {
		peers   []announce.Peer
		id      string
		wanted  []string
		refused map[name.PeerName]string
	}{
		"without peers the node's router ID stays": {id: "10.0.0.1"},
		"the oldest peer that asks for a router ID is right, and others that disagree have no session": {
			peers: []announce.Peer{aPeer("a", "192.0.2.1", nil), aPeer("b", "192.0.2.2", asks("10.0.0.9")), aPeer("c", "192.0.2.3", asks("10.0.0.8"))},
			id:    "10.0.0.9", wanted: []string{"a", "b"},
			refused: map[name.PeerName]string{"c": "router ID 10.0.0.8 differs from 10.0.0.9, which peer b asks for"},
		},
		"of two peers with one address the oldest is right": {
			peers: []announce.Peer{aPeer("a", "192.0.2.1", nil), aPeer("b", "::ffff:192.0.2.1", nil)},
			id:    "10.0.0.1", wanted: []string{"a"},
			refused: map[name.PeerName]string{"b": "peer a already has a session with 192.0.2.1"},
		},
		"a peer that cannot work is refused alone": {
			peers: []announce.Peer{
				aPeer("a", "192.0.2.1", func(p *announce.Peer) { p.PeerASN = 0 }), aPeer("b", "192.0.2.1", nil),
				aPeer("c", "192.0.2.3", func(p *announce.Peer) { p.IPv4 = false }),
				{Name: "d", MyASN: 1, PeerASN: 1, IPv4: true},
				aPeer("e", "192.0.2.5", func(p *announce.Peer) { p.Source = addr("2001:db8::1") }),
			},
			id: "10.0.0.1", wanted: []string{"b"},
			refused: map[name.PeerName]string{
				"a": "no AS number", "c": "no address family", "d": "no usable peer address",
				"e": "source address and peer address are of different families",
			},
		},
		"a router that is yet to be found is waited for": {
			peers: []announce.Peer{{Name: "a", MyASN: 1, Dynamic: announce.External, Interface: "eth0", IPv4: true}},
			id:    "10.0.0.1", refused: map[name.PeerName]string{"a": "no router has been found on eth0: it must send router advertisements"},
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			plan := planSessions(test.peers, addr("10.0.0.1"))
			var wanted []string
			for _, peer := range plan.wanted {
				wanted = append(wanted, string(peer.Name))
			}
			slices.Sort(wanted)
			if plan.routerID != addr(test.id) || !slices.Equal(wanted, test.wanted) || !maps.Equal(plan.refused, test.refused) {
				t.Errorf("router ID %s, wanted %v, refused %v", plan.routerID, wanted, plan.refused)
			}
		})
	}
}

func TestSameSession(t *testing.T) {
	t.Parallel()
	base := normal(aPeer("a", "192.0.2.1", nil))
	for title, test := range map[string]struct {
		change func(*announce.Peer)
		same   bool
	}{
		"an explicit default is the default":           {func(p *announce.Peer) { p.Hold, p.Port = 90*time.Second, 179 }, true},
		"next hops and router ID are no session's own": {func(p *announce.Peer) { p.NextHop6, p.RouterID = addr("2001:db8::1"), addr("10.0.0.1") }, true},
		"a password is":  {func(p *announce.Peer) { p.Password = "secret" }, false},
		"a family is":    {func(p *announce.Peer) { p.IPv6 = true }, false},
		"a hold time is": {func(p *announce.Peer) { p.Hold = 30 * time.Second }, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := sameSession(base, normal(aPeer("a", "192.0.2.1", test.change))); got != test.same {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestGobgpPeerRoundsTimersUpAndKeepsIBGPFreeOfMultihop(t *testing.T) {
	t.Parallel()
	p := gobgpPeer(normal(aPeer("a", "192.0.2.1", func(p *announce.Peer) {
		p.Hold, p.MultiHop, p.PeerASN, p.Password = 10*time.Second, true, 64512, "secret"
	})), false)
	if c := p.Timers.Config; c.HoldTime != 10 || c.KeepaliveInterval != 4 || c.ConnectRetry != 10 || c.IdleHoldTimeAfterReset != 1 {
		t.Errorf("timers %v", c)
	}
	if p.EbgpMultihop != nil || p.Conf.AuthPassword != "secret" || p.Transport.RemotePort != 179 || len(p.AfiSafis) != 1 {
		t.Errorf("peer %v", p)
	}
}

func TestWhatASessionIsLike(t *testing.T) {
	t.Parallel()
	like := func(change func(*announce.Peer)) *api.Peer {
		return gobgpPeer(normal(aPeer("a", "192.0.2.1", change)), true)
	}
	if p := like(func(p *announce.Peer) { p.TTLSecurity = 2 }); !p.TtlSecurity.Enabled || p.TtlSecurity.TtlMin != 254 || p.EbgpMultihop != nil {
		t.Errorf("TTL security: %v", p)
	}
	if p := like(func(p *announce.Peer) { p.LocalASN = 64599 }); p.Conf.LocalAsn != 64599 {
		t.Errorf("local AS: %v", p)
	}
	if p := like(func(p *announce.Peer) { p.PeerASN, p.Dynamic, p.LocalASN = 0, announce.Internal, 64599 }); p.Conf.PeerAsn != 64599 {
		t.Errorf("internal: %v", p)
	}
	if p := like(func(p *announce.Peer) { p.PeerASN, p.Dynamic = 0, announce.External }); p.Conf.PeerAsn != 0 {
		t.Errorf("external: %v", p)
	}
	if p := like(func(p *announce.Peer) { p.Hold = -1 }); p.Timers.Config.HoldTime != 65535 {
		t.Errorf("no hold time: %v", p)
	}
	p := like(func(p *announce.Peer) { p.GracefulRestart, p.IPv6 = 30*time.Second, true })
	if g := p.GracefulRestart; !g.Enabled || g.RestartTime != 30 || !g.LocalRestarting || g.DeferralTime != 1 {
		t.Errorf("graceful restart: %v", p)
	}
	for _, a := range p.AfiSafis {
		if !a.MpGracefulRestart.Config.Enabled || a.PrefixLimits.GetMaxPrefixes() != 0 {
			t.Errorf("family: %v", a)
		}
	}
}

func TestHopsOf(t *testing.T) {
	t.Parallel()
	four, six := addr("192.0.2.9"), addr("2001:db8::9")
	both := func(p *announce.Peer) { p.NextHop4, p.NextHop6 = four, six }
	unnumbered := func(p *announce.Peer) { both(p); p.Interface = "eth0" }
	for title, test := range map[string]struct {
		peer     announce.Peer
		extended bool
		want     hops
	}{
		"an unnumbered session prefers RFC 8950 for IPv4":             {aPeer("a", "fe80::1%eth0", unnumbered), true, hops{ipv6: hop{address: six}}},
		"an unnumbered session without it takes the interface's":      {aPeer("a", "fe80::1%eth0", unnumbered), false, hops{ipv4: hop{address: four}, ipv6: hop{address: six}}},
		"IPv6 over IPv4 takes the interface's address":                {aPeer("a", "192.0.2.1", both), false, hops{ipv6: hop{address: six}}},
		"IPv6 over IPv4 is impossible without":                        {aPeer("a", "192.0.2.1", nil), true, hops{ipv6: hop{none: true}}},
		"IPv4 over IPv6 takes the interface's address":                {aPeer("a", "2001:db8::1", both), true, hops{ipv4: hop{address: four}}},
		"IPv4 over IPv6 is impossible without an address or RFC 8950": {aPeer("a", "2001:db8::1", nil), false, hops{ipv4: hop{none: true}}},
		"IPv4 over IPv6 with RFC 8950 takes the session's address":    {aPeer("a", "2001:db8::1", nil), true, hops{}},
		"a link-local session prefers a global address":               {aPeer("a", "fe80::1%eth0", both), true, hops{ipv4: hop{address: four}, ipv6: hop{address: six}}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := hopsOf(test.peer, test.extended); got != test.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPoliciesKnowNoEmptySetOfNeighbors(t *testing.T) {
	t.Parallel()
	m := newMarks()
	for _, peers := range [][]name.PeerName{{"known"}, {"unknown"}, {"known", "unknown"}} {
		_, _, err := m.acquire(distribution{{peers: peers}}, ipv4)
		must(t, err)
	}
	peer := aPeer("known", "2001:db8::1", nil)
	request := policies(map[netip.Addr]route{peer.Address: {Peer: peer, hops: hopsOf(peer, false)}}, m, 64512)
	var names []string
	for _, set := range request.DefinedSets {
		if len(set.List) == 0 {
			t.Errorf("set %s is empty", set.Name)
		}
	}
	for _, statement := range request.Policies[0].Statements {
		names = append(names, statement.Name+" "+statement.Actions.RouteAction.String())
	}
	want := lines("hop-2001:db8::1-ipv4 "+api.RouteAction_ROUTE_ACTION_REJECT.String(),
		"share-1-0 "+api.RouteAction_ROUTE_ACTION_ACCEPT.String(), "share-3-0 "+api.RouteAction_ROUTE_ACTION_ACCEPT.String())
	if got := strings.Join(names, "\n"); got != want {
		t.Errorf("got %s", got)
	}
}

func TestARouterIDMadeOfTheNameIsNeitherClassDNorE(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for i := range 1000 {
		id := hashedID(name.NodeName(fmt.Sprintf("node-%d", i)))
		if first := id.As4()[0]; first < 1 || first > 223 || seen[id] {
			t.Errorf("node-%d: %s", i, id)
		}
		seen[id] = true
	}
}

func TestNotification(t *testing.T) {
	t.Parallel()
	for want, code := range map[string][2]int{
		"cease: administrative shutdown (6/2)":             {6, 2},
		"cease, unknown subcode (6/99)":                    {6, 99},
		"hold timer expired (4/0)":                         {4, 0},
		"unknown error (42/1)":                             {42, 1},
		"OPEN message error: unsupported capability (2/7)": {2, 7},
	} {
		if got := notification(code[0], code[1]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSettling(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	after := func(n int) time.Time { return start.Add(time.Duration(n) * settleTime / 200) }
	one, two := addr("192.0.2.1"), addr("192.0.2.2")
	gone := []netip.Prefix{prefix("192.0.2.9/32")}
	s := newSettling()
	s.withdrew([]netip.Prefix{prefix("192.0.2.8/32")}, after(-10))
	up := map[netip.Addr]time.Time{one: start}
	expect := func(now time.Time, sessions, prefixes int, next time.Duration) {
		t.Helper()
		gotSessions, gotPrefixes, gotNext := s.missed(up, now)
		if len(gotSessions) != sessions || len(gotPrefixes) != prefixes || gotNext != next {
			t.Fatalf("at %s: %v, %v, %s", now.Sub(start), gotSessions, gotPrefixes, gotNext)
		}
	}
	expect(after(50), 0, 0, settleTime*3/4)
	s.withdrew(gone, after(100))
	expect(after(200), 1, 1, 0)
	expect(after(300), 0, 0, 0)
	// A session that comes up with nothing changing needs nothing.
	up[two] = after(400)
	expect(after(700), 0, 0, 0)
	// One that comes up again is a new one.
	delete(up, one)
	expect(after(800), 0, 0, 0)
	up[one] = after(900)
	s.wrote(after(950))
	expect(after(1100), 1, 0, 0)
}

func TestOnlyIPv6LinkLocalSessionsAreDialedFromTheUnspecifiedAddress(t *testing.T) {
	t.Parallel()
	for router, want := range map[string]string{"fe80::1%eth0": "::", "2001:db8::1": "", "192.0.2.1": "", "169.254.7.2": ""} {
		peer := announce.Peer{Name: "r", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr(router), IPv4: true}
		if got := gobgpPeer(normal(peer), false).Transport.LocalAddress; got != want {
			t.Errorf("%s: dialed from %q, want %q", router, got, want)
		}
	}
}
