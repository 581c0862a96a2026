package layer2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// answered lets a host show itself after the takeover's check and each of some refreshes, which
// come exactly as often as refresh says.
func answered(by func(*duty, moment), refresh time.Duration, refreshes ...int) []happening {
	events := []happening{{0, opens}}
	for _, n := range refreshes {
		events = append(events, happening{4*time.Second + time.Duration(n)*refresh + time.Millisecond, by})
	}
	return events
}

func TestChecksOfAnOwner(t *testing.T) {
	t.Parallel()
	const longest = 600 * time.Second
	reset := func(refresh time.Duration) func(*duty, moment) {
		return func(d *duty, m moment) { m.refresh = refresh; d.reschedule(m) }
	}
	tests := []struct {
		name    string
		mode    Detection
		refresh time.Duration
		until   time.Duration
		events  []happening
		want    string
	}{
		{
			"a check comes 4 s after the takeover and with each refresh", Fast, time.Minute, 130 * time.Second,
			[]happening{{0, opens}},
			"0s owning, 0s announcement, 4s check, 1m4s check, 2m4s check",
		},
		{
			"without refreshes there is one check", Full, 0, time.Hour,
			[]happening{{0, opens}},
			"0s owning, 0s announcement, 4s check",
		},
		{"with detection off there is none", Off, time.Minute, time.Hour, []happening{{0, opens}}, "0s owning, 0s announcement"},
		{
			"an interface that returns is checked anew", Fast, 0, time.Hour,
			[]happening{{0, opens}, {2 * time.Second, closes}, {3 * time.Second, opens}},
			"0s owning, 0s announcement, 3s announcement, 7s check",
		},
		{
			"a fellow node is a conflict that goes on for as long as it answers", Fast, time.Minute, 300 * time.Second,
			answered(replies, time.Minute, 0, 1),
			"0s owning, 0s announcement, 4s check, 4.001s rival fellow after, 4.051s defense, 1m4s check, " +
				"1m4.051s defense, 2m4s check, 3m4s check, 3m34.001s over, 4m4s check, 4m34.001s forgotten",
		},
		{
			"an answer that is lost ends nothing", Fast, longest, 52 * time.Minute,
			answered(replies, longest, 0, 2, 4),
			"0s owning, 0s announcement, 4s check, 4.001s rival fellow after, 4.051s defense, 10m4s check, " +
				"20m4s check, 20m4.051s defense, 30m4s check, 40m4s check, 40m4.051s defense, 50m4s check",
		},
		{
			"a host that is no node is warded off", Fast, time.Minute, 70 * time.Second,
			answered(foreign, time.Minute, 0, 1),
			"0s owning, 0s announcement, 4s check, 4.001s rival foreign after, 4.001s defense, 1m4s check, 1m4.001s defense",
		},
		{
			"without refreshes a conflict ends by time", Fast, 0, 70 * time.Second,
			answered(replies, 0, 0),
			"0s owning, 0s announcement, 4s check, 4.001s rival fellow after, 4.051s defense, 1m4.001s over",
		},
		{
			"a conflict is waited for anew if the interval changes", Fast, time.Minute, 6 * time.Minute,
			append(answered(replies, time.Minute, 0),
				happening{100 * time.Second, reset(longest)}, happening{200 * time.Second, reset(10 * time.Second)}),
			"0s owning, 0s announcement, 4s check, 4.001s rival fellow after, 4.051s defense, 1m4s check, " +
				"3m25s check, 4m20s over, 4m25s check, 5m20s forgotten, 5m25s check",
		},
		{
			"a deputy checks nothing", Fast, time.Minute, time.Hour,
			[]happening{{0, opens}, {3999 * time.Millisecond, becomes(role{owner: mac8})}},
			"0s owning, 0s announcement, 3.999s deputizing",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// random is in the middle, so that refreshes come exactly as often as they are to
			settings := moment{detection: tt.mode, refresh: tt.refresh, random: 0.5}
			if got := strings.Join(play(&duty{}, settings, tt.until, tt.events), ", "); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAnOwnerChecksItsAddressOnScheduleAndNeverWithDetectionOff(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		time.Sleep(10 * time.Minute)
		var checks, announced []time.Duration
		for _, s := range l.take() {
			switch s.frame {
			case checkOf(address, mac0):
				checks = append(checks, s.after)
			case announcements(address, mac0)[0]:
				announced = append(announced, s.after)
			}
		}
		if !slices.Equal(checks, announced[len(takeover()):]) || checks[0] != 4*time.Second || len(checks) < 9 {
			t.Errorf("checked after %v, announced after %v", checks, announced)
		}
		forms := len(announcements(address, mac0)) // but for the very first
		if s := a.Stats()[0]; s.Announcements != uint64(len(announced)*forms-(forms-1)) || s.Replies != 0 {
			t.Errorf("Stats() = %+v", s)
		}
		a.SetConflictDetection(Off)
		time.Sleep(10 * time.Minute)
		if slices.ContainsFunc(l.take(), func(s sent) bool { return s.frame == checkOf(address, mac0) }) {
			t.Error("checked with detection off")
		}
	})
}

func TestACheckOfAnIPv6AddressComesFromTheInterfacesOwnAddress(t *testing.T) {
	t.Parallel()
	at := func(text string, stable bool) link.Address {
		return link.Address{Prefix: netip.MustParsePrefix(text), Stable: stable}
	}
	tests := []struct {
		name      string
		addresses []link.Address
		want      string
	}{
		{"a link-local one", []link.Address{at("192.0.2.1/24", true), at("2001:db8::2/64", true), at("fe80::7/64", true)}, "fe80::7"},
		{"without one, the one that the MAC makes", nil, "fe80::ff:fe00:1"},
		{"a tentative one is not used", []link.Address{at("fe80::7/64", false)}, "fe80::ff:fe00:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := eth("eth0", 2, mac0)
			i.Addresses = tt.addresses
			if got := linkLocal(i); got != netip.MustParseAddr(tt.want) {
				t.Errorf("linkLocal() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAFellowNodeThatAnswersLaterIsReportedForAsLongAsItDoes(t *testing.T) {
	for _, refresh := range []time.Duration{DefaultRefreshInterval, 10 * time.Minute} {
		inBothFamilies(t, func(t *testing.T, address netip.Addr) {
			l := newLAN()
			a := run(t, l)
			a.SetRefreshInterval(refresh)
			a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
			a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
			a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
			time.Sleep(time.Second)
			l.compete(mac8, address) // after the conflict detection
			time.Sleep(3 * time.Second)
			toldNothing(t, a)
			time.Sleep(time.Second)
			want := Conflict{Address: address, Interface: "eth0", MAC: mac8, Node: "worker"}
			if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
				t.Errorf("told %+v, want %+v", list, want)
			}
			l.take()
			time.Sleep(20 * refresh)
			toldNothing(t, a) // it goes on
			finds(t, l, 2, address, mac0)
			for _, s := range l.take() {
				if s.frame[:6] == string(mac8[:]) {
					t.Errorf("answered the fellow node with %x", s.frame)
				}
			}
			l.compete(link.MAC{}, netip.Addr{})
			time.Sleep(refresh) // within which there was no more than its last answer
			toldNothing(t, a)
			want.Over = true
			select {
			case list := <-a.Conflicts():
				if !slices.Equal(list, []Conflict{want}) {
					t.Errorf("told %+v, want %+v", list, want)
				}
			case <-time.After(refresh * 5 / 2):
				t.Error("the conflict does not end")
			}
			if s := a.Stats()[0]; s.Conflicts != 1 || s.Requests != 1 {
				t.Errorf("Stats() = %+v", s)
			}
		})
	}
}

func TestAnotherHostOrNodeThatACheckFindsIsWardedOff(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		for _, mac := range []link.MAC{mac9, mac8} {
			l := newLAN()
			a := run(t, l)
			a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
			a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
			a.Set(shop, []announce.Layer2{on(address, "eth0")})
			l.compete(mac, address)
			time.Sleep(4*time.Second - time.Millisecond)
			l.take()
			time.Sleep(time.Second)
			announced := 0
			for _, s := range l.take() {
				if s.frame == announcements(address, mac0)[0] {
					announced++
				}
			}
			if announced != 2 {
				t.Errorf("sent %d announcements, want the takeover's last and the defense against %v", announced, mac)
			}
			if list := told(t, a); len(list) != 1 || list[0].MAC != mac || list[0].Probe || list[0].Over {
				t.Errorf("told %+v", list)
			}
		}
	})
}

func TestChecksUpsetNeitherTheirSenderNorADeputy(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetRefreshInterval(0)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0), eth("eth1", 3, mac1)})
		a.Set(shop, []announce.Layer2{on(address, "eth0", "eth1")})
		time.Sleep(5 * time.Second)
		l.take()
		l.show(plugOf(2, address), checkOf(address, mac0)) // the link sends it back
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("answered %d frames to itself", len(frames))
		}
		l.compete(mac1, address) // both interfaces are on one network
		l.show(plugOf(3, address), checkOf(address, mac0))
		if frames := l.take(); len(frames) != 1 {
			t.Fatalf("sent %d frames, want the answer of the other interface", len(frames))
		}
		l.compete(link.MAC{}, netip.Addr{})
		toldNothing(t, a)

		a.Set(shop, []announce.Layer2{behalf(mac8, address, "eth0")})
		synctest.Wait()
		l.take()
		l.show(plugOf(2, address), checkOf(address, mac8))
		if frames := l.take(); len(frames) != 0 {
			t.Errorf("the deputy sent %d frames to the owner", len(frames))
		}
		toldNothing(t, a)
	})
}

func TestACheckThatCannotBeSentIsLeftOut(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{on(address, "eth0")})
		l.mu.Lock()
		l.mute[plugOf(2, address)] = true
		l.mu.Unlock()
		l.compete(mac8, address)
		time.Sleep(10 * time.Second)
		toldNothing(t, a)
		l.mu.Lock()
		l.mute[plugOf(2, address)] = false
		l.mu.Unlock()
		time.Sleep(time.Minute)
		if list := told(t, a); len(list) != 1 || list[0].MAC != mac8 {
			t.Errorf("told %+v", list)
		}
	})
}
