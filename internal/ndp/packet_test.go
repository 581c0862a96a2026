package ndp

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/ethernet"
	mdndp "github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

var (
	us      = MAC{0x02, 0, 0, 0, 0, 1}
	asker   = MAC{0x02, 0, 0, 0, 0, 2}
	other   = MAC{0x02, 0, 0, 0, 0, 3}
	owner   = MAC{0x02, 0, 0, 0, 0, 4}
	nonce   = Nonce{1, 2, 3, 4, 5, 6}
	vip     = netip.MustParseAddr("2001:db8::10")
	vip2    = netip.MustParseAddr("2001:db8::1:11")
	lent    = netip.MustParseAddr("2001:db8::12") // answered on behalf of owner
	foreign = netip.MustParseAddr("2001:db8::13")
	host    = netip.MustParseAddr("fe80::2")
	unset   = netip.IPv6Unspecified()
	nodes   = netip.MustParseAddr("ff02::1")
	all     = MAC{0x33, 0x33, 0, 0, 0, 1}
)

func answered() Addresses {
	return Addresses{}.With(Entry{Address: vip}, Entry{Address: vip2}, Entry{lent, owner})
}

// sample is a frame before it is encoded. Zero fields mean what a right frame has.
type sample struct {
	source, destination MAC
	from, to            netip.Addr
	message             mdndp.Message
	change              func(frame []byte) // before the checksum is made
	spoil               func(frame []byte) []byte
}

