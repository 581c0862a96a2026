// Package interop tests internal/bgp against real routers: FRR in network namespaces of their own, joined
// to a node's namespace by veth pairs. The tests need root and the build tag e2e; they touch no network but the one they make.
package interop
