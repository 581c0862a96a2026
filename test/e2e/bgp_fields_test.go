//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// fieldsOverBGP: what BGPPeers and BGPAdvertisements say is what r2 sees of n1, from the objects to its own tables; r1
// sees nothing of it.
func fieldsOverBGP(r *bgpRig) {
	r.backend("fields", "n1")
	r.poolOf("fields", v1alpha1.ReclaimRetain, "10.31.0.0/28")
	hosts := v1alpha1.BGPAdvertisementSpec{
		IPAddressPools: []string{"fields"}, Peers: []string{"r2-v4"}, MED: new(int64(50)), ASPathPrepend: new(int32(2)),
		Communities: []string{"64512:100", "large:64512:1:2", "no-export"}, WeightByEndpoints: v1alpha1.WeightTransitive,
	}
	aggregate := v1alpha1.BGPAdvertisementSpec{IPAddressPools: []string{"fields"}, Peers: []string{"r2-v4"}, AggregationLength: new(int32(28)), MED: new(int64(70))}
	for name, spec := range map[string]v1alpha1.BGPAdvertisementSpec{
		"fields-all": {IPAddressPools: []string{"fields"}}, "fields-hosts": hosts, "fields-aggregate": aggregate,
	} {
		a := &v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		r.create(a)
		r.awaitCondition(a, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
	r.configure("r2", "neighbor nodes ttl-security hops 1")
	r.reconfigure(func(s *v1alpha1.BGPPeerSpec) {
		s.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"kubernetes.io/hostname": "n1"}}}
		s.LocalASN, s.RouterID, s.TTLSecurity = new(int64(64599)), "10.99.0.1", &v1alpha1.TTLSecurity{Hops: 1}
		s.HoldTime, s.KeepaliveTime = &metav1.Duration{Duration: 30 * time.Second}, &metav1.Duration{Duration: 5 * time.Second}
	}, "r2")
	host := netip.PrefixFrom(r.expose(local(service("fields", "fields")), 1)[0], 32)

	n1 := r.node("n1").IPv4
	r.says("r2", "show bgp neighbors "+n1.String()+" json", `"bgpState":"Established"`, `"remoteAs":64599`, `"remoteRouterId":"10.99.0.1"`,
		`"bgpTimerHoldTimeMsecs":30000`, `"externalBgpNbrMaxHopsAway":1`)
	r.paths("r2", host.String(), "64599 64599 64599 med 50 64512:100 no-export 64512:1:2 LB:64512:125000 (1.000 Mbps)")
	r.paths("r2", "10.31.0.0/28", "64599 med 70")
	r.paths("r1", host.String(), "64512")
	r.paths("r1", "10.31.0.0/28", "")
}

// says waits until the output of a router's command, without spaces, has each of the words.
func (r *bgpRig) says(router, command string, words ...string) {
	r.Helper()
	r.eventually(fmt.Sprintf("%q on %s has %v", command, router, words), func(ctx context.Context) error {
		out, err := r.lab.Vtysh(ctx, router, command)
		if err != nil {
			return err
		}
		out = strings.Join(strings.Fields(out), "")
		for _, word := range words {
			if !strings.Contains(out, word) {
				return fmt.Errorf("%s is missing in %.4000s", word, out)
			}
		}
		return nil
	})
}

// paths waits until a router has exactly this path to a prefix: the AS path, the MED if there is one, and all
// communities; "": none.
func (r *bgpRig) paths(router, prefix, want string) {
	r.Helper()
	r.eventually(fmt.Sprintf("%s has %q of %s", router, want, prefix), func(ctx context.Context) error {
		out, err := r.lab.Vtysh(ctx, router, "show bgp ipv4 unicast "+prefix+" json")
		if err != nil {
			return err
		}
		var table struct {
			Paths []struct {
				ASPath                                       struct{ String string }
				Metric                                       *int
				Community, LargeCommunity, ExtendedCommunity struct{ String string }
			}
		}
		if err := json.Unmarshal([]byte(out), &table); err != nil {
			return fmt.Errorf("decode %q: %w", out, err)
		}
		var got []string
		for _, p := range table.Paths {
			words := []string{p.ASPath.String}
			if p.Metric != nil {
				words = append(words, fmt.Sprintf("med %d", *p.Metric))
			}
			for _, c := range []string{p.Community.String, p.LargeCommunity.String, p.ExtendedCommunity.String} {
				if c != "" {
					words = append(words, c)
				}
			}
			got = append(got, strings.Join(words, " "))
		}
		if strings.Join(got, "; ") != want {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
}
