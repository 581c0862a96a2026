package bgp

import (
	"errors"
	"maps"
	"slices"

	"github.com/ballast-lb/ballast/internal/name"
)

// mark names a distribution on a path: the low half of a community of the range
// 0x00000000-0x0000FFFF, which RFC 1997 reserves, so that no route can want it for itself. The zero value
// is the mark of nobody.
type mark uint16

// maxMarks is how many distributions there can be at a time.
const maxMarks = 0xffff

var errNoMark = errors.New("too many different combinations of peers and attributes")

// marked is a distribution that some prefixes have.
type marked struct {
	distribution
	key distributionKey
	// ipv4 and ipv6 are how many prefixes have it.
	ipv4, ipv6 int
}

// count adds to the number of prefixes of a family.
func (m *marked) count(f family, by int) {
	if f == ipv6 {
		m.ipv6 += by
	} else {
		m.ipv4 += by
	}
}

// marks numbers the distributions in use and counts the prefixes of each.
type marks struct {
	byKey map[distributionKey]mark
	all   map[mark]*marked
	next  mark
}

func newMarks() *marks {
	return &marks{byKey: map[distributionKey]mark{}, all: map[mark]*marked{}}
}

// acquire counts one more prefix of a family for a distribution and returns its mark; fresh says
// that the policy does not know it yet.
func (m *marks) acquire(d distribution, f family) (got mark, fresh bool, err error) {
	key := d.key()
	if key == "" {
		return 0, false, nil
	}
	if got, found := m.byKey[key]; found {
		m.all[got].count(f, 1)
		return got, false, nil
	}
	if len(m.all) >= maxMarks {
		return 0, false, errNoMark
	}
	for {
		m.next++
		if m.next != 0 && m.all[m.next] == nil {
			break
		}
	}
	m.byKey[key] = m.next
	m.all[m.next] = &marked{distribution: d, key: key}
	m.all[m.next].count(f, 1)
	return m.next, true, nil
}

// release counts one prefix less, and forgets the distribution with the last. The policy may
// go on knowing it: no path bears the mark.
func (m *marks) release(old mark, f family) {
	entry := m.all[old]
	if entry == nil {
		return
	}
	if entry.count(f, -1); entry.ipv4+entry.ipv6 == 0 {
		delete(m.all, old)
		m.unname(old, entry.key)
	}
}

// become gives a mark another distribution. If another mark has that already, new prefixes get the other one.
func (m *marks) become(old mark, d distribution) {
	entry, key := m.all[old], d.key()
	m.unname(old, entry.key)
	entry.distribution, entry.key = d, key
	if _, taken := m.byKey[key]; !taken {
		m.byKey[key] = old
	}
}

// unname ends that new prefixes with a distribution get a mark.
func (m *marks) unname(old mark, key distributionKey) {
	if m.byKey[key] == old {
		delete(m.byKey, key)
	}
}

// advertised is how many prefixes of each family each peer gets.
func (m *marks) advertised() map[name.PeerName]Advertised {
	all := map[name.PeerName]Advertised{}
	for _, entry := range m.all {
		for _, share := range entry.distribution {
			for _, peer := range share.peers {
				n := all[peer]
				n.IPv4, n.IPv6 = n.IPv4+entry.ipv4, n.IPv6+entry.ipv6
				all[peer] = n
			}
		}
	}
	return all
}

// sorted returns the marks in use, in order.
func (m *marks) sorted() []mark { return slices.Sorted(maps.Keys(m.all)) }
