package lan

import (
	"encoding/binary"
	"net/netip"

	"github.com/ballast-lb/ballast/internal/link"
)

// Values of fields.
const (
	etherTypeIPv4 = 0x0800   // RFC 826, ar$pro
	etherTypeARP  = 0x0806   // RFC 826, ether_type$ADDRESS_RESOLUTION
	etherTypeIPv6 = 0x86dd   // RFC 2464 section 3
	hardwareEther = 1        // RFC 826, ar$hrd: ares_hrd$Ethernet
	lengths       = 6<<8 | 4 // RFC 826, ar$hln and ar$pln
	opRequest     = 1        // RFC 826, ar$op: ares_op$REQUEST
	opReply       = 2        // RFC 826, ar$op: ares_op$REPLY
	version       = 6        // RFC 8200 section 3
	nextICMPv6    = 58       // RFC 4443 section 1
	maxHopLimit   = 255      // RFC 4861 section 7.1.1: a router would have made it less
	typeNS        = 135      // RFC 4861 section 4.3
	typeNA        = 136      // RFC 4861 section 4.4
	flagSolicited = 1 << 6   // RFC 4861 section 4.4
	optionSource  = 1        // RFC 4861 section 4.6.1: source link-layer address
	optionTarget  = 2        // RFC 4861 section 4.6.1: target link-layer address
	optionUnit    = 8        // RFC 4861 section 4.6: the unit of an option's length, in bytes
)

// Offsets of the fields in a frame: those of Ethernet, of ARP for IPv4 on Ethernet (RFC 826), and
// of IPv6 (RFC 8200 section 3) with a neighbor solicitation or advertisement (RFC 4861).
const (
	offDestination = 0
	offSource      = 6
	offEtherType   = 12
	headerLen      = 14 // of Ethernet

	offHardware       = 14
	offProtocol       = 16
	offLengths        = 18
	offOperation      = 20
	offSenderHardware = 22
	offSenderAddress  = 28
	offTargetHardware = 32
	offTargetAddress  = 38
	arpLen            = 42

	offVersion       = 14
	offPayloadLength = 18
	offNextHeader    = 20
	offHopLimit      = 21
	offFrom          = 22
	offTo            = 38
	offType          = 54
	offCode          = 55
	offChecksum      = 56
	offFlags         = 58
	offTarget        = 62
	offOptions       = 78
	solicitationLen  = offOptions + optionUnit
)

// probes returns the frames that ask q, but for what has been answered already.
func probes(q Question, answered Answer) [][]byte {
	var frames [][]byte
	if !answered.Neighbor && q.Neighbor != (Neighbor{}) {
		frames = append(frames, probe(q.From, q.Neighbor.Address, onLink(q.From, q.Neighbor.Address), q.Neighbor.MAC))
	}
	if q.Speaker.IsValid() && !answered.Speaker && q.Neighbor != (Neighbor{}) {
		sender := onLink(q.From, q.Speaker)
		if sender.IsUnspecified() {
			sender = anyIPv4(q.From)
		}
		frames = append(frames, probe(q.From, q.Speaker, sender, q.Neighbor.MAC))
	}
	if answered.Others {
		return frames
	}
	for _, a := range q.Others {
		frames = append(frames, probe(q.From, a, onLink(q.From, a), group(a)))
	}
	return frames
}

// probe returns the frame that asks the hosts that destination names for target. The sender is
// who asks in IPv4; in IPv6 it is always the own link-local address.
func probe(from link.Interface, target, sender netip.Addr, destination link.MAC) []byte {
	if target.Is4() {
		return request(from.MAC, sender, target, destination)
	}
	return solicitation(from, target, destination)
}

