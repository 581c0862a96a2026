//go:build e2e

package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/internal/ndp"
)

func TestAKernelResolvesAndConfirmsIPv6Addresses(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	l.in("a", "sysctl -qw net.ipv6.conf.all.forwarding=1") // as nodes of a cluster have it
	a := l.answer("a", "eth0")
	a.join(target())
	l.resolves(target(), "")
	a.set(ndp.Entry{Address: target()})
	l.resolves(target(), macA)

	// In this state the kernel asks the neighbor alone, and forgets it without an answer.
	before := a.counters.Replies.Load()
	l.in("peer", fmt.Sprintf("ip -6 neigh change %v dev eth0 lladdr %s nud probe", target(), macA))
	eventually(t, func() string {
		if mac, state := l.neighbor(target()); state != "REACHABLE" || mac != macA || a.counters.Replies.Load() == before {
			return "the peer has it at " + mac + " " + state
		}
		return ""
	})

	// On behalf of another node.
	other := ndp.MAC{2, 0, 0, 0, 0xaa, 2}
	a.set(ndp.Entry{Address: target(), MAC: other})
	l.resolves(target(), macB)
	if told := a.told(); told != "" {
		t.Errorf("told of conflicts: %s", told)
	}
}

func TestHostsFollowAnUnsolicitedAdvertisement(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	l.host("b", macB)
	a, b := l.answer("a", "eth0"), l.answer("b", "eth0")
	a.join(target())
	a.set(ndp.Entry{Address: target()})
	l.resolves(target(), macA)
	a.set()
	b.send(ndp.Announce(target(), b.self.MAC))
	eventually(t, func() string { // without the peer asking
		if mac, _ := l.neighbor(target()); mac != macB {
			return "the peer still has it at " + mac
		}
		return ""
	})
}

func TestAHostThatWantsOurAddressDoesNotGetIt(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	a := l.answer("a", "eth0")
	a.join(target())
	a.set(ndp.Entry{Address: target()})
	l.in("peer", "ip addr add "+target().String()+"/64 dev eth0")
	eventually(t, func() string {
		if out := l.output("peer", "ip", "-6", "addr", "show", "dev", "eth0"); !strings.Contains(out, "dadfailed") {
			return out
		}
		return ""
	})
	if told := a.told(); told != "" {
		t.Errorf("told of conflicts: %s", told)
	}
}

func TestAHostThatHasOrWantsTheAddressIsTold(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	a := l.answer("a", "eth0")
	a.join(target())
	watched := ndp.Addresses{}.With(ndp.Entry{Address: target()})
	a.watched.Store(&watched)
	conflict := target().String() + " " + macPeer

	l.in("peer", "ip addr add "+target().String()+"/64 dev eth0")
	eventually(t, func() string { // by the peer's own probe
		if told := a.told(); told != conflict {
			return "told of " + told
		}
		return ""
	})
	eventually(t, func() string {
		if out := l.output("peer", "ip", "-6", "addr", "show", "dev", "eth0", "tentative"); strings.Contains(out, target().String()) {
			return out
		}
		return ""
	})
	a.send(ndp.Probe(target(), a.self.MAC, a.self.Nonce))
	eventually(t, func() string { // by the peer's answer
		if told := a.told(); told != conflict+", "+conflict {
			return "told of " + told
		}
		return ""
	})
}

func TestOurOwnProbeThatTheLinkSendsBackIsNoConflict(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	a, witness := l.answer("a", "eth0"), l.answer("a", "eth0")
	a.join(target())
	watched := ndp.Addresses{}.With(ndp.Entry{Address: target()})
	a.watched.Store(&watched)
	witness.watched.Store(&watched)
	witness.self = ndp.Self{MAC: ndp.MAC{2}, Nonce: ndp.Nonce{9}}
	witness.conn.Close() // and again, as somebody else
	if err := <-witness.ended; err == nil {
		t.Error("Serve() = nil of a closed socket")
	}
	witness.open()
	l.in("lan", "ip link set p-a type bridge_slave hairpin on")
	a.send(ndp.Probe(target(), a.self.MAC, a.self.Nonce))
	eventually(t, func() string {
		if told := witness.told(); told != target().String()+" "+macA {
			return "the probe does not come back"
		}
		return ""
	})
	if told := a.told(); told != "" {
		t.Errorf("told of conflicts: %s", told)
	}
}

