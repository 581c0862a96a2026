package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// edit is what is planned to be done to the pools. It is pure.
type edit struct {
	write  []v1alpha1.IPAddressPool // name, labels, annotations and spec count
	remove []string
	prune  bool // write are all
}

// apply returns the pools as they would be right after the edit, when the controller has
// not acted on it yet.
func (e edit) apply(live []v1alpha1.IPAddressPool, now time.Time) ([]v1alpha1.IPAddressPool, error) {
	for _, name := range e.remove {
		switch {
		case find(e.write, name) != nil:
			return nil, fmt.Errorf("plan IPAddressPool %s: it stands in a file, and is to be removed", name)
		case find(live, name) == nil:
			return nil, fmt.Errorf("plan to remove IPAddressPool %s: it does not exist", name)
		}
	}
	var planned []v1alpha1.IPAddressPool
	for i := range live {
		p := live[i].DeepCopy()
		w := find(e.write, p.Name)
		switch {
		case w != nil:
			rewrite(p, w)
		case (e.prune || slices.Contains(e.remove, p.Name)) && p.DeletionTimestamp.IsZero():
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}
		planned = append(planned, *p)
	}
	created := metav1.Time{Time: youngest(live, now)}
	for i := range e.write {
		w := &e.write[i]
		if find(live, w.Name) == nil {
			p := v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: w.Name, CreationTimestamp: created}}
			rewrite(&p, w)
			planned = append(planned, p)
		}
	}
	return planned, nil
}

// named are the pools that stand in files.
func (e edit) named() []string {
	var names []string
	for i := range e.write {
		names = append(names, e.write[i].Name)
	}
	return names
}

// rewrite gives a pool what is written in a file. What its spec spanned goes on to belong
// to it while it is held: the controller has observed it.
func rewrite(p, w *v1alpha1.IPAddressPool) {
	observed := p.Status.ObservedAddresses
	for _, entry := range p.Spec.Addresses {
		if !slices.Contains(observed, entry) {
			observed = append(observed, entry)
		}
	}
	p.Status.ObservedAddresses = observed
	p.Spec = *w.Spec.DeepCopy()
	p.Labels, p.Annotations = merge(p.Labels, w.Labels), merge(p.Annotations, w.Annotations)
}

// merge returns the union of two maps; where they disagree, the second is right.
func merge(x, y map[string]string) map[string]string {
	all := maps.Clone(x)
	if all == nil {
		return maps.Clone(y)
	}
	maps.Copy(all, y)
	return all
}

// youngest returns a time of creation that makes a new pool younger than all others,
// whatever the clocks say.
func youngest(live []v1alpha1.IPAddressPool, now time.Time) time.Time {
	for i := range live {
		if created := live[i].CreationTimestamp.Time; !created.Before(now) {
			now = created.Add(time.Second)
		}
	}
	return now
}
