//go:build e2e

package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// The types of BGP messages (RFC 4271 section 4.1).
const (
	openMessage byte = iota + 1
	updateMessage
	notificationMessage
	keepaliveMessage
)

// fake is a router that is a socket in a router's namespace, at an address of its own: it says what a test has it say.
type fake struct {
	*router
	name    name.PeerName
	address netip.Addr
	asn     uint32
	serve   func(*exchange) error

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ends  []string
}

// exchange is one connection with the node.
type exchange struct {
	*fake
	net.Conn
	// number is that of the connection, from 1 on; open is what the node said in its OPEN, after hello.
	number int
	open   open
}

// fake makes a fake router, which has serve handle one connection after the other. How each ended is in endings.
func (r *router) fake(peer name.PeerName, last byte, serve func(*exchange) error) *fake {
	r.t.Helper()
	own := r.own4.As4()
	own[3] = last
	f := &fake{router: r, name: peer, address: netip.AddrFrom4(own), asn: r.asn, serve: serve, conns: map[net.Conn]struct{}{}}
	if f.address != r.own4 {
		ip(r.t, "-n", r.namespace, "address", "add", f.address.String()+"/24", "dev", "eth0")
	}
	l := listenIn(r.t, r.namespace, netip.AddrPortFrom(f.address, 179))
	var group sync.WaitGroup
	group.Go(func() {
		for number := 1; ; number++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.talk(c, number)
		}
	})
	r.t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		group.Wait()
	})
	return f
}

func (f *fake) talk(c net.Conn, number int) {
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	end := "closed by the router"
	if err := f.serve(&exchange{fake: f, Conn: c, number: number}); err != nil {
		end = err.Error()
	}
	_ = c.Close()
	f.mu.Lock()
	delete(f.conns, c)
	f.ends = append(f.ends, end)
	f.mu.Unlock()
}

// endings say how each connection has ended so far.
func (f *fake) endings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ends)
}

// peer is the session with the fake.
func (f *fake) peer(myASN uint32) announce.Peer {
	p := f.peer4(myASN)
	p.Name, p.Address, p.PeerASN = f.name, f.address, f.asn
	return p
}

// listenIn listens in a namespace. The thread comes back: it may be the parent of processes that are to die with it.
func listenIn(t *testing.T, namespace string, address netip.AddrPort) net.Listener {
	t.Helper()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer here.Close()
	there, err := os.Open("/run/netns/" + namespace)
	must(t, err)
	defer there.Close()
	must(t, unix.Setns(int(there.Fd()), unix.CLONE_NEWNET))
	l, failed := net.Listen("tcp", address.String())
	must(t, unix.Setns(int(here.Fd()), unix.CLONE_NEWNET)) // else the thread stays locked
	runtime.UnlockOSThread()
	must(t, failed)
	return l
}

// send sends a message.
func (d *exchange) send(kind byte, body []byte) error {
	_, err := d.Write(encode(kind, body))
	return err
}

func encode(kind byte, body []byte) []byte {
	m := slices.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
	return append(append(m, kind), body...)
}

// errNotification is a NOTIFICATION from the node.
type errNotification struct{ code, subcode byte }

func (e errNotification) Error() string {
	return fmt.Sprintf("NOTIFICATION %d/%d", e.code, e.subcode)
}

// receive waits for a message; a NOTIFICATION is an error.
func (d *exchange) receive() (kind byte, body []byte, err error) {
	if err := d.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	var header [19]byte
	if _, err := io.ReadFull(d, header[:]); err != nil {
		return 0, nil, plain(err)
	}
	body = make([]byte, binary.BigEndian.Uint16(header[16:])-19)
	if _, err := io.ReadFull(d, body); err != nil {
		return 0, nil, plain(err)
	}
	if header[18] == notificationMessage && len(body) >= 2 {
		return 0, nil, errNotification{body[0], body[1]}
	}
	return header[18], body, nil
}

// plain is an error of the network without addresses.
func plain(err error) error {
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

// hello exchanges OPEN and KEEPALIVE: the session is then up.
func (d *exchange) hello() error {
	kind, body, err := d.receive()
	if err != nil {
		return err
	}
	if kind != openMessage {
		return fmt.Errorf("message %d instead of OPEN", kind)
	}
	if d.open, err = decodeOpen(body); err != nil {
		return err
	}
	if err := errors.Join(d.send(openMessage, d.ownOpen()), d.send(keepaliveMessage, nil)); err != nil {
		return err
	}
	kind, _, err = d.receive()
	if err == nil && kind != keepaliveMessage {
		err = fmt.Errorf("message %d instead of KEEPALIVE", kind)
	}
	return err
}

// ownOpen is the body of the fake's OPEN: both families, AS numbers of four octets (RFC 6793) and graceful restart as a
// helper (RFC 4724), with a hold time of 9 s.
func (d *exchange) ownOpen() []byte {
	capabilities := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 64, 2, 0, 0, 65, 4}
	capabilities = binary.BigEndian.AppendUint32(capabilities, d.asn)
	id := d.address.As4()
	body := []byte{4}
	body = binary.BigEndian.AppendUint16(body, uint16(d.asn))
	body = append(append(body, 0, 9), id[:]...)
	return append(append(body, byte(len(capabilities)+2), 2, byte(len(capabilities))), capabilities...)
}

// open is what an OPEN says.
type open struct {
	asn          uint16
	hold         uint16
	capabilities map[byte][][]byte
}

func decodeOpen(b []byte) (open, error) {
	if len(b) < 10 || len(b) != 10+int(b[9]) {
		return open{}, fmt.Errorf("OPEN of %d octets", len(b))
	}
	o := open{asn: binary.BigEndian.Uint16(b[1:]), hold: binary.BigEndian.Uint16(b[3:]), capabilities: map[byte][][]byte{}}
	for rest := b[10:]; len(rest) >= 2; rest = rest[2+int(rest[1]):] {
		if rest[0] != 2 {
			return o, fmt.Errorf("parameter %d", rest[0])
		}
		for c := rest[2 : 2+int(rest[1])]; len(c) >= 2; c = c[2+int(c[1]):] {
			o.capabilities[c[0]] = append(o.capabilities[c[0]], c[2:2+int(c[1])])
		}
	}
	return o, nil
}

// gracefulRestart is that capability (RFC 4724 section 3) in words.
func (o open) gracefulRestart() string {
	all := o.capabilities[64]
	if len(all) != 1 || len(all[0]) < 2 {
		return fmt.Sprintf("%d capabilities", len(all))
	}
	c := all[0]
	words := []string{fmt.Sprintf("R %d time %d", c[0]>>7, binary.BigEndian.Uint16(c)&0xfff)}
	var families []string
	for c = c[2:]; len(c) >= 4; c = c[4:] {
		families = append(families, fmt.Sprintf("%d/%d F %d", binary.BigEndian.Uint16(c), c[2], c[3]>>7))
	}
	slices.Sort(families)
	return strings.Join(append(words, families...), " ")
}
