package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
)

func lastError(s *Server) func() string {
	return func() string { return fmt.Sprintf("%s: %s", s.Peers()[0].State, s.Peers()[0].LastError) }
}

func TestASessionThatIsTakenDownComesBackWhenItMay(t *testing.T) {
	t.Parallel()
	r, other := startRouter(t, "127.0.11.1", 64513, 64512), startRouter(t, "127.0.11.2", 64514, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{r.peer("r", 64512), other.peer("other", 64512)})
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r", "other")})
	s.Sync()
	const all = "192.0.2.1/32 via 127.0.0.1 path [64512]"
	eventually(t, "start", r.routes, all)
	eventually(t, "start of the other", other.routes, all)
	before := s.Peers()[1]
	s.Down(r.address, "BFD session down")
	eventually(t, "reason", lastError(s), "Idle: BFD session down")
	eventually(t, "routes of a session that is down", r.routes, "")
	if flaps := s.Peers()[0].Flaps; flaps != 1 {
		t.Errorf("%d flaps", flaps)
	}
	s.Up(netip.MustParseAddr("127.0.11.9")) // nobody
	s.Up(r.address)
	s.mu.Lock()
	held := len(s.held) // what ends by itself stays, for its pause
	s.mu.Unlock()
	if held != 0 {
		t.Error("it is kept down though it may be up")
	}
	eventually(t, "back", r.routes, all)
	if after := s.Peers()[1]; after.Since != before.Since || after.Flaps != 0 {
		t.Errorf("the other session: was %+v, is %+v", before, after)
	}
}

// A router may have BFD only while BGP is up: nobody will ever call Up.
func TestASessionThatIsTakenDownComesBackByItself(t *testing.T) {
	t.Parallel()
	r, s := established(t, "127.0.25.1")
	s.Down(r.address, "BFD session down")
	eventually(t, "reason", lastError(s), "Idle: BFD session down")
	eventually(t, "back", func() string { return states(s) }, "r Established")
}

func TestTheMoreOftenASessionIsTakenDownTheLongerItStaysDown(t *testing.T) {
	t.Parallel()
	var pause time.Duration
	for i, step := range []struct{ lived, want time.Duration }{
		{time.Second, 5 * time.Second},
		{time.Second, 10 * time.Second},
		{59 * time.Second, 20 * time.Second},
		{time.Second, 30 * time.Second},
		{time.Second, 30 * time.Second},
		{time.Minute, 5 * time.Second},
	} {
		if pause = nextRevival(pause, step.lived); pause != step.want {
			t.Errorf("%d: %s, want %s", i, pause, step.want)
		}
	}
}

// A session goes down though a great many routes are on their way to gobgp.
func TestASessionIsTakenDownAmidMuchWork(t *testing.T) {
	t.Parallel()
	r, s := established(t, "127.0.12.1")
	for i := range 20000 {
		s.Set(service(fmt.Sprint(i)), []announce.Route{to(fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255), announce.Attributes{}, "r")})
	}
	s.Down(r.address, "BFD session down")
	gone := func() string {
		up := false
		_ = r.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
			up = p.State.SessionState == api.PeerState_SESSION_STATE_ESTABLISHED
		})
		return fmt.Sprint(up)
	}
	eventually(t, "session at the router", gone, "false")
}

func TestASOfASession(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.13.1", 64513, 64599)
	same := startRouter(t, "127.0.13.2", 64512, 64512)
	s := start(t)
	local := r.peer("local", 64512)
	local.LocalASN, local.PeerASN, local.Dynamic = 64599, 0, announce.External
	mistaken := same.peer("mistaken", 64512)
	mistaken.PeerASN, mistaken.Dynamic = 0, announce.External
	s.SetPeers([]announce.Peer{mistaken, local})
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "local", "mistaken")})
	s.Sync()
	eventually(t, "local AS", r.routes, "192.0.2.1/32 via 127.0.0.1 path [64599]")
	eventually(t, "own AS", lastError(s), "Idle: peer has our own AS number 64512, and dynamicASN is external")
	right := same.peer("mistaken", 64512)
	right.PeerASN, right.Dynamic = 0, announce.Internal
	s.SetPeers([]announce.Peer{local})
	s.SetPeers([]announce.Peer{right, local})
	eventually(t, "internal", same.routes, "192.0.2.1/32 via 127.0.0.1 pref 100")
	if got := s.Peers()[1].ASN; got != 64513 {
		t.Errorf("the peer's AS number: %d", got)
	}
}

