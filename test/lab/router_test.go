//go:build e2e

package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/ballast-lb/ballast/test/lab"
)

// announcedService is one for the routers, and a BGPPeer a family and router.
const announcedService = `apiVersion: ballast.dev/v1alpha1
kind: IPAddressPool
metadata: {name: wan}
spec: {addresses: [192.0.2.0/24, "2001:db8::/64"]}
---
apiVersion: ballast.dev/v1alpha1
kind: BGPAdvertisement
metadata: {name: wan}
spec: {communities: ["64512:100"]}
---
apiVersion: ballast.dev/v1alpha1
kind: BGPPeer
metadata: {name: v4}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.10.0.254, connectTime: 1s}
---
apiVersion: ballast.dev/v1alpha1
kind: BGPPeer
metadata: {name: v6}
spec: {myASN: 64512, peerASN: 64513, peerAddress: "fd00:10::fe", connectTime: 1s}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
`

func TestEveryRouterTakesRoutesOverAllNodesAndLearnsThemAgain(t *testing.T) {
	for _, kind := range lab.RouterKinds() {
		t.Run(string(kind), func(t *testing.T) {
			ctx := t.Context()
			l := up(t, lab.Options{Prefix: "labt", Nodes: 2, Routers: 1, RouterKind: kind})
			if _, err := l.AddBackend(ctx, lab.Backend{App: "web", Node: "n1"}); err != nil {
				t.Fatal(err)
			}
			if err := l.Apply(ctx, announcedService); err != nil {
				t.Fatal(err)
			}
			wanted := map[netip.Prefix][]netip.Addr{
				netip.MustParsePrefix("192.0.2.1/32"):    {l.Node(1).IPv4, l.Node(2).IPv4},
				netip.MustParsePrefix("2001:db8::1/128"): {l.Node(1).IPv6, l.Node(2).IPv6},
			}
			awaitRoutes(t, l, wanted)
			if err := l.AwaitSessions(ctx, "r1", 4); err != nil {
				t.Fatal(err)
			}
			for prefix := range wanted {
				answered(t, l, prefix.Addr())
			}
			m, err := l.MonitorRoutes("r1")
			if err != nil {
				t.Fatal(err)
			}
			defer m.Stop()
			if err := l.RestartRouter(ctx, "r1", syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			awaitRoutes(t, l, wanted)
			for prefix := range wanted {
				if !slices.ContainsFunc(m.Deleted(), func(e lab.RouteEvent) bool { return e.Prefix == prefix }) {
					t.Errorf("nobody saw that %s was deleted: %v", prefix, m.Seen())
				}
				answered(t, l, prefix.Addr())
			}
		})
	}
}

// awaitRoutes waits until daemon and kernel of r1 have the next hops, and the daemon the community.
func awaitRoutes(t *testing.T, l *lab.Lab, wanted map[netip.Prefix][]netip.Addr) {
	t.Helper()
	err := l.WaitFor(t.Context(), "r1 has all routes", func(ctx context.Context) error {
		routes, err := l.RouterRoutes(ctx, "r1")
		if err != nil {
			return err
		}
		fib, err := l.RouterFIB(ctx, "r1")
		if err != nil {
			return err
		}
		for prefix, hops := range wanted {
			if got := routes.NextHops(prefix); !slices.Equal(got, hops) {
				return fmt.Errorf("its daemon routes %s to %v", prefix, got)
			}
			if got := fib[prefix]; !slices.Equal(got, hops) {
				return fmt.Errorf("its kernel routes %s to %v", prefix, got)
			}
			if got := routes[prefix][0].Communities; !slices.Equal(got, []string{"64512:100"}) {
				return fmt.Errorf("the communities are %v", got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, l.Diagnostics())
	}
}

// answered waits until the WAN client is answered.
func answered(t *testing.T, l *lab.Lab, a netip.Addr) {
	t.Helper()
	err := l.WaitFor(t.Context(), "wan reaches "+a.String(), func(ctx context.Context) error {
		_, err := l.HTTP(ctx, "wan", "http://"+netip.AddrPortFrom(a, 80).String()+"/")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
