// Package announce decides what a node announces of each Service: which addresses it
// answers for in layer 2 and which routes it gives to which BGP peers, and if nothing,
// the first rule that said no. It is pure: it reads no clock, opens no socket, writes no log.
package announce
