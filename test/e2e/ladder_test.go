//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// TestLadderOfWaysIntoTheCluster lets one Service climb all ways into a cluster by edits of its type and pool: ClusterIP,
// NodePort, LoadBalancer by layer 2, LoadBalancer by BGP. The way of a lower rung goes on working on the next. Then an
// Ingress controller behind one LoadBalancer address serves two Services by host name.
func TestLadderOfWaysIntoTheCluster(t *testing.T) {
	c := wide.cluster(t)
	c.backend("ladder", "n1")
	c.backend("ladder", "n2")
	s := service("ladder", "")
	s.Spec.Type = corev1.ServiceTypeClusterIP
	c.create(s)

	c.clusterIPRung(s)
	c.nodePortRung(s)
	onLAN := c.layer2Rung(s)
	onWAN := c.bgpRung(s, onLAN)
	c.ingressRung()
	c.climbDown(s, onWAN)
}

// rung says what a rung did.
func (c *cluster) rung(kind, format string, args ...any) {
	c.Helper()
	c.Logf("ladder, "+kind+": "+format, args...)
}

// edit changes a Service as kubectl would.
func (c *cluster) edit(s *corev1.Service, change func()) {
	c.Helper()
	c.must(c.get(c.Context(), s))
	before := s.DeepCopy()
	change()
	c.must(c.client.Patch(c.Context(), s, client.MergeFrom(before)))
}

// clusterIP checks the lowest rung, on every node.
func (c *cluster) clusterIP(s *corev1.Service) (asked []string) {
	c.Helper()
	for _, n := range c.lab.Nodes() {
		url := web(netip.MustParseAddr(s.Spec.ClusterIP))
		asked = append(asked, fmt.Sprintf("%s was answered by %s", n.Name, c.reach(n.Name, url).pod))
	}
	return asked
}

func (c *cluster) clusterIPRung(s *corev1.Service) {
	c.rung("ClusterIP", "%s:80: %s", s.Spec.ClusterIP, strings.Join(c.clusterIP(s), ", "))
	if got, err := c.ask(c.Context(), "lan", web(netip.MustParseAddr(s.Spec.ClusterIP))); err == nil {
		c.Errorf("a client outside the cluster reaches a ClusterIP: %v", got)
	}
}

func (c *cluster) nodePortRung(s *corev1.Service) {
	c.edit(s, func() { s.Spec.Type = corev1.ServiceTypeNodePort })
	port := int(s.Spec.Ports[0].NodePort)
	var asked []string
	for _, n := range c.lab.Nodes() {
		asked = append(asked, fmt.Sprintf("at %s by %s", n.Name, c.reach("lan", web(n.IPv4, port)).pod))
	}
	c.clusterIP(s)
	c.rung("NodePort", "port %d of every node: the LAN client was answered %s", port, strings.Join(asked, ", "))
}

// climb makes the Service want an address of a pool, and returns it.
func (c *cluster) climb(s *corev1.Service, pool string, prefix netip.Prefix) netip.Addr {
	c.Helper()
	c.edit(s, func() {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: pool}
	})
	var a netip.Addr
	c.eventually("the Service has one address of the pool "+pool, func(ctx context.Context) error {
		if err := c.get(ctx, s); err != nil {
			return err
		}
		if got := addresses(s); len(got) == 1 && prefix.Contains(got[0]) {
			a = got[0]
			return nil
		}
		return fmt.Errorf("ingress %v, conditions %v", s.Status.LoadBalancer.Ingress, s.Status.Conditions)
	})
	c.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionTrue, v1alpha1.ReasonAnnounced)
	return a
}

func (c *cluster) layer2Rung(s *corev1.Service) netip.Addr {
	a := c.climb(s, "lan", lanPool)
	owner := c.awaitOwner(a)
	pods := pods(c.reachSteadily("lan", web(a)))
	c.clusterIP(s)
	c.rung("LoadBalancer by layer 2", "%s:80: %s answers ARP; the LAN client was answered by %s", a, owner, pods)
	return a
}

