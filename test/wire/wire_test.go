//go:build e2e

// Package wire tests layer 2 with real packets, between network namespaces that it makes and
// removes. It needs root, iproute2 and arping.
package wire

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"github.com/ballast-lb/ballast/internal/link"
)

const (
	macA    = "02:00:00:00:aa:01"
	macB    = "02:00:00:00:aa:02"
	macPeer = "02:00:00:00:aa:09"
	vip     = "192.0.2.10"
	vip2    = "192.0.2.11"
)

// pair makes two hosts: a, a node whose eth0 has no IPv4 address at all, and peer.
func pair(t *testing.T) (*lab, *child) {
	t.Helper()
	l := newLab(t)
	l.host("a", macA)
	l.host("peer", macPeer, "192.0.2.200/24")
	return l, l.start("a")
}

// answers waits until who asks for address is answered by mac, or by nobody.
func (l *lab) answers(address, mac string) {
	l.t.Helper()
	eventually(l.t, func() string {
		if got := l.whoHas("peer", address); got != mac {
			return fmt.Sprintf("%s is at %q, want %q", address, got, mac)
		}
		return ""
	})
}

// silent fails if anybody answers for address.
func (l *lab) silent(address string) {
	l.t.Helper()
	if got := l.whoHas("peer", address); got != "" {
		l.t.Errorf("%s is answered by %s", address, got)
	}
}

func TestOnlyAddressesThatAreSetAreAnswered(t *testing.T) {
	l, a := pair(t)
	l.silent(vip)
	a.set("web", vip)
	l.answers(vip, macA)
	l.silent(vip2)
	a.set("web", vip, vip2)
	a.set("mail", vip)
	l.answers(vip2, macA)
	a.set("web")
	l.answers(vip2, "")
	l.answers(vip, macA) // mail shares it
	a.set("mail")
	l.answers(vip, "")
	a.send(order{Stats: true})
	e := a.await("what it counted", func(e event) bool { return e.Stats != nil })
	s := e.Stats[0]
	if s.Interface != "eth0" || s.Replies < 3 || s.Requests != s.Replies || s.Announcements < 4 || s.Addresses != 0 || s.Open {
		t.Errorf("counted %+v", s)
	}
}

func TestUnicastRequestsAndProbesAreAnsweredAndFramesForOthersAreNot(t *testing.T) {
	l, a := pair(t)
	a.set("web", vip)
	l.answers(vip, macA)
	l.in("a", "ip link set eth0 promisc on")
	s := l.sniff("peer")
	ask := func(destination string, sender netip.Addr) bool {
		t.Helper()
		s.drain()
		s.request(destination, sender, netip.MustParseAddr(vip))
		return s.sees(300*time.Millisecond, func(e ethernet.Frame, p arp.Packet) bool {
			return p.Operation == arp.OperationReply && e.Destination.String() == macPeer &&
				e.Source.String() == macA && p.SenderHardwareAddr.String() == macA && p.SenderIP.String() == vip && p.TargetIP == sender
		})
	}
	host := netip.MustParseAddr("192.0.2.200")
	if !ask(macA, host) {
		t.Error("a unicast request is not answered")
	}
	if !ask("ff:ff:ff:ff:ff:ff", netip.IPv4Unspecified()) {
		t.Error("a probe is not answered")
	}
	if ask("02:00:00:00:bb:bb", host) {
		t.Error("a request to another host is answered")
	}
}

func TestATakeoverIsAnnouncedInBothFormsSeveralTimes(t *testing.T) {
	l, a := pair(t)
	s := l.sniff("peer")
	began := time.Now()
	a.set("web", vip)
	var requests, replies []time.Duration // the first announcement is a request alone
	s.sees(patience, func(e ethernet.Frame, p arp.Packet) bool {
		if p.SenderIP.String() != vip || p.TargetIP.String() != vip {
			return false
		}
		if e.Destination.String() != "ff:ff:ff:ff:ff:ff" || e.Source.String() != macA || p.SenderHardwareAddr.String() != macA {
			t.Errorf("announced %+v in %+v", p, e)
		}
		if p.Operation == arp.OperationRequest {
			requests = append(requests, time.Since(began).Round(10*time.Millisecond))
		} else {
			replies = append(replies, time.Since(began).Round(10*time.Millisecond))
		}
		return len(requests) == 6 && len(replies) == 5
	})
	if len(requests) != 6 || len(replies) != 5 {
		t.Errorf("requests after %v, replies after %v", requests, replies)
	}
	t.Logf("requests after %v", requests)
}

func TestHostsFollowATakeoverByAnnouncementsAlone(t *testing.T) {
	l, a := pair(t)
	l.host("b", macB)
	b := l.start("b")
	a.set("web", vip)
	l.answers(vip, macA)
	neighbor := func() string {
		for _, line := range strings.Split(l.output("peer", "ip", "neigh", "show", vip), "\n") {
			if fields := strings.Fields(line); len(fields) > 4 {
				return fields[4]
			}
		}
		return ""
	}
	l.output("peer", "bash", "-c", "echo > /dev/udp/"+vip+"/9")
	eventually(t, func() string {
		if got := neighbor(); got != macA {
			return "the peer knows " + got
		}
		return ""
	})
	a.set("web")
	b.set("web", vip)
	eventually(t, func() string { // without the peer asking
		if got := neighbor(); got != macB {
			return "the peer still knows " + got
		}
		return ""
	})
}

