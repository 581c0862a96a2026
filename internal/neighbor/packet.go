package neighbor

import "net/netip"

// Values of fields.
const (
	typeSolicitation  = 133 // RFC 4861 section 4.1
	typeAdvertisement = 134 // RFC 4861 section 4.2
	optionSource      = 1   // RFC 4861 section 4.6.1: source link-layer address
	optionUnit        = 8   // RFC 4861 section 4.6: the unit of an option's length field
	hopLimit          = 255 // RFC 4861 section 6.1: a router would have made it less
)

// Lengths in bytes without options.
const (
	solicitationLen  = 8  // RFC 4861 section 4.1
	advertisementLen = 16 // RFC 4861 section 4.2
)

// macLen is the length in bytes of the only link-layer addresses that are told (IEEE 802 MAC-48).
const macLen = 6

// advertisement returns a router advertisement that says nothing but where we are: all of its values are 0,
// which is a lifetime of none and unspecified else (RFC 4861 section 4.2). The kernel adds the checksum.
func advertisement(mac []byte) []byte {
	b := make([]byte, advertisementLen, advertisementLen+optionUnit)
	b[0] = typeAdvertisement
	return appendSource(b, mac)
}

// solicitation returns a router solicitation (RFC 4861 section 4.1). The kernel adds the checksum.
func solicitation(mac []byte) []byte {
	b := make([]byte, solicitationLen, solicitationLen+optionUnit)
	b[0] = typeSolicitation
	return appendSource(b, mac)
}

// appendSource adds the option source link-layer address, unless there is none.
func appendSource(b, mac []byte) []byte {
	if len(mac) != macLen {
		return b
	}
	return append(append(b, optionSource, 1), mac...)
}

// message is what a packet is.
type message int

// The messages.
const (
	invalid message = iota // or of no interest
	solicits
	advertises
)

// classify says what an ICMPv6 message is, whose checksum the kernel has verified, by the rules of RFC 4861
// sections 6.1.1 and 6.1.2.
func classify(from netip.Addr, hops int, b []byte) message {
	if hops != hopLimit || len(b) < solicitationLen || b[1] != 0 {
		return invalid
	}
	switch b[0] {
	case typeSolicitation:
		source, ok := options(b[solicitationLen:])
		if ok && (!source || !from.IsUnspecified()) {
			return solicits
		}
	case typeAdvertisement:
		if len(b) < advertisementLen || !from.Is6() || !from.IsLinkLocalUnicast() {
			return invalid
		}
		if _, ok := options(b[advertisementLen:]); ok {
			return advertises
		}
	}
	return invalid
}

// options walks over options; false: one is cut or has the length 0. source: there is a source link-layer address.
func options(b []byte) (source, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || len(b) < int(b[1])*optionUnit {
			return source, false
		}
		source = source || b[0] == optionSource
		b = b[int(b[1])*optionUnit:]
	}
	return source, true
}
