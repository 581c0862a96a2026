package main

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/internal/pathcheck"
)

func TestWhatCanBeTriedOfAService(t *testing.T) {
	t.Parallel()
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	address := []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	tcp := func(p int32) corev1.ServicePort { return corev1.ServicePort{Port: p, Protocol: corev1.ProtocolTCP} }
	udp := corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP}
	for name, c := range map[string]struct {
		spec corev1.ServiceSpec
		off  bool
		want pathcheck.Target
	}{
		"its TCP ports":  {spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80), udp, tcp(443)}}, want: pathcheck.Target{Ports: []uint16{80, 443}}},
		"nothing of UDP": {spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{udp}}},
		"Local has a port that counts": {
			spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80)}, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 31000},
			want: pathcheck.Target{Ports: []uint16{80}, HealthPort: 31000},
		},
		"source ranges with the node": {
			spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80)}, LoadBalancerSourceRanges: []string{"10.0.0.0/8", "fd00::/8"}},
			want: pathcheck.Target{Ports: []uint16{80}},
		},
		"source ranges without the node":            {spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80)}, LoadBalancerSourceRanges: []string{"192.0.2.0/24"}}},
		"source ranges with the node of one family": {spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80)}, LoadBalancerSourceRanges: []string{"10.0.0.0/8"}}},
		"nothing without a service proxy":           {spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{tcp(80)}}, off: true},
	} {
		s := corev1.Service{Spec: c.spec, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}}}}
		c.want.Addresses = address
		if got := targetOf(&s, own, c.off); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWhenKubeProxyLastHadProgrammedItsRules(t *testing.T) {
	t.Parallel()
	synced := readSynced([]byte(syncMetric + "{ip_family=\"IPv4\"} 1.5e+09\n" + syncMetric + "{ip_family=\"IPv6\"} 0\n"))
	if len(synced) != 1 || synced[corev1.IPv4Protocol].Unix() != 1_500_000_000 {
		t.Errorf("got %v", synced)
	}
}
