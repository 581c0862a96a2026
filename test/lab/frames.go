package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Kind is how a host said that it has an address.
type Kind string

// The kinds of a Sighting.
const (
	// ARPReply answers a request (RFC 826), or nobody's (RFC 5944 section 4.6) if it was broadcast.
	ARPReply Kind = "ARP reply"
	// ARPAnnouncement is a request for the sender's own address (RFC 5227 section 2.3).
	ARPAnnouncement Kind = "ARP announcement"
	// Advertisement is a neighbor advertisement (RFC 4861 section 4.4).
	Advertisement Kind = "neighbor advertisement"
)

// Sighting is one packet in which a host says that it has an address.
type Sighting struct {
	// At is when the kernel received the packet, by its wall clock.
	At      time.Time
	Kind    Kind
	Address netip.Addr
	// Source is the Ethernet source: who spoke. Owner is the hardware address that the
	// packet says the address has. They differ if a deputy answers.
	Source, Owner string
	// Unasked says that the packet went to everybody.
	Unasked bool
}

// Offsets in Ethernet frames.
const (
	ethernetLen   = 14
	arpLen        = ethernetLen + 28
	ipv6HeaderLen = 40
	icmpOffset    = ethernetLen + ipv6HeaderLen
	optionsOffset = icmpOffset + 24 // after a neighbor solicitation or advertisement
)

const (
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
	protoICMPv6   = 58
	// RFC 4861 sections 4.3, 4.4 and 4.6.1.
	icmpSolicitation   = 135
	icmpAdvertisement  = 136
	optionSourceLink   = 1
	optionTargetLink   = 2
	flagSolicited      = 0x40
	neighborHopLimit   = 255
	linkOptionLen      = 8
	solicitationLength = 24 + linkOptionLen
)

// parseSighting reads an Ethernet frame; false if it says of no address who has it.
func parseSighting(frame []byte) (Sighting, bool) {
	if len(frame) < ethernetLen {
		return Sighting{}, false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return parseARP(frame)
	case etherTypeIPv6:
		return parseAdvertisement(frame)
	}
	return Sighting{}, false
}

func parseARP(frame []byte) (Sighting, bool) {
	// Ethernet, IPv4, lengths 6 and 4.
	if len(frame) < arpLen || string(frame[14:20]) != "\x00\x01\x08\x00\x06\x04" {
		return Sighting{}, false
	}
	operation := binary.BigEndian.Uint16(frame[20:])
	sender, target := netip.AddrFrom4([4]byte(frame[28:32])), netip.AddrFrom4([4]byte(frame[38:42]))
	s := Sighting{Kind: ARPReply, Address: sender, Source: macString(frame[6:12]), Owner: macString(frame[22:28]), Unasked: frame[0]&1 == 1}
	if operation == 1 {
		s.Kind = ARPAnnouncement
	}
	return s, operation == 2 || operation == 1 && sender == target && sender != netip.IPv4Unspecified()
}

func parseAdvertisement(frame []byte) (Sighting, bool) {
	if len(frame) < optionsOffset || frame[20] != protoICMPv6 || frame[icmpOffset] != icmpAdvertisement {
		return Sighting{}, false
	}
	s := Sighting{
		Kind: Advertisement, Address: netip.AddrFrom16([16]byte(frame[icmpOffset+8 : optionsOffset])),
		Source: macString(frame[6:12]), Unasked: frame[icmpOffset+4]&flagSolicited == 0,
	}
	s.Owner = s.Source // without the option the sender means itself
	for options := frame[optionsOffset:]; len(options) >= linkOptionLen; {
		length := 8 * int(options[1])
		if length == 0 || length > len(options) {
			break
		}
		if options[0] == optionTargetLink && length == linkOptionLen {
			s.Owner = macString(options[2:8])
		}
		options = options[length:]
	}
	return s, true
}

func macString(b []byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// asker is who asks for addresses: its hardware address, and one address of each family.
type asker struct {
	mac    [6]byte
	v4, v6 netip.Addr
}

// request builds the broadcast or multicast frame that asks who has an address.
func (a asker) request(address netip.Addr) []byte {
	if address.Is4() {
		return a.arpRequest(address)
	}
	return a.solicitation(address)
}

func (a asker) arpRequest(address netip.Addr) []byte {
	frame := make([]byte, 0, arpLen)
	frame = append(frame, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	frame = append(frame, a.mac[:]...)
	frame = append(frame, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"...)
	frame = append(frame, a.mac[:]...)
	frame = append(frame, a.v4.AsSlice()...)
	frame = append(frame, 0, 0, 0, 0, 0, 0)
	return append(frame, address.AsSlice()...)
}

// solicitation is a neighbor solicitation (RFC 4861 section 4.3) to the address's
// solicited-node group (RFC 4291 section 2.7.1).
func (a asker) solicitation(address netip.Addr) []byte {
	target, source := address.As16(), a.v6.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	icmp := make([]byte, 0, solicitationLength)
	icmp = append(icmp, icmpSolicitation, 0, 0, 0, 0, 0, 0, 0)
	icmp = append(icmp, target[:]...)
	icmp = append(icmp, optionSourceLink, 1)
	icmp = append(icmp, a.mac[:]...)
	binary.BigEndian.PutUint16(icmp[2:], icmpChecksum(source, group, icmp))

	frame := make([]byte, 0, icmpOffset+solicitationLength)
	frame = append(frame, 0x33, 0x33, group[12], group[13], group[14], group[15])
	frame = append(frame, a.mac[:]...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, solicitationLength, protoICMPv6, neighborHopLimit)
	frame = append(frame, source[:]...)
	frame = append(frame, group[:]...)
	return append(frame, icmp...)
}

// icmpChecksum is that of RFC 4443 section 2.3, with the field itself zero.
func icmpChecksum(source, destination [16]byte, icmp []byte) uint16 {
	sum := uint32(len(icmp)) + protoICMPv6
	for _, part := range [][]byte{source[:], destination[:], icmp} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
