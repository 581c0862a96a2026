//go:build e2e

package wire

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	mdarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/ndp"
)

const (
	macForeign = "02:00:00:00:aa:66"
	vip6       = "2001:db8::10"
)

// announcer is an Announcer in this process whose sockets are a host's.
type announcer struct {
	*layer2.Announcer
	t *testing.T
}

// announcer starts an Announcer in a host, and ends it with the test.
func (l *lab) announcer(host string) *announcer {
	l.t.Helper()
	a := &announcer{Announcer: layer2.New(layer2.Config{Log: logr.Discard()}), t: l.t}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.inside(host, func() error {
			if err := a.look(); err != nil {
				return err
			}
			return a.Run(ctx)
		})
	}()
	l.t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			l.t.Error("Run does not end")
		}
	})
	return a
}

// look tells the Announcer of eth0 of the host that the calling thread is in.
func (a *announcer) look() error {
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	a.SetLinks(link.Snapshot{{Name: "eth0", Index: i.Index, MAC: link.MAC(i.HardwareAddr), Kind: "veth", Up: true}})
	return nil
}

// set makes addresses the ones that service announces on eth0, changed as change says.
func (a *announcer) set(service string, change func(*announce.Layer2), addresses ...string) {
	var list []announce.Layer2
	for _, x := range addresses {
		one := announce.Layer2{Address: netip.MustParseAddr(x), Interfaces: []string{"eth0"}}
		change(&one)
		list = append(list, one)
	}
	a.Set(name.ServiceKey{Namespace: "test", Name: service}, list)
}

func asOwner(*announce.Layer2)   {}
func asFirst(l *announce.Layer2) { l.First = true }

func asDeputyOf(mac string) func(*announce.Layer2) {
	return func(l *announce.Layer2) { l.For = hardware(mac) }
}

func hardware(text string) link.MAC {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		panic(err)
	}
	return link.MAC(b)
}

// awaitConflicts reads conflicts until the list is the one that is wanted.
func (a *announcer) awaitConflicts(want ...layer2.Conflict) {
	a.t.Helper()
	limit := time.After(patience)
	var last []layer2.Conflict
	for {
		select {
		case last = <-a.Conflicts():
			if slices.Equal(last, want) {
				return
			}
		case <-limit:
			a.t.Fatalf("told of %+v, want %+v", last, want)
		}
	}
}

// stats returns what is known of eth0.
func (a *announcer) stats() layer2.Stats {
	for _, s := range a.Stats() {
		return s
	}
	return layer2.Stats{}
}

