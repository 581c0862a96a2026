package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
)

// moment is what happens at a second of a test, and what is known then.
type moment struct {
	at   int
	does func(*proxyCheck, time.Time)
	want announce.ProxyState
}

func says(word proxyWord) func(*proxyCheck, time.Time) {
	return func(c *proxyCheck, now time.Time) { c.hear(proxyAnswer{word, "It spoke"}, now) }
}

func mode(m v1alpha1.ServiceProxyMode) func(*proxyCheck, time.Time) {
	return func(c *proxyCheck, now time.Time) { c.follow(m, false, now) }
}

func elsewhere(m v1alpha1.ServiceProxyMode) func(*proxyCheck, time.Time) {
	return func(c *proxyCheck, now time.Time) { c.follow(m, true, now) }
}

func TestProxyCheck(t *testing.T) {
	t.Parallel()
	const (
		auto, required, off            = v1alpha1.ServiceProxyAuto, v1alpha1.ServiceProxyRequired, v1alpha1.ServiceProxyOff
		notReady, isReady, unknown     = announce.ProxyNotReady, announce.ProxyReady, announce.ProxyUnknown
		waits, delivers, absent        = proxyWaits, proxyDelivers, proxyAbsent
		reasonNot, reasonIs, reasonUnk = v1alpha1.ReasonServiceProxyNotReady, v1alpha1.ReasonReady, v1alpha1.ReasonServiceProxyUnknown
	)
	for _, tc := range []struct {
		name   string
		story  []moment
		reason v1alpha1.Reason
		says   string
	}{
		{"it is not ready before it is asked", []moment{{0, mode(auto), notReady}}, reasonNot, "has not been asked yet"},
		{"it is ready as soon as it says so", []moment{{0, mode(auto), notReady}, {1, says(waits), notReady}, {2, says(delivers), isReady}}, reasonIs, "It spoke."},
		{"one that waits is waited for without end", []moment{{0, mode(auto), notReady}, {1, says(waits), notReady}, {500, says(waits), notReady}}, reasonNot, "It spoke."},
		{"Auto announces with a warning when nobody listens for 60 s", []moment{{0, mode(auto), notReady}, {1, says(absent), notReady}, {60, says(absent), notReady}, {61, says(absent), unknown}}, reasonUnk, "set serviceProxy.healthURL"},
		{"the 60 s begin anew when somebody listened meanwhile", []moment{{0, mode(auto), notReady}, {1, says(absent), notReady}, {50, says(waits), notReady}, {55, says(absent), notReady}, {100, says(absent), notReady}, {115, says(absent), unknown}}, reasonUnk, ""},
		{"Required waits though nobody listens", []moment{{0, mode(required), notReady}, {1, says(absent), notReady}, {500, says(absent), notReady}}, reasonNot, ""},
		{"Off is ready at once", []moment{{0, mode(off), isReady}}, reasonIs, "is Off"},
		{"a later failure moves nothing for 60 s", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(waits), isReady}, {69, says(waits), isReady}, {70, says(waits), notReady}}, reasonNot, ""},
		{"a failure that is over is forgotten", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(waits), isReady}, {65, says(delivers), isReady}, {71, says(waits), isReady}, {130, says(waits), isReady}}, reasonIs, "It spoke. It is given 60s"},
		{"after 60 s without anybody who listens, Auto announces on with a warning", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(absent), isReady}, {69, says(absent), isReady}, {70, says(absent), unknown}}, reasonUnk, ""},
		{"a failure of two kinds ends as its last", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(waits), isReady}, {60, says(absent), isReady}, {70, says(absent), unknown}}, reasonUnk, ""},
		{"after 60 s without anybody who listens, Required announces no more", []moment{{0, mode(required), notReady}, {1, says(delivers), isReady}, {10, says(absent), isReady}, {70, says(absent), notReady}}, reasonNot, ""},
		{"it is ready again as soon as it says so", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(waits), isReady}, {70, says(waits), notReady}, {71, says(delivers), isReady}}, reasonIs, ""},
		{"one that appears late has 60 s to become ready", []moment{{0, mode(auto), notReady}, {1, says(absent), notReady}, {61, says(absent), unknown}, {100, says(waits), unknown}, {130, says(delivers), isReady}}, reasonIs, ""},
		{"one that appears late and never becomes ready is not ready", []moment{{0, mode(auto), notReady}, {1, says(absent), notReady}, {61, says(absent), unknown}, {100, says(waits), unknown}, {160, says(waits), notReady}}, reasonNot, ""},
		{"from Auto to Required, a warning is not enough", []moment{{0, mode(auto), notReady}, {1, says(absent), notReady}, {61, says(absent), unknown}, {62, mode(required), notReady}}, reasonNot, ""},
		{"from Required to Auto, what nobody said for 60 s counts", []moment{{0, mode(required), notReady}, {1, says(absent), notReady}, {90, mode(auto), unknown}}, reasonUnk, ""},
		{"from Off to Required, a failure moves nothing for 60 s", []moment{{0, mode(off), isReady}, {5, mode(required), isReady}, {6, says(waits), isReady}, {65, says(waits), isReady}, {66, says(waits), notReady}}, reasonNot, ""},
		{"from Required to Off, it is ready", []moment{{0, mode(required), notReady}, {1, says(waits), notReady}, {2, mode(off), isReady}}, reasonIs, ""},
		{"another place is asked anew, and nothing moves meanwhile", []moment{{0, mode(auto), notReady}, {1, says(delivers), isReady}, {10, says(waits), isReady}, {69, elsewhere(auto), isReady}, {75, says(waits), isReady}, {134, says(waits), isReady}, {135, says(waits), notReady}}, reasonNot, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var c proxyCheck
			for _, m := range tc.story {
				m.does(&c, time.Unix(int64(m.at), 0))
				if c.state != m.want {
					t.Fatalf("at %d s: got %v, want %v", m.at, c.state, m.want)
				}
			}
			state, reason, said := c.verdict()
			if state != c.state || reason != tc.reason || !strings.Contains(said, tc.says) || !strings.HasSuffix(said, ".") {
				t.Errorf("got %s, %q; want %s and %q", reason, said, tc.reason, tc.says)
			}
		})
	}
}

func TestProxyIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	c, now := proxyCheck{}, time.Unix(0, 0)
	c.follow(v1alpha1.ServiceProxyAuto, false, now)
	pauses := []time.Duration{c.next()}
	for range 12 {
		c.hear(proxyAnswer{proxyWaits, "It waits"}, now)
		pauses = append(pauses, c.next())
	}
	if pauses[0] != firstProxyPause || pauses[1] != firstProxyPause || pauses[len(pauses)-1] != lastProxyPause || !slices.IsSorted(pauses) {
		t.Errorf("while it waits: got %v", pauses)
	}
	c.hear(proxyAnswer{proxyDelivers, "It delivers"}, now)
	if got := c.next(); got != steadyProxyPause {
		t.Errorf("once it is ready: got %v", got)
	}
	c.follow(v1alpha1.ServiceProxyOff, false, now)
	if got := c.next(); got != 0 {
		t.Errorf("when it is off: got %v", got)
	}
}

func TestProxyFollowsAnswersAndSettings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var changes, asked int
		var last string
		answer := proxyAnswer{proxyWaits, "It waits"}
		p := newProxy(logr.Discard(), func() { changes++ })
		p.ask = func(_ context.Context, url string, _ []corev1.IPFamily) proxyAnswer {
			asked++
			last = url
			return answer
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Start(ctx) }()
		expect := func(what string, state announce.ProxyState, least, most int, url string) {
			t.Helper()
			synctest.Wait()
			if got, _, said := p.state(); got != state || asked < least || asked > most || last != url {
				t.Errorf("%s: got %v (%s), asked %d times, at last %q; want %v, %d to %d times, %q", what, got, said, asked, last, state, least, most, url)
			}
			asked = 0
		}
		settings := config.Settings{ProxyMode: v1alpha1.ServiceProxyAuto}
		time.Sleep(time.Minute)
		expect("before the settings are known", announce.ProxyNotReady, 0, 0, "")
		p.configure(settings)
		time.Sleep(10 * time.Second)
		expect("while it waits", announce.ProxyNotReady, 8, 20, "")
		if changes != 1 {
			t.Errorf("got %d changes while it waits, want 1 of the message", changes)
		}
		answer = proxyAnswer{proxyDelivers, "It delivers"}
		time.Sleep(3 * time.Second)
		expect("when it is ready", announce.ProxyReady, 1, 2, "")
		time.Sleep(time.Minute)
		expect("later", announce.ProxyReady, 12, 13, "")
		settings.ProxyHealthURL = "http://other"
		p.configure(settings)
		expect("when another place is to be asked", announce.ProxyReady, 1, 1, "http://other")
		p.configure(settings)
		expect("when nothing changed", announce.ProxyReady, 0, 0, "http://other")
		settings.ProxyMode = v1alpha1.ServiceProxyOff
		p.configure(settings)
		time.Sleep(time.Minute)
		expect("when it is off", announce.ProxyReady, 0, 0, "http://other")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFamiliesOf(t *testing.T) {
	t.Parallel()
	for addresses, want := range map[string][]corev1.IPFamily{
		"10.0.0.1": {corev1.IPv4Protocol}, "fd00::1": {corev1.IPv6Protocol}, "fd00::1 10.0.0.1": {corev1.IPv4Protocol, corev1.IPv6Protocol},
	} {
		var list []netip.Addr
		for _, a := range strings.Fields(addresses) {
			list = append(list, netip.MustParseAddr(a))
		}
		if got := familiesOf(list); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", addresses, got, want)
		}
	}
}
