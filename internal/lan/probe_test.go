package lan

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	mdarp "github.com/mdlayher/arp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/ballast-lb/ballast/internal/link"
)

// solicited is what a solicitation that another codec has read asks.
type solicited struct{ from, to, target netip.Addr }

// readSolicitation reads frame with the codec of x/net, checksum included.
func readSolicitation(t *testing.T, frame []byte) solicited {
	t.Helper()
	h, err := ipv6.ParseHeader(frame[headerLen:])
	if err != nil {
		t.Fatal(err)
	}
	body := frame[offType:]
	m, err := icmp.ParseMessage(58, body)
	if err != nil {
		t.Fatal(err)
	}
	rebuilt, err := m.Marshal(icmp.IPv6PseudoHeader(h.Src, h.Dst))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rebuilt, body) {
		t.Errorf("the checksum is %x, want %x", body[2:4], rebuilt[2:4])
	}
	if h.Version != 6 || h.NextHeader != 58 || h.HopLimit != 255 || h.PayloadLen != len(body) || m.Type != ipv6.ICMPTypeNeighborSolicitation || m.Code != 0 {
		t.Errorf("%+v carries %+v", h, m)
	}
	if option := body[24:]; !bytes.Equal(option, append([]byte{1, 1}, us[:]...)) {
		t.Errorf("the option is %x", option)
	}
	from, _ := netip.AddrFromSlice(h.Src)
	to, _ := netip.AddrFromSlice(h.Dst)
	return solicited{from, to, netip.AddrFrom16([16]byte(body[8:24]))}
}

func TestProbesInIPv4(t *testing.T) {
	t.Parallel()
	unset := netip.IPv4Unspecified()
	type asked struct {
		destination    link.MAC
		sender, target netip.Addr
	}
	far := netip.MustParseAddr("198.51.100.1")
	tests := []struct {
		name     string
		from     link.Interface
		neighbor netip.Addr
		speaker  netip.Addr
		heard    Answer
		want     []asked
	}{
		{
			"who is on the link asks as itself, the neighbor by unicast and others by broadcast", on("192.0.2.1/24"), node,
			netip.Addr{},
			Answer{},
			[]asked{{them, ourIPv4, node}, {all, ourIPv4, gateway}},
		},
		{
			"of several addresses that of the neighbor's prefix asks", on("198.51.100.1/24", "192.0.2.1/24"), node,
			netip.Addr{},
			Answer{},
			[]asked{{them, ourIPv4, node}, {all, ourIPv4, gateway}},
		},
		{
			"without an address on the link it is a probe", on("198.51.100.1/24"), node,
			netip.Addr{},
			Answer{},
			[]asked{{them, unset, node}, {all, unset, gateway}},
		},
		{"without any address too", on("fe80::1/64"), node, netip.Addr{}, Answer{}, []asked{{them, unset, node}, {all, unset, gateway}}},
		{
			"an address without a prefix leads to nobody", on("192.0.2.1/32"), node,
			netip.Addr{},
			Answer{},
			[]asked{{them, unset, node}, {all, unset, gateway}},
		},
		{
			"the address that is asked for does not ask", on("192.0.2.2/24"), node,
			netip.Addr{},
			Answer{},
			[]asked{{them, unset, node}, {all, netip.MustParseAddr("192.0.2.2"), gateway}},
		},
		{
			"the speaker is asked by any own address", on("198.51.100.1/24", "192.0.2.1/24"), node, vip,
			Answer{},
			[]asked{{them, ourIPv4, node}, {them, far, vip}, {all, ourIPv4, gateway}},
		},
		{
			"or that of the Service address's prefix", on("198.51.100.1/24", "203.0.113.1/24"), node, vip,
			Answer{},
			[]asked{{them, unset, node}, {them, netip.MustParseAddr("203.0.113.1"), vip}, {all, unset, gateway}},
		},
		{"or by a probe", on(), node, vip, Answer{}, []asked{{them, unset, node}, {them, unset, vip}, {all, unset, gateway}}},
		{"what is answered is not asked again", on("192.0.2.1/24"), node, vip, Answer{Neighbor: true, Others: true}, []asked{{them, ourIPv4, vip}}},
		{"when all is answered nothing is", on("192.0.2.1/24"), node, vip, Answer{true, true, true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := Question{From: tt.from, Neighbor: Neighbor{tt.neighbor, them}, Speaker: tt.speaker, Others: []netip.Addr{gateway}}
			frames := probes(q, tt.heard)
			if len(frames) != len(tt.want) {
				t.Fatalf("%d frames, want %d", len(frames), len(tt.want))
			}
			for n, f := range frames {
				var p mdarp.Packet
				if err := p.UnmarshalBinary(f[headerLen:]); err != nil {
					t.Fatal(err)
				}
				w := tt.want[n]
				if link.MAC(f[:6]) != w.destination || link.MAC(f[6:12]) != us || binary.BigEndian.Uint16(f[12:]) != 0x0806 || len(f) != 42 ||
					p.HardwareType != 1 || p.ProtocolType != 0x0800 || p.Operation != mdarp.OperationRequest ||
					!bytes.Equal(p.SenderHardwareAddr, us[:]) || p.SenderIP != w.sender ||
					!bytes.Equal(p.TargetHardwareAddr, make(net.HardwareAddr, 6)) || p.TargetIP != w.target {
					t.Errorf("frame %d to %v is %+v, want %+v", n, link.MAC(f[:6]), p, w)
				}
			}
		})
	}
}

func TestProbesInIPv6(t *testing.T) {
	t.Parallel()
	fromMAC := netip.MustParseAddr("fe80::ff:fe00:1")
	tentative := on("fe80::1/64")
	tentative.Addresses[0].Stable = false
	tests := []struct {
		name   string
		from   link.Interface
		sender netip.Addr
	}{
		{"the own link-local address asks", on("192.0.2.1/24", "2001:db8::9/64", "fe80::1/64"), ourLocal},
		{"without one, that of the MAC does", on("2001:db8::9/64"), fromMAC},
		{"while it is tentative too", tentative, fromMAC},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			router := netip.MustParseAddr("fe80::12:3456")
			q := Question{From: tt.from, Neighbor: Neighbor{local, them}, Speaker: vip6, Others: []netip.Addr{router}}
			frames := probes(q, Answer{})
			want := []struct {
				destination link.MAC
				asks        solicited
			}{
				{them, solicited{tt.sender, local, local}},
				{them, solicited{tt.sender, vip6, vip6}},
				{link.MAC{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}, solicited{tt.sender, netip.MustParseAddr("ff02::1:ff12:3456"), router}},
			}
			if len(frames) != len(want) {
				t.Fatalf("%d frames, want %d", len(frames), len(want))
			}
			for n, f := range frames {
				if link.MAC(f[:6]) != want[n].destination || link.MAC(f[6:12]) != us || binary.BigEndian.Uint16(f[12:]) != 0x86dd {
					t.Errorf("frame %d has the header %x", n, f[:headerLen])
				}
				if got := readSolicitation(t, f); got != want[n].asks {
					t.Errorf("frame %d asks %+v, want %+v", n, got, want[n].asks)
				}
			}
		})
	}
}
