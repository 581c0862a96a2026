// Package interop tests internal/bgp and internal/bfd against real routers, in network namespaces of their own, joined
// to a node's namespace by veth pairs. TestMatrix has FRR, BIRD, OpenBGPD and GoBGP take part in everything that a
// node can do, and prints a table (make interop); the other tests look deeper, with FRR. They need root and the build tag
// e2e, and touch no network but the one they make.
package interop
