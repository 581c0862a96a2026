//go:build e2e

package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/ndp"
)

// tagged returns frame with the tag of a VLAN (IEEE 802.1Q). VID 0 is none: the tag then only tells
// a priority.
func tagged(frame []byte, vid uint16) []byte {
	const priority = 5 << 13
	tag := binary.BigEndian.AppendUint16([]byte{0x81, 0x00}, priority|vid)
	return slices.Concat(frame[:12], tag, frame[12:])
}

// question is a broadcast or multicast question of the peer for address.
func question(address string) []byte {
	a := netip.MustParseAddr(address)
	if a.Is6() {
		f := ndp.Solicit(a, netip.MustParseAddr("fe80::200"), hardware(macPeer))
		return f[:]
	}
	f := arp.Probe(a, hardware(macPeer))
	return f[:]
}

// use is a frame by which the peer says that it uses address.
func use(address string) []byte {
	a := netip.MustParseAddr(address)
	if a.Is6() {
		f := ndp.Announce(a, hardware(macPeer))
		return f[:]
	}
	f := arp.AnnounceRequest(a, hardware(macPeer))
	return f[:]
}

// TestFramesOfAVLANAreNotThoseOfTheInterface is what a trunk port brings: VLANs that the node has
// no interface for.
func TestFramesOfAVLANAreNotThoseOfTheInterface(t *testing.T) {
	t.Parallel()
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		e := l.listen("peer")
		answers := func(frame []byte) int {
			e.frames(100 * time.Millisecond)
			e.send(frame)
			n := 0
			for _, f := range e.frames(500 * time.Millisecond) {
				if string(f[:6]) == string(question(address)[6:12]) && speaksOf(f, address) {
					n++
				}
			}
			return n
		}
		for name, tt := range map[string]struct {
			frame []byte
			want  int
		}{
			"a question without a tag":       {question(address), 1},
			"a question with a priority":     {tagged(question(address), 0), 1},
			"a question of another VLAN":     {tagged(question(address), 100), 0},
			"a question of the highest VLAN": {tagged(question(address), 4094), 0},
		} {
			if got := answers(tt.frame); got != tt.want {
				t.Errorf("%s is answered %d times, want %d", name, got, tt.want)
			}
		}
		e.send(tagged(use(address), 100))
		select {
		case list := <-a.Conflicts():
			t.Errorf("told of %+v for a host of another VLAN", list)
		case <-time.After(500 * time.Millisecond):
		}
		e.send(use(address))
		select {
		case <-a.Conflicts():
		case <-time.After(patience):
			t.Error("not told of a host of the same network")
		}
	})
}
