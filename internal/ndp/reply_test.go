package ndp

import (
	"net/netip"
	"testing"

	mdndp "github.com/mdlayher/ndp"
)

func TestReply(t *testing.T) {
	t.Parallel()
	plain := solicitation(t, vip)
	changed := func(offset int, value byte) sample {
		return plain.with(func(s *sample) { s.change = func(frame []byte) { frame[offset] = value } })
	}
	spoiled := func(spoil func([]byte) []byte) sample {
		return plain.with(func(s *sample) { s.spoil = spoil })
	}
	options := func(options ...mdndp.Option) sample {
		return plain.with(func(s *sample) {
			s.message = &mdndp.NeighborSolicitation{TargetAddress: vip, Options: options}
		})
	}
	tests := []struct {
		name   string
		sample sample
		gives  MAC // zero: no answer
		to     MAC
	}{
		{"a solicitation to the group is answered to the asker", plain, us, asker},
		{"a solicitation to the address itself is answered to the asker", reachable(vip), us, asker},
		{"a solicitation to the address on behalf of another node gives that node", solicitation(t, lent), owner, asker},
		{"reachability is confirmed on behalf of another node", reachable(lent), owner, asker},
		{"a probe is answered to all nodes", probe(t, asker, vip2), us, all},
		{"a probe with a nonce is answered to all nodes", probe(t, asker, vip2, marked(nonce)), us, all},
		{"a probe is not answered on behalf of another node", probe(t, asker, lent), MAC{}, MAC{}},
		{"a solicitation that a switch sends to us alone is answered", plain.with(func(s *sample) { s.destination = us }), us, asker},
		{"a solicitation that is relayed is answered to the asker it names", plain.with(func(s *sample) { s.source = other }), us, asker},
		{"a solicitation that names no asker is answered to its sender", options(), us, asker},
		{"the first of two source addresses counts", options(linkLayer(mdndp.Source, other), linkLayer(mdndp.Source, asker)), us, other},
		{"options that do not belong there are passed over", options(linkLayer(mdndp.Target, other), mdndp.NewMTU(1500), linkLayer(mdndp.Source, asker)), us, asker},
		{"padding is passed over", spoiled(func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }), us, asker},
		{"the reserved field is passed over", changed(offFlags, 0xff), us, asker},
		{"traffic class and flow label are passed over", changed(offVersion, 0x6f), us, asker},

		{"an address outside of the set is ignored", solicitation(t, foreign), MAC{}, MAC{}},
		{"the owner that another node answers for is not told of itself", solicitation(t, lent).with(func(s *sample) {
			s.source = owner
			s.message = &mdndp.NeighborSolicitation{TargetAddress: lent, Options: []mdndp.Option{linkLayer(mdndp.Source, owner)}}
		}), MAC{}, MAC{}},
		{"what we sent ourselves is ignored", plain.with(func(s *sample) { s.source = us }), MAC{}, MAC{}},
		{"what claims our hardware address inside is ignored", options(linkLayer(mdndp.Source, us)), MAC{}, MAC{}},
		{"what claims our hardware address inside is ignored on behalf of another node too", solicitation(t, lent).with(func(s *sample) {
			s.message = &mdndp.NeighborSolicitation{TargetAddress: lent, Options: []mdndp.Option{linkLayer(mdndp.Source, us)}}
		}), MAC{}, MAC{}},
		{"an asker that is a group is ignored", options(linkLayer(mdndp.Source, all)), MAC{}, MAC{}},
		{"an asker that is nobody is ignored", options(linkLayer(mdndp.Source, MAC{})), MAC{}, MAC{}},
		{"a sender that is a group is ignored", plain.with(func(s *sample) { s.source = all }), MAC{}, MAC{}},
		{"a frame for another host, seen in promiscuous mode, is ignored", reachable(vip).with(func(s *sample) { s.destination = other }), MAC{}, MAC{}},
		{"a frame to a group that is not that of the packet is ignored", plain.with(func(s *sample) { s.destination = all }), MAC{}, MAC{}},
		{"a unicast packet in a frame to a group is ignored", reachable(vip).with(func(s *sample) { s.destination = all }), MAC{}, MAC{}},
		{"a packet to all nodes is ignored", plain.with(func(s *sample) { s.to, s.destination = nodes, all }), MAC{}, MAC{}},
		{"a packet to the group of another address is ignored", plain.with(func(s *sample) { s.to, s.destination = group(t, vip2) }), MAC{}, MAC{}},
		{"who asks from the address asked for is ignored", plain.with(func(s *sample) { s.from = vip }), MAC{}, MAC{}},
		{"who asks from a group is ignored", plain.with(func(s *sample) { s.from = nodes }), MAC{}, MAC{}},
		{"who asks from the loopback address is ignored", plain.with(func(s *sample) { s.from = netip.IPv6Loopback() }), MAC{}, MAC{}},
		{"an advertisement is ignored", advertisement(asker, vip, linkLayer(mdndp.Target, asker)), MAC{}, MAC{}},

		{"a packet that a router has forwarded is discarded", changed(offHopLimit, 254), MAC{}, MAC{}},
		{"another code is discarded", changed(offCode, 1), MAC{}, MAC{}},
		{"another type is discarded", changed(offType, 133), MAC{}, MAC{}},
		{"a wrong checksum is discarded", spoiled(func(b []byte) []byte { b[offChecksum]++; return b }), MAC{}, MAC{}},
		{"another version is discarded", changed(offVersion, 0x50), MAC{}, MAC{}},
		{"another Ethernet type is discarded", changed(offEtherType, 0x08), MAC{}, MAC{}},
		{"another next header is discarded", changed(offNextHeader, 0), MAC{}, MAC{}},
		{"a packet longer than its frame is discarded", changed(offPayloadLength+1, 33), MAC{}, MAC{}},
		{"a message of less than 24 bytes is discarded", changed(offPayloadLength+1, 23), MAC{}, MAC{}},
		{"an option of no length is discarded", changed(offOptions+1, 0), MAC{}, MAC{}},
		{"an unknown option of no length is discarded", plain.with(func(s *sample) {
			s.change = func(frame []byte) { frame[offOptions], frame[offOptions+1] = 200, 0 }
		}), MAC{}, MAC{}},
		{"an option longer than the message is discarded", changed(offOptions+1, 2), MAC{}, MAC{}},
		{"an unknown option longer than the message is discarded", plain.with(func(s *sample) {
			s.change = func(frame []byte) { frame[offOptions], frame[offOptions+1] = 200, 255 }
		}), MAC{}, MAC{}},
		{"a source address option of two units is discarded", options(&mdndp.RawOption{Type: 1, Length: 2, Value: append(asker[:], make([]byte, 8)...)}), MAC{}, MAC{}},
		{"a probe with a source address option is discarded", probe(t, asker, vip, linkLayer(mdndp.Source, asker)), MAC{}, MAC{}},
		{"a probe to the address itself is discarded", probe(t, asker, vip).with(func(s *sample) { s.to, s.destination = vip, us }), MAC{}, MAC{}},
		{"a multicast target is discarded", plain.with(func(s *sample) { s.change = func(frame []byte) { frame[offTarget] = 0xff } }), MAC{}, MAC{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			frame := tt.sample.encode(t)
			reply, ok := Reply(frame, answered(), us)
			if ok != (tt.gives != MAC{}) {
				t.Fatalf("Reply() answered = %v, want %v", ok, !ok)
			}
			if !ok {
				return
			}
			target := keyAt(frame, offTarget).addr()
			to, solicited := host, true
			if tt.sample.from == unset {
				to, solicited = nodes, false
			}
			d := decode(t, reply[:])
			if d.source != us || d.destination != tt.to || d.from != target || d.to != to || !d.isAdvertisement(target, tt.gives, solicited) {
				t.Errorf("Reply() = %+v %+v", d, d.message)
			}
		})
	}
}

