//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// bystanders are good Services that a bad object must not disturb.
type bystanders struct {
	c        *cluster
	lan, wan netip.Addr
}

func (c *cluster) bystanders(name string) bystanders {
	c.Helper()
	c.backend(name, "n2")
	onLAN, onWAN := service(name+"-lan", "lan"), service(name+"-wan", "wan")
	onLAN.Spec.Selector, onWAN.Spec.Selector = map[string]string{"app": name}, map[string]string{"app": name}
	b := bystanders{c: c, lan: c.expose(onLAN, 1)[0], wan: c.expose(onWAN, 1)[0]}
	c.awaitOwner(b.lan)
	c.awaitNextHops(b.wan, "n1", "n2", "n3")
	c.reachSteadily("lan", web(b.lan))
	c.reachSteadily("wan", web(b.wan))
	return b
}

// undisturbed checks that they work as before.
func (b bystanders) undisturbed() {
	b.c.Helper()
	if owners, err := b.c.owners(b.c.Context(), b.lan); err != nil || len(owners) != 1 {
		b.c.Errorf("%v answer for %s: %v", owners, b.lan, err)
	}
	if hops, err := b.c.nextHops(b.c.Context(), b.wan); err != nil || !slices.Equal(hops, []string{"n1", "n2", "n3"}) {
		b.c.Errorf("r1 routes %s to %v: %v", b.wan, hops, err)
	}
	b.c.stillReaches("lan", web(b.lan))
	b.c.stillReaches("wan", web(b.wan))
}

// refused checks what a bad object must say, in its condition and in an event, and that both name what is wrong.
func (c *cluster) refused(o client.Object, kind string, reason v1alpha1.Reason, names ...string) {
	c.Helper()
	message := c.awaitCondition(o, kind, metav1.ConditionFalse, reason)
	note := c.awaitEvent(o, reason)
	for _, n := range names {
		if !strings.Contains(message, n) {
			c.Errorf("the condition's message %q does not name %s", message, n)
		}
		if !strings.Contains(note, n) {
			c.Errorf("the event's note %q does not name %s", note, n)
		}
	}
}

func pool(name string, addresses ...string) *v1alpha1.IPAddressPool {
	return &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
}

func TestPoolWithAReversedRangeDisablesItselfAlone(t *testing.T) {
	c := wide.cluster(t)
	b := c.bystanders("by-range")
	p := pool("reversed", "198.51.100.20-198.51.100.10")
	c.create(p)
	c.refused(p, v1alpha1.ConditionReady, v1alpha1.ReasonInvalidAddress, "198.51.100.20-198.51.100.10")
	b.undisturbed()
	c.controllerWorks("after-range")

	c.must(c.get(t.Context(), p))
	p.Spec.Addresses = []string{"198.51.100.10-198.51.100.20"}
	c.must(c.client.Update(t.Context(), p))
	c.awaitCondition(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if a := c.expose(service("of-mended", "reversed"), 1)[0]; a.String() != "198.51.100.10" {
		t.Errorf("the mended pool gave %s", a)
	}
}

func TestPoolThatOverlapsAnOlderOneYieldsToIt(t *testing.T) {
	c := wide.cluster(t)
	b := c.bystanders("by-overlap")
	p := pool("overlapping", "10.10.0.140-10.10.0.160")
	c.create(p)
	c.refused(p, v1alpha1.ConditionReady, v1alpha1.ReasonOverlap, "lan")
	older := &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}
	c.awaitCondition(older, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	b.undisturbed()
	c.controllerWorks("after-overlap")
}

func TestPeerWithAnUnknownSecretIsNotReadyAlone(t *testing.T) {
	c := wide.cluster(t)
	b := c.bystanders("by-secret")
	asn := int64(64513)
	p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "no-secret"}}
	p.Spec.MyASN, p.Spec.PeerASN, p.Spec.PeerAddress = 64512, &asn, "10.10.0.251"
	p.Spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: "nowhere"}
	c.create(p)
	c.refused(p, v1alpha1.ConditionReady, v1alpha1.ReasonSecretMissing, "nowhere")
	b.undisturbed()

	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "nowhere", Namespace: "ballast-system"}, Type: corev1.SecretTypeBasicAuth,
		StringData: map[string]string{corev1.BasicAuthUsernameKey: "", corev1.BasicAuthPasswordKey: "a secret"},
	}
	c.create(secret)
	c.awaitCondition(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	b.undisturbed() // a peer that does not exist delays nobody
}

func TestAddressOutsideEveryPoolIsRefusedAlone(t *testing.T) {
	c := wide.cluster(t)
	b := c.bystanders("by-address")
	byField, byAnnotation := service("asks-by-field", ""), service("asks-by-annotation", "")
	byField.Spec.LoadBalancerIP = "203.0.113.99"
	byAnnotation.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "203.0.113.99"}
	for _, s := range []*corev1.Service{byField, byAnnotation} {
		c.create(s)
		c.refused(s, v1alpha1.ConditionAllocated, v1alpha1.ReasonAddressNotInPool, "203.0.113.99")
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			t.Errorf("%s got a substitute: %v", s.Name, s.Status.LoadBalancer.Ingress)
		}
	}
	b.undisturbed()
	c.controllerWorks("after-address")

	// A pool that has it serves one of the two, and the other is told who that is.
	c.create(pool("late", "203.0.113.96/28"))
	c.eventually("one of them has the address", func(ctx context.Context) error {
		if err := errors.Join(c.get(ctx, byField), c.get(ctx, byAnnotation)); err != nil {
			return err
		}
		if len(addresses(byField))+len(addresses(byAnnotation)) != 1 {
			return fmt.Errorf("%v and %v", byField.Status, byAnnotation.Status)
		}
		return nil
	})
	winner, loser := byField, byAnnotation
	if len(addresses(winner)) == 0 {
		winner, loser = loser, winner
	}
	if got := fmt.Sprint(addresses(winner)); got != "[203.0.113.99]" {
		t.Errorf("got %s", got)
	}
	c.refused(loser, v1alpha1.ConditionAllocated, v1alpha1.ReasonAddressInUse, "default/"+winner.Name)
	for _, s := range []*corev1.Service{loser, winner} { // before the pool, which waits for them
		c.must(c.delete(t.Context(), s))
	}
}
