package ndp

import "net/netip"

// Solicit returns a solicitation that asks who has address, on behalf of the host with the
// address from, a link-local one, and mac (RFC 4861 section 7.2.2). Other than to a probe, whoever
// has the address answers the asker alone, so that no other host learns anything, and a host
// that is probing for it is not disturbed (RFC 4862 section 5.4.3). It panics if an address is
// not IPv6.
func Solicit(address, from netip.Addr, mac MAC) Frame {
	a := value(address)
	group := solicitedNode(a)
	return build(fields{
		destination: ethernetGroup(group), source: mac,
		from: value(from), to: group,
		kind: typeNS, target: a,
		option: optionSource, value: mac,
	})
}
