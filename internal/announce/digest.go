package announce

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// digestParts is into how many parts a digest divides what a node knows: with 10,000 claims one
	// that differs has 80 told, and the digest fits into a datagram.
	digestParts = 128
	// digestSize is the length of Digest.Sums in bytes.
	digestSize = 4 * digestParts
	// beyondMax is about how many claims and reports answer a digest at most: some 64 KB.
	beyondMax = 512
	// compareFirst is the time between two comparisons, compareSoon that after one that told something new,
	// compareLast the longest after some in vain.
	compareFirst, compareSoon, compareLast = time.Second, 250 * time.Millisecond, 32 * time.Second
)

// Digest is a short form of the claims and reports that a node knows. Two nodes that know the same have
// the same Sums, and those that do not find out by them what to tell each other.
type Digest struct {
	Node name.NodeName `json:"n"`
	// Sums are the parts, 4 bytes each.
	Sums []byte `json:"s"`
}

// valid says whether a digest is one that a speaker makes.
func (d *Digest) valid() bool { return d.Node != "" && len(d.Sums) == digestSize }

// hash is FNV-1a, which is the same on all nodes; it begins with hashBegin.
type hash uint64

const (
	hashBegin = hash(14695981039346656037)
	hashPrime = 1099511628211
)

// text adds a text and its end.
func (h hash) text(s string) hash {
	for i := range len(s) {
		h = (h ^ hash(s[i])) * hashPrime
	}
	return h * hashPrime // a byte 0
}

// number adds the bytes of a number.
func (h hash) number(n uint64) hash {
	for range 8 {
		h, n = (h^hash(n&0xff))*hashPrime, n>>8
	}
	return h
}

// sum ends a hash with the finalizer of SplitMix64, because FNV leaves the hashes of similar names alike.
func (h hash) sum() uint64 {
	x := uint64(h)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashOf begins a hash with an address.
func hashOf(a netip.Addr) hash {
	b := a.As16()
	return hashBegin.number(binary.BigEndian.Uint64(b[:8])).number(binary.BigEndian.Uint64(b[8:]))
}

// partOfClaim is the part of a digest that a claim is in, and what it adds to its sum.
func partOfClaim(c election.Claim) (part int, sum uint32) {
	h := hashOf(c.Unit)
	return int(h.sum() % digestParts), uint32(h.text(string(c.Owner)).text(string(c.Successor)).number(c.Epoch).sum())
}

// partOfReport is the part of a digest that a report is in, and what it adds to its sum.
func partOfReport(r Report) (part int, sum uint32) {
	h := hashBegin.text(string(r.Node))
	return int(h.sum() % digestParts), uint32(h.number(r.Number).sum())
}

// Digest returns a short form of what News returns.
func (s *State) Digest() Digest {
	if s.sums == nil {
		s.sums = make([]byte, digestSize)
		add := func(part int, sum uint32) {
			at := s.sums[4*part:]
			binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^sum)
		}
		for a, c := range s.claims.known {
			if s.known(a) {
				add(partOfClaim(c))
			}
		}
		for n, r := range s.reports {
			if _, exists := s.view.node(n); exists {
				add(partOfReport(r))
			}
		}
	}
	return Digest{Node: s.view.Self, Sums: slices.Clone(s.sums)}
}

// Beyond returns what this node knows where it differs from a digest: what its maker may lack. If that
// is much, it is some of it, and other things the next time.
func (s *State) Beyond(d Digest) News {
	answer := News{Answer: true}
	own := s.Digest()
	if !d.valid() || slices.Equal(own.Sums, d.Sums) {
		return answer
	}
	var parts [digestParts]News
	known := s.News()
	for _, c := range known.Claims {
		i, _ := partOfClaim(c)
		parts[i].Claims = append(parts[i].Claims, c)
	}
	for _, r := range known.Reports {
		i, _ := partOfReport(r)
		parts[i].Reports = append(parts[i].Reports, r)
	}
	s.first += digestParts/2 + 1 // odd: each part is the first in its turn
	for i := range parts {
		i = (i + s.first) % digestParts
		if slices.Equal(own.Sums[4*i:4*i+4], d.Sums[4*i:4*i+4]) {
			continue
		}
		if len(answer.Claims)+len(answer.Reports) >= beyondMax {
			break
		}
		answer.Claims = append(answer.Claims, parts[i].Claims...)
		answer.Reports = append(answer.Reports, parts[i].Reports...)
	}
	return answer
}

// Compare returns the digest to ask another node with, at random, for what this one lacks, and how long to
// wait before it asks the next. That is less while there is much to learn, and more when others answer and
// have nothing new, because they differ in which Services they know.
func (s *State) Compare() (Digest, time.Duration) {
	if !s.replied {
		s.fruitless = 0
	}
	s.replied = false
	after := min(compareFirst<<min(s.fruitless, 16), compareLast)
	if s.fruitful {
		s.fruitful, after = false, compareSoon
	}
	return s.Digest(), after
}
