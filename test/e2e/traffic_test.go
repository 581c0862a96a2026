//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

var (
	lanPool = netip.MustParsePrefix("10.10.0.0/24")
	wanPool = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
)

// clientOnLAN and clientOnWAN are the clients' addresses by family: IPv4, IPv6.
var (
	clientOnLAN = "10.10.0.50"
	clientOnWAN = []string{"10.20.0.50", "fd00:20::50"}
)

func TestEverySampleIsReady(t *testing.T) {
	c := wide.cluster(t)
	ctx := t.Context()
	var pools v1alpha1.IPAddressPoolList
	c.must(c.client.List(ctx, &pools))
	var l2 v1alpha1.L2AdvertisementList
	c.must(c.client.List(ctx, &l2))
	var bgp v1alpha1.BGPAdvertisementList
	c.must(c.client.List(ctx, &bgp))
	var peers v1alpha1.BGPPeerList
	c.must(c.client.List(ctx, &peers))
	if len(pools.Items) == 0 || len(l2.Items) == 0 || len(bgp.Items) == 0 || len(peers.Items) == 0 {
		t.Fatal("config/samples lacks a kind")
	}
	for i := range pools.Items {
		c.awaitCondition(&pools.Items[i], v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
	for i := range l2.Items {
		c.awaitCondition(&l2.Items[i], v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
	for i := range bgp.Items {
		c.awaitCondition(&bgp.Items[i], v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
	for i := range peers.Items {
		c.awaitCondition(&peers.Items[i], v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
}

func TestLANClientReachesAServiceThroughARP(t *testing.T) { lanClient(wide.cluster(t)) }

func lanClient(c *cluster) {
	c.backend("lan-web", "n1")
	c.backend("lan-web", "n2")
	s := service("lan-web", "lan")
	a := c.expose(s, 1)[0]
	if !lanPool.Contains(a) {
		c.Fatalf("address %s is not of the pool lan", a)
	}
	owner := c.awaitOwner(a)
	pods := map[string]bool{}
	for range 5 { // 50 requests miss one of two pods with a chance of 2^-49
		for _, got := range c.reachSteadily("lan", web(a)) {
			pods[got.pod] = true
		}
	}
	if len(pods) != 2 {
		c.Errorf("answers came from %v, want both pods", pods)
	}
	c.eventually("condition Announced names the owner "+owner, func(context.Context) error {
		message := c.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionTrue, v1alpha1.ReasonAnnounced)
		if !slices.Contains(words(message), owner) {
			return fmt.Errorf("it says %q", message)
		}
		return nil
	})
	if hops, err := c.nextHops(c.Context(), a); err != nil || len(hops) > 0 {
		c.Errorf("the router was told of an address of layer 2: %v, %v", hops, err)
	}
}

func TestWANClientReachesAServiceThroughBGPInBothFamilies(t *testing.T) { wanClient(wide.cluster(t)) }

func wanClient(c *cluster) {
	c.backend("wan-web", "n1")
	s := dualStack(service("wan-web", "wan"))
	got := c.expose(s, 2)
	var nodes []string
	for _, n := range c.lab.Nodes() {
		nodes = append(nodes, n.Name)
	}
	for i, a := range got {
		if !wanPool[i].Contains(a) {
			c.Errorf("address %s is not of the pool wan", a)
		}
		c.awaitNextHops(a, nodes...)
		c.reachSteadily("wan", web(a))
	}
	c.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionTrue, v1alpha1.ReasonAnnounced)
	if answered, err := c.owners(c.Context(), got[0]); err != nil || len(answered) > 0 {
		c.Errorf("nodes answer ARP for an address that only BGP announces: %v, %v", answered, err)
	}
}

func TestClusterIPAndNodePortOfTheSameServiceAnswerToo(t *testing.T) {
	nodePortAndClusterIP(wide.cluster(t))
}

func nodePortAndClusterIP(c *cluster) {
	c.backend("all-ways", "n2")
	s := service("all-ways", "lan")
	a := c.expose(s, 1)[0]
	c.reach("lan", web(a))
	c.reach("n1", web(netip.MustParseAddr(s.Spec.ClusterIP)))
	for _, n := range c.lab.Nodes() {
		c.reach("lan", web(n.IPv4, int(s.Spec.Ports[0].NodePort)))
	}
}

func TestServiceWithoutNodePortsWorks(t *testing.T) {
	c := wide.cluster(t)
	no := false
	for pool, from := range map[string]string{"lan": "lan", "wan": "wan"} {
		name := "no-node-ports-" + pool
		c.backend(name, "n3")
		s := service(name, pool)
		s.Spec.AllocateLoadBalancerNodePorts = &no
		a := c.expose(s, 1)[0]
		if port := s.Spec.Ports[0].NodePort; port != 0 {
			t.Errorf("%s has node port %d", name, port)
		}
		c.reach(from, web(a))
	}
}

// With externalTrafficPolicy Local, only nodes with an endpoint announce, and the backend
// sees who asked.
func TestLocalTrafficPolicyOverBGPFollowsTheEndpointsAndKeepsTheClientAddress(t *testing.T) {
	c := wide.cluster(t)
	b := c.backend("local-wan", "n2")
	got := c.expose(local(dualStack(service("local-wan", "wan"))), 2)
	for i, a := range got {
		c.awaitNextHops(a, "n2")
		if from := c.reach("wan", web(a)); from.client != clientOnWAN[i] || from.node != "n2" {
			t.Errorf("the backend saw %+v, want client %s on n2", from, clientOnWAN[i])
		}
	}
	c.backend("local-wan", "n3")
	for _, a := range got {
		c.awaitNextHops(a, "n2", "n3")
	}
	c.must(b.Remove(t.Context()))
	for i, a := range got {
		c.awaitNextHops(a, "n3")
		if from := c.reach("wan", web(a)); from.client != clientOnWAN[i] || from.node != "n3" {
			t.Errorf("the backend saw %+v, want client %s on n3", from, clientOnWAN[i])
		}
	}
}

func TestLocalTrafficPolicyOnTheLANFollowsTheEndpointAndKeepsTheClientAddress(t *testing.T) {
	localOnLAN(wide.cluster(t))
}

func localOnLAN(c *cluster) {
	b := c.backend("local-lan", "n2")
	a := c.expose(local(service("local-lan", "lan")), 1)[0]
	c.awaitOwner(a, "n2")
	if from := c.reach("lan", web(a)); from.client != clientOnLAN || from.node != "n2" {
		c.Errorf("the backend saw %+v, want client %s on n2", from, clientOnLAN)
	}
	c.backend("local-lan", "n1")
	c.must(b.Remove(c.Context()))
	c.awaitOwner(a, "n1")
	// The client must learn of the move by itself: its neighbor entry is not flushed here.
	c.eventually("the LAN client reaches the pod on n1", func(ctx context.Context) error {
		from, err := c.ask(ctx, "lan", web(a))
		if err == nil && (from.client != clientOnLAN || from.node != "n1") {
			c.Errorf("the backend saw %+v, want client %s on n1", from, clientOnLAN)
		}
		return err
	})
}

func TestServiceWithoutEndpointsIsNotAnnounced(t *testing.T) {
	c := wide.cluster(t)
	s := service("nobody", "lan")
	a := c.expose(s, 1)[0]
	c.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionFalse, v1alpha1.ReasonNoEndpoints)
	c.awaitSilence(a)
	c.backend("nobody", "n1")
	c.awaitOwner(a)
	c.reach("lan", web(a))
	c.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionTrue, v1alpha1.ReasonAnnounced)
}

func TestDeletingAServiceEndsItsAnnouncementsAlone(t *testing.T) {
	c := wide.cluster(t)
	c.backend("stays", "n1")
	c.backend("goes", "n1")
	stays := []netip.Addr{c.expose(service("stays", "lan"), 1)[0]}
	stayingRoute := &corev1.Service{}
	*stayingRoute = *service("stays-wan", "wan")
	stayingRoute.Spec.Selector = map[string]string{"app": "stays"}
	stays = append(stays, c.expose(stayingRoute, 1)[0])

	onLAN, onWAN := service("goes", "lan"), service("goes-wan", "wan")
	onWAN.Spec.Selector = map[string]string{"app": "goes"}
	lanAddress, wanAddress := c.expose(onLAN, 1)[0], c.expose(onWAN, 1)[0]
	c.awaitOwner(lanAddress)
	c.awaitNextHops(wanAddress, "n1", "n2", "n3")
	c.reachSteadily("lan", web(lanAddress))
	c.reachSteadily("wan", web(wanAddress))
	c.reachSteadily("lan", web(stays[0]))
	c.reachSteadily("wan", web(stays[1]))

	c.must(c.delete(t.Context(), onLAN))
	c.must(c.delete(t.Context(), onWAN))
	c.awaitSilence(lanAddress)
	c.awaitNextHops(wanAddress)

	c.awaitOwner(stays[0])
	c.awaitNextHops(stays[1], "n1", "n2", "n3")
	c.stillReaches("lan", web(stays[0]))
	c.stillReaches("wan", web(stays[1]))
}

func TestIPTablesModeWorksToo(t *testing.T) {
	for name, test := range map[string]func(*cluster){
		"LAN client through ARP":     lanClient,
		"WAN client through BGP":     wanClient,
		"cluster IP and node port":   nodePortAndClusterIP,
		"local traffic policy (LAN)": localOnLAN,
	} {
		t.Run(name, func(t *testing.T) { test(legacy.cluster(t)) })
	}
}
