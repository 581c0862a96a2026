package neighbor

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a node's interfaces, in memory.
type wire struct {
	mu     sync.Mutex
	states map[string]state
	opened map[int]*plug // by index
	refuse error         // of open
	tries  int           // of open
	fail   error         // of write
}

// plug is a socket.
type plug struct {
	*wire
	inbox chan packet
	gone  chan struct{}
	once  sync.Once
	sent  []sent
}

type sent struct {
	at    time.Time
	group netip.Addr
	kind  message
}

func (w *wire) look(name string) (state, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, found := w.states[name]
	if !found {
		return state{}, errors.New("no such network interface")
	}
	return s, nil
}

func (w *wire) open(index int) (socket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if w.refuse != nil {
		return nil, w.refuse
	}
	p := &plug{wire: w, inbox: make(chan packet), gone: make(chan struct{})}
	w.opened[index] = p
	return p, nil
}

func (p *plug) Close() error { p.once.Do(func() { close(p.gone) }); return nil }

func (p *plug) read() (packet, error) {
	select {
	case x := <-p.inbox:
		return x, nil
	case <-p.gone:
		return packet{}, errors.New("closed")
	}
}

func (p *plug) write(b []byte, group netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.sent = append(p.sent, sent{time.Now(), group, classify(us, hopLimit, b)})
	return nil
}

// bench is a Finder on a wire.
type bench struct {
	*testing.T
	*Finder
	wire *wire
}

// run runs test beside a Finder, in virtual time.
func run(t *testing.T, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{states: map[string]state{"eth0": up(2)}, opened: map[int]*plug{}}
		b := &bench{t, New(Config{network: w}), w}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Finder.Run(ctx) }()
		test(b)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, p := range w.opened {
			select {
			case <-p.gone:
			default:
				t.Error("a socket is left open")
			}
		}
	})
}

func up(index int) state { return state{index: index, up: true, mac: mac, own: []netip.Addr{us}} }

// be changes an interface; a state without an index removes it.
func (b *bench) be(name string, s state) {
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	b.wire.states[name] = s
	if s.index == 0 {
		delete(b.wire.states, name)
	}
}

func (b *bench) set(interfaces ...string) { b.Set(interfaces); synctest.Wait() }

// hear lets a packet arrive.
func (b *bench) hear(index int, from netip.Addr, kind message) {
	b.Helper()
	b.wire.mu.Lock()
	p := b.wire.opened[index]
	b.wire.mu.Unlock()
	if p == nil {
		b.Fatalf("no socket on interface %d", index)
	}
	p.inbox <- packet{from, hopLimit, kind}
	synctest.Wait()
}

// after lets virtual time pass.
func (b *bench) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) wantFound(want string) {
	b.Helper()
	got := ""
	if router, found := b.Found()["eth0"]; found {
		got = router.String()
	}
	if got != want {
		b.Errorf("found %q, want %q", got, want)
	}
}

func (b *bench) wantProblem(want string) {
	b.Helper()
	if got := b.Problem("eth0"); !strings.Contains(got, want) || (want == "") != (got == "") {
		b.Errorf("problem %q, want %q", got, want)
	}
}

func (b *bench) wantChanged(want bool) {
	b.Helper()
	got := false
	select {
	case <-b.Changed():
		got = true
	default:
	}
	if got != want {
		b.Errorf("changed: %v", got)
	}
}

// times are when packets of a kind were sent, since start.
func (b *bench) times(index int, kind message, start time.Time) []time.Duration {
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	var out []time.Duration
	for _, s := range b.wire.opened[index].sent {
		if s.kind == kind {
			out = append(out, s.at.Sub(start))
		}
	}
	return out
}

func TestARouterIsFoundAndToldOfUs(t *testing.T) {
	run(t, func(b *bench) {
		start := time.Now()
		b.set("eth0")
		b.wantChanged(true)
		b.wantProblem("no router")
		b.after(2 * time.Second)
		b.hear(2, router, advertises)
		b.wantFound("fe80::2%eth0")
		b.wantProblem("")
		b.wantChanged(true)
		for range 12 {
			b.after(5 * time.Second)
			b.hear(2, router, advertises)
		}
		b.wantChanged(false)
		if got := b.times(2, solicits, start); !slices.Equal(got, []time.Duration{0, time.Second}) {
			t.Errorf("solicited at %v", got)
		}
		got := b.times(2, advertises, start)
		if !slices.Equal(got[:3], []time.Duration{0, time.Second, 3 * time.Second}) {
			t.Errorf("advertised at %v", got)
		}
		for i := range got[3:] {
			if gap := got[i+3] - got[i+2]; gap < minInterval || gap > maxInterval {
				t.Errorf("advertised at %v", got)
			}
		}
		for _, s := range b.wire.opened[2].sent {
			if s.kind == advertises && s.group != allNodes || s.kind == solicits && s.group != allRouters {
				t.Errorf("sent %+v", s)
			}
		}
	})
}

func TestASolicitationIsAnswered(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.after(3*time.Second + minGap)
		start := time.Now()
		b.hear(2, router, solicits)
		b.after(maxAnswerDelay)
		if got := b.times(2, advertises, start); got[len(got)-1] < 0 {
			t.Errorf("advertised at %v", got)
		}
	})
}

