package layer2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

var (
	shop  = name.ServiceKey{Namespace: "shop", Name: "web"}
	blog  = name.ServiceKey{Namespace: "blog", Name: "web"}
	vip   = netip.MustParseAddr("192.0.2.10")
	vip2  = netip.MustParseAddr("192.0.2.11")
	vip6  = netip.MustParseAddr("2001:db8::1")
	asker = arp.MAC{2, 0, 0, 0, 9, 9}
	mac0  = link.MAC{2, 0, 0, 0, 0, 1}
	mac1  = link.MAC{2, 0, 0, 0, 0, 2}
)

// run starts an Announcer in a bubble and ends it with the test.
func run(t *testing.T, l *lan) *Announcer {
	t.Helper()
	a := New(Config{Open: l.open, Log: logr.Discard()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if len(l.sockets) > 0 {
			t.Errorf("%d sockets are open after Run", len(l.sockets))
		}
	})
	return a
}

func TestTakeoverAnnouncesOnScheduleInBothFormsAndThenRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(vip, "eth0")})
		time.Sleep(10 * time.Second)
		frames := l.take()
		want := []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		if len(frames) != 2*len(want) {
			t.Fatalf("sent %d frames in 10 s, want %d", len(frames), 2*len(want))
		}
		for i, at := range want {
			request, reply := frames[2*i], frames[2*i+1]
			if request.after != at || reply.after != at {
				t.Errorf("announcement %d was sent after %v, want %v", i, request.after, at)
			}
			if request.frame != arp.AnnounceRequest(vip, mac0) || reply.frame != arp.AnnounceReply(vip, mac0) {
				t.Errorf("announcement %d is not a request and a reply", i)
			}
		}
		time.Sleep(50*time.Second + 300*time.Second) // refreshes come each 54 to 66 s
		if n := len(l.take()); n < 2*5 || n > 2*7 {
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
		if n := len(l.take()); n < 2*5 || n > 2*8 {
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
		if l.opened[2] != 1 {
			t.Errorf("opened %d sockets", l.opened[2])
		}
		a.Set(shop, []announce.Layer2{on(vip, "eth0"), on(vip2, "eth0")})
		synctest.Wait()
		if frames := l.take(); len(frames) != 2 || frames[0].frame != arp.AnnounceRequest(vip2, mac0) {
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
			if n := len(l.take()); (n == 2) != (step.want != link.MAC{}) {
				t.Errorf("%s: sent %d frames at once", step.name, n)
			}
			if got, _ := l.ask(step.index, vip); got != step.want {
				t.Errorf("%s: answers %v, want %v", step.name, got, step.want)
			}
		}
		if l.opened[2] != 3 || l.opened[7] != 1 {
			t.Errorf("opened %v sockets", l.opened)
		}
	})
}

func TestAnInterfaceThatFailsIsTriedAgainAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		l.refuse[2] = errors.New("operation not permitted")
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
		delete(l.refuse, 2)
		l.mu.Unlock()
		time.Sleep(lastRetry)
		if got, _ := l.ask(2, vip); got != mac0 {
			t.Error("the interface does not answer though it can be opened")
		}
		if s := a.Stats(); !s[0].Open || s[0].Problem != "" || s[0].Requests != 1 || s[0].Replies != 1 || s[0].Announcements == 0 || s[0].Addresses != 1 || s[0].MAC != mac0 {
			t.Errorf("Stats() = %+v", s[0])
		}
		l.mu.Lock()
		w := l.sockets[2]
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
		perSecond, firsts := map[time.Duration]int{}, map[arp.Frame]time.Duration{}
		for _, s := range l.take() {
			perSecond[s.after/time.Second]++
			if _, seen := firsts[s.frame]; !seen {
				firsts[s.frame] = s.after
			}
		}
		if n := slices.Max(slices.Collect(maps.Values(perSecond))); n > 2*(announceRate+announceBurst) {
			t.Errorf("sent %d frames in one second", n)
		}
		if len(firsts) != 2*count {
			t.Fatalf("announced %d of %d", len(firsts)/2, count)
		}
		if last := slices.Max(slices.Collect(maps.Values(firsts))); last > 6*time.Second {
			t.Errorf("the last address was announced after %v", last)
		}
	})
}

// TestReferencesAgreeWithAnObviousOracle sets and removes at random, and compares what is
// answered with the union of what is set.
func TestReferencesAgreeWithAnObviousOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLAN()
		a := New(Config{Open: l.open, Log: logr.Discard()})
		s := newState(a)
		defer s.close()
		now := time.Now()
		s.setLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)}, now)
		oracle := map[name.ServiceKey][]place{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := name.ServiceKey{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service")}
			var wanted []announce.Layer2
			oracle[key] = nil
			for _, address := range []netip.Addr{vip, vip2} {
				interfaces := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"eth0", "eth1", "eth9"}), rapid.ID[string]).Draw(t, "interfaces")
				wanted = append(wanted, on(address, interfaces...))
				for _, i := range interfaces {
					oracle[key] = append(oracle[key], place{i, address})
				}
			}
			a.Set(key, wanted)
			for _, change := range a.take() {
				change(s, now)
			}
			s.step(now)
			for _, i := range []string{"eth0", "eth1", "eth9"} {
				union := map[netip.Addr]bool{}
				for _, places := range oracle {
					for _, x := range places {
						if x.link == i {
							union[x.address] = true
						}
					}
				}
				var answers arp.Addresses
				var open bool
				if p := s.ports[i]; p != nil {
					answers, open = *p.answers.Load(), p.conn != nil
				}
				if answers.Len() != len(union) || answers.Contains(vip) != union[vip] || answers.Contains(vip2) != union[vip2] {
					t.Fatalf("%s answers %+v, want %v", i, answers, union)
				}
				if want := len(union) > 0 && i != "eth9"; open != want {
					t.Fatalf("%s is open: %v, want %v", i, open, want)
				}
			}
			queued := 0
			for _, p := range s.ports {
				for range p.entries {
					if p.conn != nil {
						queued++
					}
				}
			}
			if s.queue.Len() != queued {
				t.Fatalf("%d announcements are queued, want %d", s.queue.Len(), queued)
			}
		}
	})
}

func TestFollowingIsATakeoverAndThenRefreshes(t *testing.T) {
	t.Parallel()
	var at time.Duration
	for step := 0; !refreshing(step + 1); step++ {
		wait, again := following(step, 0, 0)
		if !again {
			t.Fatalf("the takeover ends with announcement %d", step)
		}
		at += wait
	}
	if at != 4*time.Second {
		t.Errorf("the takeover lasts %v, want 4 s", at)
	}
	last := len(takeover())
	if _, again := following(last, 0, 0); again {
		t.Error("an address is refreshed though that is off")
	}
	for _, random := range []float64{0, 0.5, 0.999} {
		if wait, again := following(last, time.Minute, random); !again || wait < 54*time.Second || wait > 66*time.Second {
			t.Errorf("a refresh comes after %v", wait)
		}
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	t.Parallel()
	for failures := range 100 {
		for _, random := range []float64{0, 0.5, 0.999} {
			if d := backoff(failures, random); d < firstRetry/2 || d > lastRetry {
				t.Errorf("backoff(%d, %v) = %v", failures, random, d)
			}
		}
	}
}