func TestLinkBandwidthGoesToThoseWhoAreToHaveIt(t *testing.T) {
	t.Parallel()
	plain, transitive, local := startRouter(t, "127.0.14.1", 64513, 64512), startRouter(t, "127.0.14.2", 64514, 64512), startRouter(t, "127.0.14.3", 64515, 64512)
	s := start(t)
	s.SetPeers([]announce.Peer{plain.peer("plain", 64512), transitive.peer("transitive", 64512), local.peer("local", 64512)})
	s.Set(service("a"), []announce.Route{
		to("192.0.2.1/32", announce.Attributes{}, "plain"),
		to("192.0.2.1/32", announce.Attributes{Weight: 3, Transitive: true}, "transitive"),
		to("192.0.2.1/32", announce.Attributes{Weight: 3}, "local"),
	})
	s.Sync()
	// 0x48b71b00 is 375000 octets a second.
	eventually(t, "plain", plain.routes, "192.0.2.1/32 via 127.0.0.1 path [64512]")
	// gobgp reads both forms into one type, which it writes as the non-transitive one.
	eventually(t, "transitive", transitive.routes, "192.0.2.1/32 via 127.0.0.1 path [64512] ext 4004fc0048b71b00")
	eventually(t, "local", local.routes, "192.0.2.1/32 via 127.0.0.1 path [64512] ext 4004fc0048b71b00")
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{Weight: 1}, "local")})
	eventually(t, "another weight", local.routes, "192.0.2.1/32 via 127.0.0.1 path [64512] ext 4004fc0047f42400")
}

// restartBits are the R bit of our last OPEN and the families with the F bit, as the router got them.
func (r *router) restartBits() string {
	said := "none"
	_ = r.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		caps, _ := apiutil.UnmarshalCapabilities(p.State.RemoteCap)
		for _, c := range caps {
			if g, ok := c.(*bgp.CapGracefulRestart); ok {
				said = fmt.Sprintf("flags %d time %d", g.Flags, g.Time)
				slices.SortFunc(g.Tuples, func(a, b *bgp.CapGracefulRestartTuple) int { return int(a.AFI) - int(b.AFI) })
				for _, tuple := range g.Tuples {
					said += fmt.Sprintf(" family %d/%d flags %d", tuple.AFI, tuple.SAFI, tuple.Flags)
				}
			}
		}
	})
	return said
}

func TestARestartKeepsTheRoutes(t *testing.T) {
	t.Parallel()
	r, later := startRouter(t, "127.0.15.1", 64513, 64512), startRouter(t, "127.0.15.2", 64514, 64512)
	peer, late := r.peer("r", 64512), later.peer("later", 64512)
	peer.GracefulRestart, late.GracefulRestart = 30*time.Second, 40*time.Second
	unreachable := peer
	unreachable.Name, unreachable.Address = "unreachable", netip.MustParseAddr("127.0.15.3")
	run := func() (*Server, func()) {
		s := New(Config{NodeName: "node", RouterID: netip.MustParseAddr("127.0.0.1"), Log: testr.New(t)})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.SetPeers([]announce.Peer{peer, unreachable})
		s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r", "later")})
		s.Sync()
		return s, func() {
			cancel()
			must(t, <-done)
		}
	}
	const all = "192.0.2.1/32 via 127.0.0.1 path [64512]"
	s, stop := run()
	eventually(t, "start", r.routes, all)
	s.SetPeers([]announce.Peer{peer, unreachable, late})
	eventually(t, "added later", later.routes, all)
	if got := later.restartBits(); got != "flags 0 time 40 family 1/1 flags 0 family 2/1 flags 0" {
		t.Errorf("a peer that was added later: %s", got)
	}
	s.Restarting()
	began := time.Now()
	stop()
	t.Logf("stopped within %s", time.Since(began))
	if got := r.routes(); got != all {
		t.Errorf("after the stop: %q", got)
	}
	s, stop = run()
	eventually(t, "session", func() string { return string(s.Peers()[0].State) }, "Established")
	eventually(t, "restart", func() string { return r.restartBits() + " " + r.routes() }, "flags 8 time 30 family 1/1 flags 128 family 2/1 flags 128 "+all)
	stop() // for good
	eventually(t, "end", r.routes, "")
}

