package pathcheck_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ballast-lb/ballast/internal/pathcheck"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// packet puts an IP header before a segment.
func packet(s pathcheck.SYN) []byte {
	source, destination, segment := s.Source.Addr(), s.Destination.Addr(), s.Marshal()
	if source.Is4() {
		b := make([]byte, 20)
		b[0], b[9] = 0x45, 6
		copy(b[12:], source.AsSlice())
		copy(b[16:], destination.AsSlice())
		return append(b, segment...)
	}
	b := make([]byte, 40)
	b[0], b[6] = 0x60, 6
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	return append(b, segment...)
}

// sum is what a receiver adds up over a segment and its pseudo-header: 0xffff if the checksum is right.
func sum(s pathcheck.SYN) uint32 {
	b := append(append(s.Source.Addr().AsSlice(), s.Destination.Addr().AsSlice()...), s.Marshal()...)
	total := uint32(6 + len(s.Marshal()))
	for i := 0; i < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return total
}

func TestASYNIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, s := range []pathcheck.SYN{
		{Source: at("10.0.0.1:61000"), Destination: at("192.0.2.10:80"), Number: 0xfffffffe},
		{Source: at("[fd00::1]:65535"), Destination: at("[2001:db8::a]:443"), Number: 7},
	} {
		if got, ok := pathcheck.ParseSYN(packet(s)); !ok || got != s {
			t.Errorf("wrote %v, read %v, %v", s, got, ok)
		}
		if got := sum(s); got != 0xffff {
			t.Errorf("%v: a receiver adds up %#x", s, got)
		}
	}
}

// answerTo is a segment from port 80 to port 61000 that acknowledges number 8.
func answerTo(flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], 80)
	binary.BigEndian.PutUint16(b[2:], 61000)
	binary.BigEndian.PutUint32(b[8:], 8)
	b[12], b[13] = 0x50, flags
	return b
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	from := netip.MustParseAddr("192.0.2.10")
	is := func(reset bool) pathcheck.Answer {
		return pathcheck.Answer{From: netip.AddrPortFrom(from, 80), To: 61000, Number: 7, Reset: reset}
	}
	for name, c := range map[string]struct {
		segment []byte
		want    pathcheck.Answer
		ok      bool
	}{
		"a SYN-ACK is one":                            {answerTo(0x12), is(false), true},
		"a RST that acknowledges is one":              {answerTo(0x14), is(true), true},
		"a RST that acknowledges nothing proves none": {answerTo(0x04), pathcheck.Answer{}, false},
		"data is none":                                {answerTo(0x18), pathcheck.Answer{}, false},
		"a SYN is none":                               {answerTo(0x02), pathcheck.Answer{}, false},
		"what is cut off is none":                     {answerTo(0x12)[:19], pathcheck.Answer{}, false},
	} {
		if got, ok := pathcheck.ParseAnswer(from, c.segment); got != c.want || ok != c.ok {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
}

func FuzzParseSYN(f *testing.F) {
	f.Add(packet(pathcheck.SYN{Source: at("10.0.0.1:61000"), Destination: at("192.0.2.10:80"), Number: 1}))
	f.Add(packet(pathcheck.SYN{Source: at("[fd00::1]:61000"), Destination: at("[2001:db8::a]:443"), Number: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := pathcheck.ParseSYN(b)
		if !ok {
			return
		}
		if again, ok := pathcheck.ParseSYN(packet(s)); !ok || again != s {
			t.Errorf("read %v, and then %v", s, again)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(answerTo(0x12))
	f.Add(answerTo(0x14))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := pathcheck.ParseAnswer(netip.IPv6Loopback(), b)
		if ok && (len(b) < 20 || b[13]&0x10 == 0 || a.Reset != (b[13]&0x04 != 0)) {
			t.Errorf("read %v of %x", a, b)
		}
	})
}