// group returns the solicited-node group of an address, and its Ethernet address, by an
// independent library.
func group(t testing.TB, address netip.Addr) (netip.Addr, MAC) {
	t.Helper()
	g, err := mdndp.SolicitedNodeMulticast(address)
	if err != nil {
		t.Fatal(err)
	}
	b := g.As16()
	return g, MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// encode builds a frame with an independent codec.
func (s sample) encode(t testing.TB) []byte {
	t.Helper()
	body, err := mdndp.MarshalMessageChecksum(s.message, s.from, s.to)
	if err != nil {
		t.Fatal(err)
	}
	from, to := s.from.As16(), s.to.As16()
	header := append([]byte{6 << 4, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), 58, 255}, from[:]...)
	header = append(header, to[:]...)
	frame, err := (&ethernet.Frame{
		Destination: s.destination[:], Source: s.source[:], EtherType: ethernet.EtherTypeIPv6, Payload: append(header, body...),
	}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if s.change != nil {
		s.change(frame)
		frame[offChecksum], frame[offChecksum+1] = 0, 0
		sum := ^slowSum(frame)
		frame[offChecksum], frame[offChecksum+1] = byte(sum>>8), byte(sum)
	}
	if s.spoil != nil {
		frame = s.spoil(frame)
	}
	return frame
}

// slowSum is the checksum of RFC 1071, written to be seen through.
func slowSum(frame []byte) uint16 {
	length := len(frame) - offType
	pseudo := append([]byte(nil), frame[offFrom:offType]...)
	pseudo = append(pseudo, 0, 0, byte(length>>8), byte(length), 0, 0, 0, 58)
	sum := 0
	for i, b := range append(pseudo, frame[offType:]...) {
		if i%2 == 0 {
			sum += int(b) << 8
		} else {
			sum += int(b)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// solicitation is what a host sends to find target.
func solicitation(t testing.TB, target netip.Addr) sample {
	g, m := group(t, target)
	return sample{
		source: asker, destination: m, from: host, to: g,
		message: &mdndp.NeighborSolicitation{TargetAddress: target, Options: []mdndp.Option{linkLayer(mdndp.Source, asker)}},
	}
}

// reachable is what a host sends to see whether target is still at our MAC.
func reachable(target netip.Addr) sample {
	return sample{
		source: asker, destination: us, from: host, to: target,
		message: &mdndp.NeighborSolicitation{TargetAddress: target},
	}
}

// probe is what a host sends that wants to use target.
func probe(t testing.TB, source MAC, target netip.Addr, options ...mdndp.Option) sample {
	g, m := group(t, target)
	return sample{
		source: source, destination: m, from: unset, to: g,
		message: &mdndp.NeighborSolicitation{TargetAddress: target, Options: options},
	}
}

// advertisement is what a host sends that says that it has target.
func advertisement(source MAC, target netip.Addr, options ...mdndp.Option) sample {
	return sample{
		source: source, destination: all, from: host, to: nodes,
		message: &mdndp.NeighborAdvertisement{Override: true, TargetAddress: target, Options: options},
	}
}

func (s sample) with(change func(*sample)) sample {
	change(&s)
	return s
}

func linkLayer(direction mdndp.Direction, m MAC) mdndp.Option {
	return &mdndp.LinkLayerAddress{Direction: direction, Addr: m[:]}
}

// marked is the nonce option.
func marked(n Nonce) mdndp.Option {
	return &mdndp.RawOption{Type: optionNonce, Length: 1, Value: n[:]}
}

// decoded is a frame, as an independent codec reads it.
type decoded struct {
	source, destination MAC
	from, to            netip.Addr
	message             mdndp.Message
}

func decode(t testing.TB, frame []byte) decoded {
	t.Helper()
	var e ethernet.Frame
	if err := e.UnmarshalBinary(frame); err != nil {
		t.Fatal(err)
	}
	h, err := ipv6.ParseHeader(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mdndp.ParseMessage(e.Payload[ipv6.HeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	if e.EtherType != ethernet.EtherTypeIPv6 || h.Version != 6 || h.NextHeader != 58 || h.HopLimit != 255 ||
		h.PayloadLen != len(e.Payload)-ipv6.HeaderLen || frame[offCode] != 0 || slowSum(frame) != 0xffff {
		t.Errorf("headers are %+v %+v, sum %#x", e, h, slowSum(frame))
	}
	from, _ := netip.AddrFromSlice(h.Src)
	to, _ := netip.AddrFromSlice(h.Dst)
	return decoded{MAC(e.Source), MAC(e.Destination), from, to, m}
}

func (d decoded) isAdvertisement(target netip.Addr, mac MAC, solicited bool) bool {
	na, ok := d.message.(*mdndp.NeighborAdvertisement)
	if !ok || len(na.Options) != 1 {
		return false
	}
	l, ok := na.Options[0].(*mdndp.LinkLayerAddress)
	return ok && l.Direction == mdndp.Target && MAC(l.Addr) == mac &&
		na.TargetAddress == target && na.Override && !na.Router && na.Solicited == solicited
}

func TestAnnouncementsAreReadByAnotherCodec(t *testing.T) {
	t.Parallel()
	d := decode(t, frameBytes(Announce(vip, us)))
	if d.source != us || d.destination != all || d.from != vip || d.to != nodes || !d.isAdvertisement(vip, us, false) {
		t.Errorf("Announce() = %+v %+v", d, d.message)
	}
}

func TestProbesAreReadByAnotherCodec(t *testing.T) {
	t.Parallel()
	d := decode(t, frameBytes(Probe(vip2, us, nonce)))
	g, m := group(t, vip2)
	ns, ok := d.message.(*mdndp.NeighborSolicitation)
	if !ok || d.source != us || d.destination != m || d.from != unset || d.to != g || ns.TargetAddress != vip2 || len(ns.Options) != 1 {
		t.Fatalf("Probe() = %+v %+v", d, d.message)
	}
	if o, ok := ns.Options[0].(*mdndp.Nonce); !ok || o.String() != "010203040506" {
		t.Errorf("Probe() has the option %+v", ns.Options[0])
	}
}

func TestWhatCannotBeAnnouncedPanics(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("Announce() returned")
				}
			}()
			Announce(netip.MustParseAddr(text), us)
		})
	}
}

func frameBytes(f Frame) []byte { return f[:] }
