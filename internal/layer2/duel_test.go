package layer2

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// announced returns when address was announced by frames of one form.
func announced(frames []sent, address netip.Addr, mac link.MAC) []time.Duration {
	var at []time.Duration
	for _, s := range frames {
		if s.frame == announcements(address, mac)[0] {
			at = append(at, s.after)
		}
	}
	return at
}

// owner starts an owner of address whose takeover is over, with a fellow node whose MAC is mac8.
func owner(t *testing.T, address netip.Addr) (*lan, *Announcer) {
	t.Helper()
	l := newLAN()
	a := run(t, l)
	a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
	a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
	a.Set(shop, []announce.Layer2{on(address, "eth0")})
	time.Sleep(10 * time.Second)
	l.take()
	return l, a
}

func TestAnOwnerHasTheLastWordAgainstAFellowNode(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, _ := owner(t, address)
		began := time.Since(l.began)
		var last time.Duration
		for _, pause := range append(takeover(), 0) { // of a node that thaws and does not know yet
			l.receive(plugOf(2, address), announcements(address, mac8)[0])
			last = time.Since(l.began)
			time.Sleep(pause)
		}
		time.Sleep(10 * time.Second)
		at := announced(l.take(), address, mac0)
		switch {
		case len(at) == 0:
			t.Fatal("the fellow node has the last word")
		case at[0]-began > 100*time.Millisecond:
			t.Errorf("announced again only after %v", at[0]-began)
		case at[len(at)-1] <= last:
			t.Errorf("announced again after %v, the fellow node for the last time after %v", at, last)
		case len(at) > len(takeover())+1:
			t.Errorf("sent %d announcements against %d", len(at), len(takeover())+1)
		}
		l.receive(plugOf(2, address), announcements(address, mac8)[0]) // long after: at once again
		time.Sleep(100 * time.Millisecond)
		if n := len(announced(l.take(), address, mac0)); n != 1 {
			t.Errorf("sent %d announcements within 100 ms", n)
		}
	})
}

func TestAnAnswerOfAFellowNodeIsWardedOffToo(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		a.SetRefreshInterval(0)
		l.compete(mac8, address)
		a.Reannounce(shop)
		time.Sleep(5 * time.Second)
		if n := len(announced(l.take(), address, mac0)); n != len(takeover())+2 {
			t.Errorf("sent %d announcements, want those of a takeover and a defense", n)
		}
	})
}

// TestTwoThatBothBelieveThatTheyOwnMakeNoStorm lets two announcers hear each other, none of which
// gives in.
func TestTwoThatBothBelieveThatTheyOwnMakeNoStorm(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		macs := []link.MAC{mac0, mac8}
		var lans []*lan
		for i := range macs {
			l := newLAN()
			lans = append(lans, l)
			a := run(t, l)
			a.SetNeighbors(map[link.MAC]name.NodeName{macs[1-i]: "fellow"})
			a.SetLinks(link.Snapshot{eth("eth0", 2, macs[i])})
			a.Set(shop, []announce.Layer2{on(address, "eth0")})
		}
		var total int
		perMinute := make([]int, 10)
		for i := range 10 * 6000 {
			time.Sleep(10 * time.Millisecond)
			for j, l := range lans {
				for _, s := range l.take() {
					if slices.Contains(announcements(address, macs[j]), s.frame) {
						lans[1-j].receive(plugOf(2, address), s.frame)
						perMinute[i/6000]++
						total++
					}
				}
			}
		}
		forms := len(announcements(address, mac0))
		if most := slices.Max(perMinute[1:]); perMinute[0] > 40*forms || most > 2*8*forms {
			t.Errorf("sent %v announcements per minute", perMinute)
		}
	})
}

func TestAnOwnerThatIsToldToAnnouncesAnew(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		a.SetRefreshInterval(0)
		began := time.Since(l.began)
		a.Reannounce(blog)
		synctest.Wait()
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("sent %d frames for a Service that is not announced", len(frames))
		}
		a.Reannounce(shop)
		time.Sleep(10 * time.Second)
		want := []time.Duration{began}
		for _, pause := range takeover() {
			want = append(want, want[len(want)-1]+pause)
		}
		if at := announced(l.take(), address, mac0); !slices.Equal(at, want) {
			t.Errorf("announced after %v, want %v", at, want)
		}
		if s := a.Stats()[0]; s.Takeovers != 1 {
			t.Errorf("Stats() = %+v", s)
		}
		a.Set(shop, []announce.Layer2{behalf(mac8, address, "eth0")})
		a.Reannounce(shop)
		time.Sleep(10 * time.Second)
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("a deputy sent %d frames", len(frames))
		}
	})
}
