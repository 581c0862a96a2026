package ipam

// Remembered counts what an Allocator remembers of addresses that cool.
func Remembered(a *Allocator) int {
	n := len(a.adrift)
	for _, p := range a.pools {
		c := p.cooling
		n += len(c.cooled) + len(c.order.entries) + len(c.last) + len(c.own)
		for _, q := range c.own {
			n += len(q.entries)
		}
	}
	return n
}
