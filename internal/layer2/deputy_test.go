package layer2

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
)

func TestADeputyAnswersOnBehalfOfTheOwnerAndIsElseSilent(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{behalf(mac8, address, "eth0")})
		time.Sleep(time.Hour)
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("sent %d frames unasked", len(frames))
		}
		finds(t, l, 2, address, mac8)
		l.show(plugOf(2, address), conflicting(address, mac8))
		toldNothing(t, a)
		l.show(plugOf(2, address), conflicting(address, mac9))
		if list := told(t, a); len(list) != 1 || list[0].MAC != mac9 || list[0].Probe {
			t.Errorf("told %+v", list)
		}
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("sent %d frames against another host", len(frames))
		}
		if s := a.Stats()[0]; s.Deputized != 1 || s.Addresses != 1 || s.Takeovers != 0 || s.Announcements != 0 {
			t.Errorf("Stats() = %+v", s)
		}

		a.Set(blog, []announce.Layer2{on(address, "eth0")}) // an owner prevails
		synctest.Wait()
		if frames := l.take(); len(frames) == 0 || frames[0].frame != announcements(address, mac0)[0] {
			t.Errorf("sent %+v, want the announcement of a takeover", frames)
		}
		finds(t, l, 2, address, mac0)
		a.Remove(blog)
		synctest.Wait()
		finds(t, l, 2, address, mac8)
		a.Set(shop, []announce.Layer2{behalf(mac9, address, "eth0")})
		synctest.Wait()
		finds(t, l, 2, address, mac9)
		l.take()
		a.SetLinks(nil)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		time.Sleep(time.Hour)
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("sent %d frames after the return of the interface", len(frames))
		}
		finds(t, l, 2, address, mac9)
		if s := a.Stats()[0]; s.Deputized != 1 || s.Takeovers != 1 {
			t.Errorf("Stats() = %+v", s)
		}
	})
}
