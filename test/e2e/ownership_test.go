//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// words splits a message into names.
func words(message string) []string {
	return strings.FieldsFunc(message, func(r rune) bool { return strings.ContainsRune(" ,.;:()", r) })
}

// unchanged fails if an object was written since it was read.
func (c *cluster) unchanged(before *corev1.Service) {
	c.Helper()
	now := before.DeepCopy()
	c.must(c.get(c.Context(), now))
	if now.ResourceVersion != before.ResourceVersion {
		c.Errorf("Service %s was written to:\n before %v\n after  %v", before.Name, before, now)
	}
}

// controllerWorks waits until a Service made now is served, which shows that whatever the
// controller wanted to do about older objects it has had the occasion to do.
func (c *cluster) controllerWorks(name string) {
	c.Helper()
	c.backend(name, "n1")
	c.reach("lan", web(c.expose(service(name, "lan"), 1)[0]))
}

func TestServiceOfAnotherClassIsLeftAlone(t *testing.T) {
	c := wide.cluster(t)
	class := "example.com/another"
	c.backend("another-class", "n1")
	s := service("another-class", "lan")
	s.Spec.LoadBalancerClass = &class
	c.create(s)
	c.must(c.get(t.Context(), s))
	c.controllerWorks("after-class")
	c.unchanged(s)
	if len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Status.Conditions) > 0 {
		t.Errorf("it has a status: %v", s.Status)
	}
}

func TestServiceWhoseIngressCameFromElsewhereIsLeftAlone(t *testing.T) {
	c := wide.cluster(t)
	ctx := t.Context()
	controller := c.process("controller-1")
	c.must(controller.Stop(ctx, syscall.SIGTERM)) // or it would be faster than we are
	c.backend("elsewhere", "n1")
	onLAN, onWAN := service("elsewhere", ""), service("elsewhere-wan", "")
	onWAN.Spec.Selector = onLAN.Spec.Selector
	foreign := map[*corev1.Service]string{onLAN: "10.10.0.149", onWAN: "192.0.2.149"} // in our pools, what is more
	for s, ip := range foreign {
		c.create(s)
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
		c.must(c.client.Status().Update(ctx, s))
	}
	c.must(controller.Start())
	c.controllerWorks("after-elsewhere")
	for s, ip := range foreign {
		c.unchanged(s)
		a := netip.MustParseAddr(ip)
		if owners, err := c.owners(ctx, a); err != nil || len(owners) > 0 {
			t.Errorf("nodes answer for %s, which is not ours: %v, %v", a, owners, err)
		}
		if hops, err := c.nextHops(ctx, a); err != nil || len(hops) > 0 {
			t.Errorf("nodes announce %s, which is not ours: %v, %v", a, hops, err)
		}
	}
}

// holders are Services with addresses, to see whether they keep them.
type holders struct {
	c        *cluster
	services []*corev1.Service
}

// hold makes Services in both pools and leaves gaps in front of them, so that handing
// out the lowest free address again would move them.
func (c *cluster) hold(name string) holders {
	c.Helper()
	c.backend(name, "n1")
	h := holders{c: c}
	var gaps []*corev1.Service
	for i := range 3 {
		for _, pool := range []string{"lan", "wan"} {
			s := service(fmt.Sprintf("%s-%s-%d", name, pool, i), pool)
			s.Spec.Selector = map[string]string{"app": name}
			c.expose(s, 1)
			if i == 0 {
				gaps = append(gaps, s)
			} else {
				h.services = append(h.services, s)
			}
		}
	}
	for _, s := range gaps {
		c.must(c.delete(c.Context(), s))
	}
	for _, s := range h.services {
		c.reachSteadily(clientFor(s), web(addresses(s)[0]))
	}
	return h
}

// keep fails if one of them has other addresses than before, or is not reached at once.
func (h holders) keep() {
	h.c.Helper()
	for _, s := range h.services {
		now := s.DeepCopy()
		h.c.must(h.c.get(h.c.Context(), now))
		if fmt.Sprint(addresses(now)) != fmt.Sprint(addresses(s)) {
			h.c.Errorf("%s had %v, now %v", s.Name, addresses(s), addresses(now))
		}
		h.c.stillReaches(clientFor(s), web(addresses(s)[0]))
	}
}

// clientFor is the client that is to reach a Service: the pool's.
func clientFor(s *corev1.Service) string {
	if lanPool.Contains(addresses(s)[0]) {
		return "lan"
	}
	return "wan"
}

func TestControllerRestartKeepsAddresses(t *testing.T) {
	c := wide.cluster(t)
	h := c.hold("held")
	h.keep()
	controller := c.process("controller-1")
	restarts := map[string]func() error{
		"terminated":       func() error { return controller.Restart(t.Context(), syscall.SIGTERM) },
		"killed":           controller.Kill,
		"stopped with INT": func() error { return controller.Restart(t.Context(), syscall.SIGINT) },
	}
	for how, restart := range restarts {
		t.Run(how, func(t *testing.T) {
			c := wide.cluster(t)
			before := controller.Pid()
			c.must(restart())
			c.eventually("the controller runs again", func(context.Context) error {
				if pid := controller.Pid(); pid == 0 || pid == before {
					return errors.New(controller.Status())
				}
				return nil
			})
			c.controllerWorks("after-restart")
			h.keep()
		})
	}
}

