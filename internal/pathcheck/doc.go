// Package pathcheck finds out whether this node's service proxy delivers what comes for a Service's
// address, by half-open TCP connections through the node's own stack: a SYN that leaves through a raw
// socket passes the rules that the service proxy has programmed, as a client's would, and a SYN-ACK or
// RST from the address shows that they are there. No connection comes about: the kernel, which knows of
// none, answers a SYN-ACK with RST, and applications see nothing.
//
// Board decides what to try and when, and what follows; it is pure. Prober sends and hears.
package pathcheck
