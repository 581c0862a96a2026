package layer2

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
)

func TestAGroupThatCannotBeJoinedIsTriedAgainAndKeepsNothingFromBeingAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		l.closed = true
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(vip6, "eth0"), on(vip, "eth0")})
		time.Sleep(time.Minute)
		finds(t, l, 2, vip6, mac0)
		finds(t, l, 2, vip, mac0)
		if s := a.Stats()[0]; s.Problem != "no room for groups" || !s.Open || s.Errors < 5 || s.Errors > 20 {
			t.Errorf("Stats() = %+v", s)
		}
		l.mu.Lock()
		l.closed = false
		l.mu.Unlock()
		time.Sleep(lastRetry)
		if s := a.Stats()[0]; s.Problem != "" || !l.groups[2][vip6] {
			t.Errorf("Stats() = %+v, joined %v", s, l.groups)
		}
		a.Remove(shop)
		synctest.Wait()
		if len(l.groups[2]) != 0 {
			t.Errorf("%v are still joined", l.groups)
		}
	})
}

func TestTheFamiliesOfAnInterfaceDoNotHoldUpEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		l.refuse[plug{2, true}] = errors.New("IPv6 is off")
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(vip6, "eth0"), on(vip, "eth0")})
		time.Sleep(time.Minute)
		finds(t, l, 2, vip, mac0)
		if s := a.Stats()[0]; s.Open || s.Problem != "IPv6 is off" || s.Addresses != 2 {
			t.Errorf("Stats() = %+v", s)
		}
		l.mu.Lock()
		clear(l.refuse)
		l.mu.Unlock()
		time.Sleep(lastRetry)
		finds(t, l, 2, vip6, mac0)
		a.Set(shop, []announce.Layer2{on(vip6, "eth0")})
		synctest.Wait()
		if s := a.Stats()[0]; len(l.sockets) != 1 || !s.Open || s.Problem != "" {
			t.Errorf("%d sockets are open, Stats() = %+v", len(l.sockets), s)
		}
	})
}

func TestWhatIsOnlyWatchedIsNotAnswered(t *testing.T) {
	t.Parallel()
	b := newBook[arp.Addresses, arp.Entry]()
	watch, both, neither := answer{watched: true}, answer{watched: true, answered: true, mac: mac8}, answer{}
	steps := []struct {
		name              string
		changes           []change
		answered, watched int
		shared            bool
	}{
		{"one is answered", []change{{vip, both}}, 1, 1, true},
		{"another is watched", []change{{vip2, watch}}, 1, 2, false},
		{"the first goes", []change{{vip, neither}}, 0, 1, false},
		{"the other is answered", []change{{vip2, both}}, 1, 1, true},
		{"one comes and one goes", []change{{vip, both}, {vip2, neither}}, 1, 1, true},
		{"it is only watched", []change{{vip, watch}}, 0, 1, false},
		{"it goes", []change{{vip, neither}}, 0, 0, true},
	}
	for _, step := range steps {
		b.update(step.changes)
		answers, watched := b.answers.Load(), b.watched.Load()
		if answers.Len() != step.answered || watched.Len() != step.watched || (answers == watched) != step.shared {
			t.Errorf("%s: %d are answered and %d watched, in one set: %v", step.name, answers.Len(), watched.Len(), answers == watched)
		}
	}
}

func TestAProbeHidesNoUseOfTheAddress(t *testing.T) {
	t.Parallel()
	use, probe, later := sign{mac: mac8}, sign{mac: mac9, probe: true}, sign{mac: mac1}
	for name, tt := range map[string]struct {
		seen []sign
		want sign
	}{
		"a use is kept when a probe follows": {[]sign{use, probe}, use},
		"a use takes the place of a probe":   {[]sign{probe, use}, use},
		"of two uses the last counts":        {[]sign{use, later}, later},
	} {
		var s signs
		for _, x := range tt.seen {
			s.add(vip, x)
		}
		if got := s.take()[vip]; got != tt.want {
			t.Errorf("%s: the sign is %+v", name, got)
		}
	}
}

func TestAFloodOfConflictsIsOneSignAnAddress(t *testing.T) {
	t.Parallel()
	var s signs
	firsts := 0
	for i := range 10000 {
		if s.add(vip, sign{mac: link.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}}) {
			firsts++
		}
	}
	if got := s.take(); firsts != 1 || len(got) != 1 {
		t.Errorf("%d signs in %d looks", len(got), firsts)
	}
	if s.add(vip, sign{mac: mac9}) {
		t.Error("a sign right after a look asks for a look of its own")
	}
	s.take()
	if got := s.take(); len(got) != 0 || !s.add(vip, sign{mac: mac9}) {
		t.Errorf("a sign after some time, with %v before, asks for no look", got)
	}
}
