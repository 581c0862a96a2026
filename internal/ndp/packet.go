// Package ndp answers and announces IPv6 addresses on an Ethernet link: a packet goes in and
// a packet, or nothing, comes out (Reply), beside a loop over a Conn (Serve). It tells when
// another host uses one of the addresses (Seen), and joins the multicast groups without which
// the questions would not arrive (Groups).
//
// It follows RFC 4861 (neighbor discovery), RFC 4862 section 5.4 (duplicate address
// detection) and RFC 7527 (nonces in its probes). Addresses need not be, and should not be,
// configured on the interface; the interface needs no address of its own, but IPv6 must be
// enabled on it for its groups to be reported.
//
// The package never decides which addresses to answer for, keeps no neighbor cache, never
// resolves an address, handles no router advertisements, and never writes a log.
package ndp

import (
	"encoding/binary"
	"net/netip"
)

// MAC is an Ethernet address (IEEE 802 MAC-48). The zero value is none.
type MAC = [6]byte

// Nonce marks the probes of one sender, so that it knows them when the link sends them back
// (RFC 7527 section 4). It should be random.
type Nonce = [6]byte

// FrameLen is the length in bytes of the frames that this package builds: an Ethernet header
// (14), an IPv6 header (40, RFC 8200 section 3), a neighbor solicitation or advertisement
// (24, RFC 4861 sections 4.3 and 4.4), and one option (8, section 4.6).
const FrameLen = 86

// Frame is an Ethernet frame that carries one neighbor solicitation or advertisement.
type Frame [FrameLen]byte

// Values of fields.
const (
	etherTypeIPv6 = 0x86dd // RFC 2464 section 3
	version       = 6      // RFC 8200 section 3
	nextICMPv6    = 58     // RFC 4443 section 1
	maxHopLimit   = 255    // RFC 4861 section 7.1.1: a router would have made it less
	typeNS        = 135    // RFC 4861 section 4.3
	typeNA        = 136    // RFC 4861 section 4.4
	flagSolicited = 1 << 6 // RFC 4861 section 4.4
	flagOverride  = 1 << 5 // RFC 4861 section 4.4
	optionSource  = 1      // RFC 4861 section 4.6.1: source link-layer address
	optionTarget  = 2      // RFC 4861 section 4.6.1: target link-layer address
	optionNonce   = 14     // RFC 3971 section 5.3.2
	optionLen     = 8      // RFC 4861 section 4.6: the unit of an option's length field
)

// Offsets of the fields in a frame.
const (
	offDestination   = 0
	offSource        = 6
	offEtherType     = 12
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
)

// Announce returns the unsolicited neighbor advertisement of RFC 4861 section 7.2.6: to all
// nodes, with the override flag, so that hosts that know the address update their entry. It
// panics if address is not IPv6.
func Announce(address netip.Addr, mac MAC) Frame { return advertise(value(address), mac) }

// advertise returns an advertisement of a to all nodes.
func advertise(a key, mac MAC) Frame {
	return build(fields{
		destination: ethernetGroup(allNodes()), source: mac,
		from: a, to: allNodes(),
		kind: typeNA, flags: flagOverride, target: a,
		option: optionTarget, value: mac,
	})
}

// Probe returns a solicitation that asks whether another host has address (RFC 4862 section
// 5.4.2), marked with nonce (RFC 7527 section 4.1). It panics if address is not IPv6.
func Probe(address netip.Addr, mac MAC, nonce Nonce) Frame {
	a := value(address)
	group := solicitedNode(a)
	return build(fields{
		destination: ethernetGroup(group), source: mac,
		to:   group,
		kind: typeNS, target: a,
		option: optionNonce, value: nonce,
	})
}

// fields is what differs between the frames that this package builds.
type fields struct {
	destination, source MAC
	from, to            key
	kind, flags         byte
	target              key
	option              byte
	value               [6]byte
}

func build(p fields) Frame {
	var f Frame
	copy(f[offDestination:], p.destination[:])
	copy(f[offSource:], p.source[:])
	binary.BigEndian.PutUint16(f[offEtherType:], etherTypeIPv6)
	f[offVersion] = version << 4
	binary.BigEndian.PutUint16(f[offPayloadLength:], FrameLen-offType)
	f[offNextHeader] = nextICMPv6
	f[offHopLimit] = maxHopLimit
	putKey(f[offFrom:], p.from)
	putKey(f[offTo:], p.to)
	f[offType] = p.kind
	f[offFlags] = p.flags
	putKey(f[offTarget:], p.target)
	f[offOptions] = p.option
	f[offOptions+1] = 1
	copy(f[offOptions+2:], p.value[:])
	binary.BigEndian.PutUint16(f[offChecksum:], ^checksum(f[:]))
	return f
}

// checksum returns the sum of the ICMPv6 message that fills frame up to its end, and of its
// pseudo-header (RFC 8200 section 8.1). It is 0xffff if the checksum in the message is right;
// if that is zero yet, the complement of what is returned belongs there.
func checksum(frame []byte) uint16 {
	sum := uint64(len(frame)-offType) + nextICMPv6
	b := frame[offFrom:] // both addresses, then the message
	for ; len(b) >= 4; b = b[4:] {
		sum += uint64(binary.BigEndian.Uint32(b))
	}
	var rest [4]byte
	copy(rest[:], b)
	sum += uint64(binary.BigEndian.Uint32(rest[:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// solicitedNode returns the solicited-node multicast address of a (RFC 4291 section 2.7.1).
func solicitedNode(a key) key {
	return key{0xff02 << 48, 0x1_ff00_0000 | a.lo&0xff_ffff}
}

// allNodes returns the all-nodes multicast address ff02::1 (RFC 4291 section 2.7.1).
func allNodes() key { return key{0xff02 << 48, 1} }

// ethernetGroup returns the Ethernet address of an IPv6 multicast group (RFC 2464 section 7).
func ethernetGroup(group key) MAC {
	m := MAC{0x33, 0x33}
	binary.BigEndian.PutUint32(m[2:], uint32(group.lo))
	return m
}

func (k key) isMulticast() bool   { return k.hi>>56 == 0xff }
func (k key) isUnspecified() bool { return k == key{} }
func (k key) isLoopback() bool    { return k == key{0, 1} }

// isUnicast says whether m names one host: neither a group (the low bit of the first octet)
// nor nobody.
func isUnicast(m MAC) bool { return m[0]&1 == 0 && m != MAC{} }

func fieldAt(frame []byte, offset int) uint16 { return binary.BigEndian.Uint16(frame[offset:]) }
func macAt(frame []byte, offset int) MAC      { return MAC(frame[offset : offset+6]) }
