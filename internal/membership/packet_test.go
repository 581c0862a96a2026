package membership

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/name"
)

func packets() *rapid.Generator[packet] {
	return rapid.Custom(func(t *rapid.T) packet {
		node := func(least int, label string) name.NodeName {
			return name.NodeName(rapid.SliceOfN(rapid.Byte(), least, 255).Draw(t, label))
		}
		return packet{
			kind: kind(rapid.IntRange(int(heartbeat), int(farewell)).Draw(t, "kind")), flags: flags(rapid.Byte().Draw(t, "flags")),
			boot: rapid.Uint64().Draw(t, "boot"), seq: rapid.Uint64().Draw(t, "seq"), nonce: rapid.Uint64().Draw(t, "nonce"),
			from: node(1, "from"), about: node(0, "about"),
		}
	})
}

func TestAPacketReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, cluster := packets().Draw(t, "packet"), rapid.Uint64().Draw(t, "cluster")
		b := p.encode(cluster, key(2))
		if got, err := decode(b, cluster, []Key{key(1), key(2)}); err != nil || got != p || len(b) > packetMax {
			t.Fatalf("decode() = %+v, %v", got, err)
		}
	})
}

func TestAPacketThatIsNotWholeAndAuthenticIsRefused(t *testing.T) {
	t.Parallel()
	p := packet{kind: pong, flags: joined, boot: 1, seq: 2, nonce: 3, from: "a", about: "b"}
	good := p.encode(4, key(1))
	keys := []Key{key(1)}
	if _, err := decode(good, 4, keys); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := decode(good[:i], 4, keys); err == nil {
			t.Errorf("the first %d bytes are accepted", i)
		}
		bad := bytes.Clone(good)
		if bad[i] ^= 1; !refusedPacket(bad, 4, keys) {
			t.Errorf("a wrong bit in byte %d is accepted", i)
		}
	}
	sign := func(change func([]byte) []byte) []byte {
		b := change(bytes.Clone(good[:len(good)-tagLen]))
		return append(b, tag(b, key(1))...)
	}
	tests := []struct {
		name    string
		b       []byte
		cluster uint64
		keys    []Key
	}{
		{"with another key", good, 4, []Key{key(2), key(3)}},
		{"without a key", good, 4, nil},
		{"of another cluster", good, 5, keys},
		{"with a byte at its end", append(bytes.Clone(good), 0), 4, keys},
		{"signed, of kind 0", sign(func(b []byte) []byte { b[4] = 0; return b }), 4, keys},
		{"signed, of a kind to come", sign(func(b []byte) []byte { b[4] = byte(veto) + 1; return b }), 4, keys},
		{"signed, of another version", sign(func(b []byte) []byte { b[3]++; return b }), 4, keys},
		{"signed, from nobody", packet{kind: ping, about: "b"}.encode(4, key(1)), 4, keys},
		{"signed, with a name that is longer than the packet", sign(func(b []byte) []byte { b[fixedLen] = 255; return b }), 4, keys},
		{"signed, with a byte too many", sign(func(b []byte) []byte { return append(b, 0) }), 4, keys},
		{"signed, without the second name", sign(func(b []byte) []byte { return b[:fixedLen+2] }), 4, keys},
		{"longer than the longest", sign(func(b []byte) []byte { return append(b, make([]byte, packetMax)...) }), 4, keys},
	}
	for _, tt := range tests {
		if !refusedPacket(tt.b, tt.cluster, tt.keys) {
			t.Errorf("a packet %s is accepted", tt.name)
		}
	}
}

func refusedPacket(b []byte, cluster uint64, keys []Key) bool {
	p, err := decode(b, cluster, keys)
	return err != nil && p == packet{}
}

func TestClustersAreToldApart(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	for _, label := range []string{"", "a", "b", "A", "cluster a", strings.Repeat("x", 255)} {
		c := clusterOf(label)
		if other, met := seen[c]; met || c != clusterOf(label) {
			t.Errorf("%q and %q are one", label, other)
		}
		seen[c] = label
	}
}

func FuzzDecodePacket(f *testing.F) {
	cluster := clusterOf("test")
	f.Add(packet{kind: heartbeat, boot: 1, seq: 2, from: "a"}.encode(cluster, key(1)))
	f.Add(packet{kind: suspect, flags: joined | watched, from: "a", about: "b"}.encode(cluster, key(1)))
	f.Add(packet{kind: suspect, from: name.NodeName(strings.Repeat("a", 255)), about: name.NodeName(strings.Repeat("b", 255))}.encode(cluster, key(1)))
	f.Add([]byte(version))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decode(b, cluster, []Key{key(2)}); err == nil {
			t.Fatalf("%+v is accepted without its key", p)
		}
		// What has the key may be hostile too.
		signed := append(slices.Clone(b), tag(b, key(1))...)
		if len(b) >= 14 {
			copy(signed, version)
			copy(signed[6:14], packet{}.encode(cluster, key(1))[6:14])
			signed = append(signed[:len(b)], tag(signed[:len(b)], key(1))...)
		}
		p, err := decode(signed, cluster, []Key{key(1)})
		if err != nil {
			return
		}
		if !bytes.Equal(p.encode(cluster, key(1)), signed) {
			t.Fatalf("%+v is not written as it was read", p)
		}
	})
}