// resolve makes a host's kernel find an address anew, and returns the hardware address that it
// finds, or an empty string.
func (l *lab) resolve(host, address string) string {
	l.output(host, "ip", "neigh", "flush", "to", address, "dev", "eth0")
	l.output(host, "bash", "-c", "echo > /dev/udp/"+address+"/9")
	for range 20 {
		fields := strings.Fields(l.output(host, "ip", "neigh", "show", "to", address, "dev", "eth0"))
		if i := slices.Index(fields, "lladdr"); i >= 0 {
			return fields[i+1]
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// finds waits until a host's kernel finds an address at mac, or nowhere.
func (l *lab) finds(host, address, mac string) {
	l.t.Helper()
	eventually(l.t, func() string {
		if got := l.resolve(host, address); got != mac {
			return fmt.Sprintf("%s finds %s at %q, want %q", host, address, got, mac)
		}
		return ""
	})
}

// trio makes three hosts: a, a node whose eth0 has no address but a link-local one; peer; and
// foreign, which may take addresses that are not its own.
func trio(t *testing.T) (*lab, *announcer) {
	t.Helper()
	l := newLab(t)
	l.host("a", macA)
	l.host("peer", macPeer, "192.0.2.200/24")
	l.host("foreign", macForeign, "192.0.2.66/24")
	l.in("peer", "ip addr add 2001:db8::200/64 dev eth0 nodad")
	l.in("foreign", "ip addr add 2001:db8::66/64 dev eth0 nodad")
	return l, l.announcer("a")
}

// hold gives the foreign host an address of ours, or takes it away.
func (l *lab) hold(does, address string) {
	l.t.Helper()
	length := "/24"
	if strings.Contains(address, ":") {
		length = "/64"
		if does == "add" {
			length += " nodad"
		}
	}
	prefix, option, _ := strings.Cut(address+length, " ")
	l.in("foreign", strings.TrimSpace(fmt.Sprintf("ip addr %s %s dev eth0 %s", does, prefix, option)))
}

func inBothFamilies(t *testing.T, test func(t *testing.T, address string)) {
	for family, address := range map[string]string{"IPv4": vip, "IPv6": vip6} {
		t.Run(family, func(t *testing.T) { test(t, address) })
	}
}

func TestHostsFindADeputysAddressAtTheOwner(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		everything := l.listen("peer")
		a.set("web", asDeputyOf(macB), address)
		l.finds("peer", address, macB)
		a.set("web", asDeputyOf(macForeign), address)
		l.finds("peer", address, macForeign)
		if s := a.stats(); s.Announcements != 0 || s.Deputized != 1 || s.Replies == 0 {
			t.Errorf("counted %+v", s)
		}
		for _, frame := range everything.frames(500 * time.Millisecond) {
			if isSpoken := frame[12] == 0x08 || frame[20] == 58 && frame[54] >= 135; !isSpoken {
				continue // not of ARP or neighbor discovery
			}
			source, destination := net.HardwareAddr(frame[6:12]).String(), net.HardwareAddr(frame[:6]).String()
			if source == macB || source == macA && destination != macPeer && speaksOf(frame, address) {
				t.Errorf("%s says to %s: %x", source, destination, frame)
			}
		}
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		if s := a.stats(); s.Announcements == 0 || s.Deputized != 0 || s.Takeovers != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

func TestADeputysAnswerComesFromItselfAndNamesTheOwner(t *testing.T) {
	l, a := trio(t)
	a.set("web", asDeputyOf(macB), vip)
	l.finds("peer", vip, macB)
	s := l.sniff("peer")
	for _, sender := range []netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.IPv4Unspecified()} {
		s.drain()
		s.request("ff:ff:ff:ff:ff:ff", sender, netip.MustParseAddr(vip))
		if !s.sees(patience, func(e ethernet.Frame, p mdarp.Packet) bool {
			return p.Operation == mdarp.OperationReply && e.Destination.String() == macPeer && e.Source.String() == macA &&
				p.SenderHardwareAddr.String() == macB && p.SenderIP.String() == vip && p.TargetIP == sender
		}) {
			t.Errorf("a request from %v is not answered so", sender)
		}
	}
}

func TestAnAddressThatAHostHasIsAnsweredOnlyOnceItIsFree(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		l.hold("add", address)
		a.set("web", asFirst, address)
		want := layer2.Conflict{Address: netip.MustParseAddr(address), Interface: "eth0", MAC: hardware(macForeign), Probe: true}
		a.awaitConflicts(want)
		l.finds("peer", address, macForeign)
		if s := a.stats(); s.Requests != 0 || s.Announcements != 0 || s.Conflicts != 1 {
			t.Errorf("counted %+v", s)
		}
		l.hold("del", address)
		want.Over = true
		a.awaitConflicts(want)
		l.finds("peer", address, macA)
	})
}

func TestAnAddressThatNobodyHasIsAnsweredAfterDetection(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.set("web", asFirst, address)
		l.finds("peer", address, macA)
		select {
		case list := <-a.Conflicts():
			t.Errorf("told of %+v", list)
		default:
		}
	})
}

func TestAHostThatTakesAnAddressLaterIsReportedAndWardedOff(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.SetNeighbors(map[link.MAC]name.NodeName{hardware(macB): "b"})
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		l.hold("add", address)
		l.claim("foreign", address, macForeign)
		want := layer2.Conflict{Address: netip.MustParseAddr(address), Interface: "eth0", MAC: hardware(macForeign)}
		a.awaitConflicts(want)
		eventually(t, func() string { // without the peer asking
			if got := l.output("peer", "ip", "neigh", "show", "to", address); !strings.Contains(got, macA) {
				return "after the defense, the peer knows " + got
			}
			return ""
		})
		l.hold("del", address)
		l.finds("peer", address, macA)
	})
}

func TestAFellowNodeThatTakesAnAddressIsNamed(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.SetRefreshInterval(0)
		a.SetNeighbors(map[link.MAC]name.NodeName{hardware(macForeign): "other"})
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		l.claim("foreign", address, macForeign)
		a.awaitConflicts(layer2.Conflict{Address: netip.MustParseAddr(address), Interface: "eth0", MAC: hardware(macForeign), Node: "other"})
	})
}

func TestAnotherHostsDuplicateAddressDetectionFindsOurs(t *testing.T) {
	l, a := trio(t)
	a.set("web", asOwner, vip6)
	l.finds("peer", vip6, macA)
	l.in("foreign", "ip addr add "+vip6+"/64 dev eth0")
	eventually(t, func() string {
		if got := l.output("foreign", "ip", "addr", "show", "dev", "eth0"); !strings.Contains(got, "dadfailed") {
			return got
		}
		return ""
	})
	l.finds("peer", vip6, macA)
}

func TestTwoThousandIPv6AddressesAreAnnouncedAndFound(t *testing.T) {
	l, a := trio(t)
	began := time.Now()
	address := netip.MustParseAddr("2001:db8:0:0:1::")
	var all []string
	for range 2000 {
		address = address.Next()
		all = append(all, address.String())
	}
	for i, x := range all {
		a.set(fmt.Sprint(i), asOwner, x)
	}
	eventually(t, func() string {
		if s := a.stats(); s.Addresses != len(all) || s.Announcements < uint64(len(all)) || s.Problem != "" {
			return fmt.Sprintf("counted %+v", s)
		}
		return ""
	})
	t.Logf("announced after %v", time.Since(began))
	for _, x := range []string{all[0], all[999], all[1999]} {
		l.finds("peer", x, macA)
	}
}

