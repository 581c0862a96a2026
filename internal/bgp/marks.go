package bgp

import (
	"errors"
	"maps"
	"slices"
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
	key      distributionKey
	prefixes int
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

// acquire counts one more prefix of a distribution and returns its mark; fresh says
// that the policy does not know it yet.
func (m *marks) acquire(d distribution) (got mark, fresh bool, err error) {
	key := d.key()
	if key == "" {
		return 0, false, nil
	}
	if got, found := m.byKey[key]; found {
		m.all[got].prefixes++
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
	m.all[m.next] = &marked{distribution: d, key: key, prefixes: 1}
	return m.next, true, nil
}

// release counts one prefix less, and forgets the distribution with the last. The policy may
// go on knowing it: no path bears the mark.
func (m *marks) release(old mark) {
	entry := m.all[old]
	if entry == nil {
		return
	}
	if entry.prefixes--; entry.prefixes == 0 {
		delete(m.all, old)
		delete(m.byKey, entry.key)
	}
}

// sorted returns the marks in use, in order.
func (m *marks) sorted() []mark { return slices.Sorted(maps.Keys(m.all)) }
