package config

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// ParseRange reads an entry of a pool: a CIDR, a range "first-last", or one address.
// Zones, IPv4-mapped IPv6 addresses, host bits in a CIDR and reversed ranges are errors.
func ParseRange(s string) (netipx.IPRange, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netipx.IPRange{}, fmt.Errorf("%q is no CIDR", s)
		}
		if p.Addr().Is4In6() {
			return netipx.IPRange{}, fmt.Errorf("%q is an IPv4-mapped IPv6 CIDR; write it as IPv4", s)
		}
		if p != p.Masked() {
			return netipx.IPRange{}, fmt.Errorf("%q has host bits set; did you mean %s", s, p.Masked())
		}
		return netipx.RangeOfPrefix(p), nil
	}
	first, last, isRange := strings.Cut(s, "-")
	from, err := ParseAddr(first)
	if err != nil {
		return netipx.IPRange{}, err
	}
	if !isRange {
		return netipx.IPRangeFrom(from, from), nil
	}
	to, err := ParseAddr(last)
	if err != nil {
		return netipx.IPRange{}, err
	}
	if from.Is4() != to.Is4() {
		return netipx.IPRange{}, fmt.Errorf("%q begins and ends in different families", s)
	}
	if to.Less(from) {
		return netipx.IPRange{}, fmt.Errorf("%q ends before it begins; did you mean %s-%s", s, to, from)
	}
	return netipx.IPRangeFrom(from, to), nil
}

// ParseAddr reads one address without a zone that is not IPv4-mapped.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is no IP address", s)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone", s)
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%q is an IPv4-mapped IPv6 address; write it as IPv4", s)
	}
	return a, nil
}
