// Package bfd watches routers with Bidirectional Forwarding Detection (RFC 5880): asynchronous mode,
// over IPv4 and IPv6, to routers on the same link (RFC 5881) and further away (RFC 5883). It says
// when a session comes up or fails; what follows from it (RFC 5882) is the caller's to decide.
//
// Packet is the codec. A machine is one session's state (RFC 5880 section 6.8) as a function of
// packets and time. A Server owns sockets and sessions, in one goroutine.
//
// It has no echo function, no demand mode of its own and no authentication, and it never sets the C
// bit: it shares the fate of the process.
package bfd
