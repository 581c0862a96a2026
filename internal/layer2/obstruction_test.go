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

// TestTwoNodesThatProbeForAnAddressAtOnceDoNotKeepItFromEachOther is what two nodes do that each hold
// themselves for the owner of a new address.
func TestTwoNodesThatProbeForAnAddressAtOnceDoNotKeepItFromEachOther(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		macs := []link.MAC{mac0, mac8}
		var lans []*lan
		var nodes []*Announcer
		for i := range macs {
			lans = append(lans, newLAN())
			nodes = append(nodes, run(t, lans[i]))
			nodes[i].SetNeighbors(map[link.MAC]name.NodeName{macs[1-i]: "fellow"})
			nodes[i].SetLinks(link.Snapshot{eth("eth0", 2, macs[i])})
			nodes[i].Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		}
		for range 29 { // 290 ms
			time.Sleep(10 * time.Millisecond)
			for j, l := range lans {
				for _, s := range l.take() {
					lans[1-j].receive(plugOf(2, address), s.frame)
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
		for i, l := range lans {
			finds(t, l, 2, address, macs[i]) // until one of them is told that it does not own
			toldNothing(t, nodes[i])
		}
	})
}

func TestAFormerOwnerIsAskedAloneUntilItGivesUp(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		l.compete(mac8, address)
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(1900 * time.Millisecond)
		synctest.Wait()
		frames := l.take()
		if len(frames) < 8 || len(frames) > 11 {
			t.Errorf("sent %d frames in 1.9 s, want one each 200 ms", len(frames))
		}
		for _, f := range frames[1:] {
			if f.frame[:6] != string(mac8[:]) {
				t.Errorf("asks others than the node that has the address: %x", f.frame)
			}
		}
		toldNothing(t, a) // it may not have heard yet
		l.compete(link.MAC{}, netip.Addr{})
		time.Sleep(550 * time.Millisecond)
		finds(t, l, 2, address, mac0)
		toldNothing(t, a)
	})
}

func TestANodeThatKeepsAnAddressIsReportedAndAskedOnButNotTakenFrom(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		l.compete(mac8, address)
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		time.Sleep(3 * time.Second)
		want := Conflict{Address: address, Interface: "eth0", MAC: mac8, Node: "worker", Probe: true}
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
		time.Sleep(10 * time.Minute)
		finds(t, l, 2, address, link.MAC{})
		toldNothing(t, a)
		a.Reannounce(shop) // a claim of this node has won
		synctest.Wait()
		finds(t, l, 2, address, mac0)
		want.Over = true
		if list := told(t, a); !slices.Equal(list, []Conflict{want}) {
			t.Errorf("told %+v, want %+v", list, want)
		}
	})
}

func TestAHostThatTurnsOutToBeAFellowNodeKeepsNoAddress(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address netip.Addr) {
		l := newLAN()
		a := run(t, l)
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		a.Set(shop, []announce.Layer2{firstOn(address, "eth0")})
		synctest.Wait()
		l.show(plugOf(2, address), probingFor(address, mac8)) // of a node that is not known yet
		time.Sleep(time.Second)
		finds(t, l, 2, address, link.MAC{})
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		time.Sleep(400 * time.Millisecond)
		finds(t, l, 2, address, mac0)
	})
}

func TestOfManyNodesThatAnswerEachIsAskedInItsTurn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m := moment{detection: Fast}
	d := duty{role: role{first: true}}
	at := func(after time.Duration) moment { m.now = now.Add(after); return m }
	d.begin(at(0))
	d.act(at(0))
	d.see(sign{mac: mac8, fellow: true}, at(time.Millisecond))
	d.see(sign{mac: mac1, fellow: true}, at(time.Millisecond))
	if d.rival.mac != mac8 {
		t.Errorf("asks %v, want the first that answered", d.rival.mac)
	}
	for range 3 { // the inquiry, which goes unanswered, and a probe
		next, _ := d.next()
		m.now = next
		d.act(m)
	}
	d.see(sign{mac: mac1, fellow: true}, m)
	if d.rival.mac != mac1 || d.phase != blocked || !d.rival.since.Equal(now.Add(time.Millisecond)) {
		t.Errorf("asks %+v, want the one that answers now", d.rival)
	}
}

func TestManyAddressesThatANodeKeepsAreAskedForSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 500
		l := newLAN()
		a := run(t, l)
		a.SetNeighbors(map[link.MAC]name.NodeName{mac8: "worker"})
		a.SetLinks(link.Snapshot{eth("eth0", 2, mac0)})
		var all []announce.Layer2
		for i := range count {
			all = append(all, firstOn(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "eth0"))
		}
		a.Set(shop, all)
		answered := 0
		for i := range 3000 { // 30 s
			time.Sleep(10 * time.Millisecond)
			frames := l.take()
			for _, f := range frames {
				address := netip.AddrFrom4([4]byte([]byte(f.frame[38:42])))
				l.receive(plug{2, false}, announcements(address, mac8)[1])
			}
			if i >= 1000 {
				answered += len(frames)
			}
		}
		if answered < 20*50 || answered > 20*150 {
			t.Errorf("sent %d frames in 20 s, want 100 a second", answered)
		}
	})
}
