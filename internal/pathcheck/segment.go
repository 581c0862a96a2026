package pathcheck

import (
	"encoding/binary"
	"net/netip"
)

// What a TCP header is made of (RFC 9293 section 3.1).
const (
	tcpProtocol = 6 // IANA protocol numbers
	tcpHeader   = 20
	flagSYN     = 0x02
	flagRST     = 0x04
	flagACK     = 0x10
	// mssOption is kind 2 with length 4 (RFC 9293 section 3.2), and mss what nearly every path carries.
	mssOption = 0x0204
	mss       = 1220
	synLength = tcpHeader + 4
	window    = 1024
)

// The least IP headers, and where they say what they hold (RFC 791 section 3.1, RFC 8200 section 3).
const (
	header4   = 20
	protocol4 = 9
	source4   = 12
	header6   = 40
	next6     = 6
	source6   = 8
)

// SYN is a first segment of a connection, sent or to be sent. Both addresses are of one family, and
// have no zone.
type SYN struct {
	Source, Destination netip.AddrPort
	// Number is its sequence number.
	Number uint32
}

// Marshal writes the segment, without an IP header.
func (s SYN) Marshal() []byte {
	b := make([]byte, synLength)
	binary.BigEndian.PutUint16(b[0:], s.Source.Port())
	binary.BigEndian.PutUint16(b[2:], s.Destination.Port())
	binary.BigEndian.PutUint32(b[4:], s.Number)
	b[12], b[13] = synLength/4<<4, flagSYN
	binary.BigEndian.PutUint16(b[14:], window)
	binary.BigEndian.PutUint16(b[20:], mssOption)
	binary.BigEndian.PutUint16(b[22:], mss)
	binary.BigEndian.PutUint16(b[16:], checksum(s.Source.Addr(), s.Destination.Addr(), b))
	return b
}

// checksum is that of a TCP segment whose own is 0, with its pseudo-header (RFC 9293 section 3.1,
// RFC 8200 section 8.1).
func checksum(source, destination netip.Addr, segment []byte) uint16 {
	sum := uint32(tcpProtocol) + uint32(len(segment))
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(source.AsSlice())
	add(destination.AsSlice())
	add(segment)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Answer is a segment that answers a SYN.
type Answer struct {
	From netip.AddrPort
	// To is the port that the SYN came from, Number the sequence number that the SYN had.
	To     uint16
	Number uint32
	// Reset says that it refuses the connection; otherwise it accepts it.
	Reset bool
}

// ParseAnswer reads a TCP segment from an address; ok is false unless it is a SYN-ACK, or a RST that
// acknowledges a SYN.
func ParseAnswer(from netip.Addr, segment []byte) (answer Answer, ok bool) {
	if len(segment) < tcpHeader {
		return Answer{}, false
	}
	flags := segment[13]
	if flags&flagACK == 0 || flags&(flagSYN|flagRST) == 0 {
		return Answer{}, false
	}
	return Answer{
		From: netip.AddrPortFrom(from, binary.BigEndian.Uint16(segment[0:])), To: binary.BigEndian.Uint16(segment[2:]),
		Number: binary.BigEndian.Uint32(segment[8:]) - 1, Reset: flags&flagRST != 0,
	}, true
}

// ParseSYN reads an IP packet; ok is false unless it begins a TCP connection.
func ParseSYN(packet []byte) (s SYN, ok bool) {
	source, destination, segment, ok := parseIP(packet)
	if !ok || len(segment) < tcpHeader || segment[13]&(flagSYN|flagACK|flagRST) != flagSYN {
		return SYN{}, false
	}
	return SYN{
		Source:      netip.AddrPortFrom(source, binary.BigEndian.Uint16(segment[0:])),
		Destination: netip.AddrPortFrom(destination, binary.BigEndian.Uint16(segment[2:])),
		Number:      binary.BigEndian.Uint32(segment[4:]),
	}, true
}

// parseIP reads a whole TCP packet. IPv6 packets with extension headers are no concern: no SYN of ours
// has one.
func parseIP(b []byte) (source, destination netip.Addr, segment []byte, ok bool) {
	switch {
	case len(b) >= header4 && b[0]>>4 == 4:
		length, fragment := int(b[0]&0xf)*4, binary.BigEndian.Uint16(b[6:])&0x3fff
		if length < header4 || length > len(b) || b[protocol4] != tcpProtocol || fragment != 0 {
			return source, destination, nil, false
		}
		return netip.AddrFrom4([4]byte(b[source4:])), netip.AddrFrom4([4]byte(b[source4+4:])), b[length:], true
	case len(b) >= header6 && b[0]>>4 == 6 && b[next6] == tcpProtocol:
		return netip.AddrFrom16([16]byte(b[source6:])), netip.AddrFrom16([16]byte(b[source6+16:])), b[header6:], true
	}
	return source, destination, nil, false
}
