package ndp

import "net/netip"

// Reply returns the answer to frame of the host whose address is mac, and whether there is
// one.
//
// Answered is a solicitation (RFC 4861 section 7.2.3) for one of the addresses in answers,
// sent to its solicited-node group or, to find out whether it is still reachable (section
// 7.3), to the address itself and mac. The answer goes to the asker alone, with the
// solicited and the override flag, and comes from the address asked for. A probe, whose
// source is unspecified (RFC 4862 section 5.4.2), is answered to all nodes, without the
// solicited flag.
//
// For an address that is to be answered on behalf of another node, the answer gives that
// node's MAC; its Ethernet source is still mac. Probes for it are not answered, so what such
// an answer says is heard by the asker alone.
//
// Not answered are messages that RFC 4861 section 7.1.1 has us discard, what mac or the node
// to be named itself asks, who asks from the address it asks for, frames for another host
// seen in promiscuous mode, askers that are no single host, other types, extension headers,
// and anything cut short. It allocates nothing and does not keep frame.
func Reply(frame []byte, answers Addresses, mac MAC) (Frame, bool) {
	m, ok := parse(frame)
	if !ok || m.kind != typeNS || m.source == mac || !m.isFor(mac) {
		return Frame{}, false
	}
	given, found := answers.find(m.target)
	if !found || m.from == m.target {
		return Frame{}, false
	}
	deputy := given != MAC{} && given != mac
	if !deputy {
		given = mac
	}
	if m.from.isUnspecified() {
		if deputy {
			return Frame{}, false
		}
		return advertise(m.target, mac), true
	}
	asker := m.asker()
	if !isUnicast(asker) || asker == mac || asker == given {
		return Frame{}, false
	}
	return build(fields{
		destination: asker, source: mac,
		from: m.target, to: m.from,
		kind: typeNA, flags: flagSolicited | flagOverride, target: m.target,
		option: optionTarget, value: given,
	}), true
}

// Self is what tells our own messages from those of others.
type Self struct {
	MAC MAC
	// Nonce is that of our probes.
	Nonce Nonce
}

// Use is how another host shows that it uses an address.
type Use uint8

const (
	// Announced is all that may have told other hosts, too, where the address is; so is the
	// answer to a probe, which goes to all nodes.
	Announced Use = iota
	// Answered is an advertisement that was sent to us alone.
	Answered
	// Probed says that the host does not use the address yet, but asks whether it may. It gives
	// up if it is answered (RFC 4862 section 5.4.4). While we probe for the same address
	// ourselves, neither may use it (section 5.4.3).
	Probed
)

// Claim is the use of one of our addresses by another host.
type Claim struct {
	Address netip.Addr
	// MAC is the link-layer address that the other host gives for Address, or, if it gives
	// none, sends from.
	MAC MAC
	Use Use
}

// Seen says whether frame shows that another host uses, or is about to use, one of the
// addresses in ours: by an advertisement, solicited or not, that gives another MAC than ours
// and than the one in the set, or by a probe (RFC 4862 sections 5.4.3 and 5.4.4). What comes
// from our MAC, and a probe with our nonce (RFC 7527 section 4.2), is our own, sent back by
// the link. An advertisement by which another node answers on our behalf gives our MAC and
// is no claim. Messages that RFC 4861 sections 7.1.1 and 7.1.2 have us discard show nothing.
// It allocates nothing and does not keep frame.
func Seen(frame []byte, ours Addresses, self Self) (Claim, bool) {
	m, ok := parse(frame)
	if !ok || m.source == self.MAC {
		return Claim{}, false
	}
	given, found := ours.find(m.target)
	if !found {
		return Claim{}, false
	}
	claim := Claim{Address: m.target.addr(), MAC: m.source}
	if m.kind == typeNA && m.destination == self.MAC {
		claim.Use = Answered
	}
	switch {
	case m.kind == typeNA && m.linkLayer != MAC{}:
		claim.MAC = m.linkLayer
	case m.kind == typeNS && m.from.isUnspecified():
		claim.Use = Probed
		if m.nonce == self.Nonce && m.hasNonce {
			return Claim{}, false
		}
	case m.kind == typeNS:
		return Claim{}, false
	}
	if claim.MAC == self.MAC || claim.MAC == given {
		return Claim{}, false
	}
	return claim, true
}