func TestAPeerThatSendsTooMuchIsLeftAlone(t *testing.T) {
	t.Parallel()
	flood, good := startRouter(t, "127.0.16.1", 64513, 64512), startRouter(t, "127.0.16.2", 64514, 64512)
	var paths []*apiutil.Path
	for i := range maxReceived + 1 {
		a := netip.AddrFrom4([4]byte{30, byte(i >> 16), byte(i >> 8), byte(i)})
		paths = append(paths, pathOf(path{prefix: netip.PrefixFrom(a, 32)}))
	}
	for some := range slices.Chunk(paths, 10000) {
		_, err := flood.AddPath(apiutil.AddPathRequest{Paths: some})
		must(t, err)
	}
	s := start(t)
	s.SetPeers([]announce.Peer{flood.peer("flood", 64512), good.peer("good", 64512)})
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "good")})
	s.Sync()
	eventually(t, "the good one", good.routes, "192.0.2.1/32 via 127.0.0.1 path [64512]")
	since := s.Peers()[1].Since
	eventually(t, "the flood", lastError(s), "Idle: peer sent more than 100000 routes of a family, none of which is wanted: have it send none")
	if state := s.Peers()[1]; state.Since != since || state.State != Established {
		t.Errorf("the good one: %+v", state)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.17.1", 64513, 64512)
	s := start(t)
	if got := s.Stats(); got != nil {
		t.Errorf("before the start: %v", got)
	}
	s.SetPeers([]announce.Peer{r.peer("r", 64512)})
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r"), to("192.0.2.2/32", announce.Attributes{}, "r"), to("2001:db8:1::1/128", announce.Attributes{}, "r")})
	s.Sync()
	eventually(t, "routes", func() string { return fmt.Sprint(strings.Count(r.routes(), "via")) }, "3")
	eventually(t, "advertised", func() string { return fmt.Sprint(s.Peers()[0].Advertised) }, "{2 1}")
	eventually(t, "messages", func() string {
		for _, one := range s.Stats() {
			return fmt.Sprintln(one.Name, one.UpdatesSent > 0, one.MessagesReceived > 0, one.RoutesReceived)
		}
		return ""
	}, "r true true 0\n")
}

// A peer that closes each connection at once is not dialed every other second for ever.
func TestAPeerThatClosesAtOpenIsDialedLessAndLess(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.18.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	dials := make(chan time.Time, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dials <- time.Now()
			_ = c.Close()
		}
	}()
	s := start(t)
	s.SetPeers([]announce.Peer{{
		Name: "closer", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("127.0.18.1"),
		Port: uint16(l.Addr().(*net.TCPAddr).Port), IPv4: true, Connect: time.Second,
	}})
	s.Sync()
	for range patientTries + 1 {
		<-dials
	}
	eventually(t, "reason", lastError(s), "Idle: peer closed the connection before its OPEN")
	s.mu.Lock()
	held := len(s.held)
	s.mu.Unlock()
	if held != 1 {
		t.Error("it is not left alone for a while")
	}
	<-dials // and dialed again
}

