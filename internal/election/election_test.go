package election_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

func unit(i uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xc0000200+i)))
}

func nodes(n int) []name.NodeName {
	var all []name.NodeName
	for i := range n {
		all = append(all, name.NodeName(fmt.Sprintf("node-%d", i)))
	}
	return all
}

func TestNobodyOwnsWithoutCandidates(t *testing.T) {
	t.Parallel()
	if got := election.Owner(unit(1), nil); got != "" {
		t.Errorf("got owner %q, want none", got)
	}
}

func TestOwnerMovesOnlyWhenItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(rapid.IntRange(2, 20).Draw(t, "nodes"))
		u := unit(rapid.Uint32Range(0, 1<<16).Draw(t, "unit"))
		owner := election.Owner(u, all)
		if shuffled := rapid.Permutation(all).Draw(t, "order"); election.Owner(u, shuffled) != owner {
			t.Fatalf("the order of candidates changed the owner %s", owner)
		}
		gone := rapid.SampledFrom(all).Draw(t, "gone")
		after := election.Owner(u, slices.DeleteFunc(slices.Clone(all), func(n name.NodeName) bool { return n == gone }))
		if gone != owner && after != owner {
			t.Fatalf("%s went, and the unit moved from %s to %s", gone, owner, after)
		}
	})
}

func TestUnitsSpreadOverNodes(t *testing.T) {
	t.Parallel()
	const units, n = 10000, 10
	owned := map[name.NodeName]int{}
	for i := range uint32(units) {
		owned[election.Owner(unit(i), nodes(n))]++
	}
	for node, count := range owned {
		if mean := units / n; count < mean*8/10 || count > mean*12/10 {
			t.Errorf("%s owns %d units, want %d within a fifth", node, count, mean)
		}
	}
}
