package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// start is when the oldest object of a test was created.
func start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func pool(name string, addresses ...string) v1alpha1.IPAddressPool {
	return v1alpha1.IPAddressPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: poolKind},
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Time{Time: start()}},
		Spec:       v1alpha1.IPAddressPoolSpec{Addresses: addresses},
	}
}

func with(p v1alpha1.IPAddressPool, do func(*v1alpha1.IPAddressPool)) v1alpha1.IPAddressPool {
	do(&p)
	return p
}

func reassign(p *v1alpha1.IPAddressPool) { p.Spec.ReclaimPolicy = v1alpha1.ReclaimReassign }

// service makes a Service of Ballast's that holds addresses, or waits.
func service(name string, addresses ...string) corev1.Service {
	s := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Time{Time: start()}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	status := metav1.ConditionFalse
	for _, a := range addresses {
		status = metav1.ConditionTrue
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Status: status, Reason: "Test"}}
	return s
}

func serviceWith(s corev1.Service, do func(*corev1.Service)) corev1.Service {
	do(&s)
	return s
}

func younger(s *corev1.Service) { s.CreationTimestamp.Time = start().Add(time.Minute) }

func annotated(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{key: value} }
}

func dualStack(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
}

func claim(name string, addresses ...string) v1alpha1.AddressClaim {
	return v1alpha1.AddressClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("claim-" + name), CreationTimestamp: metav1.Time{Time: start()}},
		Status:     v1alpha1.AddressClaimStatus{Addresses: addresses},
	}
}

// lines says what becomes of each holder in a line: change, name, addresses, reason or message.
func lines(f forecast) []string {
	var all []string
	for _, h := range f.Holders {
		all = append(all, fmt.Sprintf("%s %s %s -> %s: %s", h.Name, h.Change, list(h.Now.Addresses), list(h.Then.Addresses), h.reason()))
	}
	return all
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// foreseen is a row of the tables of what becomes of holders.
type foreseen struct {
	live     []v1alpha1.IPAddressPool
	edit     edit
	services []corev1.Service
	claims   []v1alpha1.AddressClaim
	reserved []netip.Prefix
	want     []string
}

func (f foreseen) forecast(t *testing.T) forecast {
	t.Helper()
	now := start().Add(time.Hour)
	planned, err := f.edit.apply(f.live, now)
	if err != nil {
		t.Fatal(err)
	}
	s := situation{now: now, live: f.live, planned: planned, reserved: f.reserved, named: f.edit.named()}
	s.holders.Services, s.holders.Claims = f.services, f.claims
	return foretell(s)
}

func check(t *testing.T, rows map[string]foreseen) {
	t.Parallel()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, "holders", lines(row.forecast(t)), row.want)
		})
	}
}

func write(pools ...v1alpha1.IPAddressPool) edit { return edit{write: pools} }

