package layer2

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

var (
	shop  = name.ServiceKey{Namespace: "shop", Name: "web"}
	blog  = name.ServiceKey{Namespace: "blog", Name: "web"}
	vip   = netip.MustParseAddr("192.0.2.10")
	vip2  = netip.MustParseAddr("192.0.2.11")
	vip6  = netip.MustParseAddr("2001:db8::1")
	asker = link.MAC{2, 0, 0, 0, 9, 9}
	mac0  = link.MAC{2, 0, 0, 0, 0, 1}
	mac1  = link.MAC{2, 0, 0, 0, 0, 2}
	mac8  = link.MAC{2, 0, 0, 0, 8, 8} // other hosts
	mac9  = link.MAC{2, 0, 0, 0, 8, 9}
)

func TestTakeoverAnnouncesOnScheduleInBothFormsAndThenRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(vip, "eth0")})
		time.Sleep(10 * time.Second)
		frames := slices.DeleteFunc(l.take(), func(s sent) bool { return s.frame == checkOf(vip, mac0) })
		want := []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		if len(frames) != 2*len(want)-1 {
			t.Fatalf("sent %d frames in 10 s, want %d", len(frames), 2*len(want)-1)
		}
		if first := frames[0]; first.after != 0 || first.frame != announcements(vip, mac0)[0] {
			t.Errorf("the first announcement is not a request at once")
		}
		for i, at := range want[1:] {
			request, reply := frames[2*i+1], frames[2*i+2]
			if request.after != at || reply.after != at {
				t.Errorf("announcement %d was sent after %v, want %v", i+1, request.after, at)
			}
			if want := announcements(vip, mac0); request.frame != want[0] || reply.frame != want[1] {
				t.Errorf("announcement %d is not a request and a reply", i+1)
			}
		}
		time.Sleep(50*time.Second + 300*time.Second) // refreshes come each 54 to 66 s, with a check
		if n := len(l.take()); n < 3*5 || n > 3*7 {
			t.Errorf("sent %d frames in the next 350 s, want five to seven refreshes", n)
		}
		a.SetRefreshInterval(0)
		synctest.Wait()
		l.take()
		time.Sleep(time.Hour)
		if n := len(l.take()); n != 0 {
			t.Errorf("sent %d frames with the refresh off", n)
		}
		a.SetRefreshInterval(10 * time.Second)
		time.Sleep(time.Minute)
		if n := len(l.take()); n < 3*5 || n > 3*8 {
			t.Errorf("sent %d frames in a minute with a refresh each 10 s", n)
		}
	})
}

func TestOnlyWhatIsSetIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		a.Set(shop, []announce.Layer2{on(vip, "eth0"), on(vip6, "eth0"), on(vip2, "eth0", "eth1")})
		synctest.Wait()
		check := func(index int, address netip.Addr, want link.MAC) {
			t.Helper()
			if got, _ := l.ask(index, address); got != want {
				t.Errorf("%v on interface %d is at %v, want %v", address, index, got, want)
			}
		}
		none := link.MAC{}
		check(2, vip, mac0)
		check(2, vip2, mac0)
		check(3, vip, none)
		check(3, vip2, mac1)

		a.Set(blog, []announce.Layer2{on(vip, "eth0")}) // shared
		a.Remove(shop)
		synctest.Wait()
		check(2, vip, mac0)
		check(2, vip2, none)
		if len(l.sockets) != 1 {
			t.Errorf("%d sockets are open, want one: nobody needs eth1", len(l.sockets))
		}
		a.Remove(blog)
		a.Remove(blog)
		synctest.Wait()
		check(2, vip, none)
		l.take()
		time.Sleep(time.Hour)
		if n := len(l.take()); n != 0 {
			t.Errorf("%d frames announce what was removed", n)
		}
	})
}

func TestSettingTheSameAgainAnnouncesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(vip, "eth0")})
		time.Sleep(10 * time.Second)
		l.take()
		a.Set(shop, []announce.Layer2{on(vip, "eth0"), on(vip, "eth0")})
		a.Set(blog, []announce.Layer2{on(vip, "eth0")})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		time.Sleep(10 * time.Second)
		if n := len(l.take()); n != 0 {
			t.Errorf("sent %d frames", n)
		}
		if l.opened[plug{2, false}] != 1 {
			t.Errorf("opened %d sockets", l.opened[plug{2, false}])
		}
		a.Set(shop, []announce.Layer2{on(vip, "eth0"), on(vip2, "eth0")})
		synctest.Wait()
		if frames := l.take(); len(frames) != 1 || frames[0].frame != announcements(vip2, mac0)[0] {
			t.Errorf("sent %d frames, want the new address alone", len(frames))
		}
	})
}

func TestAnInterfaceIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.Set(shop, []announce.Layer2{on(vip, "eth0")})
		synctest.Wait()
		if s := a.Stats(); len(s) != 1 || s[0].Open || s[0].Problem == "" {
			t.Errorf("Stats() without the interface = %+v", s)
		}
		down := eth("eth0", 2, mac0)
		down.Up = false
		steps := []struct {
			name  string
			links link.Snapshot
			index int
			want  link.MAC
		}{
			{"comes", link.Snapshot{eth("eth0", 2, mac0)}, 2, mac0},
			{"goes down", link.Snapshot{down}, 2, link.MAC{}},
			{"comes up", link.Snapshot{eth("eth0", 2, mac0)}, 2, mac0},
			{"gets another address", link.Snapshot{eth("eth0", 2, mac1)}, 2, mac1},
			{"is gone", link.Snapshot{}, 2, link.MAC{}},
			{"returns as another", link.Snapshot{eth("eth0", 7, mac0)}, 7, mac0},
		}
		for _, step := range steps {
			time.Sleep(10 * time.Second)
			l.take()
			a.SetLinks(step.links)
			synctest.Wait()
			if n := len(l.take()); (n == 1) != (step.want != link.MAC{}) {
				t.Errorf("%s: sent %d frames at once", step.name, n)
			}
			if got, _ := l.ask(step.index, vip); got != step.want {
				t.Errorf("%s: answers %v, want %v", step.name, got, step.want)
			}
		}
		if l.opened[plug{2, false}] != 3 || l.opened[plug{7, false}] != 1 {
			t.Errorf("opened %v sockets", l.opened)
		}
	})
}

func TestAnInterfaceThatFailsIsTriedAgainAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		l.refuse[plug{2, false}] = errors.New("operation not permitted")
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		a.Set(shop, []announce.Layer2{on(vip, "eth0", "eth1")})
		time.Sleep(time.Minute)
		if got, _ := l.ask(3, vip); got != mac1 {
			t.Error("the other interface does not answer")
		}
		s := a.Stats()
		if s[0].Open || s[0].Problem != "operation not permitted" || s[0].Errors < 5 || s[0].Errors > 20 {
			t.Errorf("Stats() = %+v, want some tries and their error", s[0])
		}
		l.mu.Lock()
		delete(l.refuse, plug{2, false})
		l.mu.Unlock()
		time.Sleep(lastRetry)
		if got, _ := l.ask(2, vip); got != mac0 {
			t.Error("the interface does not answer though it can be opened")
		}
		if s := a.Stats(); !s[0].Open || s[0].Problem != "" || s[0].Requests != 1 || s[0].Replies != 1 || s[0].Announcements == 0 || s[0].Addresses != 1 || s[0].MAC != mac0 {
			t.Errorf("Stats() = %+v", s[0])
		}
		l.mu.Lock()
		w := l.sockets[plug{2, false}]
		l.mu.Unlock()
		_ = w.Close() // as the kernel does when an interface goes down
		time.Sleep(lastRetry)
		if got, _ := l.ask(2, vip); got != mac0 {
			t.Error("the interface is not opened again after a failed read")
		}
	})
}

