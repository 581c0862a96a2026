//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// TestSharedAddressAnswersBothServices is two Services at one address of a claim, on two
// ports, from outside. One goes and comes back; then the claim goes.
func TestSharedAddressAnswersBothServices(t *testing.T) {
	c := wide.cluster(t)
	claim := &v1alpha1.AddressClaim{ObjectMeta: metav1.ObjectMeta{Name: "shared", Namespace: "default"}, Spec: v1alpha1.AddressClaimSpec{Pool: "lan"}}
	c.create(claim)
	sharer := func(name string, port int32) *corev1.Service {
		s := service(name, "")
		s.Annotations = map[string]string{v1alpha1.AnnotationAllowSharedIP: "web", v1alpha1.AnnotationAddressClaim: "shared"}
		s.Spec.Ports[0].Port = port
		return s
	}
	first, second := sharer("shared-a", 80), sharer("shared-b", 8081)
	c.backend("shared-a", "n1")
	c.backend("shared-b", "n2")
	address := c.expose(first, 1)[0]
	if other := c.expose(second, 1)[0]; other != address {
		t.Fatalf("the Services hold %s and %s, want one address", address, other)
	}
	c.reachSteadily("lan", web(address))
	c.reachSteadily("lan", web(address, 8081))
	owner := c.awaitOwner(address)

	c.must(c.delete(t.Context(), first))
	c.stillReaches("lan", web(address, 8081))
	first = sharer("shared-a", 80)
	if again := c.expose(first, 1)[0]; again != address {
		t.Errorf("created again it holds %s, want %s", again, address)
	}
	c.reachSteadily("lan", web(address))
	if now := c.awaitOwner(address); now != owner {
		t.Errorf("the owner changed from %s to %s", owner, now)
	}
	c.must(c.delete(t.Context(), claim))
	c.stillReaches("lan", web(address))
	c.stillReaches("lan", web(address, 8081))
	c.eventually("both still hold the address", func(ctx context.Context) error {
		for _, s := range []*corev1.Service{first, second} {
			if err := c.get(ctx, s); err != nil {
				return err
			}
			if has := addresses(s); len(has) != 1 || has[0] != address {
				return fmt.Errorf("%s holds %v", s.Name, has)
			}
		}
		return nil
	})
}
