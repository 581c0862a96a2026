//go:build e2e

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ballast-lb/ballast/test/lab"
)

// answers waits until a node is reached from a host, or is not.
func answers(t *testing.T, l *lab.Lab, from string, to netip.Addr, want bool) {
	t.Helper()
	err := l.WaitFor(t.Context(), fmt.Sprintf("%s reaches %s: %v", from, to, want), func(ctx context.Context) error {
		out, err := l.Exec(ctx, from, "ping", "-c", "1", "-W", "1", to.String())
		if (err == nil) != want {
			return fmt.Errorf("ping: %v: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// owner asks the LAN who has an address.
func owner(t *testing.T, l *lab.Lab, a netip.Addr) []string {
	t.Helper()
	got, err := l.Ask(t.Context(), "cp", 200*time.Millisecond, a)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, mac := range got.Owners(a) {
		names = append(names, l.NameOf(mac))
	}
	slices.Sort(names)
	return names
}

// gossip fails unless n1's closed gossip port refuses a connection (reached), or keeps silent.
func gossip(ctx context.Context, l *lab.Lab, reached bool) error {
	_, err := l.Exec(ctx, "lan", "timeout", "1", "bash", "-c", "echo >/dev/tcp/10.10.0.11/7947")
	if err == nil || strings.Contains(err.Error(), "refused") != reached {
		return fmt.Errorf("connect to the gossip port: %w", err)
	}
	return nil
}

func TestTheNetworkBreaksAsAskedAndHeals(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Prefix: "labf", Nodes: 3, SecondLAN: true, NoBallast: true})
	n := l.Node(1)
	steps := []struct {
		what string
		do   func() error
		want bool // the client reaches n1
	}{
		{"partition", func() error { return l.Partition(ctx, "n1", "n2") }, false},
		{"heal", func() error { return l.Heal(ctx) }, true},
		{"lose what it sends", func() error { return n.Lose(ctx, lab.LoseSent) }, false},
		{"mend", func() error { return n.Mend(ctx) }, true},
		{"lose what it receives", func() error { return n.Lose(ctx, lab.LoseReceived, "eth0") }, false},
		{"mend again", func() error { return n.Mend(ctx) }, true},
		{"lose gossip", func() error {
			return errors.Join(gossip(ctx, l, true), n.Lose(ctx, lab.LoseGossip), gossip(ctx, l, false))
		}, true},
		{"mend what is lost twice", func() error { return errors.Join(n.Lose(ctx, lab.LoseSent), n.Mend(ctx), n.Mend(ctx)) }, true},
		{"shut down", func() error { return n.ShutDown(ctx) }, false},
		{"power on", func() error { return n.PowerOn(ctx) }, true},
		{"reboot", func() error { return n.Reboot(ctx, time.Second) }, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		t.Log(s.what)
		answers(t, l, "lan", n.IPv4, s.want)
		if s.what == "partition" {
			answers(t, l, "n2", n.IPv4, true)
			answers(t, l, "lan", l.Node(3).IPv4, true)
		}
	}
	if err := n.Cut(ctx, "eth1"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.PowerOff(ctx), n.PowerOn(ctx)); err != nil {
		t.Fatal(err)
	}
	out, err := l.Exec(ctx, "n1", "cat", "/sys/class/net/eth0/carrier")
	if err != nil || strings.TrimSpace(out) != "1" {
		t.Errorf("eth0 has carrier %q, %v", out, err)
	}
	if out, err := l.Exec(ctx, "n1", "ip", "-br", "link", "show", "eth1"); err != nil || !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("power on plugged a cable in that had been pulled out: %q, %v", out, err)
	}
}

func TestWhoAnswersForAnAddressIsSeen(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Prefix: "labw", Nodes: 2, NoBallast: true})
	v4, v6 := netip.MustParseAddr("10.10.0.120"), netip.MustParseAddr("fd00:10::120")
	if got := append(owner(t, l, v4), owner(t, l, v6)...); len(got) > 0 {
		t.Fatalf("%v answer for addresses of nobody", got)
	}
	watch, err := l.Watch("lan", v4)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := l.AddHost(ctx, "printer", v4, v6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{v4, v6} {
		if got := owner(t, l, a); !slices.Equal(got, []string{"printer"}) {
			t.Errorf("%v answer for %s, want printer", got, a)
		}
	}
	if err := l.Node(2).AnswerFor(ctx, v4); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, l, v4); !slices.Equal(got, []string{"n2", "printer"}) {
		t.Errorf("%v answer for %s, want n2 and printer", got, v4)
	}
	if err := errors.Join(l.Node(2).StopAnsweringFor(ctx, v4), stranger.Announce(v4)); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, l, v4); !slices.Equal(got, []string{"printer"}) {
		t.Errorf("%v answer for %s, want printer", got, v4)
	}
	err = l.WaitFor(ctx, "the announcement is heard", func(context.Context) error {
		seen := watch.Seen()
		if len(seen) != 1 || seen[0].Kind != lab.ARPAnnouncement || !seen[0].Unasked || seen[0].Owner != stranger.MAC() {
			return fmt.Errorf("heard %+v", seen)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	watch.Stop()
	report, err := l.Flood(ctx, lab.Flood{From: "lan", Addresses: []netip.Addr{l.Node(1).IPv4, l.Node(2).IPv4}, Rate: 100, Count: 50})
	if err != nil || report.Sent != 50 || report.Lost > 0 || len(report.Latencies) != 50 || slices.Min(report.Latencies) < 0 {
		t.Errorf("a small flood: %+v, %v", report, err)
	}
	if err := l.RemoveHost(ctx, "printer"); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, l, v4); len(got) > 0 {
		t.Errorf("%v answer after the host went", got)
	}
	if _, err := l.AddHost(ctx, "n1"); err == nil {
		t.Error("a second n1 was added")
	}
}

// What a prober and held connections report agrees with what was done to the path.
func TestClientsNoticeWhatBreaks(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Prefix: "labn", Nodes: 2, NoBallast: true})
	if _, err := l.AddBackend(ctx, lab.Backend{App: "web", Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(ctx, webService); err != nil {
		t.Fatal(err)
	}
	patch := `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9"},{"ip":"2001:db8::9"}]}}}`
	if _, err := l.Client().CoreV1().Services("default").Patch(ctx, "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	probe := lab.Probe{From: "lan"}
	for _, route := range []string{"192.0.2.9 via 10.10.0.11", "2001:db8::9 via fd00:10::11"} {
		if out, err := l.Exec(ctx, "lan", append([]string{"ip", "route", "add"}, strings.Fields(route)...)...); err != nil {
			t.Fatal(out, err)
		}
		a := netip.MustParseAddr(strings.Fields(route)[0])
		probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
		err := l.WaitFor(ctx, "the client reaches "+a.String(), func(ctx context.Context) error {
			_, err := l.HTTP(ctx, "lan", "http://"+netip.AddrPortFrom(a, 80).String()+"/")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	prober, err := l.StartProber(probe)
	if err != nil {
		t.Fatal(err)
	}
	defer prober.Stop()
	held, err := l.Hold(ctx, lab.Hold{From: "lan", Target: probe.Targets[0], Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Stop()
	await := func(n int) {
		t.Helper()
		want := prober.Count() + n
		err := l.WaitFor(ctx, "further attempts", func(context.Context) error {
			if got := prober.Count(); got < want {
				return fmt.Errorf("%d of %d", got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await(100)
	if report := held.Report(); report.Broken > 0 {
		t.Errorf("on a sound path: %s", report)
	}
	if report := prober.Log().Report(time.Time{}, time.Time{}); report.Failed > 0 || report.Total < 100 {
		t.Errorf("on a sound path: %s", report)
	}
	if err := l.Node(1).Isolate(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now() // from here on nothing succeeds
	err = l.WaitFor(ctx, "held connections break", func(context.Context) error {
		if report := held.Report(); report.Broken < report.Count {
			return errors.New(report.String())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	lasted := time.Since(began)
	if err := l.Node(1).Rejoin(ctx); err != nil {
		t.Fatal(err)
	}
	await(300)
	report := prober.Stop().Report(time.Time{}, time.Time{})
	if report.Failed == 0 || report.Gap < lasted {
		t.Errorf("the path was broken for %s: %s", lasted, report)
	}
	if got := held.Stop(); got.Broken != got.Count || got.Outcomes[lab.TimedOut] != got.Count {
		t.Errorf("the path was broken for %s: %s", lasted, got)
	}
}

func TestAThrottledProcessGetsItsShareAndRunsOnAfterwards(t *testing.T) {
	l := up(t, lab.Options{Prefix: "labh", NoBallast: true})
	p, err := l.Process("etcd")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Throttle(0, time.Second); err == nil {
		t.Error("a process that never runs was accepted")
	}
	if err := p.Throttle(20*time.Millisecond, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(t.Context(), "get", "namespaces"); err != nil {
		t.Errorf("a throttled etcd does not answer: %v", err)
	}
	p.Unthrottle()
	if err := l.StopAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(t.Context(), "--request-timeout=2s", "get", "namespaces"); err == nil {
		t.Error("the API server was stopped and answers")
	}
	if err := l.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(t.Context(), "get", "namespaces"); err != nil {
		t.Error(err)
	}
}
