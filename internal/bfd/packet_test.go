package bfd

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func packets() *rapid.Generator[Packet] {
	return rapid.Custom(func(t *rapid.T) Packet {
		micro := rapid.Map(rapid.Uint32(), func(u uint32) time.Duration { return time.Duration(u) * time.Microsecond })
		p := Packet{
			Diagnostic: Diagnostic(rapid.IntRange(0, 31).Draw(t, "diagnostic")), State: State(rapid.IntRange(0, 3).Draw(t, "state")),
			Poll: rapid.Bool().Draw(t, "P"), Final: rapid.Bool().Draw(t, "F"), Independent: rapid.Bool().Draw(t, "C"), Demand: rapid.Bool().Draw(t, "D"),
			Multiplier: uint8(rapid.IntRange(1, 255).Draw(t, "multiplier")), My: rapid.Uint32Min(1).Draw(t, "my"), Your: rapid.Uint32Min(1).Draw(t, "your"),
		}
		p.DesiredMinTx, p.RequiredMinRx, p.RequiredEchoRx = micro.Draw(t, "tx"), micro.Draw(t, "rx"), micro.Draw(t, "echo")
		return p
	})
}

func TestWhatIsAppendedIsParsed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := packets().Draw(t, "packet")
		got, err := Parse(p.Append([]byte{1, 2, 3})[3:])
		if err != nil || got != p {
			t.Fatalf("%v: got %+v, want %+v", err, got, p)
		}
	})
}

func TestAPacketOnTheWire(t *testing.T) {
	t.Parallel()
	p := Packet{
		Diagnostic: NeighborSignaledDown, State: Up, Poll: true, Multiplier: 3, My: 0x01020304, Your: 0x05060708,
		DesiredMinTx: time.Second, RequiredMinRx: 300 * time.Millisecond,
	}
	want := []byte{0x23, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x0f, 0x42, 0x40, 0, 0x04, 0x93, 0xe0, 0, 0, 0, 0}
	if got := p.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestBadPacketsAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	good := Packet{State: Up, Multiplier: 3, My: 1, Your: 2}.Append(nil)
	for name, x := range map[string]struct {
		spoil func([]byte) []byte
		want  error
	}{
		"good":                    {func(b []byte) []byte { return b }, nil},
		"longer than it says":     {func(b []byte) []byte { return append(b, 9, 9) }, nil},
		"empty":                   {func([]byte) []byte { return nil }, errShort},
		"cut off":                 {func(b []byte) []byte { return b[:23] }, errShort},
		"length below a header":   {func(b []byte) []byte { b[3] = 23; return b }, errShort},
		"length beyond the end":   {func(b []byte) []byte { b[3] = 25; return b }, errShort},
		"version 0":               {func(b []byte) []byte { b[0] &= 0x1f; return b }, errVersion},
		"multiplier 0":            {func(b []byte) []byte { b[2] = 0; return b }, errMultiplier},
		"multipoint":              {func(b []byte) []byte { b[1] |= bitMultipoint; return b }, errMultipoint},
		"my discriminator 0":      {func(b []byte) []byte { b[7] = 0; return b }, errDiscriminator},
		"your discriminator 0":    {func(b []byte) []byte { b[11] = 0; return b }, errNoSession},
		"authentication, unasked": {func(b []byte) []byte { b[1] |= bitAuthenticated; return b }, errAuthenticated},
	} {
		if _, err := Parse(x.spoil(bytes.Clone(good))); err != x.want {
			t.Errorf("%s: got %v, want %v", name, err, x.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Packet{State: Up, Multiplier: 3, My: 1, Your: 2}.Append(nil))
	f.Add([]byte{0x20, 0xc0, 3, 24})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Parse(p.Append(nil)); err != nil || again != p {
			t.Fatalf("%v: %+v became %+v", err, p, again)
		}
	})
}
