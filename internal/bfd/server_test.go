package bfd

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestASessionComesUpAndNegotiatesItsTimers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		slow := to(left)
		slow.Receive, slow.Transmit, slow.Multiplier = 400*ms, 250*ms, 5
		a, b := w.party(t, left, to(right)), w.party(t, right, slow)
		defer a.end(t)
		defer b.end(t)
		time.Sleep(5 * time.Second)
		if p := w.said(left)[0]; p.DesiredMinTx != time.Second || p.State != Down {
			t.Errorf("it begins with %+v, want a promise of a packet a second (RFC 5880 section 6.8.3)", p)
		}
		got := a.state()
		if got.State != Up || got.RemoteState != Up || got.TransmitInterval != 400*ms || got.ReceiveInterval != 250*ms || got.DetectionTime != 1250*ms {
			t.Errorf("fast one: %+v", got)
		}
		got = b.state()
		if got.State != Up || got.TransmitInterval != 250*ms || got.ReceiveInterval != 400*ms || got.DetectionTime != 1200*ms {
			t.Errorf("slow one: %+v", got)
		}
		if a.story() != "Down>Init Init>Up" && a.story() != "Down>Up" {
			t.Errorf("story: %s", a.story())
		}
		// The intervals are kept, with jitter.
		w.set(func(w *wire) { w.heard = map[netip.Addr][]Packet{} })
		time.Sleep(40 * time.Second)
		n := len(w.said(left))
		if n < 105 || n > 130 { // 40 s / 400 ms are 100; with a quarter less at most, and an eighth on average, 114
			t.Errorf("%d packets in 40 s", n)
		}
		for _, p := range w.said(left) {
			if p.Poll || p.Final || p.State != Up {
				t.Fatalf("not at rest: %+v", p)
			}
		}
	})
}

func TestSilenceIsAFailureAfterTheDetectionTime(t *testing.T) {
	t.Parallel()
	pair(t, func(w *wire, a, b *party) {
		w.set(func(w *wire) { w.cut = true })
		cut := time.Now()
		time.Sleep(400 * ms)
		for _, p := range []*party{a, b} {
			s := p.state()
			if s.State != Down || s.Diagnostic != DetectionTimeExpired || s.Downs != 1 {
				t.Fatalf("%+v", s)
			}
			if after := s.Since.Sub(cut); after < 200*ms || after > 300*ms+secondLook {
				t.Errorf("down after %s", after)
			}
		}
		if p := w.last(left); p.Your != 0 || p.DesiredMinTx != time.Second || p.Diagnostic != DetectionTimeExpired {
			t.Errorf("after the failure it says %+v", p)
		}
		w.set(func(w *wire) { w.cut = false })
		time.Sleep(3 * time.Second)
		if s := a.state(); s.State != Up || s.Ups != 2 || s.Diagnostic != NoDiagnostic {
			t.Errorf("after the repair: %+v", s)
		}
	})
}

func TestOnePacketInAHundredMayBeLost(t *testing.T) {
	t.Parallel()
	pair(t, func(w *wire, a, _ *party) {
		w.set(func(w *wire) { w.loss = 0.01 })
		time.Sleep(time.Hour)
		if s := a.state(); s.Downs > 3 {
			t.Errorf("one packet in a hundred is lost, three in a row fail: %d failures in an hour", s.Downs)
		}
	})
}

func TestAnEndIsToldAndIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*party){
		"stopped": func(p *party) { p.stop() },
		"removed": func(p *party) { p.Set(nil) },
	} {
		pair(t, func(w *wire, a, b *party) {
			end(b)
			time.Sleep(10 * ms)
			if p := w.last(right); p.State != AdminDown || p.Diagnostic != AdministrativelyDown {
				t.Errorf("%s: last words %+v", name, p)
			}
			if s := a.state(); s.State != Down || s.Diagnostic != NeighborSignaledDown || s.RemoteState != AdminDown {
				t.Errorf("%s: %+v", name, s)
			}
			if story := a.story(); !strings.HasSuffix(story, "Up>Down(admin)") {
				t.Errorf("%s: %s", name, story)
			}
			time.Sleep(time.Minute)
			if s := a.state(); s.State != Down || s.Downs != 1 {
				t.Errorf("%s, a minute later: %+v", name, s)
			}
		})
	}
}

