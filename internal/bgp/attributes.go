package bgp

import (
	"encoding/binary"

	"github.com/ballast-lb/ballast/internal/announce"
)

// attributesKey is the canonical form of attributes, for map keys and sorting. The zero value is that
// of no attribute at all.
type attributesKey string

// keyOf returns the canonical form: equal for equal attributes, different for different ones.
func keyOf(a announce.Attributes) attributesKey {
	if a.LocalPref == nil && a.MED == nil && a.Prepends() == 0 && a.Weight == 0 && len(a.Communities) == 0 {
		return ""
	}
	b := make([]byte, 0, 19+13*len(a.Communities))
	for _, number := range []*uint32{a.LocalPref, a.MED} {
		if number == nil {
			b = append(b, 0)
			continue
		}
		b = binary.BigEndian.AppendUint32(append(b, 1), *number)
	}
	b = binary.BigEndian.AppendUint32(b, a.Prepends())
	b = binary.BigEndian.AppendUint32(b, a.Weight)
	if a.Transitive {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	for _, c := range a.Communities {
		kind := byte(0)
		if c.Large {
			kind = 1
		}
		b = append(b, kind)
		b = binary.BigEndian.AppendUint32(b, c.Global)
		b = binary.BigEndian.AppendUint32(b, c.Local1)
		b = binary.BigEndian.AppendUint32(b, c.Local2)
	}
	return attributesKey(b)
}
