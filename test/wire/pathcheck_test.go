//go:build e2e

package wire

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/pathcheck"
)

// The rules of a service proxy, as kube-proxy in nftables mode writes them: one of a Service that has an endpoint, and one of
// a Service that has none.
const (
	delivers = `table inet proxy {
		chain out {
			type nat hook output priority -100
			ip daddr 203.0.113.10 tcp dport 80 dnat ip to 192.0.2.50:8080
			ip6 daddr 2001:db8::a tcp dport 80 dnat ip6 to [fd00:2::50]:8080
		}
	}`
	refuses = `table inet proxy {
		chain out {
			type filter hook output priority 0
			ip daddr 203.0.113.10 tcp dport 80 reject
			ip6 daddr 2001:db8::a tcp dport 80 reject
		}
	}`
)

// TestAHalfOpenConnectionShowsWhetherTheServiceProxyDelivers has a node whose router answers for the
// Service's addresses itself, as a router does that has another node's route: that proves nothing.
func TestAHalfOpenConnectionShowsWhetherTheServiceProxyDelivers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("a", macA, "192.0.2.1/24", "fd00:2::1/64 nodad")
	l.host("router", macPeer, "192.0.2.254/24", "203.0.113.10/32", "fd00:2::254/64 nodad", "2001:db8::a/128 nodad")
	l.host("pod", macB, "192.0.2.50/24", "fd00:2::50/64 nodad")
	l.in("a", "ip route add default via 192.0.2.254", "ip route add default via fd00:2::254")
	answers := make(chan pathcheck.Try, 100)
	var prober *pathcheck.Prober
	l.inside("a", func() (err error) {
		prober, err = pathcheck.Open(func(try pathcheck.Try) { answers <- try })
		return err
	})
	t.Cleanup(func() { _ = prober.Close() })
	addresses := []string{"203.0.113.10", "2001:db8::a"}
	try := func(address string) bool {
		want := pathcheck.Try{Service: name.ServiceKey{Namespace: "shop", Name: address}, Address: netip.MustParseAddr(address), Port: 80}
		l.inside("a", func() error { _ = prober.Send(want); return nil }) // a rule that rejects is an error
		select {
		case got := <-answers:
			if got != want {
				t.Errorf("the answer is to %v, want %v", got, want)
			}
			return true
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}
	for _, step := range []struct {
		what, rules string
		listens     bool
		want        bool
	}{
		{what: "without a rule only the router answers"},
		{what: "what is rejected is not delivered", rules: refuses},
		{what: "a pod that refuses is delivered to", rules: delivers, want: true},
		{what: "a pod that accepts is delivered to", rules: delivers, listens: true, want: true},
	} {
		l.rules("a", step.rules)
		if step.listens {
			l.inside("pod", func() error {
				listener, err := net.Listen("tcp", ":8080")
				if err == nil {
					t.Cleanup(func() { _ = listener.Close() })
				}
				return err
			})
		}
		for _, address := range addresses {
			if got := try(address); got != step.want {
				t.Errorf("%s: %s answered: %v", step.what, address, got)
			}
		}
	}
	began := time.Now()
	if try(addresses[0]) {
		t.Logf("a try took %v", time.Since(began))
	}
}

// rules has a host follow these rules of nft(8) and no others.
func (l *lab) rules(host, rules string) {
	l.t.Helper()
	command := exec.Command("ip", "netns", "exec", l.ns(host), "nft", "-f", "-")
	command.Stdin = strings.NewReader("flush ruleset\n" + rules)
	if out, err := command.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v: %s", err, out)
	}
}
