package lab

import (
	"net/netip"
	"testing"
)

func someAsker() asker {
	return asker{
		mac: [6]byte{2, 0, 0, 0x10, 0, 0x32},
		v4:  netip.MustParseAddr("10.10.0.50"), v6: netip.MustParseAddr("fd00:10::50"),
	}
}

func TestSightingsSayWhoSpeaksAndWhoseAddressItIs(t *testing.T) {
	const deputy, owner = "\x02\x00\x00\x10\x00\x0c", "\x02\x00\x00\x10\x00\x0b"
	const us = "\x02\x00\x00\x10\x00\x32"
	const everybody = "\xff\xff\xff\xff\xff\xff"
	const header = "\x08\x06\x00\x01\x08\x00\x06\x04"
	const address, asker = "\x0a\x0a\x00\x64", "\x0a\x0a\x00\x32"
	v6 := "\xfd\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64"
	na := us + deputy + "\x86\xdd\x60\x00\x00\x00\x00\x20\x3a\xff" + v6 + v6 + "\x88\x00\x00\x00\x60\x00\x00\x00" + v6
	tests := map[string]struct {
		frame string
		want  Sighting
		ok    bool
	}{
		"the owner answers": {
			us + owner + header + "\x00\x02" + owner + address + us + asker,
			Sighting{Kind: ARPReply, Address: netip.MustParseAddr("10.10.0.100"), Source: "02:00:00:10:00:0b", Owner: "02:00:00:10:00:0b"},
			true,
		},
		"a deputy answers for it": {
			us + deputy + header + "\x00\x02" + owner + address + us + asker,
			Sighting{Kind: ARPReply, Address: netip.MustParseAddr("10.10.0.100"), Source: "02:00:00:10:00:0c", Owner: "02:00:00:10:00:0b"},
			true,
		},
		"an announcement": {
			everybody + owner + header + "\x00\x01" + owner + address + "\x00\x00\x00\x00\x00\x00" + address,
			Sighting{Kind: ARPAnnouncement, Address: netip.MustParseAddr("10.10.0.100"), Source: "02:00:00:10:00:0b", Owner: "02:00:00:10:00:0b", Unasked: true},
			true,
		},
		"a request says nothing": {everybody + owner + header + "\x00\x01" + owner + asker + "\x00\x00\x00\x00\x00\x00" + address, Sighting{}, false},
		"a deputy's advertisement": {
			na + "\x02\x01" + owner,
			Sighting{Kind: Advertisement, Address: netip.MustParseAddr("fd00:10::64"), Source: "02:00:00:10:00:0c", Owner: "02:00:00:10:00:0b"},
			true,
		},
		"an advertisement without option": {
			na,
			Sighting{Kind: Advertisement, Address: netip.MustParseAddr("fd00:10::64"), Source: "02:00:00:10:00:0c", Owner: "02:00:00:10:00:0c"},
			true,
		},
		"a short frame": {us, Sighting{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := parseSighting([]byte(tt.frame))
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestSolicitationsSumUpToZero(t *testing.T) {
	frame := someAsker().request(netip.MustParseAddr("fd00:10::64"))
	icmp := frame[icmpOffset:]
	if sum := icmpChecksum([16]byte(frame[22:38]), [16]byte(frame[38:54]), icmp); sum != 0 {
		t.Errorf("checksum of the whole is %#x, want 0", sum)
	}
	if len(frame) != icmpOffset+solicitationLength {
		t.Errorf("length %d", len(frame))
	}
}

func FuzzSighting(f *testing.F) {
	f.Add(someAsker().request(netip.MustParseAddr("10.10.0.100")))
	f.Add(someAsker().request(netip.MustParseAddr("fd00:10::64")))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if s, ok := parseSighting(frame); ok && (!s.Address.IsValid() || s.Owner == "" || s.Source == "") {
			t.Errorf("incomplete: %+v", s)
		}
	})
}
