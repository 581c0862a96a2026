package lan

import (
	"encoding/binary"
	"net/netip"

	"github.com/ballast-lb/ballast/internal/link"
)

// answers returns which parts of q frame answers. That is an ARP reply or a solicited neighbor
// advertisement, sent to our MAC alone, in which the neighbor's MAC is both the Ethernet source
// and what is said to have the address. So neither the answer of a proxy, nor that of a deputy,
// which names the neighbor's MAC but does not come from it, answers anything. It does not keep
// frame.
func answers(frame []byte, q Question) Answer {
	if len(frame) < headerLen || macAt(frame, offSource) != q.Neighbor.MAC || macAt(frame, offDestination) != q.From.MAC {
		return Answer{}
	}
	var of netip.Addr
	var ok bool
	switch fieldAt(frame, offEtherType) {
	case etherTypeARP:
		of, ok = replyOf(frame, q)
	case etherTypeIPv6:
		of, ok = advertisementOf(frame, q)
	}
	if !ok {
		return Answer{}
	}
	return Answer{Neighbor: of == q.Neighbor.Address, Speaker: of == q.Speaker}
}

// replyOf returns the address of which frame, an ARP packet from the neighbor, says that the
// neighbor has it.
func replyOf(frame []byte, q Question) (netip.Addr, bool) {
	if len(frame) < arpLen || fieldAt(frame, offHardware) != hardwareEther || fieldAt(frame, offProtocol) != etherTypeIPv4 ||
		fieldAt(frame, offLengths) != lengths || fieldAt(frame, offOperation) != opReply ||
		macAt(frame, offSenderHardware) != q.Neighbor.MAC || macAt(frame, offTargetHardware) != q.From.MAC {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(frame[offSenderAddress:])), true
}

// advertisementOf returns the address of which frame, an IPv6 packet from the neighbor, says in a
// valid solicited advertisement (RFC 4861 section 7.1.2) that the neighbor has it. What follows
// the end of the packet is padding.
func advertisementOf(frame []byte, q Question) (netip.Addr, bool) {
	if len(frame) < offOptions || frame[offVersion]>>4 != version {
		return netip.Addr{}, false
	}
	end := offType + int(fieldAt(frame, offPayloadLength))
	if end < offOptions || end > len(frame) {
		return netip.Addr{}, false
	}
	frame = frame[:end]
	if frame[offNextHeader] != nextICMPv6 || frame[offHopLimit] != maxHopLimit || frame[offType] != typeNA || frame[offCode] != 0 ||
		frame[offFlags]&flagSolicited == 0 || addressAt(frame, offTo) != linkLocal(q.From) ||
		checksum(frame) != 0xffff || !names(frame[offOptions:], q.Neighbor.MAC) {
		return netip.Addr{}, false
	}
	return addressAt(frame, offTarget), true
}

// names says whether options are valid and give no target link-layer address but mac; they need
// not give one in the answer to a unicast solicitation (RFC 4861 section 4.4).
func names(options []byte, mac link.MAC) bool {
	for len(options) > 0 {
		if len(options) < optionUnit || options[1] == 0 || int(options[1])*optionUnit > len(options) {
			return false
		}
		if options[0] == optionTarget && (options[1] != 1 || macAt(options, 2) != mac) {
			return false
		}
		options = options[int(options[1])*optionUnit:]
	}
	return true
}

// isOther says whether frame comes from a host that is neither we nor the neighbor.
func isOther(frame []byte, q Question) bool {
	if len(frame) < headerLen {
		return false
	}
	source := macAt(frame, offSource)
	return isUnicast(source) && source != q.From.MAC && source != q.Neighbor.MAC
}

func fieldAt(frame []byte, offset int) uint16 { return binary.BigEndian.Uint16(frame[offset:]) }
func macAt(frame []byte, offset int) link.MAC { return link.MAC(frame[offset : offset+6]) }
func addressAt(frame []byte, offset int) netip.Addr {
	return netip.AddrFrom16([16]byte(frame[offset : offset+16]))
}