func TestTwoThousandGroupsAreJoinedReportedAndAnswered(t *testing.T) {
	l := neighborhood(t)
	l.in("a", "sysctl -qw net.core.optmem_max=20480") // the older default: 365 groups a socket
	a := l.answer("a", "eth0")
	var addresses []netip.Addr
	var entries []ndp.Entry
	for n := range 2000 {
		x := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 13: 1, 14: byte(n >> 8), 15: byte(n)})
		addresses = append(addresses, x)
		entries = append(entries, ndp.Entry{Address: x})
	}
	before, began := openFiles(t), time.Now()
	a.join(addresses...)
	t.Logf("joined %d groups on %d sockets in %v", a.groups.Len(), openFiles(t)-before, time.Since(began))
	if sockets := openFiles(t) - before; sockets < 2 || sockets > 10 {
		t.Errorf("%d sockets", sockets)
	}
	a.set(entries...)
	eventually(t, func() string {
		known := l.output("lan", "bridge", "mdb", "show", "dev", "br0")
		if n := strings.Count(known, "grp ff02::1:ff01:"); n != len(addresses) {
			return fmt.Sprintf("the bridge knows %d groups", n)
		}
		return ""
	})

	var conn ndp.Conn
	l.inside("peer", func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = ndp.Listen(eth0.Index)
		return err
	})
	defer conn.Close()
	for _, x := range addresses {
		if !asks(t, conn, x) {
			t.Fatalf("%v is not answered", x)
		}
	}
	for _, x := range []int{0, 364, 365, 1000, 1999} {
		l.resolves(addresses[x], macA)
	}

	l.inside("a", func() error {
		var failed []error
		for _, x := range addresses {
			failed = append(failed, a.groups.Leave(x))
		}
		return errors.Join(failed...)
	})
	if sockets := openFiles(t) - before; a.groups.Len() != 0 || sockets > 1 { // the peer's
		t.Errorf("%d groups and %d sockets are left", a.groups.Len(), sockets)
	}
}

func TestAnInterfaceWithAFilterPassesSolicitationsOnceTheGroupIsJoined(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	l.in("a", "ip link add mac0 link eth0 type macvlan mode bridge", "ip link set mac0 address "+macB+" up")
	a := l.answer("a", "mac0")
	var entries []ndp.Entry
	for x, n := target(), 0; n < 16; x, n = x.Next(), n+1 {
		entries = append(entries, ndp.Entry{Address: x})
	}
	a.set(entries...)
	for _, e := range entries {
		l.touch(e.Address)
	}
	// The filter is a small table of hashes: what collides with another group passes.
	var filtered netip.Addr
	for _, e := range entries {
		eventually(t, func() string {
			mac, state := l.neighbor(e.Address)
			if state == "FAILED" {
				filtered = e.Address
			} else if mac == "" {
				return "the peer still asks for " + e.Address.String()
			}
			return ""
		})
	}
	if !filtered.IsValid() {
		t.Fatal("the filter passes every solicitation")
	}
	a.join(filtered)
	l.resolves(filtered, macB)
}

func TestASwitchThatSnoopsPassesSolicitationsOnceTheGroupIsJoined(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	l.in("lan",
		"ip link set br0 type bridge mcast_query_response_interval 10 mcast_startup_query_interval 20 mcast_query_interval 100",
		"ip link set br0 type bridge mcast_querier 1")
	a := l.answer("a", "eth0")
	a.set(ndp.Entry{Address: target()})
	// The bridge passes everything until it has asked who is where and waited for answers.
	l.fallsSilent(target())
	a.join(target())
	l.resolves(target(), macA)
	l.inside("a", func() error { return a.groups.Leave(target()) })
	l.fallsSilent(target())
}

func TestGroupsOutliveAnInterfaceThatGoesDownAndUp(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	a := l.answer("a", "eth0")
	a.join(target())
	a.set(ndp.Entry{Address: target()})
	l.resolves(target(), macA)
	eventually(t, func() string {
		if !l.snooped(target()) {
			return "the bridge does not know the group"
		}
		return ""
	})
	l.in("a", "ip link set eth0 down")
	select {
	case err := <-a.ended:
		if !errors.Is(err, unix.ENETDOWN) {
			t.Errorf("Serve() = %v, want ENETDOWN", err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not notice that the interface is down")
	}
	a.conn.Close()
	eventually(t, func() string { // it forgets what its port knew when the link went down
		if l.snooped(target()) {
			return "the bridge still knows the group"
		}
		return ""
	})
	l.in("a", "ip link set eth0 up")
	a.open()
	eventually(t, func() string {
		if !l.snooped(target()) {
			return "the bridge does not know the group again"
		}
		return ""
	})
	l.resolves(target(), macA)
}

func TestAGroupThatIsJoinedWhileIPv6IsOffIsReportedOnceItIsOn(t *testing.T) {
	t.Parallel()
	l := neighborhood(t)
	l.in("a", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
	a := l.answer("a", "eth0")
	a.join(target())
	a.set(ndp.Entry{Address: target()})
	l.resolves(target(), macA) // the bridge does not know where the group is, and asks all
	if l.snooped(target()) {
		t.Error("the group is reported while IPv6 is off")
	}
	l.in("a", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
	eventually(t, func() string {
		if !l.snooped(target()) {
			return "the bridge does not know the group"
		}
		return ""
	})
	l.resolves(target(), macA)
}