func TestAnInterfaceIsFollowedDownAndUpAndWhenItIsMadeAnew(t *testing.T) {
	l, a := pair(t)
	a.set("web", vip)
	l.answers(vip, macA)
	state := func(what string, wanted func(link.Interface, bool) bool) {
		t.Helper()
		a.await(what, func(e event) bool { return e.Links != nil && wanted(e.Links.Find("eth0")) })
	}
	announced := func(s *sniffer, mac string) {
		t.Helper()
		if !s.sees(patience, func(_ ethernet.Frame, p arp.Packet) bool {
			return p.SenderIP.String() == vip && p.TargetIP.String() == vip && p.SenderHardwareAddr.String() == mac
		}) {
			t.Errorf("%s is not announced at %s", vip, mac)
		}
	}
	s := l.sniff("peer")

	l.in("a", "ip link set eth0 down")
	state("eth0 is down", func(i link.Interface, found bool) bool { return found && !i.Up })
	l.silent(vip)
	s.drain()
	l.in("a", "ip link set eth0 up")
	state("eth0 is up", func(i link.Interface, found bool) bool { return found && i.Up })
	announced(s, macA)
	l.answers(vip, macA)

	// Down and up so fast that no snapshot shows it: the socket's failed read tells.
	l.in("a", "ip link set eth0 down")
	l.in("a", "ip link set eth0 up")
	l.answers(vip, macA)

	l.in("lan", "ip link set p-a down")
	state("eth0 has no carrier", func(i link.Interface, found bool) bool { return found && !i.Up })
	l.silent(vip)
	l.in("lan", "ip link set p-a up")
	l.answers(vip, macA)

	s.drain()
	l.in("a", "ip link set eth0 address "+macB)
	announced(s, macB)
	l.answers(vip, macB)

	l.in("lan", "ip link del p-a")
	state("eth0 is gone", func(_ link.Interface, found bool) bool { return !found })
	l.silent(vip)
	s.drain()
	l.plug("a", macA)
	announced(s, macA)
	l.answers(vip, macA)
}

func TestTheWatcherTellsAddressesAndBursts(t *testing.T) {
	l, a := pair(t)
	holds := func(prefix string, stable bool) func(event) bool {
		return func(e event) bool {
			i, _ := e.Links.Find("eth0")
			for _, x := range i.Addresses {
				if x.Prefix.String() == prefix && x.Stable == stable && x.Global {
					return true
				}
			}
			return false
		}
	}
	l.in("a", "ip addr add 192.0.2.1/24 dev eth0")
	a.await("eth0 has an IPv4 address", holds("192.0.2.1/24", true))
	l.in("a", "ip addr add 2001:db8::1/64 dev eth0")
	a.await("its IPv6 address is tentative", holds("2001:db8::1/64", false))
	a.await("its IPv6 address is stable", holds("2001:db8::1/64", true))
	l.in("a", "ip addr del 192.0.2.1/24 dev eth0")
	a.await("the IPv4 address is gone", func(e event) bool {
		return e.Links != nil && !holds("192.0.2.1/24", true)(e)
	})

	// 200 pods start and half of them go.
	var script strings.Builder
	for n := range 200 {
		fmt.Fprintf(&script, "link add pod%d type veth peer name in%d\nlink set pod%d up\nlink set in%d up\n", n, n, n, n)
	}
	for n := range 100 {
		fmt.Fprintf(&script, "link del pod%d\n", n)
	}
	l.batch("a", script.String())
	e := a.await("all pods are there", func(e event) bool {
		_, gone := e.Links.Find("pod99")
		last, there := e.Links.Find("pod199")
		return !gone && there && last.Up && len(e.Links) == 2+2*100
	})
	fit := []string{}
	for _, i := range e.Links {
		if i.Unfit() == "" {
			fit = append(fit, i.Name)
		}
	}
	if len(fit) != 1 || fit[0] != "eth0" {
		t.Errorf("fit for announcing are %v, want eth0 alone", fit)
	}
}

// sniffer reads and sends ARP on a host's eth0.
type sniffer struct {
	t    *testing.T
	conn *packet.Conn
}

func (l *lab) sniff(host string) *sniffer {
	l.t.Helper()
	s := &sniffer{t: l.t}
	l.inside(host, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s.conn, err = packet.Listen(eth0, packet.Raw, int(ethernet.EtherTypeARP), nil)
		return err
	})
	l.t.Cleanup(func() { s.conn.Close() })
	return s
}

// sees reads frames until one is wanted, or time is over.
func (s *sniffer) sees(within time.Duration, wanted func(ethernet.Frame, arp.Packet) bool) bool {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	for {
		n, _, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return false
		}
		var e ethernet.Frame
		var p arp.Packet
		if e.UnmarshalBinary(buffer[:n]) == nil && p.UnmarshalBinary(e.Payload) == nil && wanted(e, p) {
			return true
		}
	}
}

// drain throws away what has arrived.
func (s *sniffer) drain() {
	s.sees(time.Millisecond, func(ethernet.Frame, arp.Packet) bool { return false })
}

// request sends a request from the peer's hardware address.
func (s *sniffer) request(destination string, sender, target netip.Addr) {
	s.t.Helper()
	mac := func(text string) net.HardwareAddr {
		m, err := net.ParseMAC(text)
		if err != nil {
			s.t.Fatal(err)
		}
		return m
	}
	p, err := arp.NewPacket(arp.OperationRequest, mac(macPeer), sender, make(net.HardwareAddr, 6), target)
	if err != nil {
		s.t.Fatal(err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	frame, err := (&ethernet.Frame{Destination: mac(destination), Source: mac(macPeer), EtherType: ethernet.EtherTypeARP, Payload: payload}).MarshalBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: mac(destination)}); err != nil {
		s.t.Fatal(err)
	}
}
