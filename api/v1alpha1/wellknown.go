package v1alpha1

// WellKnownCommunity returns the value of the well-known BGP community that may stand by
// its name in a BGPAdvertisement, and false if there is none of that name. Names are lower
// case; no alias of a Community object may have one of them.
func WellKnownCommunity(name string) (uint32, bool) {
	switch name {
	case "graceful-shutdown": // RFC 8326 section 5
		return 0xffff0000, true
	case "accept-own": // RFC 7611 section 2
		return 0xffff0001, true
	case "llgr-stale": // RFC 9494 section 4.6
		return 0xffff0006, true
	case "no-llgr": // RFC 9494 section 4.6
		return 0xffff0007, true
	case "blackhole": // RFC 7999 section 5
		return 0xffff029a, true
	case "no-export": // RFC 1997
		return 0xffffff01, true
	case "no-advertise": // RFC 1997
		return 0xffffff02, true
	case "no-export-subconfed": // RFC 1997
		return 0xffffff03, true
	case "no-peer": // RFC 3765 section 2
		return 0xffffff04, true
	}
	return 0, false
}
