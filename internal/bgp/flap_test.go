package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// With graceful restart, each new session begins as after a restart of ours.
func TestAFlappingRouterDoesNotMakeAnotherHearItsRoutesAgain(t *testing.T) {
	t.Parallel()
	const routes, flaps = 500, 4
	end := bgp.NewEndOfRib(bgp.RF_IPv4_UC)
	begun := make(chan time.Time, 100)
	flapping := startRaw(t, "flapping", "127.0.41.1", func(r *raw, c net.Conn) bool {
		begun <- time.Now()
		_ = send(c, end)
		r.listen(c)
		_ = send(c, bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED, nil))
		return false
	})
	greeted := map[net.Conn]bool{} // one session at a time
	good := startRaw(t, "good", "127.0.41.2", func(r *raw, c net.Conn) bool {
		if !greeted[c] {
			greeted[c] = true
			_ = send(c, end)
		}
		return r.listen(c)
	})
	s := start(t)
	for i := range routes {
		s.Set(service(fmt.Sprint(i)), []announce.Route{to(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&255), announce.Attributes{}, "flapping", "good")})
	}
	s.SetPeers([]announce.Peer{good.peer, flapping.peer})
	s.Sync()
	eventually(t, "routes", func() string { return fmt.Sprint(good.prefixes.Load() >= routes) }, "true")
	eventually(t, "sessions of the other", func() string { return fmt.Sprint(flapping.sessions.Load() >= flaps) }, "true")
	<-begun
	<-begun
	if before, last := <-begun, <-begun; last.Sub(before) < 2*firstRest { // 4 s, or up to a half of it less
		t.Errorf("the fourth session began %s after the third one", last.Sub(before))
	}
	eventually(t, "reason", func() string { return s.Peers()[1].LastError }, "received NOTIFICATION: cease: maximum number of prefixes reached (6/1)")
	if n := good.prefixes.Load(); n != routes {
		t.Errorf("the good router heard %d prefixes of %d, in %d UPDATEs", n, routes, good.updates.Load())
	}
	if p := s.Peers()[0]; p.State != Established || p.Flaps > 0 {
		t.Errorf("the good router's session: %+v", p)
	}
}

func TestTheMoreOftenASessionEndsTheLongerItRests(t *testing.T) {
	t.Parallel()
	var rest time.Duration
	for i, step := range []struct{ lived, want time.Duration }{
		{time.Second, time.Second},
		{59 * time.Second, 2 * time.Second},
		{time.Second, 4 * time.Second},
		{0, 8 * time.Second},
		{time.Second, 16 * time.Second},
		{time.Second, 30 * time.Second},
		{time.Second, 30 * time.Second},
		{time.Minute, 0},
		{time.Second, time.Second},
	} {
		if rest = nextRest(rest, step.lived); rest != step.want {
			t.Errorf("%d: %s, want %s", i, rest, step.want)
		}
	}
}

// hearing serves a session to its end.
func hearing(r *raw, c net.Conn) bool {
	_ = send(c, bgp.NewEndOfRib(bgp.RF_IPv4_UC))
	for r.listen(c) {
	}
	return false
}

func TestWhatHappensToOnePeerIsNotHeardByAnother(t *testing.T) {
	t.Parallel()
	const routes = 600
	good, other := startRaw(t, "good", "127.0.42.1", hearing), startRaw(t, "other", "127.0.42.2", hearing)
	s := start(t)
	// As the speaker does after a change of the configuration: some Services at a time, while the worker goes on.
	set := func(from int, peers ...name.PeerName) {
		for i := from; i < routes; i++ {
			s.Set(service(fmt.Sprint(i)), []announce.Route{to(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&255), announce.Attributes{}, peers...)})
			if i%100 == 0 {
				poll(t)
			}
		}
	}
	heard := func(r *raw, want int64) {
		t.Helper()
		eventually(t, string(r.peer.Name), func() string { return fmt.Sprint(r.prefixes.Load()) }, fmt.Sprint(want))
	}
	set(0, "good")
	s.SetPeers([]announce.Peer{good.peer})
	s.Sync()
	heard(good, routes)

	s.SetPeers([]announce.Peer{good.peer, other.peer})
	set(0, "good", "other")
	heard(other, routes)
	edited := other.peer
	edited.Hold = 30 * time.Second
	s.SetPeers([]announce.Peer{good.peer, edited})
	heard(other, 2*routes)
	s.SetPeers([]announce.Peer{good.peer})
	set(0, "good")
	s.SetPeers([]announce.Peer{good.peer, other.peer})
	set(0, "good", "other")
	heard(other, 3*routes)
	if n := good.prefixes.Load(); n != routes || good.sessions.Load() != 1 {
		t.Errorf("the good router heard %d prefixes of %d in %d UPDATEs and %d sessions", n, routes, good.updates.Load(), good.sessions.Load())
	}

	// A change that is for some of the routes only is not put off for long, and what changes is heard by all.
	s.SetPeers([]announce.Peer{good.peer})
	set(0, "good")
	s.SetPeers([]announce.Peer{good.peer, other.peer})
	set(routes-10, "good", "other")
	heard(other, 3*routes+10)
	s.Set(service("more"), []announce.Route{to("192.0.2.1/32", announce.Attributes{}, "good", "other")})
	heard(other, 3*routes+11)
}

func TestOtherRoutesAreAnnouncedBeforeTheOldOnesAreWithdrawn(t *testing.T) {
	t.Parallel()
	const many = 300
	said := make(chan string, 10*many) // one word for each prefix that came or went
	r := startRaw(t, "r", "127.0.43.1", func(_ *raw, c net.Conn) bool {
		kind, body, err := receive(c)
		if kind != bgp.BGP_MSG_UPDATE || err != nil {
			return err == nil
		}
		m, err := bgp.ParseBGPBody(&bgp.BGPHeader{Type: kind, Len: uint16(bgp.BGP_HEADER_LENGTH + len(body))}, body)
		if err != nil {
			return false
		}
		for range m.Body.(*bgp.BGPUpdate).WithdrawnRoutes {
			said <- "withdrawn"
		}
		for range m.Body.(*bgp.BGPUpdate).NLRI {
			said <- "announced"
		}
		return true
	})
	s := start(t)
	set := func(length int) {
		for i := range many {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), length)
			s.Set(service(fmt.Sprint(i)), []announce.Route{to(p.String(), announce.Attributes{}, "r")})
		}
	}
	hear := func() string {
		select {
		case word := <-said:
			return word
		case <-time.After(patience):
			return "nothing"
		}
	}
	set(32)
	s.SetPeers([]announce.Peer{r.peer})
	s.Sync()
	for range many {
		if word := hear(); word != "announced" {
			t.Fatalf("at first: %s", word)
		}
	}
	set(24)
	there := many
	for range 2 * many {
		switch word := hear(); word {
		case "announced":
			there++
		case "withdrawn":
			there--
		default:
			t.Fatal(word)
		}
		if there < many {
			t.Fatalf("the router has %d of %d routes", there, many)
		}
	}
}