// A Service that appears while no controller runs is served when it is back.
func TestServiceMadeWhileTheControllerIsAwayIsServedLater(t *testing.T) {
	c := wide.cluster(t)
	controller := c.process("controller-1")
	c.must(controller.Stop(t.Context(), syscall.SIGTERM))
	c.backend("patient", "n1")
	s := service("patient", "lan")
	c.create(s)
	c.must(controller.Start())
	c.eventually("it has an address", func(ctx context.Context) error {
		if err := c.get(ctx, s); err != nil {
			return err
		}
		if len(addresses(s)) == 0 {
			return fmt.Errorf("conditions %v", s.Status.Conditions)
		}
		return nil
	})
	c.reach("lan", web(addresses(s)[0]))
}

// The router loses a node whose speaker left, and has it back when the speaker is.
func TestSpeakerRestartAnnouncesAgainOverBGP(t *testing.T) {
	c := wide.cluster(t)
	c.backend("respeak-wan", "n2")
	got := c.expose(dualStack(service("respeak-wan", "wan")), 2)
	for _, a := range got {
		c.awaitNextHops(a, "n1", "n2", "n3")
	}
	speaker := c.process("speaker-n1")
	c.must(speaker.Stop(t.Context(), syscall.SIGINT))
	for _, a := range got {
		c.awaitNextHops(a, "n2", "n3")
		c.reach("wan", web(a))
	}
	c.must(speaker.Start())
	for _, a := range got {
		c.awaitNextHops(a, "n1", "n2", "n3")
	}
	for _, how := range []func() error{speaker.Kill, func() error { return speaker.Restart(t.Context(), syscall.SIGTERM) }} {
		before := speaker.Pid()
		c.must(how())
		c.speakerPeersAgain("n1", before)
		for _, a := range got {
			c.awaitNextHops(a, "n1", "n2", "n3")
			c.reach("wan", web(a))
		}
	}
}

// speakerPeersAgain waits until the speaker that follows the one with this pid has established its sessions.
func (c *cluster) speakerPeersAgain(node string, before int) {
	c.Helper()
	p := c.process("speaker-" + node)
	c.eventually("the speaker of "+node+" runs again", func(context.Context) error {
		if pid := p.Pid(); pid == 0 || pid == before {
			return errors.New(p.Status())
		}
		return nil
	})
	n, err := c.lab.NodeNamed(node)
	c.must(err)
	c.eventually("r1 has a session with "+node, func(ctx context.Context) error {
		out, err := c.lab.Vtysh(ctx, "r1", "show bgp neighbors "+n.IPv4.String())
		if err == nil && !strings.Contains(out, "BGP state = Established") {
			err = errors.New("not Established")
		}
		return err
	})
}

func TestSpeakerRestartAnswersAgainOnTheLAN(t *testing.T) {
	c := wide.cluster(t)
	c.backend("respeak-lan", "n2")
	s := service("respeak-lan", "lan")
	a := c.expose(s, 1)[0]
	owner := c.awaitOwner(a)
	c.reach("lan", web(a))
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		speaker := c.process("speaker-" + owner)
		before := speaker.Pid()
		c.must(speaker.Restart(t.Context(), sig))
		c.eventually("the speaker runs again", func(context.Context) error {
			if pid := speaker.Pid(); pid == 0 || pid == before {
				return errors.New(speaker.Status())
			}
			return nil
		})
		owner = c.awaitOwner(a)
		c.reach("lan", web(a))
	}
	if now := s.DeepCopy(); c.client.Get(t.Context(), client.ObjectKeyFromObject(s), now) != nil || addresses(now)[0] != a {
		t.Errorf("the address changed from %s to %v", a, addresses(now))
	}
}

// A speaker that leaves hands its addresses to another node.
func TestSpeakerThatLeavesHandsOver(t *testing.T) {
	c := wide.cluster(t)
	c.backend("leave-lan", "n2")
	a := c.expose(service("leave-lan", "lan"), 1)[0]
	owner := c.awaitOwner(a)
	c.reach("lan", web(a))
	var others []string
	for _, n := range c.lab.Nodes() {
		if n.Name != owner {
			others = append(others, n.Name)
		}
	}
	c.must(c.process("speaker-"+owner).Stop(t.Context(), syscall.SIGINT))
	c.awaitOwner(a, others...)
	c.reach("lan", web(a))
}

// A node that loses power loses its addresses to others, over BGP and on the LAN.
func TestNodeThatLosesPowerIsReplaced(t *testing.T) {
	c := wide.cluster(t)
	ctx := t.Context()
	for _, n := range c.lab.Nodes() {
		c.backend("power", n.Name)
	}
	s := service("power", "lan")
	a := c.expose(s, 1)[0]
	owner := c.awaitOwner(a)
	c.reach("lan", web(a))
	node, err := c.lab.NodeNamed(owner)
	c.must(err)
	t.Cleanup(func() { c.must(node.PowerOn(context.Background())) })
	c.must(node.PowerOff(ctx))
	var others []string
	for _, n := range c.lab.Nodes() {
		if n.Name != owner {
			others = append(others, n.Name)
		}
	}
	c.awaitOwner(a, others...)
	// kube-proxy may still send to the dead node's pod until Kubernetes notices.
	c.reach("lan", web(a))
	c.must(node.PowerOn(ctx))
	c.eventually("node "+owner+" is Ready", func(ctx context.Context) error {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: owner}}
		if err := c.get(ctx, n); err != nil {
			return err
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not")
	})
}