func TestANewPool(t *testing.T) {
	check(t, map[string]foreseen{
		"gives those who wait an address, the oldest first": {
			edit:     write(pool("lan", "192.0.2.1")),
			services: []corev1.Service{service("old"), serviceWith(service("young"), younger)},
			want:     []string{"old gets - -> 192.0.2.1: From IPAddressPool lan.", "young waits - -> -: PoolExhausted: IPAddressPool lan has no free IPv4 address."},
		},
		"that overlaps an older one gets nothing of it": {
			live:     []v1alpha1.IPAddressPool{with(pool("wan", "192.0.2.1"), func(p *v1alpha1.IPAddressPool) { p.Spec.AutoAssign = new(bool) })},
			edit:     write(pool("lan", "192.0.2.1-192.0.2.2")),
			services: []corev1.Service{service("web")},
			want:     []string{"web gets - -> 192.0.2.2: From IPAddressPool lan."},
		},
		"does not hand out what is reserved": {
			edit:     write(pool("lan", "192.0.2.1-192.0.2.2")),
			reserved: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
			services: []corev1.Service{service("web")},
			want:     []string{"web gets - -> 192.0.2.2: From IPAddressPool lan."},
		},
		"has what a Service of another implementation holds only when it is free": {
			edit:     write(pool("lan", "192.0.2.1-192.0.2.2")),
			services: []corev1.Service{service("web"), serviceWith(service("foreign", "192.0.2.1"), func(s *corev1.Service) { s.Status.Conditions = nil })},
			want:     []string{"web gets - -> 192.0.2.2: From IPAddressPool lan."},
		},
		"with both families adds a second address only to those from it": {
			live: []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1-192.0.2.2")},
			edit: write(pool("lan", "192.0.2.1-192.0.2.2", "2001:db8::1-2001:db8::2")),
			services: []corev1.Service{
				serviceWith(service("dual", "192.0.2.1"), dualStack(corev1.IPFamilyPolicyPreferDualStack)),
				service("single", "192.0.2.2"),
			},
			want: []string{"dual gets 192.0.2.1 -> 192.0.2.1,2001:db8::1: From IPAddressPool lan.", "single keeps 192.0.2.2 -> 192.0.2.2: -"},
		},
		"gives a Service the address that it asks for in place of its old one": {
			live:     []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1")},
			edit:     write(pool("wan", "198.51.100.1")),
			services: []corev1.Service{serviceWith(service("web", "192.0.2.1"), annotated(v1alpha1.AnnotationLoadBalancerIPs, "198.51.100.1")), serviceWith(service("next"), younger)},
			want:     []string{"web changes 192.0.2.1 -> 198.51.100.1: From IPAddressPool wan.", "next gets - -> 192.0.2.1: From IPAddressPool lan."},
		},
	})
}

func TestAnEditedPool(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.9")
	holders := []corev1.Service{service("a", "192.0.2.1"), service("b", "192.0.2.9")}
	check(t, map[string]foreseen{
		"with Retain leaves every address with its holder": {
			live: []v1alpha1.IPAddressPool{lan}, services: holders, edit: write(pool("lan", "192.0.2.1-192.0.2.5")),
			want: []string{"a keeps 192.0.2.1 -> 192.0.2.1: -", "b keeps 192.0.2.9 -> 192.0.2.9: IPAddressPool lan no longer hands 192.0.2.9 out; it stays with its holder."},
		},
		"with Reassign gives another address for the one that it lacks": {
			live: []v1alpha1.IPAddressPool{lan}, services: holders, edit: write(with(pool("lan", "192.0.2.1-192.0.2.5"), reassign)),
			want: []string{"b changes 192.0.2.9 -> 192.0.2.2: IPAddressPool lan no longer hands 192.0.2.9 out.", "a keeps 192.0.2.1 -> 192.0.2.1: -"},
		},
		"with Reassign takes addresses for which there is no other": {
			live: []v1alpha1.IPAddressPool{lan}, services: holders, edit: write(with(pool("lan", "192.0.2.1"), reassign)),
			want: []string{"b loses 192.0.2.9 -> -: PoolExhausted: IPAddressPool lan has no free IPv4 address.", "a keeps 192.0.2.1 -> 192.0.2.1: -"},
		},
		"with Reassign and an entry that cannot be read moves nobody": {
			live: []v1alpha1.IPAddressPool{lan}, services: holders, edit: write(with(pool("lan", "192.0.2.5-192.0.2.4"), reassign)),
			want: []string{
				"a keeps 192.0.2.1 -> 192.0.2.1: IPAddressPool lan no longer hands 192.0.2.1 out; it stays with its holder.",
				"b keeps 192.0.2.9 -> 192.0.2.9: IPAddressPool lan no longer hands 192.0.2.9 out; it stays with its holder.",
			},
		},
		"with Reassign that drops a family takes the second address": {
			live: []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1", "2001:db8::1")}, edit: write(with(pool("lan", "192.0.2.1"), reassign)),
			services: []corev1.Service{serviceWith(service("dual", "192.0.2.1", "2001:db8::1"), dualStack(corev1.IPFamilyPolicyPreferDualStack))},
			want:     []string{"dual loses 192.0.2.1,2001:db8::1 -> 192.0.2.1: IPAddressPool lan no longer hands 2001:db8::1 out."},
		},
		"that drains makes those who wait go on waiting": {
			live: []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1")}, services: []corev1.Service{service("a", "192.0.2.1"), service("b")},
			edit: write(with(pool("lan", "192.0.2.1-192.0.2.9"), func(p *v1alpha1.IPAddressPool) { p.Spec.Drain = true })),
			want: []string{"b waits - -> -: Draining: IPAddressPool lan is draining and takes no new assignment.", "a keeps 192.0.2.1 -> 192.0.2.1: -"},
		},
		"moves a claim and the Service that is bound to it together": {
			live: []v1alpha1.IPAddressPool{lan}, claims: []v1alpha1.AddressClaim{claim("reserved", "192.0.2.9")},
			services: []corev1.Service{serviceWith(service("web", "192.0.2.9"), annotated(v1alpha1.AnnotationAddressClaim, "reserved"))},
			edit:     write(with(pool("lan", "192.0.2.1-192.0.2.5"), reassign)),
			want: []string{
				"reserved changes 192.0.2.9 -> 192.0.2.1: IPAddressPool lan no longer hands 192.0.2.9 out.",
				"web changes 192.0.2.9 -> 192.0.2.1: IPAddressPool lan no longer hands 192.0.2.9 out.",
			},
		},
	})
}

