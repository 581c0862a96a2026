//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// foreignFirst has a host on the LAN that uses an address of the pool.
func foreignFirst(r *rig) {
	const address = "10.10.0.141"
	r.backend("foreign", backendNode)
	host := r.stranger("printer", netip.MustParseAddr(address))
	s := r.askFor("foreign", address)
	r.expose(s, 1)
	message := r.awaitCondition(s, v1alpha1.ConditionAnnounced, metav1.ConditionFalse, v1alpha1.ReasonAddressConflict)
	r.mentions(message, host.MAC())
	r.onlyAnswers(s, host.Name)
	r.must(r.lab.RemoveHost(r.Context(), host.Name))
	r.awaitReason(s, v1alpha1.ReasonAnnounced)
	r.awaitOwners(nil, addresses(s)...)
	r.reachSteadily("lan", web(addresses(s)[0]))
}

// foreignLater has a host that comes with an address that is announced already. That it is told of until
// it has been quiet for a minute is shown with frames (test/wire).
func foreignLater(r *rig) {
	const address = "10.10.0.142"
	r.backend("intruder", backendNode)
	s := r.askFor("intruder", address)
	a := r.expose(s, 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	r.reachSteadily("lan", web(a))
	host := r.stranger("intruder", a)
	r.must(host.Announce(a))
	r.mentions(r.awaitReason(s, v1alpha1.ReasonAddressConflict), host.MAC())
	got, err := r.answering(r.Context(), s)
	r.must(err)
	if want := []string{"intruder", owner}; !slices.Equal(got, want) {
		r.Errorf("%v answer for %s, want %v", got, a, want)
	}
	r.must(r.lab.RemoveHost(r.Context(), host.Name))
	if now := r.awaitOwners(nil, a)[a]; now != owner {
		r.Errorf("%s moved from %s to %s", a, owner, now)
	}
}

// strictARPMissing has a node whose kernel answers for an address of a Service, as one does
// that kube-proxy in IPVS mode gave the address, without strictARP.
func strictARPMissing(r *rig) {
	const address = "10.10.0.143"
	a := netip.MustParseAddr(address)
	node, err := r.lab.NodeNamed(backendNode)
	r.must(err)
	r.must(node.AnswerFor(r.Context(), a))
	answers := true
	stop := func() {
		if answers {
			answers = false
			r.must(node.StopAnsweringFor(context.Background(), a))
		}
	}
	r.Cleanup(stop)
	r.backend("strict", backendNode)
	s := r.askFor("strict", address)
	r.expose(s, 1)
	r.mentions(r.awaitReason(s, v1alpha1.ReasonStrictARPMissing), backendNode)
	stop()
	r.awaitReason(s, v1alpha1.ReasonAnnounced)
	r.awaitOwners([]string{backendNode}, a)
}

// stranger plugs a foreign host in for the time of the test.
func (r *rig) stranger(name string, a netip.Addr) *lab.Host {
	r.Helper()
	h, err := r.lab.AddHost(r.Context(), name, a)
	r.must(err)
	r.Cleanup(func() {
		if _, err := r.lab.Host(name); err != nil {
			return // unplugged by the test
		}
		if err := r.lab.RemoveHost(context.Background(), name); err != nil {
			r.Error(err)
		}
	})
	return h
}

// onlyAnswers fails if anybody but this host answers for a Service's address.
func (r *rig) onlyAnswers(s *corev1.Service, host string) {
	r.Helper()
	r.eventually(fmt.Sprintf("%s alone answers", host), func(ctx context.Context) error {
		got, err := r.answering(ctx, s)
		if err == nil && !slices.Equal(got, []string{host}) {
			err = fmt.Errorf("%v do", got)
		}
		return err
	})
}

// askFor makes a Service that asks for one address of the pool lan.
func (r *rig) askFor(name, address string) *corev1.Service {
	s := service(name, "lan")
	s.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = address
	return s
}

// answering are the names of those who now answer for the addresses of a Service, sorted.
func (r *rig) answering(ctx context.Context, s *corev1.Service) ([]string, error) {
	a := addresses(s)
	answers, err := r.lab.Ask(ctx, witnessHost, askWindow, a...)
	if err != nil {
		return nil, err
	}
	names := r.names(answers.Owners(a[0]))
	slices.Sort(names)
	return names, nil
}
