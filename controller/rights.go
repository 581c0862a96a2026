package main

import (
	"slices"

	"github.com/ballast-lb/ballast/internal/kube"
)

// rights are what the controller may do by the markers in rbac.go: without one of them it is not ready.
func rights(namespace string) []kube.Right {
	read := []string{"get", "list", "watch"}
	kinds := []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities", "settings", "addressclaims", "speakers"}
	var status []string
	for _, kind := range kinds {
		status = append(status, kind+"/status")
	}
	return slices.Concat(
		kube.Rights("", []string{"services", "nodes", "namespaces"}, read),
		kube.Rights("discovery.k8s.io", []string{"endpointslices"}, read),
		kube.Rights("networking.k8s.io", []string{"servicecidrs"}, read),
		kube.Rights("ballast.dev", kinds, read),
		kube.Rights("", []string{"services/status"}, []string{"patch"}),
		kube.Rights("ballast.dev", status, []string{"patch"}),
		kube.Rights("events.k8s.io", []string{"events"}, []string{"create", "patch"}),
		kube.In(namespace, kube.Rights("coordination.k8s.io", []string{"leases"}, []string{"get", "create", "update"})),
		kube.In(namespace, kube.Rights("", []string{"secrets"}, append(read, "create"))),
		[]kube.Right{{Verb: "update", Resource: "secrets", Namespace: namespace, Name: "ballast-gossip"}},
	)
}
