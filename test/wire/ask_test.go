//go:build e2e

package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	ballastarp "github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
)

const (
	nodeA  = "192.0.2.1"   // of a, the neighbor that is asked for
	asker  = "192.0.2.100" // of b, who asks
	peerIP = "192.0.2.200" // of peer, a third host
)

// silentLab makes an Ethernet on which nobody speaks unasked: without IPv6, but where a test enables
// it. On it are a, the neighbor, and b, who asks.
func silentLab(t *testing.T, addressesOfB ...string) *lab {
	t.Helper()
	l := newLab(t)
	// A bridge that snoops on multicast joins groups itself, and reports them when it comes up.
	l.in("lan", "ip link set br0 down", "ip link set br0 type bridge mcast_snooping 0")
	l.hush("lan")
	l.in("lan", "ip link set br0 up")
	l.quiet("a", macA, nodeA+"/24")
	l.quiet("b", macB, addressesOfB...)
	return l
}

// quiet makes a host without IPv6.
func (l *lab) quiet(host, mac string, addresses ...string) {
	l.t.Helper()
	l.namespace(host)
	l.hush(host)
	l.plug(host, mac)
	for _, a := range addresses {
		l.in(host, "ip addr add "+a+" dev eth0")
	}
}

func (l *lab) hush(host string) {
	l.t.Helper()
	l.in(host, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
}

// ipv6 enables IPv6 on a host's eth0, and waits until its link-local address, which it returns, may
// be used.
func (l *lab) ipv6(host string) netip.Addr {
	l.t.Helper()
	l.in(host, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
	var local netip.Addr
	eventually(l.t, func() string {
		for _, a := range l.eth0(host).Addresses {
			if a.Prefix.Addr().IsLinkLocalUnicast() && a.Prefix.Addr().Is6() && a.Stable {
				local = a.Prefix.Addr()
				return ""
			}
		}
		return host + " has no IPv6 link-local address"
	})
	return local
}

// eth0 returns a host's interface.
func (l *lab) eth0(host string) link.Interface {
	l.t.Helper()
	var i link.Interface
	l.inside(host, func() error {
		s, err := link.List()
		i, _ = s.Find("eth0")
		return err
	})
	return i
}

// about returns b's question for a, without anything else.
func (l *lab) about() lan.Question {
	l.t.Helper()
	return lan.Question{
		From:     l.eth0("b"),
		Neighbor: lan.Neighbor{Address: netip.MustParseAddr(nodeA), MAC: l.mac(macA)},
	}
}

func (l *lab) mac(text string) link.MAC {
	l.t.Helper()
	m, err := net.ParseMAC(text)
	if err != nil {
		l.t.Fatal(err)
	}
	return link.MAC(m)
}

// ask asks in b, and returns how long that took too.
func (l *lab) ask(q lan.Question) (lan.Answer, time.Duration) {
	l.t.Helper()
	var heard lan.Answer
	var took time.Duration
	l.inside("b", func() error {
		ctx, cancel := context.WithTimeout(l.t.Context(), patience)
		defer cancel()
		began := time.Now()
		var err error
		heard, err = lan.NewAsker().Ask(ctx, q)
		took = time.Since(began)
		return err
	})
	return heard, took
}

// hears fails unless the answer to q is want.
func (l *lab) hears(what string, q lan.Question, want lan.Answer) {
	l.t.Helper()
	if got, took := l.ask(q); got != want {
		l.t.Errorf("%s: heard %+v after %v, want %+v", what, got, took, want)
	}
}

func TestANeighborThatIsThereAnswersAtOnce(t *testing.T) {
	l := silentLab(t, asker+"/24")
	q := l.about()
	eventually(t, func() string { // at once, unless something else keeps this machine busy
		got, took := l.ask(q)
		if !got.Neighbor {
			t.Fatalf("heard %+v after %v", got, took)
		}
		if took > 20*time.Millisecond {
			return fmt.Sprintf("the answer took %v", took)
		}
		return ""
	})
}

func TestANeighborThatIsGoneIsSilentAndThatIsNoError(t *testing.T) {
	l := silentLab(t, asker+"/24")
	l.quiet("peer", macPeer, peerIP+"/24")
	q := l.about()
	l.in("a", "ip link set eth0 down")
	got, took := l.ask(q)
	if got != (lan.Answer{}) || took < lan.Probes*lan.Interval+lan.ExtraWait {
		t.Errorf("heard %+v after %v on a silent network", got, took)
	}
	q.Others = []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr(peerIP)}
	got, took = l.ask(q)
	if got != (lan.Answer{Others: true}) || took < lan.Probes*lan.Interval {
		t.Errorf("heard %+v after %v with a third host there", got, took)
	}
	l.in("lan", "ip link set p-b down") // we are the one who is cut off
	l.hears("without carrier", q, lan.Answer{})
}

func TestAnAnswerFromAnotherMACDoesNotCount(t *testing.T) {
	l := silentLab(t, asker+"/24")
	l.quiet("peer", macPeer)
	q := l.about()
	q.Speaker = netip.MustParseAddr(vip)
	l.in("a", "ip link set eth0 down")
	for _, named := range []string{macPeer, macA} { // as a proxy would, and as a deputy does
		stop := l.impersonate("peer", l.mac(named))
		l.hears("an answer that names "+named, q, lan.Answer{Others: true})
		stop()
	}
}

// impersonate answers all ARP requests that b sends, also those to other hosts, from a host's own
// MAC, and names another one, until stop is called.
func (l *lab) impersonate(host string, named link.MAC) (stop func()) {
	l.t.Helper()
	s := l.sniff(host)
	if err := s.conn.SetPromiscuous(true); err != nil {
		l.t.Fatal(err)
	}
	own := l.eth0(host).MAC
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, 128)
		for {
			n, _, err := s.conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var p arp.Packet
			if n < 42 || p.UnmarshalBinary(buffer[14:n]) != nil || p.Operation != arp.OperationRequest {
				continue
			}
			reply, err := arp.NewPacket(arp.OperationReply, named[:], p.TargetIP, p.SenderHardwareAddr, p.SenderIP)
			if err != nil {
				continue
			}
			payload, _ := reply.MarshalBinary()
			frame := slices.Concat(p.SenderHardwareAddr, own[:], []byte{0x08, 0x06}, payload)
			_, _ = s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: p.SenderHardwareAddr})
		}
	})
	return func() {
		s.conn.Close()
		running.Wait()
	}
}

