package arp

import "net/netip"

// Use is how another host shows that it uses an address.
type Use uint8

const (
	// Announced is all that may have told other hosts, too, where the address is.
	Announced Use = iota
	// Answered is a reply that was sent to us alone.
	Answered
	// Probed says that the host does not use the address yet, but asks whether it may. It gives
	// up if it is answered. While we probe for the same address ourselves, neither may use it
	// (RFC 5227 section 2.1.1).
	Probed
)

// Claim is the use of one of our addresses by another host.
type Claim struct {
	Address netip.Addr
	// MAC is the sender hardware address that the other host gives.
	MAC MAC
	Use Use
}

// Seen says whether frame shows that another host uses, or is about to use, one of the addresses
// in ours: by a request or reply, gratuitous or not, whose sender address is in ours and whose
// sender hardware address is neither mac, the interface's own, nor the one in ours (RFC 5227
// section 2.4); or by a probe (section 2.1.1). What mac itself sent, and senders that are no
// single host, show nothing. It allocates nothing and does not keep frame.
func Seen(frame []byte, ours Addresses, mac MAC) (Claim, bool) {
	if len(frame) < FrameLen || !isARP(frame) {
		return Claim{}, false
	}
	operation, other := fieldAt(frame, offOperation), macAt(frame, offSenderHardware)
	if operation != opRequest && operation != opReply {
		return Claim{}, false
	}
	if !isUnicast(other) || other == mac || macAt(frame, offSource) == mac {
		return Claim{}, false
	}
	address, use := addressAt(frame, offSenderAddress), Announced
	switch {
	case address == 0 && operation == opRequest:
		address, use = addressAt(frame, offTargetAddress), Probed
	case operation == opReply && macAt(frame, offDestination) == mac:
		use = Answered
	}
	given, found := ours.find(address)
	if !found || given == other {
		return Claim{}, false
	}
	return Claim{Address: fromValue(address), MAC: other, Use: use}, true
}
