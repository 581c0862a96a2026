// Package arp answers, probes and announces IPv4 addresses on an Ethernet link: a packet goes
// in and a packet, or nothing, comes out (Reply), or the news that another host uses an
// address (Seen), beside a loop over a Conn (Serve).
//
// It follows RFC 826 (ARP) and RFC 5227 (address conflict detection and announcements).
// Addresses need not be, and should not be, configured on the interface; the interface
// needs no IPv4 address at all.
//
// The package never decides which addresses to answer for or what a conflict leads to, keeps
// no ARP table, never sends but answers by itself, and never writes a log.
package arp

import (
	"encoding/binary"
	"net/netip"
)

// MAC is an Ethernet address (IEEE 802 MAC-48). The zero value is none.
type MAC = [6]byte

// FrameLen is the length in bytes of an Ethernet header (14) and an ARP packet for
// Ethernet and IPv4 (28, RFC 826). Links may pad what they carry to a longer frame.
const FrameLen = 42

// Frame is an Ethernet frame that carries one ARP packet, without padding.
type Frame [FrameLen]byte

// Values of the fields of an ARP packet for IPv4 on Ethernet.
const (
	etherTypeARP  = 0x0806   // RFC 826, "Packet format": ether_type$ADDRESS_RESOLUTION
	etherTypeIPv4 = 0x0800   // RFC 826, ar$pro
	hardwareEther = 1        // RFC 826, ar$hrd: ares_hrd$Ethernet
	lengths       = 6<<8 | 4 // RFC 826, ar$hln and ar$pln
	opRequest     = 1        // RFC 826, ar$op: ares_op$REQUEST
	opReply       = 2        // RFC 826, ar$op: ares_op$REPLY
)

// Offsets of the fields in a Frame.
const (
	offDestination    = 0
	offSource         = 6
	offEtherType      = 12
	offHardware       = 14
	offProtocol       = 16
	offLengths        = 18
	offOperation      = 20
	offSenderHardware = 22
	offSenderAddress  = 28
	offTargetHardware = 32
	offTargetAddress  = 38
)

// Reply returns the answer to frame, and whether there is one.
//
// Answered is a request (RFC 826), broadcast or sent to mac, for an address in answers; the
// answer goes from mac to the asker alone, and gives the hardware address that answers has for
// the address. So is a probe, whose sender address is 0.0.0.0: RFC 5227
// section 2.1.1 has the prober learn from the answer that the address is in use. Not answered
// are announcements and other gratuitous packets (sender and target address are equal),
// replies, what mac itself sent, who asks for what is its own by the answer, frames for another
// host seen in promiscuous mode, senders that are no single host, other hardware or protocol
// types, and anything too short. It allocates nothing and does not keep frame.
func Reply(frame []byte, answers Addresses, mac MAC) (Frame, bool) {
	if len(frame) < FrameLen || !isARP(frame) || fieldAt(frame, offOperation) != opRequest {
		return Frame{}, false
	}
	destination, asker := macAt(frame, offDestination), macAt(frame, offSenderHardware)
	if destination != mac && destination != everybody() {
		return Frame{}, false
	}
	if !isUnicast(asker) || asker == mac || macAt(frame, offSource) == mac {
		return Frame{}, false
	}
	sender, target := addressAt(frame, offSenderAddress), addressAt(frame, offTargetAddress)
	given, found := answers.find(target)
	if sender == target || !found || given == asker {
		return Frame{}, false
	}
	if given == (MAC{}) {
		given = mac
	}
	return build(fields{
		destination: asker, source: mac, operation: opReply,
		senderHardware: given, sender: target,
		targetHardware: asker, target: sender,
	}), true
}

// Probe returns the ARP probe of RFC 5227 section 2.1.1: a broadcast request for address, an
// IPv4 one, whose sender address is 0.0.0.0, so that no host learns anything from it. It
// panics if address is not IPv4.
func Probe(address netip.Addr, mac MAC) Frame {
	return build(fields{
		destination: everybody(), source: mac, operation: opRequest,
		senderHardware: mac, target: value(address),
	})
}

// AnnounceRequest returns the ARP announcement of RFC 5227 section 2.3: a broadcast request
// whose sender and target address are both address, an IPv4 one. Hosts that know the
// address update their entry from it. It panics if address is not IPv4.
func AnnounceRequest(address netip.Addr, mac MAC) Frame {
	a := value(address)
	return build(fields{
		destination: everybody(), source: mac, operation: opRequest,
		senderHardware: mac, sender: a, target: a,
	})
}

// AnnounceReply returns the gratuitous reply of RFC 5944 section 4.6, for the hosts that
// heed replies only (RFC 5227 section 3 discusses both forms). It panics if address is not
// IPv4.
func AnnounceReply(address netip.Addr, mac MAC) Frame {
	a := value(address)
	return build(fields{
		destination: everybody(), source: mac, operation: opReply,
		senderHardware: mac, sender: a,
		targetHardware: mac, target: a,
	})
}

// fields is what differs between the frames that this package builds.
type fields struct {
	destination, source            MAC
	operation                      uint16
	senderHardware, targetHardware MAC
	sender, target                 uint32
}

func build(p fields) Frame {
	var f Frame
	copy(f[offDestination:], p.destination[:])
	copy(f[offSource:], p.source[:])
	binary.BigEndian.PutUint16(f[offEtherType:], etherTypeARP)
	binary.BigEndian.PutUint16(f[offHardware:], hardwareEther)
	binary.BigEndian.PutUint16(f[offProtocol:], etherTypeIPv4)
	binary.BigEndian.PutUint16(f[offLengths:], lengths)
	binary.BigEndian.PutUint16(f[offOperation:], p.operation)
	copy(f[offSenderHardware:], p.senderHardware[:])
	binary.BigEndian.PutUint32(f[offSenderAddress:], p.sender)
	copy(f[offTargetHardware:], p.targetHardware[:])
	binary.BigEndian.PutUint32(f[offTargetAddress:], p.target)
	return f
}

// isARP says whether a frame of FrameLen bytes or more is an ARP packet for IPv4 on Ethernet.
func isARP(frame []byte) bool {
	return fieldAt(frame, offEtherType) == etherTypeARP &&
		fieldAt(frame, offHardware) == hardwareEther &&
		fieldAt(frame, offProtocol) == etherTypeIPv4 &&
		fieldAt(frame, offLengths) == lengths
}

// isUnicast says whether m names one host: neither a group (the low bit of the first octet)
// nor nobody.
func isUnicast(m MAC) bool { return m[0]&1 == 0 && m != MAC{} }

// everybody returns the Ethernet broadcast address.
func everybody() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func fieldAt(frame []byte, offset int) uint16   { return binary.BigEndian.Uint16(frame[offset:]) }
func addressAt(frame []byte, offset int) uint32 { return binary.BigEndian.Uint32(frame[offset:]) }
func macAt(frame []byte, offset int) MAC        { return MAC(frame[offset : offset+6]) }
