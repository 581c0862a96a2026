package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

func TestAnEditedPoolKeepsWhoItIs(t *testing.T) {
	t.Parallel()
	live := with(pool("lan", "192.0.2.0/24"), func(p *v1alpha1.IPAddressPool) {
		p.UID, p.Labels = "uid", map[string]string{"a": "1", "b": "1"}
		p.Status.ObservedAddresses = []string{"203.0.113.7"}
		p.Status.Retained = []string{"198.51.100.1"}
	})
	w := with(pool("lan", "192.0.2.0/28"), func(p *v1alpha1.IPAddressPool) {
		p.CreationTimestamp, p.Labels = metav1.Time{}, map[string]string{"b": "2"}
	})
	planned, err := write(w).apply([]v1alpha1.IPAddressPool{live}, start().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p := planned[0]
	if len(planned) != 1 || p.UID != "uid" || !p.CreationTimestamp.Time.Equal(start()) || p.Labels["a"] != "1" || p.Labels["b"] != "2" ||
		!slices.Equal(p.Spec.Addresses, w.Spec.Addresses) || !slices.Equal(p.Status.Retained, live.Status.Retained) ||
		!slices.Equal(p.Status.ObservedAddresses, []string{"203.0.113.7", "192.0.2.0/24"}) {
		t.Errorf("got %+v", planned)
	}
	if len(live.Status.ObservedAddresses) != 1 || live.Labels["b"] != "1" {
		t.Errorf("the live pool was changed: %+v", live)
	}
}

func TestANewPoolIsTheYoungest(t *testing.T) {
	t.Parallel()
	live := pool("lan", "192.0.2.0/24")
	planned, err := write(pool("aaa", "192.0.2.0/24")).apply([]v1alpha1.IPAddressPool{live}, start().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if created := planned[1].CreationTimestamp.Time; !created.After(start()) {
		t.Errorf("a clock that is behind makes it old: %v", created)
	}
}

func TestEditsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	live := []v1alpha1.IPAddressPool{pool("lan", "192.0.2.0/24")}
	for name, row := range map[string]struct {
		edit edit
		want string
	}{
		"a pool that is not there cannot be removed":                    {edit{remove: []string{"typo"}}, "IPAddressPool typo: it does not exist"},
		"a pool that stands in a file cannot be removed":                {edit{write: live, remove: []string{"lan"}}, "it stands in a file, and is to be removed"},
		"a pool that a file makes new cannot be removed with the same":  {edit{write: []v1alpha1.IPAddressPool{pool("new", "192.0.2.1")}, remove: []string{"new"}}, "it stands in a file"},
		"a pool that is not there cannot be removed though files prune": {edit{write: live, remove: []string{"typo"}, prune: true}, "it does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := row.edit.apply(live, start()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