// message is a solicitation or advertisement that RFC 4861 sections 7.1.1 and 7.1.2 find
// valid, with what of it concerns us.
type message struct {
	destination, source MAC
	from, to, target    key
	kind                byte
	// linkLayer is the first source (in a solicitation) or target (in an advertisement)
	// link-layer address, or zero.
	linkLayer    MAC
	hasLinkLayer bool
	// nonce is the first nonce, if it has the length of ours.
	nonce    Nonce
	hasNonce bool
}

// isFor says whether a host with this MAC is addressed. RFC 4861 section 4.3 knows two
// destinations: the group, and the target.
func (m *message) isFor(mac MAC) bool {
	switch m.to {
	case m.target:
		return m.destination == mac
	case solicitedNode(m.target): // RFC 6085: a group may be sent to one host alone
		return m.destination == ethernetGroup(m.to) || m.destination == mac
	}
	return false
}

// asker returns where the answer goes: the address inside, which differs from that of the
// frame if the question was relayed, or else that of the frame.
func (m *message) asker() MAC {
	if m.hasLinkLayer {
		return m.linkLayer
	}
	return m.source
}

// parse reads frame, and says whether it is valid.
func parse(frame []byte) (message, bool) {
	var m message
	if len(frame) < offOptions || fieldAt(frame, offEtherType) != etherTypeIPv6 || frame[offVersion]>>4 != version {
		return m, false
	}
	end := offType + int(fieldAt(frame, offPayloadLength))
	if end < offOptions || end > len(frame) { // what follows the end is padding
		return m, false
	}
	frame = frame[:end]
	m = message{
		destination: macAt(frame, offDestination), source: macAt(frame, offSource),
		from: keyAt(frame, offFrom), to: keyAt(frame, offTo),
		target: keyAt(frame, offTarget), kind: frame[offType],
	}
	ok := frame[offNextHeader] == nextICMPv6 && frame[offHopLimit] == maxHopLimit && frame[offCode] == 0 &&
		isUnicast(m.source) && !m.from.isMulticast() && !m.from.isLoopback() && !m.target.isMulticast() &&
		checksum(frame) == 0xffff && m.options(frame[offOptions:])
	switch {
	case !ok:
		return m, false
	case m.kind == typeNS:
		return m, !m.from.isUnspecified() || m.to == solicitedNode(m.target) && !m.hasLinkLayer
	case m.kind == typeNA:
		return m, !m.from.isUnspecified() && (!m.to.isMulticast() || frame[offFlags]&flagSolicited == 0)
	}
	return m, false
}

// options reads the options of m, and says whether they are valid: of a length that is not
// zero and within the message, and for a link-layer address, that of Ethernet. Of several of
// a kind the first counts, and unknown ones do not (RFC 4861 section 4.6).
func (m *message) options(b []byte) bool {
	linkLayer := byte(optionSource)
	if m.kind == typeNA {
		linkLayer = optionTarget
	}
	for len(b) > 0 {
		if len(b) < optionLen || b[1] == 0 || int(b[1])*optionLen > len(b) {
			return false
		}
		switch {
		case b[0] == linkLayer && b[1] != 1:
			return false
		case b[0] == linkLayer && !m.hasLinkLayer:
			m.linkLayer, m.hasLinkLayer = macAt(b, 2), true
		case b[0] == optionNonce && b[1] == 1 && !m.hasNonce:
			m.nonce, m.hasNonce = Nonce(b[2:optionLen]), true
		}
		b = b[int(b[1])*optionLen:]
	}
	return true
}
