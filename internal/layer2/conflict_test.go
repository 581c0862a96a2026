package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// inBothFamilies runs a test in a bubble with an IPv4 and with an IPv6 address.
func inBothFamilies(t *testing.T, test func(t *testing.T, address netip.Addr)) {
	for _, address := range []netip.Addr{vip, vip6} {
		t.Run(map[bool]string{true: "over ARP", false: "over NDP"}[address.Is4()], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, address) })
		})
	}
}

func firstOn(address netip.Addr, interfaces ...string) announce.Layer2 {
	return announce.Layer2{Address: address, Interfaces: interfaces, First: true}
}

func behalf(owner link.MAC, address netip.Addr, interfaces ...string) announce.Layer2 {
	return announce.Layer2{Address: address, Interfaces: interfaces, For: owner}
}

// told returns the list of conflicts that is there to read.
func told(t *testing.T, a *Announcer) []Conflict {
	t.Helper()
	synctest.Wait()
	select {
	case list := <-a.Conflicts():
		return list
	default:
		t.Fatal("no conflicts were told")
		return nil
	}
}

func toldNothing(t *testing.T, a *Announcer) {
	t.Helper()
	synctest.Wait()
	select {
	case list := <-a.Conflicts():
		t.Errorf("told %+v", list)
	default:
	}
}

func finds(t *testing.T, l *lan, index int, address netip.Addr, want link.MAC) {
	t.Helper()
	if got, _ := l.ask(index, address); got != want {
		t.Errorf("%v on interface %d is at %v, want %v", address, index, got, want)
	}
}

func TestAFirstAddressIsProbedBeforeItIsAnswered(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(299 * time.Millisecond)
		frames := l.take()
		if len(frames) != probes || frames[2].after != 200*time.Millisecond || slices.Contains(announcements(address, mac0), frames[0].frame) {
			t.Errorf("sent %d frames in the first 299 ms: %+v", len(frames), frames)
		}
		finds(t, l, 2, address, link.MAC{})
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if frames := l.take(); len(frames) == 0 || frames[0].frame != announcements(address, mac0)[0] {
			t.Errorf("sent %+v after 300 ms, want the announcement", frames)
		}
		finds(t, l, 2, address, mac0)
		toldNothing(t, a)
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		synctest.Wait()
		finds(t, l, 2, address, mac0)
		if s := a.Stats()[0]; s.Takeovers != 1 || s.Conflicts != 0 || s.Deputized != 0 || !s.Open || s.Problem != "" {
			t.Errorf("Stats() = %+v", s)
		}
	})
}

func TestAnAddressThatAnotherHostHasIsNotAnsweredUntilItIsFree(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(150 * time.Millisecond)
		l.show(plugOf(2, address), conflicting(address, mac9))
		want := Conflict{Address: address, Interface: "eth0", MAC: mac9, Probe: true}
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		time.Sleep(9 * time.Second)
		finds(t, l, 2, address, link.MAC{})
		l.take()
		l.compete(mac8, address) // and it is probed again, and answered by a fellow node
		time.Sleep(3 * time.Second)
		finds(t, l, 2, address, link.MAC{})
		want.MAC, want.Node = mac8, "worker"
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		l.compete(link.MAC{}, netip.Addr{})
		time.Sleep(600 * time.Millisecond)
		finds(t, l, 2, address, mac0)
		want.Over = true
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		time.Sleep(quiet)
		if list := told(t, a); len(list) != 0 {
			t.Errorf("told %+v, want nothing any more", list)
		}
		if s := a.Stats()[0]; s.Takeovers != 1 || s.Conflicts != 1 {
			t.Errorf("Stats() = %+v", s)
		}
	})
}

func TestTheProbeOfAnotherHostIsAConflictOnlyBeforeTheAddressIsAnswered(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		synctest.Wait()
		own := l.take()[0].frame
		l.receive(plugOf(2, address), own) // as a link may that sends back
		toldNothing(t, a)
		l.show(plugOf(2, address), probingFor(address, mac9))
		if list := told(t, a); len(list) != 1 || !list[0].Probe || list[0].MAC != mac9 {
			t.Errorf("told %+v", list)
		}
		time.Sleep(12 * time.Second)
		if list := told(t, a); len(list) != 1 || !list[0].Over {
			t.Errorf("told %+v", list)
		}
		l.take()
		l.receive(plugOf(2, address), probingFor(address, mac9))
		if frames := l.take(); len(frames) != 1 {
			t.Errorf("sent %d frames, want the answer", len(frames))
		}
		toldNothing(t, a)
	})
}

