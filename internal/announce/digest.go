package announce

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

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

// hash is the same on all nodes: FNV-1a of some strings, and the finalizer of SplitMix64, because FNV
// leaves the hashes of similar names alike.
func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// parts divides news, and returns also the sum of each part.
func (n News) parts() (parts [digestParts]News, sums []byte) {
	sums = make([]byte, digestSize)
	add := func(key string, what uint64) *News {
		part := hash(key) % digestParts
		at := sums[4*part:]
		binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^uint32(what))
		return &parts[part]
	}
	for _, c := range n.Claims {
		unit := c.Unit.String()
		p := add(unit, hash(unit, string(c.Owner), string(c.Successor), strconv.FormatUint(c.Epoch, 10)))
		p.Claims = append(p.Claims, c)
	}
	for _, r := range n.Reports {
		p := add(string(r.Node), hash(string(r.Node), strconv.FormatUint(r.Number, 10)))
		p.Reports = append(p.Reports, r)
	}
	return parts, sums
}

// Digest returns a short form of what News returns.
func (s *State) Digest() Digest {
	if s.sums == nil {
		_, s.sums = s.News().parts()
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
	parts, _ := s.News().parts()
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
	after := min(compareFirst<<min(s.fruitless, 16), compareLast)
	if s.fruitful {
		s.fruitful, after = false, compareSoon
	}
	return s.Digest(), after
}
