package main

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/pathcheck"
)

const (
	// healthTimeout bounds a question to a healthCheckNodePort, on this node.
	healthTimeout = 300 * time.Millisecond
	// syncPause is the pause between two questions when the service proxy last had programmed its rules.
	syncPause = 100 * time.Millisecond
	// keepOpen is for how long sockets stay open after a try: Services come in bursts, and to close a packet socket takes
	// the kernel some 20 ms.
	keepOpen = 2 * time.Second
)

// delivery finds out whether this node delivers what comes for a Service, before it announces it for the first time.
type delivery struct {
	client    client.Reader // a cache
	addresses []netip.Addr  // the node's
	log       logr.Logger
	tell      func(context.Context, ...announce.Fact) error
	// off says that there is no service proxy to ask, lastSync when it last had programmed its rules.
	off      func() bool
	lastSync func(context.Context) time.Time
	http     http.Client
	wake     chan struct{} // says that there is something in what follows

	mu     sync.Mutex // guards what follows
	wanted map[name.ServiceKey]bool
	heard  []pathcheck.Try
	synced time.Time
}

func newDelivery(reader client.Reader, self identity, p *proxy, log logr.Logger) *delivery {
	return &delivery{
		client: reader, addresses: self.addresses, log: log, off: p.off, lastSync: newProxyAsker().lastSync,
		http: http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
		wake: make(chan struct{}, 1), wanted: map[name.ServiceKey]bool{},
	}
}

// want takes what was decided: of which Services delivery is to be found out. It does not block.
func (d *delivery) want(changes []announce.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		d.wanted[c.Service.Key] = !c.Gone && c.Decision.Delivery != announce.Delivers
	}
	poke(d.wake)
}

// answered takes a try that succeeded. It does not block.
func (d *delivery) answered(t pathcheck.Try) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = append(d.heard, t)
	poke(d.wake)
}

// checker is what run has at hand.
type checker struct {
	*delivery
	board   *pathcheck.Board
	prober  *pathcheck.Prober // nil while nothing is tried
	asking  sync.WaitGroup
	sent    time.Time // the last try
	nextAsk time.Time // when the service proxy may be asked again
}

// run finds out until ctx ends.
func (d *delivery) run(ctx context.Context) error {
	c := &checker{delivery: d, board: pathcheck.NewBoard()}
	defer c.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
		now := time.Now()
		c.learn(ctx, now)
		var facts []announce.Fact
		for _, v := range c.board.Settled(now) {
			facts = append(facts, announce.Delivered{Service: v.Service, Doubted: v.Doubted})
			d.log.V(1).Info("found out whether this node delivers", "service", v.Service.String(), "doubted", v.Doubted)
		}
		if len(facts) > 0 && d.tell(ctx, facts...) != nil {
			return nil // ctx ended
		}
		c.try(ctx, now)
		timer.Stop()
		again := c.board.Again()
		if again.IsZero() {
			again = c.idle(now)
		}
		if again.IsZero() {
			continue
		}
		if c.nextAsk.After(now) && c.nextAsk.Before(again) && c.board.Blind() {
			again = c.nextAsk
		}
		timer.Reset(max(time.Until(again), time.Millisecond))
	}
}

// learn puts on the board what has come in.
func (c *checker) learn(ctx context.Context, now time.Time) {
	c.mu.Lock()
	wanted, heard := c.wanted, c.heard
	c.wanted, c.heard = map[name.ServiceKey]bool{}, nil
	c.board.Sync(c.synced)
	c.mu.Unlock()
	for _, t := range heard {
		c.board.Succeed(t)
	}
	for key, is := range wanted {
		var s corev1.Service
		if !is || c.client.Get(ctx, types.NamespacedName(key), &s) != nil { // gone: the decision follows
			c.board.Drop(key)
			continue
		}
		c.board.Want(key, targetOf(&s, c.addresses, c.off()), now)
	}
}

// try sends what is due.
func (c *checker) try(ctx context.Context, now time.Time) {
	for _, t := range c.board.Due(now) {
		if t.Health {
			c.asking.Go(func() {
				if c.counts(ctx, t.Port) {
					c.answered(t)
				}
			})
			continue
		}
		if err := c.send(t); err != nil {
			c.log.V(1).Info("cannot try whether this node delivers", "service", t.Service.String(), "error", err.Error())
		}
	}
	if c.board.Blind() && !c.off() && !now.Before(c.nextAsk) {
		c.nextAsk = now.Add(syncPause)
		c.asking.Go(func() {
			at := c.lastSync(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.synced = at
			poke(c.wake)
		})
	}
}

// send sends a half-open try; the sockets are open only while there is something to find out, as they see
// much of what comes and goes.
func (c *checker) send(t pathcheck.Try) (err error) {
	if c.prober == nil {
		if c.prober, err = pathcheck.Open(c.answered); err != nil {
			return err
		}
	}
	c.sent = time.Now()
	return c.prober.Send(t)
}

// idle closes the sockets once nothing has been tried for a while; it returns when that is, or zero.
func (c *checker) idle(now time.Time) time.Time {
	switch rested := c.sent.Add(keepOpen); {
	case c.prober == nil:
		return time.Time{}
	case now.Before(rested):
		return rested
	}
	_ = c.prober.Close()
	c.prober = nil
	return time.Time{}
}

// end closes the sockets, and waits for what is asked.
func (c *checker) end() {
	if c.prober != nil {
		_ = c.prober.Close()
	}
	c.asking.Wait()
}

// counts says whether the service proxy counts endpoints of this node, at a healthCheckNodePort: it listens on the node's
// addresses, or on all.
func (d *delivery) counts(ctx context.Context, port uint16) bool {
	for _, a := range append(slices.Clone(d.addresses), netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		url := "http://" + netip.AddrPortFrom(a, port).String()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		response, err := d.http.Do(request)
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	return false
}

// targetOf is what can be tried of a Service from a node with these addresses. Without a service proxy that is known, and if
// only others may connect, there are no ports.
func targetOf(s *corev1.Service, own []netip.Addr, off bool) pathcheck.Target {
	t := pathcheck.Target{Addresses: config.Ingress(s)}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		t.HealthPort = uint16(s.Spec.HealthCheckNodePort)
	}
	if off || !mayConnect(s.Spec.LoadBalancerSourceRanges, own) {
		return t
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			t.Ports = append(t.Ports, uint16(p.Port))
		}
	}
	return t
}

// mayConnect says whether all of a node's addresses lie in a Service's source ranges; none: everybody's do.
func mayConnect(ranges []string, own []netip.Addr) bool {
	return len(ranges) == 0 || !slices.ContainsFunc(own, func(a netip.Addr) bool {
		return !slices.ContainsFunc(ranges, func(r string) bool {
			prefix, err := netip.ParsePrefix(r)
			return err == nil && prefix.Contains(a)
		})
	})
}
