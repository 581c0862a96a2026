//go:build e2e

package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
)

// attribute is a path attribute; its length is what it is.
func attribute(flags, code byte, value ...byte) []byte {
	return append([]byte{flags, code, byte(len(value))}, value...)
}

// body is an UPDATE (RFC 4271 section 4.3) with right lengths.
func body(withdrawn []byte, nlri []byte, attributes ...[]byte) []byte {
	all := slices.Concat(attributes...)
	b := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	b = append(b, withdrawn...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	return append(append(b, all...), nlri...)
}

// The attributes of a good route, for corpus to spoil.
func origin() []byte  { return attribute(0x40, 1, 0) }
func asPath() []byte  { return attribute(0x40, 2, 2, 1, 0, 0, 0xfc, 1) }
func nextHop() []byte { return attribute(0x40, 3, 10, 77, 1, 2) }

// broken are messages that no router should send: type and body, by what is wrong with them.
func broken() map[string][]byte {
	prefix := []byte{24, 203, 0, 113}
	good := func(more ...[]byte) []byte {
		return encode(updateMessage, body(nil, prefix, append([][]byte{origin(), asPath(), nextHop()}, more...)...))
	}
	instead := func(attributes ...[]byte) []byte { return encode(updateMessage, body(nil, prefix, attributes...)) }
	raw := func(b ...byte) []byte { return encode(updateMessage, b) }
	reach := func(afi uint16, safi byte, rest ...byte) []byte {
		return instead(origin(), asPath(), attribute(0x80, 14, append([]byte{byte(afi >> 8), byte(afi), safi}, rest...)...))
	}
	long := encode(keepaliveMessage, nil)
	binary.BigEndian.PutUint16(long[16:], 4097)
	unsynchronized := encode(keepaliveMessage, nil)
	unsynchronized[3] = 0
	return map[string][]byte{
		"body of no octet":                     raw(),
		"body of three octets":                 raw(0, 0, 0),
		"withdrawn routes beyond the end":      raw(0xff, 0xff, 0, 0),
		"attributes beyond the end":            raw(0, 0, 0xff, 0xff),
		"withdrawn prefix of 33 bits":          encode(updateMessage, body([]byte{33, 1, 2, 3, 4, 5}, nil)),
		"withdrawn prefix cut off":             encode(updateMessage, body([]byte{24, 1}, nil)),
		"prefix of 33 bits":                    encode(updateMessage, body(nil, []byte{33, 1, 2, 3, 4, 5}, origin(), asPath(), nextHop())),
		"prefix of 255 bits":                   encode(updateMessage, body(nil, []byte{255}, origin(), asPath(), nextHop())),
		"prefix cut off":                       encode(updateMessage, body(nil, []byte{32, 1}, origin(), asPath(), nextHop())),
		"attribute of one octet":               raw(0, 0, 0, 1, 0x40),
		"attribute of a length beyond the end": raw(0, 0, 0, 4, 0x50, 1, 0xff, 0xff),
		"ORIGIN 7":                             instead(attribute(0x40, 1, 7), asPath(), nextHop()),
		"ORIGIN of two octets":                 instead(attribute(0x40, 1, 0, 0), asPath(), nextHop()),
		"ORIGIN with the flags of another":     instead(attribute(0xc0, 1, 0), asPath(), nextHop()),
		"ORIGIN twice":                         good(origin()),
		"no ORIGIN":                            instead(asPath(), nextHop()),
		"no AS_PATH":                           instead(origin(), nextHop()),
		"no NEXT_HOP":                          instead(origin(), asPath()),
		"no attribute":                         instead(),
		"AS_PATH cut off":                      instead(origin(), attribute(0x40, 2, 2, 9, 0, 0, 0xfc, 1), nextHop()),
		"AS_PATH with a segment of type 9":     instead(origin(), attribute(0x40, 2, 9, 1, 0, 0, 0xfc, 1), nextHop()),
		"AS_PATH with an empty segment":        instead(origin(), attribute(0x40, 2, 2, 0), nextHop()),
		"AS_PATH of one octet":                 instead(origin(), attribute(0x40, 2, 2), nextHop()),
		"NEXT_HOP of three octets":             instead(origin(), asPath(), attribute(0x40, 3, 10, 77, 1)),
		"NEXT_HOP of no octet":                 instead(origin(), asPath(), attribute(0x40, 3)),
		"NEXT_HOP that is multicast":           instead(origin(), asPath(), attribute(0x40, 3, 224, 0, 0, 1)),
		"MED of three octets":                  good(attribute(0x80, 4, 0, 0, 1)),
		"LOCAL_PREF of no octet":               good(attribute(0x40, 5)),
		"ATOMIC_AGGREGATE of one octet":        good(attribute(0x40, 6, 0)),
		"AGGREGATOR of five octets":            good(attribute(0xc0, 7, 1, 2, 3, 4, 5)),
		"communities of five octets":           good(attribute(0xc0, 8, 1, 2, 3, 4, 5)),
		"ORIGINATOR_ID of one octet":           good(attribute(0x80, 9, 1)),
		"CLUSTER_LIST of three octets":         good(attribute(0x80, 10, 1, 2, 3)),
		"extended communities of seven octets": good(attribute(0xc0, 16, 1, 2, 3, 4, 5, 6, 7)),
		"large communities of eleven octets":   good(attribute(0xc0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
		"IPv6 extended communities cut off":    good(attribute(0xc0, 25, 0, 2)),
		"AIGP cut off":                         good(attribute(0x80, 26, 1, 0, 11)),
		"tunnel encapsulation cut off":         good(attribute(0xc0, 23, 0, 15, 0, 200, 1)),
		"PMSI tunnel of one octet":             good(attribute(0xc0, 22, 0)),
		"BGP-LS attribute cut off":             good(attribute(0x80, 29, 4, 7, 0, 200, 1)),
		"prefix SID cut off":                   good(attribute(0xc0, 40, 5, 0, 200, 1, 0)),
		"unknown well-known attribute":         good(attribute(0x40, 99, 1, 2, 3)),
		"MP_REACH_NLRI of three octets":        reach(2, 1),
		"MP_REACH_NLRI with a short next hop":  reach(2, 1, 16, 0xfd, 0x77),
		"MP_REACH_NLRI with a hop of 17":       reach(2, 1, append([]byte{17}, make([]byte, 18)...)...),
		"MP_REACH_NLRI with a prefix of 129":   reach(2, 1, append(append([]byte{16}, make([]byte, 17)...), 129, 1, 2)...),
		"MP_REACH_NLRI of an unknown family":   reach(9999, 99, 4, 1, 2, 3, 4, 0, 1),
		"EVPN route cut off":                   reach(25, 70, 4, 10, 77, 1, 2, 0, 2, 33, 0),
		"FlowSpec route cut off":               reach(1, 133, 0, 0, 0xf0, 1),
		"VPN route cut off":                    reach(1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 10, 77, 1, 2, 0, 88, 0),
		"BGP-LS route cut off":                 reach(16388, 71, 4, 10, 77, 1, 2, 0, 0, 1, 0, 200),
		"SR policy cut off":                    reach(1, 73, 4, 10, 77, 1, 2, 0, 96, 0),
		"MP_UNREACH_NLRI of two octets":        encode(updateMessage, body(nil, nil, attribute(0x80, 15, 0, 2))),
		"MP_UNREACH_NLRI with a prefix of 200": encode(updateMessage, body(nil, nil, attribute(0x80, 15, 0, 2, 1, 200, 1))),
		"message of 4,097 octets":              long,
		"marker that is not all ones":          unsynchronized,
		"message of type 9":                    encode(9, nil),
		"OPEN in a session":                    encode(openMessage, []byte{4, 0xfc, 1, 0, 9, 1, 2, 3, 4, 0}),
		"KEEPALIVE with a body":                encode(keepaliveMessage, []byte{1}),
		"NOTIFICATION without a body":          encode(notificationMessage, nil),
		"ROUTE-REFRESH of one octet":           encode(5, []byte{0}),
	}
}

// errGoesOn is how a connection ends that the router may end.
var errGoesOn = errors.New("the session goes on")

// say sends messages in a session, and waits for how the node takes them: two KEEPALIVEs afterwards mean that it goes on.
func say(messages ...[]byte) func(*exchange) error {
	return func(d *exchange) error {
		if err := d.hello(); err != nil {
			return fmt.Errorf("hello: %w", err)
		}
		for _, m := range messages {
			if _, err := d.Write(m); err != nil {
				break // the node has ended the session: it says why
			}
		}
		for keepalives := 0; keepalives < 2; {
			kind, _, err := d.receive()
			if err != nil {
				return err
			}
			if kind == keepaliveMessage {
				keepalives++
				_ = d.send(keepaliveMessage, nil)
			}
		}
		return errGoesOn
	}
}

// mutants are good UPDATEs with octets changed at random, always the same.
func mutants() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	for _, message := range broken() {
		all = append(all, message)
	}
	slices.SortFunc(all, func(a, b []byte) int { return slices.Compare(a, b) })
	for i := range 300 {
		m := slices.Clone(all[i%len(all)])
		for range 1 + random.IntN(4) {
			if len(m) > 19 {
				m[19+random.IntN(len(m)-19)] = byte(random.Uint32())
			}
		}
		all = append(all, m)
	}
	return all
}

// memory is how much of it the speaker uses.
func (n *node) memory() string {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.command.Process.Pid))
	must(n.t, err)
	return after(string(text), "VmRSS:")
}

