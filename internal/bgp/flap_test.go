package bgp

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
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
