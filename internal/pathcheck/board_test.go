package pathcheck_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/pathcheck"
)

func start() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

func key(n int) name.ServiceKey {
	return name.ServiceKey{Namespace: "shop", Name: fmt.Sprintf("web-%05d", n)}
}

func web(edit ...func(*pathcheck.Target)) pathcheck.Target {
	t := pathcheck.Target{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Ports: []uint16{80}}
	for _, e := range edit {
		e(&t)
	}
	return t
}

func udp(t *pathcheck.Target)   { t.Ports = nil }
func local(t *pathcheck.Target) { t.HealthPort = 31000 }
func dual(t *pathcheck.Target) {
	t.Addresses = append(t.Addresses, netip.MustParseAddr("2001:db8::a"))
}

// node is what the network does in a test, by the age of the Service; zero: never.
type node struct {
	answers, answers6, counts, syncs time.Duration
	seasoned                         bool // a try of another Service has succeeded before
}

// play runs a board with one Service, and returns when it was settled how.
func play(target pathcheck.Target, n node, until time.Duration) []string {
	b, began := pathcheck.NewBoard(), start()
	if n.seasoned {
		b.Succeed(pathcheck.Try{Service: key(9), Address: netip.MustParseAddr("192.0.2.9"), Port: 80})
	}
	b.Want(key(1), target, began)
	var said []string
	is := func(at, age time.Duration) bool { return at != 0 && age >= at }
	for age := time.Duration(0); age <= until; {
		now := began.Add(age)
		if is(n.syncs, age) {
			b.Sync(began.Add(n.syncs))
		}
		for _, try := range b.Due(now) {
			switch {
			case try.Health && is(n.counts, age), try.Address.Is4() && is(n.answers, age), try.Address.Is6() && is(n.answers6, age):
				b.Succeed(try)
			}
		}
		for _, v := range b.Settled(now) {
			said = append(said, fmt.Sprintf("%s doubted=%v", age.Truncate(100*time.Millisecond), v.Doubted))
		}
		if b.Again().IsZero() {
			break
		}
		age = max(min(b.Again().Sub(began), age+100*time.Millisecond), age+time.Millisecond)
	}
	return said
}

func TestWhenAServiceIsSettled(t *testing.T) {
	t.Parallel()
	const soon = time.Nanosecond
	for name, c := range map[string]struct {
		target pathcheck.Target
		node   node
		want   []string
	}{
		"it answers at once":                       {web(), node{answers: soon, seasoned: true}, []string{"0s doubted=false"}},
		"it answers as soon as it is programmed":   {web(), node{answers: 700 * time.Millisecond, seasoned: true}, []string{"700ms doubted=false"}},
		"the first Service of a node answers":      {web(), node{answers: 300 * time.Millisecond}, []string{"300ms doubted=false"}},
		"it never answers":                         {web(), node{seasoned: true}, []string{"3s doubted=true"}},
		"it answers late":                          {web(), node{answers: 4 * time.Second, seasoned: true}, []string{"3s doubted=true", "8s doubted=false"}},
		"a sync proves nothing that a try denies":  {web(), node{syncs: soon, seasoned: true}, []string{"3s doubted=true"}},
		"both addresses must answer":               {web(dual), node{answers: soon, answers6: 500 * time.Millisecond, seasoned: true}, []string{"500ms doubted=false"}},
		"a node where no try has ever succeeded":   {web(), node{}, []string{"1s doubted=false"}},
		"such a node, and the proxy syncs":         {web(), node{syncs: 200 * time.Millisecond}, []string{"200ms doubted=false"}},
		"UDP waits for a sync":                     {web(udp), node{syncs: 400 * time.Millisecond, seasoned: true}, []string{"400ms doubted=false"}},
		"UDP waits 1 s without one":                {web(udp), node{seasoned: true}, []string{"1s doubted=false"}},
		"Local needs an endpoint that is counted":  {web(local), node{answers: soon, counts: 600 * time.Millisecond, seasoned: true}, []string{"600ms doubted=false"}},
		"Local without one is doubted":             {web(local), node{answers: soon, seasoned: true}, []string{"3s doubted=true"}},
		"Local and UDP: a sync and an endpoint":    {web(udp, local), node{syncs: soon, counts: 500 * time.Millisecond}, []string{"500ms doubted=false"}},
		"Local and UDP, nothing counted: the 1 s":  {web(udp, local), node{syncs: soon}, []string{"1s doubted=false"}},
		"a sync before the Service proves nothing": {web(udp), node{syncs: -time.Second}, []string{"1s doubted=false"}},
	} {
		if got := play(c.target, c.node, 9*time.Second); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestTriesComeAtGrowingPauses(t *testing.T) {
	t.Parallel()
	b := pathcheck.NewBoard()
	b.Succeed(pathcheck.Try{Service: key(9)})
	b.Want(key(1), web(func(t *pathcheck.Target) { t.Ports = []uint16{80, 443} }), start())
	var at []time.Duration
	var ports []uint16
	for now := start(); now.Before(start().Add(3 * time.Second)); now = now.Add(time.Millisecond) {
		for _, try := range b.Due(now) {
			at, ports = append(at, now.Sub(start())), append(ports, try.Port)
		}
	}
	const ms = time.Millisecond
	if want := []time.Duration{0, 20 * ms, 45 * ms, 77 * ms}; !slices.Equal(at[:4], want) {
		t.Errorf("the first tries are at %v, want %v", at[:4], want)
	}
	if !slices.Equal(ports[:4], []uint16{80, 443, 80, 443}) {
		t.Errorf("the first tries are of the ports %v", ports[:4])
	}
	for i := 1; i < len(at); i++ {
		pause, limit := at[i]-at[i-1], 101*ms
		if at[i-1] >= 2*time.Second {
			limit = 501 * ms
		}
		if pause > limit || pause < 20*ms {
			t.Errorf("a pause of %v at %v", pause, at[i-1])
		}
	}
	if len(at) > 32 {
		t.Errorf("%d tries in 3 s", len(at))
	}
}

func TestAStartWithManyServicesIsBounded(t *testing.T) {
	t.Parallel()
	const services = 10_000
	b := pathcheck.NewBoard()
	for i := range services {
		b.Want(key(i), web(), start())
	}
	tries, settled, doubted := 0, 0, 0
	for now := start(); now.Before(start().Add(4 * time.Second)); now = now.Add(20 * time.Millisecond) {
		for _, try := range b.Due(now) {
			tries++
			b.Succeed(try)
		}
		for _, v := range b.Settled(now) {
			settled++
			if v.Doubted {
				doubted++
			}
		}
	}
	if tries > 500*3+11 {
		t.Errorf("%d tries in 3 s, want 500 a second", tries)
	}
	if settled != services || doubted != 0 {
		t.Errorf("%d Services are settled, %d of them doubted though all answer", settled, doubted)
	}
}

func TestADroppedServiceIsNotTried(t *testing.T) {
	t.Parallel()
	b := pathcheck.NewBoard()
	b.Want(key(1), web(), start())
	b.Drop(key(1))
	b.Succeed(pathcheck.Try{Service: key(1), Address: netip.MustParseAddr("192.0.2.10")})
	if tries := b.Due(start().Add(time.Second)); len(tries) > 0 || !b.Again().IsZero() || b.Blind() {
		t.Errorf("tried %v, again %v", tries, b.Again())
	}
	if said := b.Settled(start().Add(time.Minute)); len(said) > 0 {
		t.Errorf("settled %v", said)
	}
}