func TestASilentRouterIsAskedAndKeptUntilAnotherIsHeard(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.hear(2, router, advertises)
		start := time.Now()
		b.after(silence)
		if got := b.times(2, solicits, start); len(got) < 3 { // one at the start
			t.Errorf("asked at %v", got)
		}
		b.wantFound("fe80::2%eth0")
		b.hear(2, second, advertises)
		b.wantFound("fe80::3%eth0")
		b.wantProblem("")
	})
}

func TestTwoRoutersAreAProblemThatPasses(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.hear(2, router, advertises)
		b.wantChanged(true)
		b.hear(2, second, advertises)
		b.wantFound("fe80::2%eth0")
		b.wantProblem("fe80::2 and fe80::3")
		b.wantChanged(true)
		b.after(silence - 1)
		b.hear(2, router, advertises)
		b.wantProblem("two routers")
		b.after(1)
		b.wantProblem("")
		b.wantChanged(true)
	})
}

func TestOurOwnAdvertisementsAndWhatIsInvalidCountForNothing(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.hear(2, us, advertises)
		b.hear(2, router, invalid)
		b.wantFound("")
	})
}

func TestAnInterfaceMayComeLateGoAndBeMadeAnew(t *testing.T) {
	run(t, func(b *bench) {
		b.be("eth0", state{})
		b.set("eth0")
		b.wantProblem("interface eth0 is not there")
		b.be("eth0", up(5))
		b.after(lastRetry) // nobody says that it is there
		b.hear(5, router, advertises)
		b.wantFound("fe80::2%eth0")

		b.be("eth0", up(6))
		b.set("eth0")
		b.wantFound("")
		b.hear(6, second, advertises)
		b.wantFound("fe80::3%eth0")

		b.be("eth0", state{})
		b.after(maxInterval) // the next advertisement shows it
		b.wantFound("")
		b.wantProblem("interface eth0 is not there")
		b.be("eth0", up(7))
		b.set("eth0")
		b.after(minRetry)
		b.hear(7, second, advertises)
		b.set()
		b.wantFound("")
		b.wantProblem("")
	})
}

func TestAnInterfaceThatFlapsKeepsItsRouterUnlessAnotherIsThereAfterwards(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.hear(2, router, advertises)
		down := up(2)
		down.up = false
		b.be("eth0", down)
		b.set("eth0")
		b.wantFound("fe80::2%eth0")
		b.wantProblem("interface eth0 is down")
		b.be("eth0", up(2))
		start := time.Now()
		b.set("eth0")
		b.after(minRetry)
		b.wantFound("fe80::2%eth0")
		b.wantProblem("")
		if got := b.times(2, solicits, start); len(got) != 1 {
			t.Errorf("asked at %v", got)
		}
		b.hear(2, second, advertises)
		b.wantFound("fe80::3%eth0")
		b.wantProblem("")
	})
}

func TestWhatDoesNotWorkIsSaidAndTriedAgainWithPauses(t *testing.T) {
	run(t, func(b *bench) {
		b.wire.refuse = syscall.EPERM
		b.set("eth0")
		b.wantProblem("operation not permitted")
		b.wire.mu.Lock()
		b.wire.refuse, b.wire.fail = nil, syscall.EADDRNOTAVAIL
		b.wire.mu.Unlock()
		b.after(lastRetry)
		b.wantProblem("assign requested address")
		b.wire.mu.Lock()
		b.wire.fail = nil
		b.wire.mu.Unlock()
		b.after(lastRetry)
		b.wantProblem("no router")
		bare := up(2)
		bare.own = nil
		b.be("eth0", bare)
		b.set("eth0")
		b.wantProblem("no link-local")
	})
}

func TestCallingSetAllTheTimeMakesNoHotLoop(t *testing.T) {
	run(t, func(b *bench) {
		b.wire.mu.Lock()
		b.wire.refuse = syscall.EMFILE
		b.wire.mu.Unlock()
		for range 1000 {
			b.set("eth0")
			b.after(time.Millisecond)
		}
		b.wire.mu.Lock()
		defer b.wire.mu.Unlock()
		if most := int(time.Second/minRetry) + 1; b.wire.tries > most {
			t.Errorf("tried %d times in a second", b.wire.tries)
		}
	})
}

func TestAHostileFloodNeitherBlocksNorMovesTheRouter(t *testing.T) {
	run(t, func(b *bench) {
		b.set("eth0")
		b.hear(2, router, advertises)
		start := time.Now()
		for i := range 1000 {
			a := second.As16()
			a[14], a[15] = byte(i>>8), byte(i)
			a[8] = 1
			b.hear(2, netip.AddrFrom16(a), advertises)
			b.hear(2, netip.AddrFrom16(a), solicits)
			b.after(10 * time.Millisecond)
			if i%100 == 0 {
				b.hear(2, router, advertises)
			}
		}
		b.wantFound("fe80::2%eth0")
		if got := b.times(2, advertises, start); len(got) > 6 {
			t.Errorf("advertised at %v", got)
		}
	})
}
