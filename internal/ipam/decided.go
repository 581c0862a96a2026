package ipam

// Decided returns the last decision about a holder; the zero value if it was never asked
// for, or not decided yet. The caller must not change its Addresses.
func (a *Allocator) Decided(k Key) Decision {
	if m := a.members[k]; m != nil {
		return m.decision
	}
	return Decision{}
}
