// Package neighbor finds the router at the other end of a link, so that a BGP session to it needs no
// address in its configuration (BGP unnumbered): routers that do this send router advertisements (RFC
// 4861) from their link-local address, and expect ours.
//
// On each interface that it is given, a Finder sends advertisements with a router lifetime of 0, which make
// no host use this node as its router (RFC 4861 section 6.2.3), answers solicitations, and hears the
// advertisements of others. The router that is heard first is the one, until it falls silent and
// another is heard. Of two at once it says that something is wrong.
//
// The codec is pure; a link is what is known of one interface, as a function of packets and time; a Finder owns
// sockets and links, in one goroutine. The package never sets a route or an address, takes nothing from an
// advertisement but its sender, and does not depend on the kernel's accept_ra.
package neighbor
