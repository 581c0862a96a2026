package arp

import (
	"net"
	"net/netip"
	"testing"

	mdarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

var (
	us      = MAC{0x02, 0, 0, 0, 0, 1}
	asker   = MAC{0x02, 0, 0, 0, 0, 2}
	other   = MAC{0x02, 0, 0, 0, 0, 3}
	group   = MAC{0x01, 0, 0x5e, 0, 0, 1}
	nobody  = MAC{}
	all     = everybody()
	vip     = netip.MustParseAddr("192.0.2.10")
	vip2    = netip.MustParseAddr("192.0.2.11")
	host    = netip.MustParseAddr("192.0.2.200")
	unset   = netip.MustParseAddr("0.0.0.0")
	foreign = netip.MustParseAddr("192.0.2.12")
	lent    = netip.MustParseAddr("192.0.2.13") // answered on behalf of owner
	owner   = MAC{0x02, 0, 0, 0, 0, 4}
)

func answered() Addresses {
	return Addresses{}.With(Entry{Address: vip}, Entry{Address: vip2}, Entry{lent, owner})
}

// encode builds a frame with an independent codec.
func encode(t testing.TB, source, destination MAC, p mdarp.Packet) []byte {
	t.Helper()
	payload, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	frame, err := (&ethernet.Frame{
		Destination: destination[:], Source: source[:], EtherType: ethernet.EtherTypeARP, Payload: payload,
	}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func request(senderHardware MAC, sender, target netip.Addr) mdarp.Packet {
	return mdarp.Packet{
		HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4, Operation: mdarp.OperationRequest,
		SenderHardwareAddr: senderHardware[:], SenderIP: sender, TargetHardwareAddr: nobody[:], TargetIP: target,
	}
}

// decode reads a frame with an independent codec.
func decode(t testing.TB, frame []byte) (ethernet.Frame, mdarp.Packet) {
	t.Helper()
	var e ethernet.Frame
	var p mdarp.Packet
	if err := e.UnmarshalBinary(frame); err != nil {
		t.Fatal(err)
	}
	if err := p.UnmarshalBinary(e.Payload); err != nil {
		t.Fatal(err)
	}
	return e, p
}

func TestReply(t *testing.T) {
	t.Parallel()
	plain := request(asker, host, vip)
	changed := func(change func(*mdarp.Packet)) mdarp.Packet {
		p := plain
		change(&p)
		return p
	}
	tests := []struct {
		name        string
		source      MAC
		destination MAC
		packet      mdarp.Packet
		want        bool
	}{
		{"a broadcast request for an address in the set is answered", asker, all, plain, true},
		{"a unicast request to our address is answered", asker, us, plain, true},
		{"a probe from a host that looks for a free address is answered", asker, all, request(asker, unset, vip), true},
		{"a request that a proxy relays is answered to the asker it names", other, all, plain, true},
		{"a request of the owner for what a deputy answers is ignored", owner, all, request(owner, host, lent), false},
		{"a request for an address outside of the set is ignored", asker, all, request(asker, host, foreign), false},
		{"a frame for another host, seen in promiscuous mode, is ignored", asker, other, plain, false},
		{"a frame to a multicast group is ignored", asker, group, plain, false},
		{"an announcement of our address by another host is ignored", asker, all, request(asker, vip, vip), false},
		{"what we sent ourselves is ignored", us, all, request(us, host, vip), false},
		{"what claims our hardware address inside is ignored", asker, all, request(us, host, vip), false},
		{"what claims our hardware address outside is ignored", us, all, plain, false},
		{"an asker that is a group is ignored", asker, all, request(group, host, vip), false},
		{"an asker that is nobody is ignored", asker, all, request(nobody, host, vip), false},
		{"a reply is ignored", asker, us, changed(func(p *mdarp.Packet) { p.Operation = mdarp.OperationReply }), false},
		{"an unknown operation is ignored", asker, all, changed(func(p *mdarp.Packet) { p.Operation = 8 }), false},
		{"another hardware type is ignored", asker, all, changed(func(p *mdarp.Packet) { p.HardwareType = 6 }), false},
		{"another protocol type is ignored", asker, all, changed(func(p *mdarp.Packet) { p.ProtocolType = 0x86dd }), false},
		{"another hardware address length is ignored", asker, all, changed(func(p *mdarp.Packet) { p.HardwareAddrLength = 8 }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reply, ok := Reply(encode(t, tt.source, tt.destination, tt.packet), answered(), us)
			if ok != tt.want {
				t.Fatalf("Reply() answered = %v, want %v", ok, tt.want)
			}
			if !ok {
				return
			}
			e, p := decode(t, reply[:])
			if MAC(e.Destination) != asker || MAC(e.Source) != us || p.Operation != mdarp.OperationReply ||
				MAC(p.SenderHardwareAddr) != us || p.SenderIP != vip ||
				MAC(p.TargetHardwareAddr) != asker || p.TargetIP != tt.packet.SenderIP {
				t.Errorf("Reply() = %+v %+v", e, p)
			}
		})
	}
}

func TestADeputyAnswersWithTheOwnersAddressFromItsOwn(t *testing.T) {
	t.Parallel()
	for _, sender := range []netip.Addr{host, unset} {
		reply, ok := Reply(encode(t, asker, all, request(asker, sender, lent)), answered(), us)
		e, p := decode(t, reply[:])
		if !ok || MAC(e.Destination) != asker || MAC(e.Source) != us || p.Operation != mdarp.OperationReply ||
			MAC(p.SenderHardwareAddr) != owner || p.SenderIP != lent || MAC(p.TargetHardwareAddr) != asker || p.TargetIP != sender {
			t.Errorf("Reply() = %+v %+v, %v", e, p, ok)
		}
	}
}

func TestReplyIgnoresTruncatedFramesAndForeignEtherTypes(t *testing.T) {
	t.Parallel()
	frame := encode(t, asker, all, request(asker, host, vip))
	for n := range FrameLen {
		if _, ok := Reply(frame[:n], answered(), us); ok {
			t.Errorf("answered a frame of %d bytes", n)
		}
	}
	frame[offEtherType+1] = 0
	if _, ok := Reply(frame, answered(), us); ok {
		t.Error("answered a frame that is not ARP")
	}
}

func TestReplyDoesNotAllocate(t *testing.T) {
	set := answered()
	for _, target := range []netip.Addr{vip, foreign} {
		frame := encode(t, asker, all, request(asker, host, target))
		if n := testing.AllocsPerRun(100, func() { Reply(frame, set, us) }); n != 0 {
			t.Errorf("Reply for %v allocates %v times", target, n)
		}
	}
}

func TestAnnouncementsAndProbesAreReadByAnotherCodec(t *testing.T) {
	t.Parallel()
	e, p := decode(t, frameBytes(AnnounceRequest(vip, us)))
	if MAC(e.Destination) != all || MAC(e.Source) != us || p.Operation != mdarp.OperationRequest ||
		MAC(p.SenderHardwareAddr) != us || p.SenderIP != vip || MAC(p.TargetHardwareAddr) != nobody || p.TargetIP != vip {
		t.Errorf("AnnounceRequest() = %+v %+v", e, p)
	}
	e, p = decode(t, frameBytes(AnnounceReply(vip, us)))
	if MAC(e.Destination) != all || MAC(e.Source) != us || p.Operation != mdarp.OperationReply ||
		MAC(p.SenderHardwareAddr) != us || p.SenderIP != vip || MAC(p.TargetHardwareAddr) != us || p.TargetIP != vip {
		t.Errorf("AnnounceReply() = %+v %+v", e, p)
	}
	e, p = decode(t, frameBytes(Probe(vip, us)))
	if MAC(e.Destination) != all || MAC(e.Source) != us || p.Operation != mdarp.OperationRequest ||
		MAC(p.SenderHardwareAddr) != us || p.SenderIP != unset || MAC(p.TargetHardwareAddr) != nobody || p.TargetIP != vip {
		t.Errorf("Probe() = %+v %+v", e, p)
	}
}

func frameBytes(f Frame) []byte { return f[:] }

// FuzzReply holds Reply against the rules, read with an independent codec.
func FuzzReply(f *testing.F) {
	f.Add(encode(f, asker, all, request(asker, host, vip)))
	f.Add(encode(f, asker, us, request(asker, unset, vip2)))
	f.Add(encode(f, asker, all, request(asker, vip, vip)))
	f.Add(frameBytes(AnnounceReply(vip, other)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, ok := Reply(frame, answered(), us)
		if want := mayAnswer(frame); ok != want {
			t.Fatalf("Reply() answered = %v, want %v", ok, want)
		}
		if !ok {
			return
		}
		_, asked := decode(t, frame)
		e, p := decode(t, reply[:])
		gives := us
		if asked.TargetIP == lent {
			gives = owner
		}
		if MAC(e.Source) != us || MAC(p.SenderHardwareAddr) != gives || p.SenderIP != asked.TargetIP ||
			MAC(e.Destination) != MAC(asked.SenderHardwareAddr) || !answered().Contains(p.SenderIP) {
			t.Fatalf("Reply() = %+v %+v", e, p)
		}
	})
}

// mayAnswer is the slow, obvious form of the rules.
func mayAnswer(frame []byte) bool {
	if len(frame) < FrameLen || frame[offEtherType] != 0x08 || frame[offEtherType+1] != 0x06 {
		return false
	}
	var p mdarp.Packet
	if p.UnmarshalBinary(frame[14:]) != nil {
		return false
	}
	if p.HardwareType != 1 || p.ProtocolType != 0x0800 || p.HardwareAddrLength != 6 || p.IPLength != 4 {
		return false
	}
	destination, source := net.HardwareAddr(frame[0:6]).String(), net.HardwareAddr(frame[6:12]).String()
	ours, sender := net.HardwareAddr(us[:]).String(), p.SenderHardwareAddr.String()
	switch {
	case p.Operation != mdarp.OperationRequest,
		destination != ours && destination != "ff:ff:ff:ff:ff:ff",
		source == ours, sender == ours, sender == "00:00:00:00:00:00", p.SenderHardwareAddr[0]%2 == 1,
		p.SenderIP == p.TargetIP:
		return false
	}
	return p.TargetIP == vip || p.TargetIP == vip2 || p.TargetIP == lent && MAC(p.SenderHardwareAddr) != owner
}

// many returns a set of 10,000 addresses, each tenth on behalf of another node, set in one go
// or one by one.
func many(batch bool) Addresses {
	var set Addresses
	var entries []Entry
	for i := range 10000 {
		e := Entry{Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}
		if i%10 == 0 {
			e.MAC = owner
		}
		if !batch {
			set = set.With(e)
		}
		entries = append(entries, e)
	}
	if batch {
		set = set.With(entries...)
	}
	return set
}

func BenchmarkReply(b *testing.B) {
	set := many(true)
	for name, target := range map[string]netip.Addr{
		"Answers":       netip.MustParseAddr("10.1.19.135"),
		"AnswersDeputy": netip.MustParseAddr("10.1.0.10"),
		"Ignores":       foreign,
	} {
		b.Run(name, func(b *testing.B) {
			frame := encode(b, asker, all, request(asker, host, target))
			b.ReportAllocs()
			for b.Loop() {
				Reply(frame, set, us)
			}
		})
	}
}

func BenchmarkSeen(b *testing.B) {
	set := many(true)
	frame := encode(b, asker, all, request(asker, host, foreign))
	b.ReportAllocs()
	for b.Loop() {
		Seen(frame, set, us)
	}
}

func BenchmarkWithOneByOne(b *testing.B) {
	for b.Loop() {
		many(false)
	}
}

func BenchmarkWithInOneBatch(b *testing.B) {
	for b.Loop() {
		many(true)
	}
}