func TestASpeakerAnswersForItsServiceAddressAlone(t *testing.T) {
	l := silentLab(t, asker+"/24")
	q := l.about()
	q.Speaker = netip.MustParseAddr(vip)
	l.hears("nothing is announced", q, lan.Answer{Neighbor: true})
	l.respond("a", ballastarp.Entry{Address: q.Speaker})
	l.hears("the Service address is announced", q, lan.Answer{Neighbor: true, Speaker: true})
	q.From.Addresses = nil
	l.hears("a probe without a sender address", q, lan.Answer{Neighbor: true, Speaker: true})
	l.in("a", "ip addr flush dev eth0")
	l.hears("the kernel has lost its address", q, lan.Answer{Speaker: true})
}

func TestADeputyIsNotTakenForTheSpeaker(t *testing.T) {
	l := silentLab(t, asker+"/24")
	l.quiet("peer", macPeer, peerIP+"/24")
	q := l.about()
	q.Speaker = netip.MustParseAddr(vip)
	l.respond("peer", ballastarp.Entry{Address: q.Speaker, MAC: l.mac(macA)})
	l.hears("of the owner", q, lan.Answer{Neighbor: true})
	q.Neighbor = lan.Neighbor{Address: netip.MustParseAddr(peerIP), MAC: l.mac(macPeer)}
	l.hears("as an owner", q, lan.Answer{Neighbor: true})
}

