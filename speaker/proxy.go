package main

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
)

const (
	// proxyPatience is for how long a service proxy that could deliver may say otherwise
	// before anything moves, and how long nobody must listen before nobody is expected to.
	proxyPatience = 60 * time.Second
	// firstProxyPause and lastProxyPause bound the pause between two questions to a service
	// proxy that is not ready; it grows by a quarter each time.
	firstProxyPause = 250 * time.Millisecond
	lastProxyPause  = 2 * time.Second
	// steadyProxyPause is the pause while the node may announce.
	steadyProxyPause = 5 * time.Second
)

// proxyWord is what a service proxy said when it was asked once.
type proxyWord uint8

const (
	proxyWaits    proxyWord = iota // it does not say that it can deliver
	proxyDelivers                  // it says so
	proxyAbsent                    // nobody listens where it should
)

// proxyAnswer is what asking a service proxy once brought.
type proxyAnswer struct {
	word proxyWord
	said string // a sentence for people, without its full stop
}

// proxyCheck decides what is known of the node's service proxy. It is pure: answers and time
// go in. The rules:
//
//   - Off: it is ready, and nobody is asked.
//   - A proxy that says that it can deliver is ready, at once.
//   - What speaks against a state in which the node announces moves nothing for 60 s.
//   - If nobody listens then, or for 60 s from the start, Auto announces with a warning.
//   - Else it is not ready.
type proxyCheck struct {
	mode  v1alpha1.ServiceProxyMode
	state announce.ProxyState
	asked bool // last is of the place that is asked now
	last  proxyAnswer
	// against is since when each answer has spoken against state, absent since when nobody
	// listens; zero: that is not so.
	against, absent time.Time
	pause           time.Duration
}

// follow changes the mode, and forgets earlier answers if another place is asked from now on.
func (c *proxyCheck) follow(mode v1alpha1.ServiceProxyMode, elsewhere bool, now time.Time) {
	if c.mode != mode || elsewhere {
		c.pause = 0
	}
	c.mode = mode
	if elsewhere || mode == v1alpha1.ServiceProxyOff {
		c.asked, c.against, c.absent = false, time.Time{}, time.Time{}
	}
	c.decide(now)
}

// hear takes an answer.
func (c *proxyCheck) hear(a proxyAnswer, now time.Time) {
	c.asked, c.last = true, a
	since(&c.absent, a.word == proxyAbsent, now)
	c.decide(now)
	c.pause = max(firstProxyPause, min(c.pause*5/4, lastProxyPause))
	if c.state != announce.ProxyNotReady {
		c.pause = 0
	}
}

// next is how long to wait before the next question; 0: there is none.
func (c *proxyCheck) next() time.Duration {
	switch {
	case c.mode == v1alpha1.ServiceProxyOff:
		return 0
	case c.state == announce.ProxyNotReady:
		return max(c.pause, firstProxyPause)
	}
	return steadyProxyPause
}

func (c *proxyCheck) decide(now time.Time) {
	before, auto := c.state, c.mode == v1alpha1.ServiceProxyAuto
	since(&c.against, c.speaksAgainst(), now)
	switch {
	case c.mode == v1alpha1.ServiceProxyOff || c.asked && c.last.word == proxyDelivers:
		c.state = announce.ProxyReady
	case c.state == announce.ProxyUnknown && !auto:
		c.state = announce.ProxyNotReady
	case c.against.IsZero() && c.state != announce.ProxyNotReady:
	case c.state == announce.ProxyNotReady:
		if auto && c.asked && !c.absent.IsZero() && now.Sub(c.absent) >= proxyPatience {
			c.state = announce.ProxyUnknown
		}
	case now.Sub(c.against) < proxyPatience:
	case auto && c.last.word == proxyAbsent:
		c.state = announce.ProxyUnknown
	default:
		c.state = announce.ProxyNotReady
	}
	if c.state != before {
		c.against = time.Time{}
	}
}

// speaksAgainst says whether the last answer speaks against a state in which the node announces.
func (c *proxyCheck) speaksAgainst() bool {
	switch c.state {
	case announce.ProxyReady:
		return c.asked && c.last.word != proxyDelivers
	case announce.ProxyUnknown:
		return c.asked && c.last.word == proxyWaits
	case announce.ProxyNotReady:
	}
	return false
}

// since keeps in t since when something is so.
func since(t *time.Time, is bool, now time.Time) {
	switch {
	case !is:
		*t = time.Time{}
	case t.IsZero():
		*t = now
	}
}