func TestTimersChangeWithoutAnEndOfTheSession(t *testing.T) {
	t.Parallel()
	pair(t, func(w *wire, a, b *party) {
		w.set(func(w *wire) { w.heard = map[netip.Addr][]Packet{} })
		other := to(right)
		other.Receive, other.Transmit, other.Multiplier = 500*ms, 600*ms, 4
		a.Set([]Session{other})
		time.Sleep(5 * time.Second)
		for _, p := range []*party{a, b} {
			if s := p.state(); s.State != Up || s.Downs != 0 {
				t.Errorf("%+v", s)
			}
		}
		if s := a.state(); s.TransmitInterval != 600*ms || s.ReceiveInterval != 500*ms && s.ReceiveInterval != 100*ms {
			t.Errorf("own: %+v", s)
		}
		if s := b.state(); s.TransmitInterval != 500*ms || s.DetectionTime != 2400*ms {
			t.Errorf("the other's: %+v", s)
		}
		polls := slices.ContainsFunc(w.said(left), func(p Packet) bool { return p.Poll })
		finals := slices.ContainsFunc(w.said(right), func(p Packet) bool { return p.Final })
		if !polls || !finals {
			t.Errorf("polls %v, finals %v", polls, finals)
		}
		// And back, faster.
		a.Set([]Session{to(right)})
		time.Sleep(5 * time.Second)
		if s := a.state(); s.State != Up || s.Downs != 0 || s.TransmitInterval != 100*ms || s.DetectionTime != 300*ms {
			t.Errorf("faster again: %+v", s)
		}
		if s := b.state(); s.State != Up || s.Downs != 0 || s.DetectionTime != 300*ms {
			t.Errorf("the other: %+v", s)
		}
	})
}

func TestAPassiveSessionIsSilentUntilItIsSpokenTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		passive := to(right)
		passive.Passive = true
		a := w.party(t, left, passive)
		defer a.end(t)
		time.Sleep(10 * time.Second)
		if n := len(w.said(left)); n != 0 {
			t.Errorf("%d packets", n)
		}
		b := w.party(t, right, to(left))
		defer b.end(t)
		time.Sleep(5 * time.Second)
		if s := a.state(); s.State != Up {
			t.Errorf("%+v", s)
		}
	})
}

func TestPacketsFromFurtherAwayAreRejected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, x := range []struct {
			multihop bool
			minimum  uint8
			ttl      uint8
			want     State
		}{{false, 0, 255, Up}, {false, 0, 254, Down}, {true, 254, 254, Up}, {true, 254, 253, Down}, {true, 1, 2, Up}} {
			w := newWire()
			w.ttl = x.ttl
			s, o := to(right), to(left)
			s.MultiHop, s.MinimumTTL, o.MultiHop, o.MinimumTTL = x.multihop, x.minimum, x.multihop, x.minimum
			a, b := w.party(t, left, s), w.party(t, right, o)
			time.Sleep(5 * time.Second)
			if got := a.state(); got.State != x.want || x.want == Down && got.Rejected == 0 {
				t.Errorf("%+v: %+v", x, got)
			}
			a.end(t)
			b.end(t)
		}
	})
}

func TestIntervalsAreShortenedAtRandom(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		multiplier  uint8
		least, most time.Duration
	}{{3, 75 * ms, 100 * ms}, {2, 75 * ms, 100 * ms}, {1, 75 * ms, 90 * ms}} { // RFC 5880 section 6.8.7
		s := to(right)
		s.Multiplier = x.multiplier
		m := newMachine(s, 1, time.Unix(1000, 0))
		m.state = Init
		m.take(Packet{State: Up, Multiplier: 3, My: 9, Your: 1, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}, time.Unix(1000, 0))
		if least, most := m.jittered(0), m.jittered(1); least != x.least || most != x.most {
			t.Errorf("multiplier %d: %s to %s, want %s to %s", x.multiplier, least, most, x.least, x.most)
		}
	}
}