func TestTenThousandAddressesAreTakenOverWithinTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 10000
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		for i := range count {
			address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			a.Set(name.ServiceKey{Namespace: "n", Name: fmt.Sprint(i)}, []announce.Layer2{on(address, "eth0")})
		}
		time.Sleep(40 * time.Second)
		perSecond, firsts, checks := map[time.Duration]int{}, map[string]time.Duration{}, 0
		var first time.Duration
		for _, s := range l.take() {
			perSecond[s.after/time.Second]++
			if s.frame[28:32] == "\x00\x00\x00\x00" {
				checks++
				continue
			}
			if _, seen := firsts[s.frame]; !seen {
				firsts[s.frame] = s.after
				if s.frame[21] == 1 { // a request
					first = max(first, s.after)
				}
			}
		}
		if n := slices.Max(slices.Collect(maps.Values(perSecond))); n > frameRate+frameBurst {
			t.Errorf("sent %d frames in one second", n)
		}
		if len(firsts) != 2*count || checks != count {
			t.Fatalf("announced %d and checked %d of %d", len(firsts)/2, checks, count)
		}
		if last := slices.Max(slices.Collect(maps.Values(firsts))); first > 3*time.Second || last > 8*time.Second {
			t.Errorf("the last address was announced after %v, in both forms after %v", first, last)
		}
	})
}

// TestAnswersAgreeWithAnObviousOracle sets and removes at random, and compares what is answered
// with what follows from all that is set.
func TestAnswersAgreeWithAnObviousOracle(t *testing.T) {
	t.Parallel()
	names := []string{"eth0", "eth1", "eth9"}
	addresses := []netip.Addr{vip, vip2, vip6}
	rapid.Check(t, func(t *rapid.T) {
		a := New(newLAN().config())
		s := newState(a)
		defer s.close()
		now := time.Now()
		s.setDetection(Off, now)
		s.setLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)}, now)
		oracle := map[name.ServiceKey]map[place]link.MAC{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := name.ServiceKey{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service")}
			var wanted []announce.Layer2
			oracle[key] = map[place]link.MAC{}
			for _, address := range addresses {
				l := on(address, rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "interfaces")...)
				l.For = rapid.SampledFrom([]link.MAC{{}, {}, mac8, mac9}).Draw(t, "for")
				l.First = rapid.Bool().Draw(t, "first")
				wanted = append(wanted, l)
				for _, i := range l.Interfaces {
					oracle[key][place{i, address}] = l.For
				}
			}
			a.Set(key, wanted)
			for _, change := range a.take() {
				change(s, now)
			}
			s.step(now)
			queued, deputized := 0, 0
			for _, i := range names {
				for _, address := range addresses {
					want, wanted := link.MAC{0xff}, false
					for _, places := range oracle {
						if mac, found := places[place{i, address}]; found && slices.Compare(mac[:], want[:]) < 0 {
							want, wanted = mac, true
						}
					}
					got, answered := s.given(i, address)
					if reachable := i != "eth9"; answered != (wanted && reachable) || answered && got != want {
						t.Fatalf("%v on %s is answered with %v, %v, want %v, %v", address, i, got, answered, want, wanted)
					}
					if answered && want == (link.MAC{}) {
						queued++
					} else if answered {
						deputized++
					}
				}
			}
			for _, p := range s.ports {
				deputized -= p.v4.deputized + p.v6.deputized
			}
			if s.queue.Len() != queued || deputized != 0 {
				t.Fatalf("%d announcements are queued, want %d; the number of deputized is off by %d", s.queue.Len(), queued, deputized)
			}
		}
	})
}

// given returns what is answered for address on an interface, and whether anything is.
func (s *state) given(name string, address netip.Addr) (link.MAC, bool) {
	p := s.ports[name]
	if p == nil || p.side(address).responder == nil {
		return link.MAC{}, false
	}
	if r, ok := p.side(address).responder.(*overNDP); ok {
		return r.answers.Load().Find(address)
	}
	return p.side(address).responder.(*overARP).answers.Load().Find(address)
}