// respond answers ARP requests in a host, as a speaker does, until the end of the test.
func (l *lab) respond(host string, entries ...ballastarp.Entry) {
	l.t.Helper()
	own, set := l.eth0(host), ballastarp.Addresses{}.With(entries...)
	var conn ballastarp.Conn
	l.inside(host, func() (err error) {
		conn, err = ballastarp.Listen(own.Index)
		return err
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = ballastarp.Serve(conn, ballastarp.Config{
			MAC: own.MAC, Answers: func() ballastarp.Addresses { return set }, Counters: &ballastarp.Counters{},
		})
	}()
	l.t.Cleanup(func() {
		conn.Close()
		<-ended
	})
}

func TestANeighborIsAskedForByItsIPv6LinkLocalAddress(t *testing.T) {
	l := silentLab(t)
	l.in("a", "ip addr flush dev eth0")
	q := l.about()
	q.Neighbor.Address = l.ipv6("a")
	l.hears("without IPv6 on our side", q, lan.Answer{Neighbor: true})
	l.ipv6("b")
	q.From = l.eth0("b")
	l.hears("from our link-local address", q, lan.Answer{Neighbor: true})
	// The kernel stands in for the speaker: the question and the answer look the same.
	l.in("a", "ip -6 addr add 2001:db8::10/128 dev eth0 nodad")
	q.Speaker = netip.MustParseAddr("2001:db8::10")
	l.hears("with a Service address", q, lan.Answer{Neighbor: true, Speaker: true})
	q.Speaker = netip.MustParseAddr("2001:db8::11")
	l.hears("with one that nobody has", q, lan.Answer{Neighbor: true})

	l.quiet("peer", macPeer)
	q.Speaker, q.Others = netip.Addr{}, []netip.Addr{l.ipv6("peer")}
	l.in("a", "ip link set eth0 down")
	l.hears("with a third host there", q, lan.Answer{Others: true})
}

func TestANeighborAnswersWhateverItsARPSettingsAre(t *testing.T) {
	for name, addresses := range map[string][]string{
		"asked from its prefix":      {asker + "/24"},
		"asked from another prefix":  {"198.51.100.7/24"},
		"asked without IPv4 at all":  nil,
		"asked from a host's prefix": {asker + "/32"},
	} {
		t.Run(name, func(t *testing.T) {
			l := silentLab(t, addresses...)
			l.in("a", "ip link add other0 type veth peer name other1", "ip link set other0 up", "ip link set other1 up",
				"ip addr add 203.0.113.1/24 dev other0", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=1")
			q := l.about()
			for _, ignore := range []string{"0", "1", "2"} {
				for _, announce := range []string{"0", "2"} {
					l.in("a", "sysctl -qw net.ipv4.conf.all.arp_ignore="+ignore, "sysctl -qw net.ipv4.conf.all.arp_announce="+announce)
					l.hears("arp_ignore "+ignore+", arp_announce "+announce, q, lan.Answer{Neighbor: true})
				}
			}
		})
	}
}

func TestAnyFrameOfAThirdHostShowsThatSomebodyIsThere(t *testing.T) {
	l := silentLab(t, asker+"/24")
	l.quiet("peer", macPeer)
	q := l.about()
	l.in("a", "ip link set eth0 down")
	const experimental = "\x88\xb5" // IEEE 802 local experimental ethertype 1
	for _, x := range []struct {
		name, destination, rest string
		want                    bool
	}{
		{"a broadcast", "ff:ff:ff:ff:ff:ff", experimental, true},
		{"a frame to another host, which the switch floods", "02:00:00:00:bb:bb", experimental, true},
		{"a frame with a priority tag", "ff:ff:ff:ff:ff:ff", "\x81\x00\x60\x00" + experimental, true},
		{"a frame of a VLAN, which is another network", "ff:ff:ff:ff:ff:ff", "\x81\x00\x00\x07" + experimental, false},
	} {
		stop := l.chatter("peer", l.mac(x.destination), x.rest)
		l.hears(x.name, q, lan.Answer{Others: x.want})
		stop()
	}
}

// chatter sends the same frame from a host every 10 ms, until stop is called.
func (l *lab) chatter(host string, destination link.MAC, rest string) (stop func()) {
	l.t.Helper()
	s := l.sniff(host)
	own := l.eth0(host).MAC
	frame := slices.Concat(destination[:], own[:], []byte(rest), make([]byte, 46))
	ended, running := make(chan struct{}), sync.WaitGroup{}
	running.Go(func() {
		every := time.NewTicker(10 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-ended:
				return
			case <-every.C:
				_, _ = s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: destination[:]})
			}
		}
	})
	return func() {
		close(ended)
		running.Wait()
		s.conn.Close()
	}
}