func TestARemovedPool(t *testing.T) {
	lan, wan := pool("lan", "192.0.2.1-192.0.2.9"), pool("wan", "198.51.100.1")
	holders := []corev1.Service{service("a", "192.0.2.1"), service("b", "192.0.2.2")}
	check(t, map[string]foreseen{
		"with Retain waits for its holders": {
			live: []v1alpha1.IPAddressPool{pool("lan", "192.0.2.1")}, services: []corev1.Service{holders[0], service("c")}, edit: edit{remove: []string{"lan"}},
			want: []string{
				"c waits - -> -: Draining: IPAddressPool lan is being deleted and takes no new assignment.",
				"a keeps 192.0.2.1 -> 192.0.2.1: IPAddressPool lan is being deleted, and waits until nobody holds an address of it.",
			},
		},
		"with Retain goes at once if nobody holds an address of it": {
			live: []v1alpha1.IPAddressPool{with(lan, func(p *v1alpha1.IPAddressPool) { p.Spec.Drain = true })}, services: []corev1.Service{service("a")}, edit: edit{remove: []string{"lan"}},
			want: []string{"a waits - -> -: NoPool: No IPAddressPool assigns addresses automatically. Create one, or name a pool or an address in an annotation."},
		},
		"with Reassign gives what other pools have, the oldest first": {
			live: []v1alpha1.IPAddressPool{with(lan, reassign), wan}, services: holders, edit: edit{remove: []string{"lan"}},
			want: []string{
				"b loses 192.0.2.2 -> -: PoolExhausted: IPAddressPool wan has no free IPv4 address.",
				"a changes 192.0.2.1 -> 198.51.100.1: IPAddressPool lan is removed.",
			},
		},
		"with Reassign takes an address though a younger pool gives it out again": {
			live:     []v1alpha1.IPAddressPool{with(pool("lan", "192.0.2.1"), reassign), with(pool("new", "192.0.2.1"), func(p *v1alpha1.IPAddressPool) { p.CreationTimestamp.Time = start().Add(time.Minute) })},
			services: []corev1.Service{service("a", "192.0.2.1")}, edit: edit{remove: []string{"lan"}},
			want: []string{"a changes 192.0.2.1 -> 192.0.2.1: IPAddressPool lan is removed. Until IPAddressPool new gives 192.0.2.1 out again, it is without."},
		},
		"is each that the files lack, if they hold all pools": {
			live: []v1alpha1.IPAddressPool{with(lan, reassign), wan}, services: holders[:1], edit: edit{write: []v1alpha1.IPAddressPool{wan}, prune: true},
			want: []string{"a changes 192.0.2.1 -> 198.51.100.1: IPAddressPool lan is removed."},
		},
		"that the files lack stays, if they hold some pools": {
			live: []v1alpha1.IPAddressPool{with(lan, reassign), wan}, services: holders[:1], edit: write(wan),
			want: []string{"a keeps 192.0.2.1 -> 192.0.2.1: -"},
		},
	})
}