// witness is a good peer, which must notice nothing of the others.
func (n *node) witness() *router {
	r := n.router(64600)
	r.start(r.node4, 64512)
	return r
}

// unharmed checks that the session with the good peer goes on, and that a new route reaches it.
func (n *node) unharmed(good *router, before bgp.PeerState, prefix string) {
	n.t.Helper()
	n.untouched(before)
	n.set(prefix, route(prefix, announce.Attributes{}, before.Name))
	good.waitRoute(prefix, fmt.Sprintf("via %s path 64512", good.node4))
	n.untouched(before)
}

func TestBrokenMessagesHarmNobodyElse(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good, bad := n.witness(), n.router(64513)
	peers := []announce.Peer{good.peer4(64512)}
	fakes := map[string]*fake{}
	add := func(what string, serve func(*exchange) error) {
		f := bad.fake(name.PeerName(what), byte(10+len(fakes)), serve)
		fakes[what] = f
		peers = append(peers, f.peer(64512))
	}
	for what, message := range broken() {
		add(what, say(message))
	}
	for some := range slices.Chunk(mutants(), 40) {
		add(fmt.Sprintf("mutants %d", len(fakes)), func(d *exchange) error { return say(some[(d.number-1)%len(some):]...)(d) })
	}
	n.setPeers(peers[0])
	n.sync()
	n.waitState(peers[0].Name, bgp.Established)
	before := n.peer(peers[0].Name)
	n.setPeers(peers...)
	for what, f := range fakes {
		eventually(t, what, func() string { return fmt.Sprint(len(f.endings()) > 0) }, "true")
	}
	n.unharmed(good, before, "192.0.2.1/32")
	var table []string
	for what, f := range fakes {
		table = append(table, fmt.Sprintf("%-40s %s", what, strings.Join(f.endings(), ", ")))
	}
	slices.Sort(table)
	t.Logf("how the node takes it (memory %s):\n%s", n.memory(), strings.Join(table, "\n"))
}

