//go:build e2e

package wire

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
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
	a.awaitConflictsFor(patience, want...)
}

// awaitConflictsFor has patience of its own.
func (a *announcer) awaitConflictsFor(patience time.Duration, want ...layer2.Conflict) {
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