func (c *cluster) bgpRung(s *corev1.Service, before netip.Addr) netip.Addr {
	a := c.climb(s, "wan", wanPool[0])
	c.awaitSilence(before)
	var nodes []string
	for _, n := range c.lab.Nodes() {
		nodes = append(nodes, n.Name)
	}
	c.awaitNextHops(a, nodes...)
	pods := pods(c.reachSteadily("wan", web(a)))
	c.clusterIP(s)
	c.rung("LoadBalancer by BGP", "%s:80: router r1 sends it to %s; the WAN client was answered by %s", a, strings.Join(nodes, ", "), pods)
	return a
}

// ingressRung has an Ingress controller on n1 behind one address of the pool lan, and Services behind it.
func (c *cluster) ingressRung() {
	apps := []string{"shop", "blog"}
	controller := c.deployIngressController("n1")
	for _, app := range apps {
		c.backend(app, "n2")
		c.backend(app, "n3")
		s := service(app, "")
		s.Spec.Type = corev1.ServiceTypeClusterIP
		c.create(s)
		c.create(ingress(app))
	}
	a := c.expose(controller.service(), 1)[0]
	owner := c.awaitOwner(a)
	for _, app := range apps {
		host := hostOf(app)
		for _, from := range []string{"lan", "wan"} {
			var got answer
			c.eventually(from+" reaches "+host, func(ctx context.Context) (err error) {
				controller.alive()
				if got, err = c.askHost(ctx, from, host, a); err == nil && !strings.HasPrefix(got.pod, app+"-") {
					err = fmt.Errorf("the answer came from %s", got.pod)
				}
				return err
			})
			if got.client != controller.node.IPv4.String() { // a pod of the lab dials from its node's address
				c.Errorf("the backend of %s saw %s, want the controller on %s", host, got.client, controller.node.Name)
			}
			c.rung("Ingress", "http://%s/ at %s (%s answers ARP): the %s client was answered by %s", host, a, owner, strings.ToUpper(from), got.pod)
		}
		c.awaitIngressAddress(app, a)
	}
	if got, err := c.askHost(c.Context(), "lan", "mail.example.com", a); err == nil {
		c.Errorf("a host that no Ingress names is answered by %v", got)
	}
}

// hostOf is the host name of an app.
func hostOf(app string) string { return app + ".example.com" }

// ingress is an Ingress that sends all of the app's host to port 80 of the app's Service.
func ingress(app string) *networkingv1.Ingress {
	class, prefix := ingressClass, networkingv1.PathTypePrefix
	o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "default"}}
	o.Spec.IngressClassName = &class
	o.Spec.Rules = []networkingv1.IngressRule{{Host: hostOf(app), IngressRuleValue: networkingv1.IngressRuleValue{
		HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: "/", PathType: &prefix,
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: app, Port: networkingv1.ServiceBackendPort{Number: 80},
			}},
		}}},
	}}}
	return o
}

// awaitIngressAddress waits until the Ingress's status has the address of the controller's Service.
func (c *cluster) awaitIngressAddress(name string, a netip.Addr) {
	c.Helper()
	o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	c.eventually("Ingress "+name+" has the address "+a.String(), func(ctx context.Context) error {
		if err := c.get(ctx, o); err != nil {
			return err
		}
		if got := o.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != a.String() {
			return fmt.Errorf("its status has %v", got)
		}
		return nil
	})
	c.rung("Ingress", "the status of Ingress %s has the address %s too", name, a)
}

// climbDown takes the address away again, and nothing else.
func (c *cluster) climbDown(s *corev1.Service, a netip.Addr) {
	c.edit(s, func() { s.Spec.Type = corev1.ServiceTypeClusterIP })
	c.awaitNextHops(a)
	c.eventually("the Service has no address", func(ctx context.Context) error {
		if err := c.get(ctx, s); err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Status.Conditions) > 0 {
			return fmt.Errorf("ingress %v, conditions %v", s.Status.LoadBalancer.Ingress, s.Status.Conditions)
		}
		return nil
	})
	c.rung("down again", "%s is withdrawn; ClusterIP: %s", a, strings.Join(c.clusterIP(s), ", "))
}

// pods names those that answered, once each.
func pods(answers []answer) string {
	var names []string
	for _, a := range answers {
		names = append(names, a.pod)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " and ")
}
