package ndp

import (
	"bytes"
	"net/netip"
	"testing"

	mdndp "github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
)

// seeds are frames to start fuzzing with: right ones, cut ones, and hostile options.
func seeds(f *testing.F) {
	f.Helper()
	plain := solicitation(f, vip)
	for _, s := range []sample{
		plain, reachable(vip2), probe(f, asker, vip), probe(f, other, vip2, marked(nonce)), solicitation(f, lent), reachable(lent),
		solicitation(f, foreign), advertisement(asker, vip), advertisement(other, vip2, linkLayer(mdndp.Target, other)),
		advertisement(asker, lent, linkLayer(mdndp.Target, owner)), probe(f, asker, vip, linkLayer(mdndp.Source, asker)),
	} {
		frame := s.encode(f)
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
	}
	for _, kind := range []byte{optionSource, optionTarget, optionNonce, 200} {
		for _, length := range []byte{0, 2, 255} {
			f.Add(plain.with(func(s *sample) {
				s.change = func(frame []byte) { frame[offOptions], frame[offOptions+1] = kind, length }
			}).encode(f))
		}
	}
	many := &mdndp.NeighborSolicitation{TargetAddress: vip}
	for range 20 {
		many.Options = append(many.Options, linkLayer(mdndp.Source, other), marked(nonce), &mdndp.RawOption{Type: 200, Length: 1, Value: make([]byte, 6)})
	}
	f.Add(plain.with(func(s *sample) { s.message = many }).encode(f))
	f.Add(frameBytes(Announce(vip, us)))
	f.Add(frameBytes(Probe(vip, us, nonce)))
	f.Add([]byte{})
}

// right corrects the length and checksum that a fuzzer rarely hits, so that it gets past them.
func right(frame []byte) []byte {
	if len(frame) < offTarget {
		return frame
	}
	frame = bytes.Clone(frame)
	length := len(frame) - offType
	frame[offPayloadLength], frame[offPayloadLength+1] = byte(length>>8), byte(length)
	frame[offChecksum], frame[offChecksum+1] = 0, 0
	sum := ^slowSum(frame)
	frame[offChecksum], frame[offChecksum+1] = byte(sum>>8), byte(sum)
	return frame
}

// judgment is what the slow, obvious form of the rules says of a frame.
type judgment struct {
	message   mdndp.Message // nil: to be discarded
	from, to  netip.Addr
	target    netip.Addr
	linkLayer []byte // the right option's, if there is one
	nonce     []byte
}

func judge(frame []byte) judgment {
	if len(frame) < 14 || !bytes.Equal(frame[12:14], []byte{0x86, 0xdd}) || frame[6]%2 == 1 || bytes.Equal(frame[6:12], make([]byte, 6)) {
		return judgment{}
	}
	h, err := ipv6.ParseHeader(frame[14:])
	if err != nil || h.Version != 6 || h.NextHeader != 58 || h.HopLimit != 255 || len(frame) < 54+h.PayloadLen || h.PayloadLen < 24 {
		return judgment{}
	}
	frame = frame[:54+h.PayloadLen]
	body := frame[54:]
	if body[1] != 0 || slowSum(frame) != 0xffff || h.Src.IsMulticast() || h.Src.IsLoopback() {
		return judgment{}
	}
	var j judgment
	j.from, _ = netip.AddrFromSlice(h.Src)
	j.to, _ = netip.AddrFromSlice(h.Dst)
	m, err := mdndp.ParseMessage(body[:24])
	if err != nil {
		return judgment{}
	}
	want := byte(1)
	switch m := m.(type) {
	case *mdndp.NeighborSolicitation:
		j.target = m.TargetAddress
	case *mdndp.NeighborAdvertisement:
		j.target, want = m.TargetAddress, 2
		if j.from.IsUnspecified() || j.to.IsMulticast() && m.Solicited {
			return judgment{}
		}
	default:
		return judgment{}
	}
	for options := body[24:]; len(options) > 0; {
		if len(options) < 8 || options[1] == 0 || len(options) < int(options[1])*8 {
			return judgment{}
		}
		option := options[:int(options[1])*8]
		options = options[len(option):]
		if option[0] == want {
			if len(option) != 8 {
				return judgment{}
			}
			if j.linkLayer == nil {
				j.linkLayer = option[2:]
			}
		}
		if option[0] == 14 && len(option) == 8 && j.nonce == nil {
			j.nonce = option[2:]
		}
	}
	if j.target.IsMulticast() {
		return judgment{}
	}
	if want == 1 && j.from.IsUnspecified() {
		if g, _ := mdndp.SolicitedNodeMulticast(j.target); j.to != g || j.linkLayer != nil {
			return judgment{}
		}
	}
	j.message = m
	return j
}

