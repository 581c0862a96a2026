package lan

import (
	"encoding/binary"
	"net/netip"
	"testing"

	mdarp "github.com/mdlayher/arp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/ballast-lb/ballast/internal/link"
)

// reply returns the ARP reply of a kernel: address is at mac, sent from it to us.
func reply(address netip.Addr, mac link.MAC) []byte {
	p := mdarp.Packet{
		HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4, Operation: mdarp.OperationReply,
		SenderHardwareAddr: mac[:], SenderIP: address, TargetHardwareAddr: us[:], TargetIP: ourIPv4,
	}
	b, err := p.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return append(ethernet(headerLen, us, mac, etherTypeARP), b...)
}

// advertisement returns the advertisement of a kernel, with the checksum of x/net. change is what
// differs in the message from its flags on, which are S and O.
func advertisement(address netip.Addr, mac link.MAC, options []byte, change func(body []byte)) []byte {
	body := append([]byte{0x60, 0, 0, 0}, address.AsSlice()...)
	body = append(body, options...)
	if change != nil {
		change(body)
	}
	m := icmp.Message{Type: ipv6.ICMPTypeNeighborAdvertisement, Body: &icmp.RawBody{Data: body}}
	b, err := m.Marshal(icmp.IPv6PseudoHeader(address.AsSlice(), ourLocal.AsSlice()))
	if err != nil {
		panic(err)
	}
	f := ethernet(offType, us, mac, etherTypeIPv6)
	f[offVersion] = 0x60
	binary.BigEndian.PutUint16(f[offPayloadLength:], uint16(len(b)))
	f[offNextHeader], f[offHopLimit] = 58, 255
	copy(f[offFrom:], address.AsSlice())
	copy(f[offTo:], ourLocal.AsSlice())
	return append(f, b...)
}

// at is the option that names mac.
func at(mac link.MAC) []byte { return append([]byte{2, 1}, mac[:]...) }

// with returns a copy of frame with bytes from offset on replaced.
func with(frame []byte, offset int, b ...byte) []byte {
	changed := append([]byte(nil), frame...)
	copy(changed[offset:], b)
	return changed
}

// heardCases are frames, and what answers makes of each.
type heardCase struct {
	name     string
	question Question
	frame    []byte
	want     Answer
}

func heardCases() []heardCase {
	q, q6 := question(), question6()
	q.Speaker = vip
	neighbor, speaker := Answer{Neighbor: true}, Answer{Speaker: true}
	arp, na, na6 := reply(node, them), advertisement(local, them, at(them), nil), advertisement(vip6, them, at(them), nil)
	other := func(options ...byte) []byte { return advertisement(local, them, options, nil) }
	return []heardCase{
		{"the kernel's reply is the neighbor's", q, arp, neighbor},
		{"padding does no harm", q, append(reply(node, them), make([]byte, 18)...), neighbor},
		{"the reply to a probe has no target address", q, with(arp, offTargetAddress, 0, 0, 0, 0), neighbor},
		{"a reply for the Service address is the speaker's", q, reply(vip, them), speaker},
		{"a reply for the Service address that is not asked for is nobody's", question(), reply(vip, them), Answer{}},
		{"a reply for another address is nobody's", q, reply(gateway, them), Answer{}},
		{"a proxy that answers for the neighbor does not count", q, reply(node, third), Answer{}},
		{"a deputy that names the neighbor's MAC does not count", q, with(reply(vip, them), offSource, third[:]...), Answer{}},
		{"a neighbor that names another's MAC does not count", q, with(reply(vip, them), offSenderHardware, third[:]...), Answer{}},
		{"a broadcast reply does not count", q, with(arp, offDestination, all[:]...), Answer{}},
		{"a reply to another host does not count", q, with(arp, offDestination, third[:]...), Answer{}},
		{"a reply that is meant for another host does not count", q, with(arp, offTargetHardware, third[:]...), Answer{}},
		{"a request does not count", q, with(arp, offOperation+1, opRequest), Answer{}},
		{"another hardware type does not count", q, with(arp, offHardware+1, 6), Answer{}},
		{"another protocol does not count", q, with(arp, offProtocol, 0x86, 0xdd), Answer{}},
		{"other lengths do not count", q, with(arp, offLengths, 8), Answer{}},
		{"another ethertype does not count", q, with(arp, offEtherType, 0x08, 0x00), Answer{}},
		{"the kernel's advertisement is the neighbor's", q6, na, neighbor},
		{"padding behind it does no harm", q6, append(append([]byte(nil), na...), 1, 2, 3), neighbor},
		{"an advertisement for the Service address is the speaker's", q6, na6, speaker},
		{"the neighbor may leave out its MAC", q6, other(), neighbor},
		{"options that we do not know do no harm", q6, other(append([]byte{14, 1, 1, 2, 3, 4, 5, 6}, at(them)...)...), neighbor},
		{"an advertisement from another MAC does not count", q6, with(na, offSource, third[:]...), Answer{}},
		{"a deputy's advertisement does not count", q6, with(na6, offSource, third[:]...), Answer{}},
		{"one that names another's MAC does not count", q6, other(at(third)...), Answer{}},
		{"nor one that names two", q6, other(append(at(them), at(third)...)...), Answer{}},
		{"an option of no length is invalid", q6, other(2, 0, 0, 0, 0, 0, 0, 0), Answer{}},
		{"an option that is too long is invalid", q6, other(14, 2, 0, 0, 0, 0, 0, 0), Answer{}},
		{"a MAC that is too long is invalid", q6, other(append([]byte{2, 2}, make([]byte, 14)...)...), Answer{}},
		{"half an option is invalid", q6, other(2, 1, 0, 0), Answer{}},
		{"an unsolicited advertisement does not count", q6, advertisement(local, them, at(them), func(b []byte) { b[0] = 0x20 }), Answer{}},
		{"one for another address does not count", q6, advertisement(netip.MustParseAddr("fe80::3"), them, at(them), nil), Answer{}},
		{"a multicast one does not count", q6, with(na, offDestination, 0x33, 0x33, 0, 0, 0, 1), Answer{}},
		{"a forwarded one is invalid", q6, with(na, offHopLimit, 254), Answer{}},
		{"a wrong checksum is invalid", q6, with(na, offChecksum, 0, 0), Answer{}},
		{"one to another address does not count", q6, with(na, offTo, 0xfe, 0x90), Answer{}},
		{"another ICMPv6 type does not count", q6, with(na, offType, typeNS), Answer{}},
		{"another code is invalid", q6, with(na, offCode, 1), Answer{}},
		{"another next header does not count", q6, with(na, offNextHeader, 17), Answer{}},
		{"another IP version is invalid", q6, with(na, offVersion, 0x40), Answer{}},
		{"a length beyond the frame is invalid", q6, with(na, offPayloadLength+1, 0xff), Answer{}},
		{"a length short of the message is invalid", q6, with(na, offPayloadLength+1, 8), Answer{}},
		{"an empty frame is nothing", q, nil, Answer{}},
	}
}

func TestAnswersAreTheNeighborsOwnAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range heardCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := answers(tt.frame, tt.question); got != tt.want {
				t.Errorf("answers() = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTruncatedAnswersAreNone(t *testing.T) {
	t.Parallel()
	for _, frame := range [][]byte{reply(node, them), advertisement(local, them, at(them), nil)} {
		for n := range frame {
			for _, q := range []Question{question(), question6()} {
				if got := answers(frame[:n], q); got != (Answer{}) {
					t.Errorf("%d bytes of %x answer %+v", n, frame, got)
				}
			}
		}
	}
}

func TestOthersAreHostsThatAreNeitherWeNorTheNeighbor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		source link.MAC
		want   bool
	}{
		{"a third host", third, true},
		{"one whose MAC differs from ours at its end", link.MAC{2, 0, 0, 0, 0, 0xff}, true},
		{"one whose MAC differs from the neighbor's at its start", link.MAC{6, 0, 0, 0, 0, 2}, true},
		{"we", us, false},
		{"the neighbor", them, false},
		{"nobody", link.MAC{}, false},
		{"a group", link.MAC{3, 0, 0, 0, 0, 3}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			frame := ethernet(headerLen, all, tt.source, etherTypeIPv4)
			if got := isOther(frame, question()); got != tt.want {
				t.Errorf("isOther() = %v, want %v", got, tt.want)
			}
			if n := run(t, otherFilter(question()), append(frame, 1, 2, 3)); (n == headerLen) != tt.want {
				t.Errorf("the filter passes %d bytes, want passing %v", n, tt.want)
			}
			if isOther(frame[:headerLen-1], question()) {
				t.Error("half a header is heard")
			}
		})
	}
}

// FuzzAnswers holds answers against the rule that matters most, and against the filter, which
// must not drop what counts.
func FuzzAnswers(f *testing.F) {
	for _, c := range heardCases() {
		f.Add(c.frame)
	}
	q, q6 := question(), question6()
	q.Speaker = vip
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, q := range []Question{q, q6} {
			got := answers(frame, q)
			if got.Others || got.Neighbor && got.Speaker {
				t.Fatalf("answers() = %+v", got)
			}
			if got == (Answer{}) {
				continue
			}
			if link.MAC(frame[6:12]) != them || link.MAC(frame[:6]) != us {
				t.Fatal("a frame counts that is not from the neighbor to us")
			}
			if run(t, answerFilter(q), frame) == 0 {
				t.Fatal("the filter drops an answer")
			}
			if q.Neighbor.Address.Is4() {
				var p mdarp.Packet
				if p.UnmarshalBinary(frame[headerLen:]) != nil || p.Operation != mdarp.OperationReply || link.MAC(p.SenderHardwareAddr) != them ||
					got.Neighbor != (p.SenderIP == node) || got.Speaker != (p.SenderIP == vip) {
					t.Fatalf("%+v is answered by %+v", got, p)
				}
			}
		}
	})
}

// FuzzIsOther checks that the kernel's view and ours agree.
func FuzzIsOther(f *testing.F) {
	for _, m := range []link.MAC{us, them, third, all, {}} {
		f.Add(ethernet(headerLen, all, m, etherTypeIPv4))
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		passes := run(t, otherFilter(question()), frame) > 0
		if heard := isOther(frame, question()); heard != passes && len(frame) >= headerLen || heard && !passes {
			t.Fatalf("heard %v, passes %v", heard, passes)
		}
	})
}