// A node may have more routers than anybody has: each is watched for itself.
func TestHundredsOfSessionsComeUpAndFailOneByOne(t *testing.T) {
	t.Parallel()
	const routers = 300
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		var sessions []Session
		for i := range routers {
			address := netip.AddrFrom4([4]byte{198, 51, byte(100 + i/200), byte(i % 200)})
			sessions = append(sessions, to(address))
			defer w.party(t, address, to(left)).end(t)
		}
		node := newParty(t, w.end(left), sessions...)
		defer node.end(t)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, s := range node.Sessions() {
			if s.State != Up || s.Downs != 0 || s.DetectionTime != 300*ms {
				t.Errorf("%s: %s after %d failures, detects after %s", s.Peer, s.State, s.Downs, s.DetectionTime)
			}
		}
		silenced := sessions[7].Peer
		w.set(func(w *wire) { delete(w.ends, silenced) }) // it hears nothing any more, and then says that it is down
		time.Sleep(time.Second)
		if downs := node.downs(); !slices.Equal(downs, []netip.Addr{silenced}) {
			t.Errorf("one of %d routers failed, and these were said to: %v", routers, downs)
		}
	})
}

func TestAPollThatIsOverLeavesNoIntervals(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	slow := to(right)
	slow.Receive, slow.Transmit = 2*time.Second, 2*time.Second
	m := newMachine(slow, 1, now)
	m.take(Packet{State: Init, Multiplier: 3, My: 9, Your: 1, DesiredMinTx: time.Second, RequiredMinRx: time.Second}, now)
	fast := slow
	fast.Receive, fast.Transmit = time.Second, time.Second
	m.configure(fast)
	if m.receive != 2*time.Second || !m.polling {
		t.Fatalf("while the peer has not agreed: %s, polling %v", m.receive, m.polling)
	}
	m.take(Packet{State: Down, Multiplier: 3, My: 9, Your: 1, DesiredMinTx: time.Second, RequiredMinRx: time.Second}, now)
	if m.state != Down || m.receive != time.Second || m.transmit != time.Second {
		t.Errorf("%s: %s and %s", m.state, m.receive, m.transmit)
	}
}

func TestALateProcessDoesNotTakeItsPeerForDead(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	hear := func(m *machine, at time.Time) {
		m.take(Packet{State: Up, Multiplier: 3, My: 9, Your: 1, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}, at)
	}
	begin := func() *machine {
		m := newMachine(to(right), 1, now)
		m.state = Init
		hear(m, now)
		return m
	}
	m := begin() // it detects after 300 ms, and looks twice
	m.expire(now.Add(300 * ms))
	m.expire(now.Add(301 * ms))
	if m.state != Up {
		t.Fatal("it did not look again")
	}
	if m.expire(now.Add(302 * ms)); m.state != Down {
		t.Error("the second look takes too long")
	}
	m = begin() // it stood still for long enough that packets wait to be read
	m.expire(now.Add(400 * ms))
	m.expire(now.Add(402 * ms))
	hear(m, now.Add(403*ms))
	if m.expire(now.Add(501 * ms)); m.state != Up {
		t.Error("it took a peer for dead that had said something meanwhile")
	}
	m = begin() // and one that says nothing is dead one interval later
	m.expire(now.Add(400 * ms))
	if m.expire(now.Add(500 * ms)); m.state != Down {
		t.Error("a dead peer is waited for")
	}
}

func TestStrangePacketsChangeNothing(t *testing.T) {
	t.Parallel()
	pair(t, func(w *wire, a, _ *party) {
		before := a.state()
		own := w.last(left)
		for _, p := range []Packet{
			{State: Down, Multiplier: 3, My: 7, Your: own.My + 1},      // for nobody
			{State: AdminDown, Multiplier: 3, My: 7, Your: own.My + 1}, // for nobody
			{State: Down, Multiplier: 3, My: 7, Your: own.My},          // of a stranger, below
		} {
			for from, ttl := range map[netip.Addr]uint8{right: 64, netip.MustParseAddr("192.0.2.3"): 255} {
				d := datagram{from: from, ttl: ttl, length: packetLength}
				copy(d.data[:], p.Append(nil))
				w.ends[left].inbox <- d
			}
		}
		d := datagram{from: right, ttl: 255, length: 30}
		copy(d.data[:], bytes.Repeat([]byte{0xff}, 30))
		w.ends[left].inbox <- d
		synctest.Wait()
		if after := a.state(); after.State != Up || after.Since != before.Since || after.Rejected == before.Rejected {
			t.Errorf("%+v", after)
		}
	})
}