func TestAnotherHostThatComesLaterIsReportedAndWardedOff(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetRefreshInterval(0)
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		time.Sleep(10 * time.Second)
		l.take()
		want := Conflict{Address: address, Interface: "eth0", MAC: mac9}
		for range 25 {
			l.show(plugOf(2, address), conflicting(address, mac9))
			time.Sleep(time.Second)
		}
		if frames := l.take(); len(frames) != 3*len(announcements(address, mac0)) {
			t.Errorf("sent %d frames in 25 s, want three defenses", len(frames))
		}
		finds(t, l, 2, address, mac0)
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		time.Sleep(quiet)
		want.Over = true
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}

		l.show(plugOf(2, address), conflicting(address, mac1)) // our own eth1 is on the same network
		toldNothing(t, a)
		l.show(plugOf(2, address), conflicting(address, mac8))
		want.MAC, want.Node, want.Over = mac8, "worker", false
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		a.SetNeighbors(nil)
		want.Node = ""
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		a.Remove(shop)
		if list := told(t, a); len(list) != 0 {
			t.Errorf("told %+v of an address that is gone", list)
		}
		if s := a.Stats()[0]; s.Conflicts != 2 {
			t.Errorf("Stats() = %+v", s)
		}
	})
}

func TestDetectionFollowsItsMode(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetConflictDetection(Full)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(4 * time.Second)
		finds(t, l, 2, address, link.MAC{})
		time.Sleep(3 * time.Second)
		finds(t, l, 2, address, mac0)
		a.Remove(shop)
		a.SetConflictDetection(Fast)
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		synctest.Wait()
		finds(t, l, 2, address, link.MAC{})
		a.SetConflictDetection(Off)
		synctest.Wait()
		finds(t, l, 2, address, mac0)
		a.Remove(shop)
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		synctest.Wait()
		finds(t, l, 2, address, mac0)
	})
}

func TestProbesThatCannotBeSentProveNothing(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		l.mute[plugOf(2, address)] = true
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(time.Minute)
		finds(t, l, 2, address, link.MAC{})
		l.mu.Lock()
		l.mute[plugOf(2, address)] = false
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		finds(t, l, 2, address, mac0)
	})
}

func TestConflictsAreToldWholeSortedAndNeverBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		a.Set(shop, []announce.Layer2{on(vip6, "eth1", "eth0"), on(vip2, "eth0"), on(vip, "eth1")})
		synctest.Wait()
		for _, at := range []place{{"eth1", vip6}, {"eth0", vip2}, {"eth0", vip6}, {"eth1", vip}} {
			index := map[string]int{"eth0": 2, "eth1": 3}[at.link]
			l.show(plugOf(index, at.address), conflicting(at.address, mac9)) // nobody reads the news
		}
		want := []Conflict{
			{Address: vip, Interface: "eth1", MAC: mac9},
			{Address: vip2, Interface: "eth0", MAC: mac9},
			{Address: vip6, Interface: "eth0", MAC: mac9},
			{Address: vip6, Interface: "eth1", MAC: mac9},
		}
		if list := told(t, a); !slices.Equal(list, want) {
			t.Errorf("told %+v", list)
		}
		toldNothing(t, a)
	})
}

func TestAMassOfFirstAddressesIsProbedWithinTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 5000
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		for i := range count {
			address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			a.Set(name.ServiceKey{Namespace: "n", Name: fmt.Sprint(i)}, []announce.Layer2{firstOn(address, "eth0")})
		}
		time.Sleep(10 * time.Second)
		perSecond, probed := map[time.Duration]int{}, map[string]int{}
		for _, s := range l.take() {
			perSecond[s.after/time.Second]++
			if s.frame[28:32] == "\x00\x00\x00\x00" {
				probed[s.frame]++
			} else if n := probed[string(probingFor(netip.AddrFrom4([4]byte([]byte(s.frame[28:32]))), mac0))]; n != probes {
				t.Fatalf("announced after %d probes", n)
			}
		}
		for second, n := range perSecond {
			if n > frameRate+frameBurst {
				t.Errorf("sent %d frames in second %d", n, second)
			}
		}
		if s := a.Stats()[0]; s.Takeovers != count {
			t.Errorf("took over %d of %d", s.Takeovers, count)
		}
	})
}
