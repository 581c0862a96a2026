//go:build e2e

package wire

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdndp "github.com/mdlayher/ndp"

	"github.com/ballast-lb/ballast/internal/ndp"
)

// target is an IPv6 address that a test announces.
func target() netip.Addr { return netip.MustParseAddr("2001:db8::10") }

// neighborhood makes two hosts: a, a node whose device has no address but its link-local one,
// and peer, whose kernel asks.
func neighborhood(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.host("a", macA)
	l.host("peer", macPeer)
	l.in("peer", "ip addr add 2001:db8::200/64 dev eth0 nodad")
	return l
}

// answerer serves neighbor discovery on one interface of a host, in this process.
type answerer struct {
	l        *lab
	host     string
	self     ndp.Self
	index    int
	conn     ndp.Conn
	groups   *ndp.Groups
	answers  atomic.Pointer[ndp.Addresses]
	watched  atomic.Pointer[ndp.Addresses]
	counters ndp.Counters
	ended    chan error // what Serve returns

	mu        sync.Mutex // guards conflicts
	conflicts []string
}

// answer starts an answerer that answers for nothing yet; the end of the test stops it.
func (l *lab) answer(host, device string) *answerer {
	l.t.Helper()
	a := &answerer{l: l, host: host, ended: make(chan error, 1)}
	a.answers.Store(&ndp.Addresses{})
	a.watched.Store(&ndp.Addresses{})
	l.inside(host, func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		a.index, a.self = i.Index, ndp.Self{MAC: ndp.MAC(i.HardwareAddr), Nonce: ndp.Nonce{1, 2, 3, 4, 5, 6}}
		return nil
	})
	a.groups = ndp.NewGroups(a.index)
	a.open()
	l.t.Cleanup(func() {
		a.conn.Close()
		select {
		case err := <-a.ended:
			if err == nil {
				l.t.Error("Serve() = nil of a closed socket")
			}
		case <-time.After(patience):
			l.t.Error("Serve does not end by itself")
		}
		if err := a.groups.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return a
}

// open opens the socket and serves it.
func (a *answerer) open() {
	a.l.t.Helper()
	a.l.inside(a.host, func() (err error) {
		a.conn, err = ndp.Listen(a.index)
		return err
	})
	conn := a.conn
	go func() {
		a.ended <- ndp.Serve(conn, ndp.Config{
			Self:     a.self,
			Answers:  func() ndp.Addresses { return *a.answers.Load() },
			Watched:  func() ndp.Addresses { return *a.watched.Load() },
			Counters: &a.counters,
			Conflict: func(c ndp.Claim) {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.conflicts = append(a.conflicts, c.Address.String()+" "+net.HardwareAddr(c.MAC[:]).String())
			},
		})
	}()
}

// join joins the groups of addresses.
func (a *answerer) join(addresses ...netip.Addr) {
	a.l.t.Helper()
	a.l.inside(a.host, func() error {
		for _, x := range addresses {
			if err := a.groups.Join(x); err != nil {
				return err
			}
		}
		return nil
	})
}

// set makes entries what is answered for and watched.
func (a *answerer) set(entries ...ndp.Entry) {
	set := ndp.Addresses{}.With(entries...)
	a.answers.Store(&set)
	a.watched.Store(&set)
}

func (a *answerer) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.conflicts, ", ")
}

func (a *answerer) send(frame ndp.Frame) {
	a.l.t.Helper()
	if _, err := a.conn.Write(frame[:]); err != nil {
		a.l.t.Fatal(err)
	}
}

// touch sends a datagram from the peer, so that its kernel asks for address.
func (l *lab) touch(address netip.Addr) {
	l.t.Helper()
	l.inside("peer", func() error {
		c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 9)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
}

// neighbor returns what the peer's kernel knows of address: hardware address and state.
func (l *lab) neighbor(address netip.Addr) (mac, state string) {
	fields := strings.Fields(l.output("peer", "ip", "-6", "neigh", "show", address.String(), "dev", "eth0"))
	for i, f := range fields {
		if f == "lladdr" && i+1 < len(fields) {
			mac = fields[i+1]
		}
	}
	if len(fields) > 0 {
		state = fields[len(fields)-1]
	}
	return mac, state
}

// resolves waits until the peer's kernel has asked for address and got this answer; an empty
// mac means that nobody answers.
func (l *lab) resolves(address netip.Addr, mac string) {
	l.t.Helper()
	l.output("peer", "ip", "-6", "neigh", "del", address.String(), "dev", "eth0")
	l.touch(address)
	eventually(l.t, func() string {
		got, state := l.neighbor(address)
		if got == mac && (mac == "" && state == "FAILED" || mac != "" && state == "REACHABLE") {
			return ""
		}
		return fmt.Sprintf("the peer has %v at %q, %s, want %q", address, got, state, mac)
	})
}

// asks asks for address with a probe of the peer's, and says whether the answer arrives and
// gives macA.
func asks(t *testing.T, conn ndp.Conn, address netip.Addr) bool {
	t.Helper()
	probe := ndp.Probe(address, ndp.MAC{2, 0, 0, 0, 0xaa, 9}, ndp.Nonce{7})
	if _, err := conn.Write(probe[:]); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	late := time.AfterFunc(patience, func() { conn.Close() })
	defer late.Stop()
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return false
		}
		m, err := mdndp.ParseMessage(buffer[54:n])
		if err != nil {
			continue
		}
		na, ok := m.(*mdndp.NeighborAdvertisement)
		if ok && na.TargetAddress == address && len(na.Options) == 1 {
			given, ok := na.Options[0].(*mdndp.LinkLayerAddress)
			return ok && given.Addr.String() == macA
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// fallsSilent waits until nobody answers the peer's kernel any more.
func (l *lab) fallsSilent(address netip.Addr) {
	l.t.Helper()
	asking := false
	eventually(l.t, func() string {
		mac, state := l.neighbor(address)
		switch {
		case asking && state == "FAILED":
			return ""
		case !asking || mac != "":
			l.output("peer", "ip", "-6", "neigh", "del", address.String(), "dev", "eth0")
			l.touch(address)
			asking = true
		}
		return "the peer has " + address.String() + " at " + mac + " " + state
	})
}

// snooped says whether the bridge has heard of a member of the group of address.
func (l *lab) snooped(address netip.Addr) bool {
	l.t.Helper()
	group, err := mdndp.SolicitedNodeMulticast(address)
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.Contains(l.output("lan", "bridge", "mdb", "show", "dev", "br0"), "grp "+group.String()+" ")
}
