//go:build e2e

package interop

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ballast-lb/ballast/internal/announce"
)

// update is what a test wants to know of an UPDATE.
type update struct {
	reach, gone4, gone6 int
	// extended are the extended communities (RFC 4360).
	extended []string
	// end is End-of-RIB (RFC 4724 section 2) of IPv4 or IPv6; 0: it is none.
	end byte
}

// attributes calls yield for each path attribute of an UPDATE.
func attributes(body []byte, yield func(code byte, value []byte)) {
	withdrawn := int(binary.BigEndian.Uint16(body))
	rest := body[2+withdrawn:]
	rest = rest[2 : 2+binary.BigEndian.Uint16(rest)]
	for len(rest) >= 3 {
		flags, code, length, at := rest[0], rest[1], int(rest[2]), 3
		if flags&0x10 != 0 {
			length, at = int(binary.BigEndian.Uint16(rest[2:])), 4
		}
		yield(code, rest[at:at+length])
		rest = rest[at+length:]
	}
}

func decodeUpdate(body []byte) update {
	var u update
	if len(body) == 4 {
		u.end = 4
	}
	withdrawn := int(binary.BigEndian.Uint16(body))
	u.gone4 = withdrawn / 5 // host routes
	u.reach = (len(body) - 4 - withdrawn - int(binary.BigEndian.Uint16(body[2+withdrawn:]))) / 5
	attributes(body, func(code byte, value []byte) {
		switch code {
		case 14:
			u.reach += (len(value) - 5 - int(value[3])) / 17
		case 15:
			u.gone6 = (len(value) - 3) / 17
			if len(value) == 3 {
				u.end = 6
			}
		case 16:
			for ; len(value) >= 8; value = value[8:] {
				u.extended = append(u.extended, fmt.Sprintf("%x", value[:8]))
			}
		}
	})
	return u
}

// record is what a node has said in the first moments of a session.
type record struct {
	// closes says that the first connection ends after End-of-RIB.
	closes bool
	mu     sync.Mutex
	lines  []string
}

func (r *record) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "; ")
}

// listen notes what the OPEN says of graceful restart, and how many routes come before and after each End-of-RIB, until both
// have come; then it stays as long as the node does.
func (r *record) listen(d *exchange) error {
	if err := d.hello(); err != nil {
		return err
	}
	line := d.open.gracefulRestart()
	if err := d.send(updateMessage, []byte{0, 0, 0, 0}); err != nil { // our own End-of-RIB
		return err
	}
	if err := d.send(updateMessage, []byte{0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1}); err != nil {
		return err
	}
	routes, ends := 0, ""
	for {
		kind, body, err := d.receive()
		if err != nil {
			return err
		}
		if kind == keepaliveMessage {
			if err := d.send(keepaliveMessage, nil); err != nil {
				return err
			}
			continue
		}
		u := decodeUpdate(body)
		routes += u.reach
		if u.end != 0 && len(ends) < 2 {
			ends += fmt.Sprint(u.end)
			if len(ends) == 2 {
				r.add(fmt.Sprintf("%s: %d routes before End-of-RIB", line, routes))
				if r.closes && d.number == 1 {
					return nil
				}
			}
		} else if u.end == 0 && len(ends) == 2 {
			r.add(fmt.Sprintf("afterwards %d routes, withdrawn %d", u.reach, u.gone4+u.gone6))
		}
	}
}

// What goes over the wire after a restart: the R bit, and the F bits without which a router removes our routes at once.
func TestTheOpenAfterARestart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	first, second := n.router(64513), n.router(64514)
	var here, later record
	f := first.fake("r1", 2, here.listen)
	g := second.fake("r2", 2, later.listen)
	peers := []announce.Peer{f.peer(64512), g.peer(64512)}
	peers[0].GracefulRestart, peers[1].GracefulRestart = graceful(first).GracefulRestart, 2*graceful(first).GracefulRestart
	routes := thousands("r1", "r2")
	const (
		restarted = "R 1 time 30 1/1 F 1 2/1 F 1: 2000 routes before End-of-RIB"
		fresh     = "R 0 time 60 1/1 F 0 2/1 F 0: 2000 routes before End-of-RIB"
	)
	n.begin(routes, peers[0])
	eventually(t, "start", here.String, restarted)
	n.setPeers(peers...)
	eventually(t, "a peer that is added later", later.String, fresh)
	n.again(false)
	n.begin(routes, peers[0])
	eventually(t, "restart", here.String, restarted+"; "+restarted)
	n.again(true)
	n.begin(routes, peers[0])
	eventually(t, "restart after SIGKILL", here.String, restarted+"; "+restarted+"; "+restarted)
	n.setPeers(peers...)
	eventually(t, "a peer that is added later again", later.String, fresh+"; "+fresh)
	for _, end := range f.endings() {
		if strings.HasPrefix(end, "NOTIFICATION") {
			t.Errorf("the node sent a %s, with which a router forgets our routes", end)
		}
	}
}

// A connection that is lost is no restart, but a router keeps our routes only if the next OPEN says that forwarding went on.
func TestTheOpenAfterALostConnection(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	said := record{closes: true}
	f := r.fake("r1", 2, said.listen)
	peer := f.peer(64512)
	peer.GracefulRestart = graceful(r).GracefulRestart
	n.begin(thousands("r1"))
	n.setPeers(peer)
	const first = "R 0 time 30 1/1 F 0 2/1 F 0: 2000 routes before End-of-RIB"
	eventually(t, "OPENs", said.String, first+"; R 1 time 30 1/1 F 1 2/1 F 1: 2000 routes before End-of-RIB")
	if got := n.peer("r1").LastError; got != "connection lost" {
		t.Errorf("last error: %s", got)
	}
}

// The two forms of a link bandwidth differ in one bit, which FRR does not show.
func TestLinkBandwidthOnTheWire(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.router(64513)
	var seen record
	f := r.fake("r1", 2, func(d *exchange) error {
		if err := d.hello(); err != nil {
			return err
		}
		for {
			kind, body, err := d.receive()
			if err != nil {
				return err
			}
			if kind == keepaliveMessage {
				err = d.send(keepaliveMessage, nil)
			} else if u := decodeUpdate(body); u.reach > 0 {
				seen.add(strings.Join(u.extended, " "))
			}
			if err != nil {
				return err
			}
		}
	})
	n.setPeers(f.peer(64512))
	n.sync()
	for i, step := range []struct {
		announce.Attributes
		want string
	}{
		// 0x48b71b00 is 375,000 octets a second, 0xfc00 our AS number.
		{announce.Attributes{Weight: 3}, "4004fc0048b71b00"},
		{announce.Attributes{Weight: 3, Transitive: true}, "0004fc0048b71b00"},
		{announce.Attributes{}, ""},
		{announce.Attributes{Weight: 1, Transitive: true}, "0004fc0047f42400"},
		{announce.Attributes{Weight: 1}, "4004fc0047f42400"},
	} {
		n.set("a", route("192.0.2.1/32", step.Attributes, "r1"))
		eventually(t, fmt.Sprintf("step %d", i), func() string {
			all := strings.Split(seen.String(), "; ")
			return fmt.Sprintln(len(all), all[len(all)-1])
		}, fmt.Sprintln(i+1, step.want))
	}
}
