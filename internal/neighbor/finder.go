package neighbor

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Config is what a Finder needs to know.
type Config struct {
	// Log gets a line for each router that is found or lost, and for each problem. The zero value logs nothing.
	Log logr.Logger
	// network replaces the kernel in tests.
	network network
}

// Finder finds the routers on some interfaces. Its methods may be called from any goroutine.
type Finder struct {
	log           logr.Logger
	network       network
	wake, changed chan struct{}

	mu       sync.Mutex // guards what follows
	wanted   []string
	found    map[string]netip.Addr
	problems map[string]string
}

// New returns a Finder without interfaces, which does nothing before Run.
func New(config Config) *Finder {
	f := &Finder{
		log: config.Log, network: config.network, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		found: map[string]netip.Addr{}, problems: map[string]string{},
	}
	if f.log.GetSink() == nil {
		f.log = logr.Discard()
	}
	if f.network == nil {
		f.network = kernel{}
	}
	return f
}

// Set replaces the interfaces. They need not exist yet. Call it again, with the same ones too, when the interfaces
// of the node have changed: what appeared, went down or was made anew is then noticed at once, and else within
// 10 s. It never waits.
func (f *Finder) Set(interfaces []string) {
	f.mu.Lock()
	f.wanted = slices.Clone(interfaces)
	f.mu.Unlock()
	signal(f.wake)
}

// Found returns, by interface, the link-local addresses of the routers, with their zones. A router stays found while
// it is silent, until another is heard, or its interface goes away. The caller owns the map.
func (f *Finder) Found() map[string]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.found)
}

// Problem says, for people, why no router is found on an interface or that there are two; empty: all is well, or the
// interface is none of Set.
func (f *Finder) Problem(iface string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problems[iface]
}

// Changed receives when Found or a Problem is another than before. One reader gets every change.
func (f *Finder) Changed() <-chan struct{} { return f.changed }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run finds routers until ctx ends, and returns nil when all of its goroutines have ended. It must be called once. It
// needs CAP_NET_RAW; without, Problem says so.
func (f *Finder) Run(ctx context.Context) error {
	o := &owner{Finder: f, ports: map[string]*port{}, inbox: make(chan arrival), done: make(chan struct{})}
	defer o.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-o.inbox:
			o.take(a, time.Now())
		case <-f.wake:
			o.reconcile(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		next := o.act(now)
		o.publish(now)
		timer.Reset(next.Sub(now))
	}
}

// publish tells the readers, and the log, what has changed.
func (o *owner) publish(now time.Time) {
	found, problems := map[string]netip.Addr{}, map[string]string{}
	for name, p := range o.ports {
		if p.router.IsValid() {
			found[name] = p.router.WithZone(name)
		}
		if problem := p.why(now); problem != "" {
			problems[name] = problem
		}
	}
	o.mu.Lock()
	wasFound, hadProblems := o.found, o.problems
	o.found, o.problems = found, problems
	o.mu.Unlock()
	if maps.Equal(found, wasFound) && maps.Equal(problems, hadProblems) {
		return
	}
	signal(o.changed)
	for name := range o.ports {
		switch router, found := found[name]; {
		case router == wasFound[name]:
		case found:
			o.log.Info("router found", "interface", name, "router", router)
		default:
			o.log.Info("router lost", "interface", name, "router", wasFound[name])
		}
		if problem := problems[name]; problem != "" && problem != hadProblems[name] {
			o.log.Info("interface has no router to peer with, or two", "interface", name, "problem", problem)
		}
	}
}

func random() float64 { return rand.Float64() }
