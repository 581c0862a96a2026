package layer2

import (
	"io"
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
)

// lan stands for the links of a node: it counts what is sent and lets a test ask.
type lan struct {
	mu      sync.Mutex
	began   time.Time
	sockets map[int]*wire // the open one of each interface index
	opened  map[int]int
	refuse  map[int]error
	sent    []sent
}

type sent struct {
	index int
	after time.Duration
	frame arp.Frame
}

// wire is one open socket.
type wire struct {
	lan    *lan
	index  int
	in     chan []byte
	closed chan struct{}
	once   sync.Once
}

func newLAN() *lan {
	return &lan{began: time.Now(), sockets: map[int]*wire{}, opened: map[int]int{}, refuse: map[int]error{}}
}

func (l *lan) open(index int) (arp.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuse[index]; err != nil {
		return nil, err
	}
	w := &wire{lan: l, index: index, in: make(chan []byte), closed: make(chan struct{})}
	l.sockets[index] = w
	l.opened[index]++
	return w, nil
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
	w.lan.sent = append(w.lan.sent, sent{w.index, time.Since(w.lan.began), arp.Frame(frame)})
	return len(frame), nil
}

func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.lan.mu.Lock()
		defer w.lan.mu.Unlock()
		if w.lan.sockets[w.index] == w {
			delete(w.lan.sockets, w.index)
		}
	})
	return nil
}

// take returns what was sent since the last call.
func (l *lan) take() []sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.sent
	l.sent = nil
	return list
}

// ask sends a request for address and returns the hardware address in the answer, if there
// is one. It belongs in a bubble, and throws away what else was sent.
func (l *lan) ask(index int, address netip.Addr) (link.MAC, bool) {
	l.mu.Lock()
	w := l.sockets[index]
	l.mu.Unlock()
	if w == nil {
		return link.MAC{}, false
	}
	l.take()
	request := arp.AnnounceRequest(address, asker)
	copy(request[28:32], []byte{192, 0, 2, 200})
	w.in <- request[:]
	synctest.Wait()
	for _, s := range l.take() {
		if [6]byte(s.frame[:6]) == asker {
			return link.MAC(s.frame[22:28]), true
		}
	}
	return link.MAC{}, false
}

func eth(name string, index int, mac link.MAC) link.Interface {
	return link.Interface{Name: name, Index: index, MAC: mac, Kind: "device", Up: true}
}

func on(address netip.Addr, interfaces ...string) announce.Layer2 {
	return announce.Layer2{Address: address, Interfaces: interfaces}
}