// mayAnswer says which MAC is to be given in answer to frame, to where, or false.
func mayAnswer(frame []byte) (gives, to MAC, ok bool) {
	j := judge(frame)
	if _, solicits := j.message.(*mdndp.NeighborSolicitation); !solicits {
		return MAC{}, MAC{}, false
	}
	switch j.target {
	case vip, vip2:
		gives = us
	case lent:
		gives = owner
	default:
		return MAC{}, MAC{}, false
	}
	destination, source := MAC(frame[0:6]), MAC(frame[6:12])
	g, _ := mdndp.SolicitedNodeMulticast(j.target)
	b := g.As16()
	switch {
	case source == us, j.from == j.target,
		j.to != j.target && j.to != g,
		j.to == j.target && destination != us,
		j.to == g && destination != us && destination != MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}:
		return MAC{}, MAC{}, false
	}
	if j.from.IsUnspecified() {
		return gives, all, gives == us
	}
	to = source
	if j.linkLayer != nil {
		to = MAC(j.linkLayer)
	}
	return gives, to, to[0]%2 == 0 && to != MAC{} && to != us && to != gives
}

// FuzzReply holds Reply against the rules, read with an independent codec.
func FuzzReply(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, frame := range [][]byte{data, right(data)} {
			reply, ok := Reply(frame, answered(), us)
			gives, to, want := mayAnswer(frame)
			if ok != want {
				t.Fatalf("Reply() answered = %v, want %v", ok, want)
			}
			if !ok {
				continue
			}
			j, d := judge(frame), decode(t, reply[:])
			solicited := !j.from.IsUnspecified()
			asked := nodes
			if solicited {
				asked = j.from
			}
			if d.source != us || d.destination != to || d.from != j.target || d.to != asked || !d.isAdvertisement(j.target, gives, solicited) {
				t.Fatalf("Reply() = %+v %+v", d, d.message)
			}
		}
	})
}

// claims is the slow, obvious form of the rules of Seen.
func claims(frame []byte) (Claim, bool) {
	j := judge(frame)
	if j.message == nil || MAC(frame[6:12]) == us || !answered().Contains(j.target) {
		return Claim{}, false
	}
	claim := Claim{j.target, MAC(frame[6:12]), Announced}
	if _, solicits := j.message.(*mdndp.NeighborSolicitation); solicits {
		if !j.from.IsUnspecified() || bytes.Equal(j.nonce, nonce[:]) {
			return Claim{}, false
		}
		claim.Use = Probed
	} else {
		if MAC(frame[:6]) == us {
			claim.Use = Answered
		}
		if j.linkLayer != nil && !bytes.Equal(j.linkLayer, make([]byte, 6)) {
			claim.MAC = MAC(j.linkLayer)
		}
	}
	if claim.MAC == us || claim.MAC == owner && j.target == lent {
		return Claim{}, false
	}
	return claim, true
}

// FuzzSeen holds Seen against the rules, read with an independent codec.
func FuzzSeen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, frame := range [][]byte{data, right(data)} {
			got, ok := Seen(frame, answered(), Self{us, nonce})
			if want, wanted := claims(frame); ok != wanted || ok && got != want {
				t.Fatalf("Seen() = %+v, %v, want %+v, %v", got, ok, want, wanted)
			}
		}
	})
}

// machine returns a function that says whether the filter passes a frame.
func machine(t testing.TB) func(frame []byte) bool {
	t.Helper()
	raw, err := filter()
	if err != nil {
		t.Fatal(err)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program does not disassemble")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

// FuzzFilterNeverDropsWhatMatters checks that the kernel's view and ours agree.
func FuzzFilterNeverDropsWhatMatters(f *testing.F) {
	passes := machine(f)
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, frame := range [][]byte{data, right(data)} {
			_, answers := Reply(frame, answered(), us)
			_, seen := Seen(frame, answered(), Self{us, nonce})
			if (answers || seen) && !passes(frame) {
				t.Fatal("the filter drops a frame that matters")
			}
		}
	})
}
