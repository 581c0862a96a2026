package layer2

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/ndp"
)

// lan stands for the links of a node: it counts what is sent and lets a test ask.
type lan struct {
	mu      sync.Mutex
	began   time.Time
	sockets map[plug]*wire // the open ones
	opened  map[plug]int
	refuse  map[plug]error
	mute    map[plug]bool // writes fail
	groups  map[int]map[netip.Addr]bool
	closed  bool // no group can be joined
	rival   rivalHost
	sent    []sent
}

// plug is where a socket is opened: on an interface index, for ARP or NDP.
type plug struct {
	index int
	v6    bool
}

func plugOf(index int, address netip.Addr) plug { return plug{index, address.Is6()} }

// rivalHost is another host that answers, like us, who asks for an address; the zero value none.
type rivalHost struct {
	mac     link.MAC
	address netip.Addr
}

// reply returns what the host answers to a frame, or nil.
func (r rivalHost) reply(frame []byte) []byte {
	if r.address.Is4() {
		if reply, ok := arp.Reply(frame, arp.Addresses{}.With(arp.Entry{Address: r.address}), r.mac); ok {
			return reply[:]
		}
	}
	if r.address.Is6() {
		if reply, ok := ndp.Reply(frame, ndp.Addresses{}.With(ndp.Entry{Address: r.address}), r.mac); ok {
			return reply[:]
		}
	}
	return nil
}

type sent struct {
	plug  plug
	after time.Duration
	frame string
}

// wire is one open socket.
type wire struct {
	lan    *lan
	plug   plug
	in     chan []byte
	closed chan struct{}
	once   sync.Once
}

func newLAN() *lan {
	return &lan{
		began: time.Now(), sockets: map[plug]*wire{}, opened: map[plug]int{}, refuse: map[plug]error{},
		mute: map[plug]bool{}, groups: map[int]map[netip.Addr]bool{},
	}
}

func (l *lan) config() Config {
	return Config{
		Open:    func(index int) (arp.Conn, error) { return l.open(plug{index, false}) },
		OpenNDP: func(index int) (ndp.Conn, error) { return l.open(plug{index, true}) },
		Groups:  func(index int) Groups { return membership{l, index} },
		Log:     logr.Discard(),
	}
}

// run starts an Announcer in a bubble and ends it with the test.
func run(t *testing.T, l *lan) *Announcer {
	t.Helper()
	return start(t, l, l.config())
}

// start is run with a configuration that differs.
func start(t *testing.T, l *lan, config Config) *Announcer {
	t.Helper()
	a := New(config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if len(l.sockets) > 0 {
			t.Errorf("%d sockets are open after Run", len(l.sockets))
		}
		for index, joined := range l.groups {
			if len(joined) > 0 {
				t.Errorf("%d groups are joined on %d after Run", len(joined), index)
			}
		}
	})
	return a
}

func (l *lan) open(at plug) (*wire, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuse[at]; err != nil {
		return nil, err
	}
	w := &wire{lan: l, plug: at, in: make(chan []byte), closed: make(chan struct{})}
	l.sockets[at] = w
	l.opened[at]++
	return w, nil
}

// membership is Groups on an interface.
type membership struct {
	lan   *lan
	index int
}

func (m membership) Join(address netip.Addr) error {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	if m.lan.closed {
		return errors.New("no room for groups")
	}
	if m.lan.groups[m.index] == nil {
		m.lan.groups[m.index] = map[netip.Addr]bool{}
	}
	m.lan.groups[m.index][address] = true
	return nil
}

func (m membership) Leave(address netip.Addr) error {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	delete(m.lan.groups[m.index], address)
	return nil
}

func (m membership) Close() error {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	delete(m.lan.groups, m.index)
	return nil
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case frame := <-w.in:
		return copy(b, frame), nil
	case <-w.closed:
		return 0, io.ErrClosedPipe
	}
}

func (w *wire) Write(frame []byte) (int, error) {
	w.lan.mu.Lock()
	defer w.lan.mu.Unlock()
	if w.lan.mute[w.plug] {
		return 0, errors.New("no buffer space available")
	}
	w.lan.sent = append(w.lan.sent, sent{w.plug, time.Since(w.lan.began), string(frame)})
	if reply := w.lan.rival.reply(frame); reply != nil {
		go func() {
			select {
			case w.in <- reply:
			case <-w.closed:
			}
		}()
	}
	return len(frame), nil
}

