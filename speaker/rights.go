package main

import (
	"slices"

	"github.com/ballast-lb/ballast/internal/kube"
)

// rights are what the speaker may do by the markers in rbac.go: without one of them it is not ready.
func rights(namespace string) []kube.Right {
	read := []string{"get", "list", "watch"}
	return slices.Concat(
		kube.Rights("", []string{"services", "nodes", "namespaces"}, read),
		kube.Rights("discovery.k8s.io", []string{"endpointslices"}, read),
		kube.Rights("ballast.dev", []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities", "settings", "speakers"}, read),
		kube.Rights("", []string{"services/status"}, []string{"patch"}),
		kube.Rights("ballast.dev", []string{"speakers"}, []string{"create", "patch"}),
		kube.Rights("ballast.dev", []string{"speakers/status"}, []string{"patch"}),
		kube.Rights("events.k8s.io", []string{"events"}, []string{"create", "patch"}),
		kube.In(namespace, kube.Rights("", []string{"secrets"}, read)),
	)
}