func TestPeersThatGetNowhereHarmNobodyElse(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good, bad, hole := n.witness(), n.router(64513), n.router(64514)
	ip(t, "-n", n.namespace, "neighbor", "add", hole.own4.String(), "lladdr", "02:00:00:00:00:99", "dev", hole.device)
	closer := bad.fake("closes at OPEN", 10, func(d *exchange) error { _, _, err := d.receive(); return err })
	garbage := bad.fake("garbage", 11, func(d *exchange) error {
		noise := make([]byte, 5000)
		random := rand.New(rand.NewPCG(3, 4))
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		_, _ = d.Write(noise)
		for {
			if _, _, err := d.receive(); err != nil {
				return err
			}
		}
	})
	mute := bad.fake("says OPEN alone", 12, func(d *exchange) error {
		_ = d.send(openMessage, d.ownOpen())
		for {
			if _, _, err := d.receive(); err != nil {
				return err
			}
		}
	})
	refuser := bad.fake("refuses", 13, func(d *exchange) error {
		_, _, err := d.receive()
		_ = d.send(notificationMessage, []byte{2, 2})
		return err
	})
	flapper := bad.fake("ends each session", 14, func(d *exchange) error {
		err := d.hello()
		_ = d.send(notificationMessage, []byte{6, 4})
		return err
	})
	fakes := []*fake{closer, garbage, mute, refuser, flapper}
	peers := []announce.Peer{good.peer4(64512), hole.peer4(64512)}
	for _, f := range fakes {
		p := f.peer(64512)
		p.Hold = 3 * time.Second // one of them is waited for so long, twice
		peers = append(peers, p)
	}
	n.setPeers(peers[0])
	n.sync()
	n.waitState(peers[0].Name, bgp.Established)
	before := n.peer(peers[0].Name)
	n.setPeers(peers...)
	for _, f := range fakes {
		eventually(t, string(f.name), func() string { return fmt.Sprint(len(f.endings()) > 1) }, "true")
	}
	n.waitError("closes at OPEN", "peer closed the connection before its OPEN")
	n.waitError("garbage", "message header error")
	n.waitError("says OPEN alone", "peer sent no KEEPALIVE after its OPEN")
	n.waitError("refuses", "peer refused our OPEN")
	eventually(t, "flaps", func() string { return fmt.Sprint(n.peer("ends each session").Flaps > 1) }, "true")
	if state := n.peer(peers[1].Name); state.State != bgp.Active {
		t.Errorf("black hole: %+v", state)
	}
	n.unharmed(good, before, "192.0.2.1/32")
}