func TestReplyNeverGivesAGroupEvenIfTheSetHoldsOne(t *testing.T) {
	t.Parallel()
	multicast := netip.MustParseAddr("ff02::db8")
	if _, ok := Reply(solicitation(t, multicast).encode(t), Addresses{}.With(Entry{Address: multicast}), us); ok {
		t.Error("answered for a multicast address")
	}
}

func TestReplyAndSeenIgnoreTruncatedFrames(t *testing.T) {
	t.Parallel()
	for _, s := range []sample{solicitation(t, vip), probe(t, asker, vip), advertisement(asker, vip, linkLayer(mdndp.Target, asker))} {
		frame := s.encode(t)
		for n := range frame {
			if _, ok := Reply(frame[:n], answered(), us); ok {
				t.Errorf("answered a frame of %d bytes", n)
			}
			if _, ok := Seen(frame[:n], answered(), Self{us, nonce}); ok {
				t.Errorf("believed a frame of %d bytes", n)
			}
		}
	}
}

func TestReplyAndSeenDoNotAllocate(t *testing.T) {
	set := answered()
	for _, s := range []sample{solicitation(t, vip), solicitation(t, foreign), probe(t, asker, vip2), advertisement(other, vip)} {
		frame := s.encode(t)
		if n := testing.AllocsPerRun(100, func() { Reply(frame, set, us) }); n != 0 {
			t.Errorf("Reply for %+v allocates %v times", s, n)
		}
		if n := testing.AllocsPerRun(100, func() { Seen(frame, set, Self{us, nonce}) }); n != 0 {
			t.Errorf("Seen for %+v allocates %v times", s, n)
		}
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	own := answered()
	ours := linkLayer(mdndp.Target, us)
	plain := advertisement(other, vip, linkLayer(mdndp.Target, other))
	tests := []struct {
		name   string
		sample sample
		want   Claim // zero: nothing
	}{
		{"an advertisement by another host is a claim", plain, Claim{vip, other, Announced}},
		{"an advertisement to one host alone is a claim", plain.with(func(s *sample) {
			s.destination, s.to = asker, netip.MustParseAddr("fe80::9")
			s.message = &mdndp.NeighborAdvertisement{Solicited: true, TargetAddress: vip, Options: []mdndp.Option{linkLayer(mdndp.Target, other)}}
		}), Claim{vip, other, Announced}},
		{"one to us alone is an answer", plain.with(func(s *sample) {
			s.destination, s.to = us, netip.MustParseAddr("fe80::1")
			s.message = &mdndp.NeighborAdvertisement{Solicited: true, TargetAddress: vip, Options: []mdndp.Option{linkLayer(mdndp.Target, other)}}
		}), Claim{vip, other, Answered}},
		{"an advertisement that gives no address claims for its sender", advertisement(other, vip), Claim{vip, other, Announced}},
		{"an advertisement by one host for another claims for that", advertisement(asker, vip, linkLayer(mdndp.Target, other)), Claim{vip, other, Announced}},
		{"a cluster that gives a group as its address is a claim", advertisement(other, vip, linkLayer(mdndp.Target, MAC{3})), Claim{vip, MAC{3}, Announced}},
		{"an advertisement of nobody claims for its sender", advertisement(other, vip, linkLayer(mdndp.Target, MAC{})), Claim{vip, other, Announced}},
		{"an advertisement by a node that answers for us is none", advertisement(other, vip, ours), Claim{}},
		{"our own advertisement, sent back, is none", advertisement(us, vip, ours), Claim{}},
		{"a false advertisement with our hardware address outside is none", advertisement(us, vip, linkLayer(mdndp.Target, other)), Claim{}},
		{"an advertisement by the node that we answer for is none", advertisement(owner, lent, linkLayer(mdndp.Target, owner)), Claim{}},
		{"an advertisement by a third of an address that we answer for another is a claim", advertisement(other, lent), Claim{lent, other, Announced}},
		{"an advertisement of an address outside of the set is none", advertisement(other, foreign), Claim{}},

		{"a probe by another host is a claim", probe(t, other, vip), Claim{vip, other, Probed}},
		{"a probe with another nonce is a claim", probe(t, other, vip, marked(Nonce{9})), Claim{vip, other, Probed}},
		{"a probe with a nonce of no bytes but zero is a claim", probe(t, other, vip, marked(Nonce{})), Claim{vip, other, Probed}},
		{"a probe with a longer nonce is a claim", probe(t, other, vip, &mdndp.RawOption{
			Type: 14, Length: 2, Value: append(nonce[:], make([]byte, 8)...),
		}), Claim{vip, other, Probed}},
		{"our own probe, sent back, is none", probe(t, us, vip, marked(nonce)), Claim{}},
		{"our own probe, sent back with another hardware address, is none", probe(t, other, vip, marked(nonce)), Claim{}},
		{"a probe by the node that we answer for is none", probe(t, owner, lent), Claim{}},
		{"a solicitation is none", solicitation(t, vip), Claim{}},

		{"an advertisement that a router has forwarded is discarded", plain.with(func(s *sample) {
			s.change = func(frame []byte) { frame[offHopLimit] = 64 }
		}), Claim{}},
		{"a solicited advertisement to a group is discarded", plain.with(func(s *sample) {
			s.message = &mdndp.NeighborAdvertisement{Solicited: true, TargetAddress: vip}
		}), Claim{}},
		{"an advertisement from nowhere is discarded", plain.with(func(s *sample) { s.from = unset }), Claim{}},
		{"an advertisement with a wrong checksum is discarded", plain.with(func(s *sample) {
			s.spoil = func(frame []byte) []byte { frame[offFlags] ^= 1; return frame }
		}), Claim{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := Seen(tt.sample.encode(t), own, Self{us, nonce})
			if got != tt.want || ok != (tt.want != Claim{}) {
				t.Errorf("Seen() = %+v, %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func TestAProbeOfOursIsSeenByAnotherSpeakerAndNotByUs(t *testing.T) {
	t.Parallel()
	frame := frameBytes(Probe(vip, us, nonce))
	if claim, ok := Seen(frame, answered(), Self{us, nonce}); ok {
		t.Errorf("Seen() = %+v of our own", claim)
	}
	if claim, ok := Seen(frame, answered(), Self{other, Nonce{7}}); !ok || claim != (Claim{vip, us, Probed}) {
		t.Errorf("Seen() = %+v, %v", claim, ok)
	}
	if _, ok := Reply(frame, answered(), other); !ok {
		t.Error("the other does not answer it")
	}
}

func TestAProbeWithoutANonceIsAClaimEvenIfOursIsZero(t *testing.T) {
	t.Parallel()
	if claim, ok := Seen(probe(t, other, vip).encode(t), answered(), Self{MAC: us}); !ok || claim != (Claim{vip, other, Probed}) {
		t.Errorf("Seen() = %+v, %v", claim, ok)
	}
}

func BenchmarkReply(b *testing.B) {
	var entries []Entry
	for i := range 10000 {
		entries = append(entries, Entry{Address: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(i >> 8), 15: byte(i)})})
	}
	set := Addresses{}.With(entries...)
	for name, target := range map[string]netip.Addr{"answered": entries[7777].Address, "ignored": netip.MustParseAddr("2001:db8:1::")} {
		frame := solicitation(b, target).encode(b)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Reply(frame, set, us)
			}
		})
	}
}
