package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
)

// communities compiles aliases; the oldest object that defines a name is right.
func (c *compiler) communities(objects []v1alpha1.Community) map[string]announce.Community {
	aliases, definedBy := map[string]announce.Community{}, map[string]string{}
	for _, obj := range byAge(objects) {
		for _, alias := range obj.Spec.Communities {
			community, err := parseCommunity(alias.Value, nil)
			if err != nil {
				c.problem(KindCommunity, obj.Name, v1alpha1.ReasonInvalid, "The alias %s has no usable value: %v.", alias.Name, err)
				continue
			}
			if older, taken := definedBy[alias.Name]; taken {
				c.problem(KindCommunity, obj.Name, v1alpha1.ReasonInvalid, "The alias %s is defined by the older Community %s already.", alias.Name, older)
				continue
			}
			aliases[alias.Name], definedBy[alias.Name] = community, obj.Name
		}
	}
	return aliases
}

// parseCommunity reads a standard community "64512:100" (RFC 1997), a large one
// "large:64512:1:2" (RFC 8092), a well-known name or an alias.
func parseCommunity(s string, aliases map[string]announce.Community) (announce.Community, error) {
	if alias, ok := aliases[s]; ok {
		return alias, nil
	}
	if known, ok := v1alpha1.WellKnownCommunity(s); ok {
		return announce.Community{Global: known >> 16, Local1: known & 0xffff}, nil
	}
	if !strings.Contains(s, ":") {
		return announce.Community{}, fmt.Errorf("community %q is no well-known name and no alias of a Community object", s)
	}
	large := strings.HasPrefix(s, "large:")
	fields := strings.Split(strings.TrimPrefix(s, "large:"), ":")
	want, bits := 2, 16
	if large {
		want, bits = 3, 32
	}
	if len(fields) != want {
		return announce.Community{}, fmt.Errorf("community %q has %d parts, not %d", s, len(fields), want)
	}
	var parts [3]uint32
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, bits)
		if err != nil {
			return announce.Community{}, fmt.Errorf("community %q: %q is no number of %d bits", s, f, bits)
		}
		parts[i] = uint32(n)
	}
	return announce.Community{Large: large, Global: parts[0], Local1: parts[1], Local2: parts[2]}, nil
}