// request returns an ARP request (RFC 826), for one host or for all.
func request(mac link.MAC, sender, target netip.Addr, destination link.MAC) []byte {
	f := ethernet(arpLen, destination, mac, etherTypeARP)
	binary.BigEndian.PutUint16(f[offHardware:], hardwareEther)
	binary.BigEndian.PutUint16(f[offProtocol:], etherTypeIPv4)
	binary.BigEndian.PutUint16(f[offLengths:], lengths)
	binary.BigEndian.PutUint16(f[offOperation:], opRequest)
	copy(f[offSenderHardware:], mac[:])
	copy(f[offSenderAddress:], sender.AsSlice())
	copy(f[offTargetAddress:], target.AsSlice())
	return f
}

// solicitation returns a neighbor solicitation (RFC 4861 section 4.3): to the address itself if
// destination is a host, as one that finds out whether it is still reachable (section 7.3), or
// to its solicited-node group.
func solicitation(from link.Interface, target netip.Addr, destination link.MAC) []byte {
	f := ethernet(solicitationLen, destination, from.MAC, etherTypeIPv6)
	to := target
	if !isUnicast(destination) {
		to = solicitedNode(target)
	}
	f[offVersion] = version << 4
	binary.BigEndian.PutUint16(f[offPayloadLength:], solicitationLen-offType)
	f[offNextHeader] = nextICMPv6
	f[offHopLimit] = maxHopLimit
	copy(f[offFrom:], linkLocal(from).AsSlice())
	copy(f[offTo:], to.AsSlice())
	f[offType] = typeNS
	copy(f[offTarget:], target.AsSlice())
	f[offOptions] = optionSource
	f[offOptions+1] = 1
	copy(f[offOptions+2:], from.MAC[:])
	binary.BigEndian.PutUint16(f[offChecksum:], ^checksum(f))
	return f
}

func ethernet(length int, destination, source link.MAC, etherType uint16) []byte {
	f := make([]byte, length)
	copy(f[offDestination:], destination[:])
	copy(f[offSource:], source[:])
	binary.BigEndian.PutUint16(f[offEtherType:], etherType)
	return f
}

// onLink returns the own IPv4 address whose on-link prefix contains target, or 0.0.0.0.
func onLink(from link.Interface, target netip.Addr) netip.Addr {
	for _, a := range from.Addresses {
		if a.Prefix.Addr().Is4() && a.Prefix.Contains(target) && a.Prefix.Addr() != target {
			return a.Prefix.Addr()
		}
	}
	return netip.IPv4Unspecified()
}

// anyIPv4 returns an own IPv4 address, or 0.0.0.0.
func anyIPv4(from link.Interface) netip.Addr {
	for _, a := range from.Addresses {
		if a.Prefix.Addr().Is4() {
			return a.Prefix.Addr()
		}
	}
	return netip.IPv4Unspecified()
}

// linkLocal returns the own IPv6 link-local address, or, if there is none that may be used, the
// one that follows from the MAC (RFC 4291 appendix A).
func linkLocal(from link.Interface) netip.Addr {
	for _, a := range from.Addresses {
		if own := a.Prefix.Addr(); own.Is6() && own.IsLinkLocalUnicast() && a.Stable {
			return own.WithZone("")
		}
	}
	m := from.MAC
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// solicitedNode returns the solicited-node multicast address of a (RFC 4291 section 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 0xff, b[13], b[14], b[15]})
}

// group returns the Ethernet address by which everybody is asked for a: that of all hosts in
// IPv4, that of the solicited-node group in IPv6 (RFC 2464 section 7).
func group(a netip.Addr) link.MAC {
	if a.Is4() {
		return link.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	b := a.As16()
	return link.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

// checksum returns the sum of the ICMPv6 message that fills frame up to its end, and of its
// pseudo-header (RFC 8200 section 8.1). It is 0xffff if the checksum in the message is right;
// if that is zero yet, the complement of what is returned belongs there.
func checksum(frame []byte) uint16 {
	sum := uint64(len(frame)-offType) + nextICMPv6
	b := frame[offFrom:] // both addresses, then the message
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
