package lan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ballast-lb/ballast/internal/link"
)

// arpReply is an ARP reply to us.
func arpReply(from, holder link.MAC, address netip.Addr) []byte {
	f := request(holder, address, netip.MustParseAddr("192.0.2.1"), us)
	f[offOperation+1] = opReply
	copy(f[offSource:], from[:])
	copy(f[offTargetHardware:], us[:])
	return f
}

func TestATallyCountsWhoAnswers(t *testing.T) {
	t.Parallel()
	other := link.MAC{2, 0, 0, 0, 0, 77}
	p := Poll{
		From: on("192.0.2.1/24", "fe80::1/64"), Hosts: []Neighbor{{node, them}, {netip.MustParseAddr("192.0.2.78"), other}},
		Gateways: []netip.Addr{gateway}, Wanted: []netip.Addr{vip},
	}
	for _, tt := range []struct {
		name    string
		frame   []byte
		hosts   []bool
		gateway bool
		holders []link.MAC
	}{
		{"a host that is asked", arpReply(them, them, node), []bool{true, false}, false, nil},
		{"a host that answers for another", arpReply(other, them, node), []bool{false, false}, false, nil},
		{"the gateway", arpReply(other, other, gateway), []bool{false, false}, true, nil},
		{"whoever answers for what is wanted", arpReply(them, them, vip), []bool{false, false}, false, []link.MAC{them}},
		{"a deputy that does", arpReply(other, them, vip), []bool{false, false}, false, []link.MAC{other}},
		{"an address that nobody wants", arpReply(them, them, netip.MustParseAddr("192.0.2.99")), []bool{false, false}, false, nil},
		{"a frame that is cut off", arpReply(them, them, vip)[:arpLen-1], []bool{false, false}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tally := Tally{Answered: make([]bool, 2)}
			news := tally.hear(tt.frame, p)
			if !slices.Equal(tally.Answered, tt.hosts) || tally.Gateway != tt.gateway || !slices.Equal(tally.Holders, tt.holders) {
				t.Errorf("heard %+v", tally)
			}
			if news != (tally.Gateway || len(tally.Holders) > 0 || slices.Contains(tally.Answered, true)) || tally.hear(tt.frame, p) {
				t.Error("it is not news once")
			}
		})
	}
}

func FuzzTally(f *testing.F) {
	f.Add(arpReply(them, them, vip))
	f.Add(solicitation(on("fe80::1/64"), netip.MustParseAddr("fe80::2"), us))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p := Poll{From: on("192.0.2.1/24"), Hosts: []Neighbor{{node, them}}, Gateways: []netip.Addr{gateway}, Wanted: []netip.Addr{vip}}
		tally := Tally{Answered: make([]bool, 1)}
		for range 3 { // a host, the gateway, a holder
			tally.hear(frame, p)
		}
		if tally.hear(frame, p) {
			t.Errorf("%x is always news", frame)
		}
	})
}
