package layer2

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// TestWhoStoodStillAnnouncesNothingThatOthersOwnByNow lets a process stand still for 40 s, in which
// more than half of its refreshes become due and another node takes over half of its addresses.
func TestWhoStoodStillAnnouncesNothingThatOthersOwnByNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 200
		l := newLAN()
		config, fresh, asked := l.config(), true, 0
		config.Fresh = func() bool { asked++; return fresh }
		a := New(config)
		s := newState(a)
		address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
		service := func(i int) name.ServiceKey { return name.ServiceKey{Name: address(i).String()} }
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		for i := range count {
			a.Set(service(i), []announce.Layer2{on(address(i), "eth0")})
		}
		now := time.Now()
		for end := now.Add(100 * time.Second); now.Before(end); now = now.Add(10 * time.Millisecond) {
			a.advance(s, now)
		}
		l.take()

		now, fresh, asked = now.Add(40*time.Second), false, 0
		if wait := a.advance(s, now); wait != freshPause || asked != 1 {
			t.Errorf("looks again after %v, asked %d times", wait, asked)
		}
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("the first step after a standstill sends %d frames", len(frames))
		}
		for i := range count / 2 { // who took over has said so
			a.Remove(service(i))
		}
		now, fresh = now.Add(freshPause), true
		a.advance(s, now)
		frames := l.take()
		for _, f := range frames {
			if i := int(f.frame[31]); i < count/2 {
				t.Errorf("announces %v, which another node owns", address(i))
			}
		}
		if len(frames) == 0 {
			t.Error("announces nothing once it is in touch with its fellows")
		}
		s.close()
	})
}

func TestNothingIsSentUnaskedWithoutTouch(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		var fresh atomic.Bool
		config := l.config()
		config.Fresh = fresh.Load
		a := start(t, l, config)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		other := netip.MustParseAddr("192.0.2.99")
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		a.Set(blog, []announce.Layer2{firstOn(other, "eth0")})
		time.Sleep(10 * time.Second)
		l.show(plugOf(2, address), conflicting(address, mac9))
		time.Sleep(10 * time.Second)
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("sent %d frames unasked", len(frames))
		}
		finds(t, l, 2, address, mac0)
		finds(t, l, 2, other, link.MAC{})
		l.take()
		fresh.Store(true)
		time.Sleep(freshPause)
		synctest.Wait()
		if frames := l.take(); len(frames) == 0 {
			t.Error("sends nothing once it is in touch")
		}
		time.Sleep(time.Second)
		finds(t, l, 2, other, mac0)

		a.Remove(shop)
		synctest.Wait()
		l.take()
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		synctest.Wait()
		if frames := l.take(); len(frames) != 1 {
			t.Errorf("sent %d frames at once, want the first announcement", len(frames))
		}
	})
}