func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.lan.mu.Lock()
		defer w.lan.mu.Unlock()
		if w.lan.sockets[w.plug] == w {
			delete(w.lan.sockets, w.plug)
		}
	})
	return nil
}

// compete makes another host answer for address from now on, or with no address, none any more.
func (l *lan) compete(mac link.MAC, address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rival = rivalHost{mac, address}
}

// take returns what was sent since the last call.
func (l *lan) take() []sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.sent
	l.sent = nil
	return list
}

// receive lets a frame arrive, and waits until all has come to rest. It belongs in a bubble.
func (l *lan) receive(at plug, frame string) {
	l.mu.Lock()
	w := l.sockets[at]
	l.mu.Unlock()
	if w != nil {
		w.in <- []byte(frame)
		synctest.Wait()
	}
}

// show lets a frame arrive that shows another host, and waits until that has been looked at.
func (l *lan) show(at plug, frame string) {
	l.receive(at, frame)
	time.Sleep(lookPause)
	synctest.Wait()
}

// ask sends a question for address and returns the hardware address in the answer, if there
// is one. It belongs in a bubble, and throws away what else was sent.
func (l *lan) ask(index int, address netip.Addr) (link.MAC, bool) {
	l.take()
	at := plugOf(index, address)
	given := 22
	var frame string
	if at.v6 {
		given = 80
		frame = solicitation(address)
	} else {
		f := arp.AnnounceRequest(address, asker)
		copy(f[28:32], []byte{192, 0, 2, 200})
		frame = string(f[:])
	}
	l.receive(at, frame)
	for _, s := range l.take() {
		if s.plug == at && s.frame[:6] == string(asker[:]) {
			return link.MAC([]byte(s.frame[given : given+6])), true
		}
	}
	return link.MAC{}, false
}

// solicitation is the question of asker, at fe80::9, for an IPv6 address.
func solicitation(address netip.Addr) string {
	f := ndp.Probe(address, asker, asker)
	from := netip.MustParseAddr("fe80::9").As16()
	copy(f[22:], from[:])
	f[78] = 1 // the option is a source link-layer address
	f[56], f[57] = 0, 0
	sum := uint32(len(f) - 54 + 58) // RFC 8200 section 8.1
	for i := 22; i < len(f); i += 2 {
		sum += uint32(f[i])<<8 + uint32(f[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum = ^(sum>>16 + sum)
	f[56], f[57] = byte(sum>>8), byte(sum)
	return string(f[:])
}

// announcements are the frames that announce address.
func announcements(address netip.Addr, mac link.MAC) []string {
	if address.Is6() {
		f := ndp.Announce(address, mac)
		return []string{string(f[:])}
	}
	request, reply := arp.AnnounceRequest(address, mac), arp.AnnounceReply(address, mac)
	return []string{string(request[:]), string(reply[:])}
}

func eth(name string, index int, mac link.MAC) link.Interface {
	return link.Interface{Name: name, Index: index, MAC: mac, Kind: "device", Up: true}
}

func on(address netip.Addr, interfaces ...string) announce.Layer2 {
	return announce.Layer2{Address: address, Interfaces: interfaces}
}

// checkOf is the frame by which the node with mac, whose IPv6 link-local address follows from that,
// checks whether another host answers for address.
func checkOf(address netip.Addr, mac link.MAC) string {
	if address.Is6() {
		f := ndp.Solicit(address, netip.AddrFrom16([16]byte{0xfe, 0x80, 10: 0, 0xff, 0xfe, mac[3], mac[4], mac[5]}), mac)
		return string(f[:])
	}
	f := arp.Probe(address, mac)
	return string(f[:])
}

// conflicting is a frame by which another host shows that it uses address.
func conflicting(address netip.Addr, other link.MAC) string { return announcements(address, other)[0] }

// probing is a frame by which another host asks whether it may use address.
func probingFor(address netip.Addr, other link.MAC) string {
	if address.Is6() {
		f := ndp.Probe(address, other, ndp.Nonce{9})
		return string(f[:])
	}
	f := arp.Probe(address, other)
	return string(f[:])
}
