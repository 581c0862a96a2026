// Package bgp announces routes to BGP peers (RFC 4271, RFC 4760, RFC 8950) with an embedded gobgp. It
// is told the peers with SetPeers and the routes of each Service with Set and Remove, all of
// them idempotent and without waiting, and one goroutine brings gobgp to that state. Nothing is dialed before
// Sync, and paths always come before peers, so that a new session starts with every route.
//
// How a route finds its peers: every path in gobgp carries a mark, a community of the reserved range
// 0:0/16 (RFC 1997) that names its distribution, which is who gets it with which attributes. The export policy
// has one statement for each set of attributes of each distribution, which matches the
// mark and the peers, replaces the mark by the attributes and accepts; everything else is rejected.
// Distributions are as many as the advertisements' combinations, so the policy does not grow with the number of
// Services, a change of one Service touches its own prefixes, and a path alone decides where it goes.
//
// It never accepts a connection, never takes a route from a peer into anything (the import policy rejects
// all), and never touches the kernel's routes. No gobgp type leaves it.
package bgp