// verdict is what is known, for the engine and for the condition ServiceProxyReady.
func (c *proxyCheck) verdict() (announce.ProxyState, v1alpha1.Reason, string) {
	reason := v1alpha1.ReasonReady
	switch c.state {
	case announce.ProxyNotReady:
		reason = v1alpha1.ReasonServiceProxyNotReady
	case announce.ProxyUnknown:
		reason = v1alpha1.ReasonServiceProxyUnknown
	case announce.ProxyReady:
	}
	switch {
	case c.mode == v1alpha1.ServiceProxyOff:
		return c.state, reason, "The service proxy is not asked: serviceProxy.mode of Settings is Off."
	case !c.asked:
		return c.state, reason, "The service proxy has not been asked yet."
	case c.speaksAgainst():
		return c.state, reason, c.last.said + ". It is given 60s before this node ceases to count on it."
	case c.state == announce.ProxyUnknown:
		return c.state, reason, c.last.said + "; addresses are announced without knowing whether this node can deliver. If the service proxy is not kube-proxy, set serviceProxy.healthURL of Settings."
	}
	return c.state, reason, c.last.said + "."
}

// proxy asks the node's service proxy (kube-proxy, or what replaces it) whether it can
// deliver. Until configure is called for the first time, it is not ready and nobody is asked.
type proxy struct {
	log logr.Logger
	// families are those that must be programmed, if the service proxy tells them apart; none:
	// each that it lists. It is set before Start.
	families []corev1.IPFamily
	// changed is called after state has begun to answer otherwise; it must not block.
	changed func()
	// ask asks once, at a URL or, without one, where kube-proxy answers.
	ask  func(ctx context.Context, url string, families []corev1.IPFamily) proxyAnswer
	wake chan struct{} // says that the settings changed

	mu    sync.Mutex // guards what follows
	check proxyCheck // its mode is empty before the settings are known
	url   string
}

func newProxy(log logr.Logger, changed func()) *proxy {
	return &proxy{log: log, changed: changed, ask: newProxyAsker().ask, wake: make(chan struct{}, 1)}
}

// state returns what is known now: for the engine, and for the condition ServiceProxyReady,
// which is True unless the state is ProxyNotReady. It is safe for concurrent use.
func (p *proxy) state() (announce.ProxyState, v1alpha1.Reason, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check.verdict()
}

// known says whether state rests on an answer, or needs none. It is safe for concurrent use.
func (p *proxy) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check.asked || p.check.mode == v1alpha1.ServiceProxyOff
}

// off says that the settings say that there is none to ask. It is safe for concurrent use.
func (p *proxy) off() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check.mode == v1alpha1.ServiceProxyOff
}

// configure takes the settings. It is safe for concurrent use, and does not block.
func (p *proxy) configure(s config.Settings) {
	p.update(func(now time.Time) {
		if p.check.mode != s.ProxyMode || p.url != s.ProxyHealthURL {
			p.check.follow(s.ProxyMode, p.url != s.ProxyHealthURL, now)
			p.url = s.ProxyHealthURL
			poke(p.wake)
		}
	})
}

// update changes what is known, and says so.
func (p *proxy) update(change func(now time.Time)) {
	p.mu.Lock()
	before, reasonBefore, saidBefore := p.check.verdict()
	change(time.Now())
	state, reason, said := p.check.verdict()
	p.mu.Unlock()
	if state != before {
		p.log.Info("service proxy changed", "reason", reason, "says", said)
	}
	if state != before || reason != reasonBefore || said != saidBefore {
		p.changed()
	}
}

// Start asks until ctx ends; it is a manager.Runnable.
func (p *proxy) Start(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
		if next := p.round(ctx); next > 0 {
			timer.Reset(next)
		}
	}
}

// round asks once, and returns when to ask again; 0: when the settings change.
func (p *proxy) round(ctx context.Context) time.Duration {
	p.mu.Lock()
	mode, url := p.check.mode, p.url
	p.mu.Unlock()
	if mode == "" || mode == v1alpha1.ServiceProxyOff {
		return 0
	}
	answer := p.ask(ctx, url, p.families)
	if ctx.Err() != nil {
		return 0
	}
	var next time.Duration
	p.update(func(now time.Time) {
		if p.check.mode != v1alpha1.ServiceProxyOff && p.url == url { // else wake is about to have it asked anew
			p.check.hear(answer, now)
		}
		next = p.check.next()
	})
	return next
}

// familiesOf returns the families of some addresses.
func familiesOf(addresses []netip.Addr) []corev1.IPFamily {
	var v4, v6 bool
	for _, a := range addresses {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	var list []corev1.IPFamily
	if v4 {
		list = append(list, corev1.IPv4Protocol)
	}
	if v6 {
		list = append(list, corev1.IPv6Protocol)
	}
	return list
}