func TestAnInterfaceThatFlapsOrIsMadeAnewIsServedAgain(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		l.in("a", "ip link set eth0 down")
		l.in("a", "ip link set eth0 up") // too fast for a snapshot
		l.finds("peer", address, macA)
		l.in("lan", "ip link del p-a")
		a.SetLinks(nil)
		l.finds("peer", address, "")
		l.plug("a", macA)
		l.inside("a", func() error { return a.look() })
		l.finds("peer", address, macA)
		if s := a.stats(); s.Takeovers != 1 || !s.Open || s.Problem != "" {
			t.Errorf("counted %+v", s)
		}
	})
}

// TestHostileFramesAreNotAnswered sends frames that are wrong in one place, and random ones.
func TestHostileFramesAreNotAnswered(t *testing.T) {
	l, a := trio(t)
	a.set("web", asOwner, vip, vip6)
	l.finds("peer", vip, macA)
	l.finds("peer", vip6, macA)
	everything := l.listen("foreign")
	before := a.stats()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		everything.send(hostile(i, random))
		if i%64 == 0 {
			time.Sleep(time.Millisecond) // so that the receiver reads most of them
		}
	}
	for _, frame := range everything.frames(500 * time.Millisecond) {
		if net.HardwareAddr(frame[6:12]).String() == macA && (speaksOf(frame, vip) || speaksOf(frame, vip6)) && frame[0]&1 == 0 {
			t.Fatalf("answered with %x", frame)
		}
	}
	if s := a.stats(); s.Requests != before.Requests || s.Replies != before.Replies || s.Conflicts != 0 || !s.Open {
		t.Errorf("counted %+v, before %+v", s, before)
	}
	l.finds("foreign", vip, macA)
	l.finds("foreign", vip6, macA)
}

// hostile returns a frame from the foreign host that deserves no answer and shows no conflict.
func hostile(i int, random *rand.Rand) []byte {
	const hop, length, hardwareLen, operation = 21, 18, 18, 20
	request := arp.Probe(netip.MustParseAddr(vip), hardware(macForeign))
	solicitation := ndp.Probe(netip.MustParseAddr(vip6), hardware(macForeign), ndp.Nonce{1})
	four, six := request[:], solicitation[:]
	noise := func(b []byte) {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}
	switch i % 12 {
	case 0: // noise behind a header
		noise(four[14:])
		four[14] |= 0x80
		return four
	case 1:
		noise(six[54:])
		return six
	case 2:
		return four[:15+random.IntN(27)]
	case 3:
		return six[:15+random.IntN(71)]
	case 4:
		four[operation+1] = byte(3 + random.IntN(250))
	case 5:
		four[hardwareLen] = byte(7 + random.IntN(200))
	case 6: // no single host
		copy(four[22:28], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	case 7: // nobody
		copy(four[22:28], make([]byte, 6))
	case 8: // forwarded by a router
		six[hop] = byte(random.IntN(255))
	case 9: // a length that lies
		six[length+1] = byte(33 + random.IntN(200))
	case 10: // an option that never ends
		six[79] = 0
	case 11: // another address
		four[41] ^= byte(1 + random.IntN(255))
	}
	if i%12 < 8 || i%12 == 11 {
		return four
	}
	return six
}

// speaksOf says whether a frame names an address.
func speaksOf(frame []byte, address string) bool {
	return strings.Contains(string(frame), string(netip.MustParseAddr(address).AsSlice()))
}

// claim sends a frame by which a host shows that it uses an address.
func (l *lab) claim(host, address, mac string) {
	l.t.Helper()
	e := l.listen(host)
	if a := netip.MustParseAddr(address); a.Is4() {
		f := arp.AnnounceRequest(a, hardware(mac))
		e.send(f[:])
	} else {
		f := ndp.Announce(a, hardware(mac))
		e.send(f[:])
	}
}

// ear hears and sends everything on a host's eth0.
type ear struct {
	t    *testing.T
	conn *packet.Conn
}

func (l *lab) listen(host string) *ear {
	l.t.Helper()
	e := &ear{t: l.t}
	l.inside(host, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		e.conn, err = packet.Listen(eth0, packet.Raw, 0x0003, nil) // ETH_P_ALL
		return err
	})
	l.t.Cleanup(func() { e.conn.Close() })
	return e
}

func (e *ear) send(frame []byte) {
	e.t.Helper()
	if _, err := e.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
		e.t.Fatal(err)
	}
}

// frames returns what has arrived and arrives within a time.
func (e *ear) frames(within time.Duration) [][]byte {
	e.t.Helper()
	if err := e.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		e.t.Fatal(err)
	}
	var list [][]byte
	buffer := make([]byte, 1500)
	for {
		n, _, err := e.conn.ReadFrom(buffer)
		if err != nil {
			return list
		}
		if n >= 60 || n >= 42 && buffer[12] == 0x08 {
			list = append(list, append([]byte(nil), buffer[:n]...))
		}
	}
}
