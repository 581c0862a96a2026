package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cacheOptions keep caches small: Secrets of Ballast's namespace alone, no managed fields,
// and of what there is much of only what Ballast reads. So nothing that comes from a cache
// may be written back whole.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:             {Namespaces: map[string]cache.Config{namespace: {}}},
			&corev1.Node{}:               {Transform: trimNode},
			&corev1.Service{}:            {Transform: trimService},
			&discoveryv1.EndpointSlice{}: {Transform: trimEndpointSlice},
		},
	}
}

// trimNode drops what makes a Node large.
func trimNode(o any) (any, error) {
	if n, ok := o.(*corev1.Node); ok {
		n.ManagedFields, n.Status.Images, n.Status.VolumesAttached, n.Status.VolumesInUse = nil, nil, nil, nil
	}
	return o, nil
}

// trimService keeps metadata, status, and the part of spec that asks for addresses.
func trimService(o any) (any, error) {
	s, ok := o.(*corev1.Service)
	if !ok {
		return o, nil
	}
	s.ManagedFields = nil
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	var ports []corev1.ServicePort
	for _, p := range s.Spec.Ports {
		ports = append(ports, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port})
	}
	s.Spec = corev1.ServiceSpec{
		Type: s.Spec.Type, LoadBalancerClass: s.Spec.LoadBalancerClass, LoadBalancerIP: s.Spec.LoadBalancerIP,
		IPFamilies: s.Spec.IPFamilies, IPFamilyPolicy: s.Spec.IPFamilyPolicy, Ports: ports,
		Selector: s.Spec.Selector, ExternalTrafficPolicy: s.Spec.ExternalTrafficPolicy,
	}
	return s, nil
}

// trimEndpointSlice keeps which Service it is of, and on which nodes endpoints are and how.
func trimEndpointSlice(o any) (any, error) {
	slice, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return o, nil
	}
	slice.ManagedFields, slice.Annotations, slice.OwnerReferences, slice.Ports = nil, nil, nil, nil
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: slice.Labels[discoveryv1.LabelServiceName]}
	endpoints := make([]discoveryv1.Endpoint, 0, len(slice.Endpoints))
	for _, e := range slice.Endpoints {
		endpoints = append(endpoints, discoveryv1.Endpoint{NodeName: e.NodeName, Conditions: e.Conditions})
	}
	slice.Endpoints = endpoints
	return slice, nil
}