func TestWhoCannotAskSaysSo(t *testing.T) {
	l := silentLab(t, asker+"/24")
	q := l.about()
	fails := func(what string, want error, ask func() error) {
		t.Helper()
		l.inside("b", func() error {
			if err := ask(); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			return nil
		})
	}
	plain := func() error {
		_, err := lan.NewAsker().Ask(t.Context(), q)
		return err
	}
	fails("all is well", nil, plain)
	fails("a context that has ended", context.Canceled, func() error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		q := q
		q.Neighbor.MAC = l.mac("02:00:00:00:bb:bb")
		_, err := lan.NewAsker().Ask(ctx, q)
		return err
	})
	fails("a context that ends early", context.DeadlineExceeded, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), lan.Interval/2)
		defer cancel()
		q := q
		q.Neighbor.MAC = l.mac("02:00:00:00:bb:bb")
		_, err := lan.NewAsker().Ask(ctx, q)
		return err
	})
	fails("no permission", os.ErrPermission, func() error { // of this thread, which ends with the test
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		return plain()
	})
	l.in("b", "ip link set eth0 down")
	fails("an interface that is down", unix.ENETDOWN, plain)
	l.in("b", "ip link del eth0")
	fails("an interface that is away", unix.ENODEV, plain)
}

func TestSeveralNeighborsAreAskedForAtTheSameTime(t *testing.T) {
	l := silentLab(t, asker+"/24")
	l.quiet("peer", macPeer, peerIP+"/24")
	var questions []lan.Question
	for n := range 20 {
		q := l.about()
		switch n % 3 {
		case 1:
			q.Neighbor = lan.Neighbor{Address: netip.MustParseAddr(peerIP), MAC: l.mac(macPeer)}
		case 2: // nobody has both
			q.Neighbor.MAC = l.mac(macPeer)
		}
		questions = append(questions, q)
	}
	var running sync.WaitGroup
	for n, q := range questions {
		running.Go(func() {
			if got, took := l.ask(q); got.Neighbor != (n%3 < 2) {
				t.Errorf("question %d: heard %+v after %v", n, got, took)
			}
		})
	}
	running.Wait()
}

func TestGatewaysAreTheNextHopsOfDefaultRoutes(t *testing.T) {
	l := silentLab(t, asker+"/24")
	local := l.ipv6("b")
	gateways := func() []string {
		var found []string
		l.inside("b", func() error {
			addresses, err := link.Gateways(l.eth0("b").Index)
			for _, a := range addresses {
				found = append(found, a.String())
			}
			return err
		})
		return found
	}
	if got := gateways(); len(got) > 0 {
		t.Errorf("gateways without a route: %v", got)
	}
	l.in("b", "ip link add other0 type veth peer name other1", "ip link set other0 up", "ip link set other1 up", "ip addr add 203.0.113.9/24 dev other0",
		"ip route add default nexthop via 192.0.2.254 dev eth0 nexthop via 203.0.113.1 dev other0",
		"ip route add default via inet6 fe80::9 dev eth0 metric 50 table 100",
		"ip -6 route add default via fe80::1 dev eth0",
		"ip -6 route add default via fe80::1 dev eth0 metric 2048",
		"ip route add 198.51.100.0/24 via 192.0.2.253",
		"ip route add unreachable default metric 9999")
	if got, want := gateways(), []string{"192.0.2.254", "fe80::1", "fe80::9"}; !slices.Equal(got, want) {
		t.Errorf("gateways of %v are %v, want %v", local, got, want)
	}
}
