package config_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/internal/config"
)

// size is how much configuration there is.
type size struct{ pools, entries, nodes int }

func (s size) String() string {
	return fmt.Sprintf("%d_pools,%d_entries,%d_nodes", s.pools, s.entries, s.nodes)
}

// objects are pools of ranges with gaps between, as they stand once the controller has looked at them, and a cluster's nodes.
func (s size) objects() config.Objects {
	var o config.Objects
	for i := range s.pools {
		p := pool(fmt.Sprintf("p%d", i), i)
		for j := range s.entries {
			first := uint32(10<<24) + uint32(i)<<14 + uint32(j)<<5
			p.Spec.Addresses = append(p.Spec.Addresses, fmt.Sprintf("%s-%s", ipv4(first), ipv4(first+15)))
		}
		p.Status.ObservedAddresses = p.Spec.Addresses
		o.Pools = append(o.Pools, p)
	}
	var nodes []corev1.Node
	for i := range s.nodes {
		n := corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("100.%d.%d.0/24", 64+i/256, i%256)}}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.16.%d.%d", i/250, 1+i%250)}}
		nodes = append(nodes, n)
	}
	o.Reserved = config.Reserved(nodes, nil)
	return o
}

func ipv4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// allocated is how many bytes a function allocates.
func allocated(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

//nolint:paralleltest // it measures what is allocated meanwhile
func TestWhatCompilingCostsGrowsAsEntriesDo(t *testing.T) {
	for _, tc := range []struct {
		name        string
		small, much size
	}{
		{"four times the entries", size{5, 32, 10}, size{5, 128, 10}},
		{"four times the pools", size{10, 32, 10}, size{40, 32, 10}},
		{"many nodes", size{20, 32, 10}, size{20, 32, 1000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			per := func(s size) float64 {
				o := s.objects()
				return allocated(func() { config.Compile(o) }) / float64(s.pools*s.entries+s.nodes)
			}
			small, much := per(tc.small), per(tc.much)
			t.Logf("%s: %.0f bytes each; %s: %.0f", tc.small, small, tc.much, much)
			if much > 1.5*small {
				t.Errorf("an entry or node costs %.0f bytes of %s, and %.0f of %s", much, tc.much, small, tc.small)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, s := range []size{{1, 256, 10}, {10, 256, 10}, {50, 20, 10}, {200, 1, 10}, {100, 256, 1000}} {
		b.Run(s.String(), func(b *testing.B) {
			o := s.objects()
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				config.Compile(o)
			}
		})
	}
}
