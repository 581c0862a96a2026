package kube

import (
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
)

// changed lets an update through if something that is gathered changed: a Node's
// heartbeat does not, nor does a status that Ballast itself wrote.
func changed() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return differ(e.ObjectOld, e.ObjectNew) }}
}

// reserving lets an update of a Node through if what pools must not contain changed: its addresses and pod CIDRs.
func reserving() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		x, ok := e.ObjectOld.(*corev1.Node)
		y, same := e.ObjectNew.(*corev1.Node)
		return !ok || !same || !reservedAlike(x, y)
	}}
}

// reservedAlike says whether two versions of a Node keep the same addresses from pools.
func reservedAlike(x, y *corev1.Node) bool {
	return slices.Equal(x.Status.Addresses, y.Status.Addresses) && slices.Equal(x.Spec.PodCIDRs, y.Spec.PodCIDRs)
}

// said is what is gathered of a Speaker: not that it was refreshed.
func said(s *v1alpha1.Speaker) announce.Node {
	var n announce.Node
	config.Speaker(s, &n)
	return n
}

// differ says whether two versions of an object differ in what is gathered.
func differ(before, after client.Object) bool {
	if !maps.Equal(before.GetLabels(), after.GetLabels()) {
		return true
	}
	allCount := config.Settings{Drain: config.Drain{OnCordon: true}} // whether cordons count, the settings say later
	switch x := before.(type) {
	case *corev1.Node:
		y, ok := after.(*corev1.Node)
		return !ok || !reflect.DeepEqual(config.Node(x, allCount), config.Node(y, allCount))
	case *corev1.Namespace:
		return false // only its labels count
	case *v1alpha1.IPAddressPool:
		y, ok := after.(*v1alpha1.IPAddressPool)
		return !ok || x.Generation != y.Generation || !slices.Equal(x.Status.Retained, y.Status.Retained)
	case *v1alpha1.Speaker:
		y, ok := after.(*v1alpha1.Speaker)
		return !ok || !reflect.DeepEqual(said(x), said(y))
	case *corev1.Secret:
		return before.GetResourceVersion() != after.GetResourceVersion()
	}
	return before.GetGeneration() != after.GetGeneration()
}
