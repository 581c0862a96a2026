//go:build e2e

package wire

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/layer2"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/ndp"
)

func TestHostsFindADeputysAddressAtTheOwner(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

// TestAnAddressThatAFellowNodeHasIsAskedForWithoutABroadcast is what a node of ours meets that
// another load balancer served before, or whose kernel answers.
func TestAnAddressThatAFellowNodeHasIsAskedForWithoutABroadcast(t *testing.T) {
	t.Parallel()
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.SetNeighbors(map[link.MAC]name.NodeName{hardware(macForeign): "other"})
		l.hold("add", address)
		a.set("web", asFirst, address)
		want := layer2.Conflict{
			Address: netip.MustParseAddr(address), Interface: "eth0",
			MAC: hardware(macForeign), Node: "other", Probe: true,
		}
		a.awaitConflicts(want)
		asked := 0
		everything, atNode := l.listen("peer"), l.listen("foreign")
		for _, frame := range everything.frames(time.Second) {
			if speaksOf(frame, address) {
				t.Errorf("the peer hears %x", frame)
			}
		}
		for _, frame := range atNode.frames(time.Millisecond) {
			if speaksOf(frame, address) && net.HardwareAddr(frame[6:12]).String() == macA {
				asked++
			}
		}
		if asked < 2 || asked > 6 {
			t.Errorf("the fellow node is asked %d times in a second, want one each 200 ms", asked)
		}
		l.hold("del", address)
		l.finds("peer", address, macA)
		want.Over = true
		a.awaitConflicts(want)
	})
}

func TestAnAddressThatNobodyHasIsAnsweredAfterDetection(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

func TestAFellowNodeThatTakesAnAddressIsNamedAndWardedOff(t *testing.T) {
	t.Parallel()
	inBothFamilies(t, func(t *testing.T, address string) {
		l, a := trio(t)
		a.SetRefreshInterval(0)
		a.SetNeighbors(map[link.MAC]name.NodeName{hardware(macForeign): "other"})
		a.set("web", asOwner, address)
		l.finds("peer", address, macA)
		l.claim("foreign", address, macForeign)
		want := layer2.Conflict{
			Address: netip.MustParseAddr(address), Interface: "eth0", MAC: hardware(macForeign), Node: "other",
		}
		a.awaitConflicts(want)
		eventually(t, func() string { // without the peer asking
			if got := l.output("peer", "ip", "neigh", "show", "to", address); !strings.Contains(got, macA) {
				return "after the defense, the peer knows " + got
			}
			return ""
		})
		want.Over = true
		a.awaitConflicts(want) // since it does not answer
	})
}

// TestAnotherNodeWhoseKernelAnswersLaterIsReportedWhileItDoes is what kube-proxy does in IPVS mode
// without strictARP: the address is on an interface of all nodes a moment after the takeover. In
// IPv4 any interface will do; in IPv6 the kernel answers only for those of the interface asked.
func TestAnotherNodeWhoseKernelAnswersLaterIsReportedWhileItDoes(t *testing.T) {
	t.Parallel()
	l, a := trio(t)
	a.SetNeighbors(map[link.MAC]name.NodeName{hardware(macForeign): "other"})
	a.SetRefreshInterval(time.Second)
	a.set("web", asOwner, vip, vip6)
	l.finds("peer", vip, macA)
	l.finds("peer", vip6, macA)
	everything := l.listen("peer")
	l.in("foreign", "sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.eth0.arp_ignore=0", "ip addr add "+vip+"/32 dev lo")
	l.hold("add", vip6)
	var want []layer2.Conflict
	for _, address := range []string{vip, vip6} {
		want = append(want, layer2.Conflict{
			Address: netip.MustParseAddr(address), Interface: "eth0", MAC: hardware(macForeign), Node: "other",
		})
	}
	a.awaitConflicts(want...)
	for _, frame := range everything.frames(2 * time.Second) { // some checks more
		if net.HardwareAddr(frame[6:12]).String() == macForeign && (speaksOf(frame, vip) || speaksOf(frame, vip6)) {
			t.Errorf("the peer is led to the other node by %x", frame)
		}
	}
	select {
	case list := <-a.Conflicts():
		t.Errorf("told of %+v", list)
	default:
	}
	l.in("foreign", "ip addr del "+vip+"/32 dev lo")
	l.hold("del", vip6)
	for i := range want {
		want[i].Over = true
	}
	a.awaitConflictsFor(time.Minute+patience, want...) // quiet for 60 s
	l.finds("peer", vip, macA)
	l.finds("peer", vip6, macA)
}

func TestAnotherHostsDuplicateAddressDetectionFindsOurs(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