// table sends a number of routes of each family, and stays.
func table(ipv4, ipv6 int) func(*exchange) error {
	return func(d *exchange) error {
		if err := d.hello(); err != nil {
			return err
		}
		for messages := range slices.Chunk(tableOf(d, ipv4, ipv6), 100) {
			if _, err := d.Write(slices.Concat(messages...)); err != nil {
				break
			}
		}
		for {
			kind, _, err := d.receive()
			if err != nil {
				return err
			}
			if kind == keepaliveMessage {
				_ = d.send(keepaliveMessage, nil)
			}
		}
	}
}

// tableOf are the UPDATEs of so many host routes, all with the fake as next hop.
func tableOf(d *exchange, ipv4, ipv6 int) [][]byte {
	const some = 200
	hop, hop6 := d.address.As4(), netip.MustParseAddr("fd77::99").As16()
	var all [][]byte
	for first := 0; first < ipv4; first += some {
		var nlri []byte
		for i := first; i < min(first+some, ipv4); i++ {
			nlri = append(nlri, 32, 30, byte(i>>16), byte(i>>8), byte(i))
		}
		all = append(all, encode(updateMessage, body(nil, nlri, origin(), asPath(), attribute(0x40, 3, hop[:]...))))
	}
	for first := 0; first < ipv6; first += some {
		value := append(append([]byte{0, 2, 1, 16}, hop6[:]...), 0)
		for i := first; i < min(first+some, ipv6); i++ {
			value = append(value, 128, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(i>>16), byte(i>>8), byte(i))
		}
		reach := append([]byte{0x90, 14, byte(len(value) >> 8), byte(len(value))}, value...)
		all = append(all, encode(updateMessage, body(nil, nil, origin(), asPath(), reach)))
	}
	return all
}

// A router that sends a whole table by mistake costs memory, not sessions; one that sends more than that is left alone.
func TestAFullTableHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good, bad := n.witness(), n.router(64513)
	most, more := bad.fake("most", 10, table(100_000, 100_000)), bad.fake("more", 11, table(200_000, 0))
	peers := []announce.Peer{good.peer4(64512), most.peer(64512), more.peer(64512)}
	n.setPeers(peers[0])
	n.sync()
	n.waitState(peers[0].Name, bgp.Established)
	before, idle := n.peer(peers[0].Name), n.memory()
	n.setPeers(peers...)
	n.waitState("most", bgp.Established)
	n.waitError("more", "peer sent more than 100000 routes of a family, none of which is wanted: have it send none")
	n.unharmed(good, before, "192.0.2.1/32")
	t.Logf("memory: %s before, %s with 200,000 routes of one peer and after 100,000 of another", idle, n.memory())
	if state := n.peer("most"); state.State != bgp.Established || state.Flaps > 0 {
		t.Errorf("a peer with 100,000 routes of each family: %+v", state)
	}
	if got := good.prefixes(); got != "192.0.2.1/32" {
		t.Errorf("the good peer got %.200s", got)
	}
}
