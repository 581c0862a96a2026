package layer2

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// given is the hardware address that this node gives for address now; zero: none.
func (l *lan) given(address netip.Addr) link.MAC {
	mac, _ := l.ask(2, address)
	return mac
}

func yielding(address netip.Addr) announce.Layer2 {
	l := on(address, "eth0")
	l.Yields = true
	return l
}

func TestAnOwnerGivesWayToAFellowNodeThatItDoesNotHearAndReturns(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		a.SetApart(true, []name.NodeName{"worker"})
		l.compete(mac8, address)
		time.Sleep(time.Second) // it asks soon
		synctest.Wait()
		if given := l.given(address); given != mac0 {
			t.Fatalf("it gives %v before it is told to yield", given)
		}
		select {
		case found := <-a.Conflicts():
			if len(found) != 1 || found[0].Node != "worker" || found[0].Probe {
				t.Errorf("told %+v", found)
			}
		default:
			t.Error("it has not found the other node")
		}
		a.Set(shop, []announce.Layer2{yielding(address)})
		synctest.Wait()
		if given := l.given(address); given != (link.MAC{}) {
			t.Errorf("it gives %v after that", given)
		}
		time.Sleep(10 * time.Second)
		if found := <-a.Conflicts(); len(found) != 1 || !found[0].Probe || found[0].Over {
			t.Errorf("told %+v", found)
		}
		l.take()
		l.compete(link.MAC{}, netip.Addr{})
		time.Sleep(time.Second)
		if len(announced(l.take(), address, mac0)) == 0 {
			t.Error("it announces nothing once the other node is silent")
		}
		if given := l.given(address); given != mac0 {
			t.Errorf("it gives %v then", given)
		}
		l.compete(mac8, address)
		l.receive(plugOf(2, address), announcements(address, mac8)[0])
		time.Sleep(100 * time.Millisecond)
		if given := l.given(address); given != (link.MAC{}) {
			t.Errorf("it gives %v once the other node is there again", given)
		}
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		synctest.Wait()
		if given := l.given(address); given != mac0 {
			t.Errorf("it gives %v once it yields no more", given)
		}
	})
}

func TestAnOwnerThatIsApartAsksForEachAddressEachSecond(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		other := address.Next()
		a.Set(blog, []announce.Layer2{on(other, "eth0")})
		time.Sleep(10 * time.Second)
		l.take()
		checks := func(d time.Duration) (n int) {
			time.Sleep(d)
			for _, s := range l.take() {
				if s.frame == checkOf(address, mac0) || s.frame == checkOf(other, mac0) {
					n++
				}
			}
			return n
		}
		a.SetApart(true, []name.NodeName{"worker"})
		if n := checks(time.Second); n != 2 {
			t.Errorf("%d checks in the first second, of 2 addresses", n)
		}
		if n := checks(20 * time.Second); n < 38 || n > 42 {
			t.Errorf("%d checks in 20 s, of 2 addresses", n)
		}
		a.SetApart(false, nil)
		checks(2 * time.Second)
		if n := checks(20 * time.Second); n > 2 {
			t.Errorf("%d checks in 20 s once it hears the others", n)
		}
	})
}

// Both give way at the same time otherwise, and nobody answers.
func TestAnOwnerDoesNotGiveWayToANodeThatHasAlreadyStopped(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		a.SetApart(true, []name.NodeName{"worker"})
		l.compete(mac8, address)
		time.Sleep(2 * time.Second)
		l.compete(link.MAC{}, netip.Addr{})
		time.Sleep(1500 * time.Millisecond) // one question later
		a.Set(shop, []announce.Layer2{yielding(address)})
		synctest.Wait()
		if given := l.given(address); given != mac0 {
			t.Errorf("it gives %v", given)
		}
		l.compete(mac8, address)
		l.receive(plugOf(2, address), announcements(address, mac8)[0])
		time.Sleep(100 * time.Millisecond)
		if given := l.given(address); given != (link.MAC{}) {
			t.Errorf("it gives %v once the other node is there again", given)
		}
	})
}

func TestAConflictWithANodeThatIsNotHeardEndsSoonAfterItsLastAnswer(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l, a := owner(t, address)
		a.SetApart(false, []name.NodeName{"worker"})
		l.compete(mac8, address)
		l.receive(plugOf(2, address), announcements(address, mac8)[0])
		time.Sleep(30 * time.Second)
		if found := <-a.Conflicts(); len(found) != 1 || found[0].Over {
			t.Fatalf("told %+v", found)
		}
		l.compete(link.MAC{}, netip.Addr{})
		time.Sleep(6 * time.Second)
		if found := <-a.Conflicts(); len(found) != 1 || !found[0].Over {
			t.Errorf("told %+v", found)
		}
	})
}