// What happens faster than the worker looks must not leave a session that is up for one that is down.
func TestASessionSurvivesWhatIsOverAtOnce(t *testing.T) {
	t.Parallel()
	for i, disturb := range []func(*Server, *router, []announce.Peer){
		func(s *Server, r *router, _ []announce.Peer) { s.Down(r.address, "BFD session down"); s.Up(r.address) },
		func(s *Server, _ *router, peers []announce.Peer) { s.SetPeers(nil); s.SetPeers(peers) },
		func(s *Server, r *router, _ []announce.Peer) {
			s.hold(r.address, "BFD session down", hold{pause: time.Second, bfd: true})
		},
	} {
		r := startRouter(t, fmt.Sprintf("127.0.19.%d", i+1), 64513, 64512)
		s := start(t)
		peers := []announce.Peer{r.peer("r", 64512)}
		s.SetPeers(peers)
		s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r")})
		s.Sync()
		eventually(t, "start", func() string { return states(s) }, "r Established")
		disturb(s, r, peers)
		eventually(t, fmt.Sprintf("session after disturbance %d", i), func() string { return states(s) + " " + r.routes() }, "r Established 192.0.2.1/32 via 127.0.0.1 path [64512]")
	}
}

// While a restart's deferral lasts, gobgp sends no changes; those of that time follow it.
func TestAWithdrawalDuringTheDeferralIsNotLost(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.20.1", 64513, 64512)
	peer := r.peer("r", 64512)
	peer.GracefulRestart = 30 * time.Second
	unreachable := peer
	unreachable.Name, unreachable.Address = "unreachable", netip.MustParseAddr("127.0.20.9")
	s := start(t)
	s.SetPeers([]announce.Peer{peer, unreachable})
	one := func(n string) []announce.Route { return []announce.Route{to(n, announce.Attributes{}, "r")} }
	s.Set(service("a"), one("192.0.2.1/32"))
	s.Set(service("b"), one("192.0.2.2/32"))
	s.Sync()
	eventually(t, "session", func() string { return string(s.Peers()[0].State) }, "Established")
	s.Set(service("c"), one("192.0.2.3/32"))
	eventually(t, "the others' routes", func() string { return fmt.Sprint(strings.Contains(r.routes(), "192.0.2.3")) }, "true")
	s.Remove(service("b"))
	eventually(t, "routes in the end", r.routes, lines("192.0.2.1/32 via 127.0.0.1 path [64512]", "192.0.2.3/32 via 127.0.0.1 path [64512]"))
}

// A connection that just ends is no restart, but the router is to keep the routes all the same.
func TestALostConnectionKeepsTheRoutes(t *testing.T) {
	t.Parallel()
	r := startRouter(t, "127.0.21.1", 64513, 64512)
	peer := r.peer("r", 64512)
	peer.GracefulRestart = 30 * time.Second
	s := start(t)
	s.Sync() // the peer comes later: its first OPEN has no bits
	s.Set(service("a"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "r")})
	s.SetPeers([]announce.Peer{peer})
	const all = "192.0.2.1/32 via 127.0.0.1 path [64512]"
	eventually(t, "start", func() string { return r.restartBits() + " " + r.routes() }, "flags 0 time 30 family 1/1 flags 0 family 2/1 flags 0 "+all)
	must(t, r.DisablePeer(t.Context(), &api.DisablePeerRequest{Address: "127.0.0.1"}))
	eventually(t, "end", func() string { return fmt.Sprint(s.Peers()[0].Flaps) }, "1")
	must(t, r.EnablePeer(t.Context(), &api.EnablePeerRequest{Address: "127.0.0.1"}))
	eventually(t, "back", func() string { return r.restartBits() + " " + r.routes() }, "flags 8 time 30 family 1/1 flags 128 family 2/1 flags 128 "+all)
}
