package membership

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestAMemberGoesOnUnderHostileTraffic(t *testing.T) {
	t.Parallel()
	at, k := hosts(3), key(1)
	a, _ := start(t, answered(at[0], k))
	b, _ := start(t, answered(at[1], k))
	a.SetPeers(at)
	b.SetPeers(at)
	await(t, a.Views(), true, "a", "b")
	await(t, b.Views(), true, "a", "b")

	cluster, random := clusterOf("test"), rand.New(rand.NewPCG(1, 2))
	gossipAt := netip.AddrPortFrom(at[0].Addresses[0], DefaultPort).String()
	beatsAt := netip.AddrPortFrom(at[0].Addresses[0], DefaultPort+1).String()
	bye := packet{kind: farewell, flags: left, boot: 99, seq: 1 << 60, from: "b"}
	frames := [][]byte{
		nil, []byte(version), make([]byte, 60000), bye.encode(cluster, key(2)), bye.encode(clusterOf("another"), k),
		bye.encode(cluster, k), // recorded from an earlier process
		packet{kind: heartbeat, boot: 99, seq: 1, from: "a"}.encode(cluster, k),
		packet{kind: suspect, boot: 99, seq: 2, from: "b", about: "a"}.encode(cluster, k),
		packet{kind: pong, flags: joined, boot: 99, seq: 3, nonce: 5, from: "nobody"}.encode(cluster, k),
	}
	before, other := a.Stats(), b.Stats()
	for _, to := range []string{beatsAt, gossipAt} {
		conn, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			f := frames[i%len(frames)]
			if i%3 == 0 {
				f = make([]byte, random.IntN(700))
				for j := range f {
					f[j] = byte(random.Uint32())
				}
			}
			_, _ = conn.Write(f)
		}
		_ = conn.Close()
	}
	var flood []net.Conn
	for i := range 300 {
		conn, err := net.DialTimeout("tcp", gossipAt, time.Second)
		if err != nil {
			continue
		}
		flood = append(flood, conn)
		if i%2 == 0 {
			_, _ = conn.Write(frames[i%len(frames)])
		}
	}
	// While the flood is there, a member joins.
	c, _ := start(t, answered(at[2], k))
	c.SetPeers(at)
	await(t, c.Views(), true, "a", "b", "c")
	await(t, a.Views(), true, "a", "b", "c")
	await(t, b.Views(), true, "a", "b", "c")
	for _, conn := range flood {
		_ = conn.Close()
	}
	after := a.Stats()
	if after.Rejected == before.Rejected || after.Deaths != before.Deaths || b.Stats().Deaths != other.Deaths {
		t.Errorf("before %+v, after %+v", before, after)
	}
	t.Logf("%d packets were rejected", after.Rejected-before.Rejected)
}
