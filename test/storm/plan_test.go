package storm

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestASeedMakesTheSamePlanEachTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		a, la := Plan(seed, 3)
		b, lb := Plan(seed, 3)
		if !reflect.DeepEqual(a, b) || la != lb {
			t.Fatalf("seed %d: %v and %v", seed, a, b)
		}
	}
}

func TestPlansAreMixedAndFaultsFit(t *testing.T) {
	t.Parallel()
	kinds, overlaps := map[Kind]int{}, 0
	for seed := range uint64(200) {
		for round := range 5 {
			faults, length := Plan(seed, round)
			var end time.Duration
			for i, f := range faults {
				kinds[f.Kind]++
				end = max(end, f.End())
				if f.Length <= 0 || f.Begin < 0 || slices.Contains(f.Nodes, "n1") {
					t.Fatalf("seed %d, round %d: %+v", seed, round, f)
				}
				active := 0
				for j, o := range faults {
					if i != j && o.Begin < f.End() && f.Begin < o.End() {
						overlaps++
						if clash(f, o) {
							t.Fatalf("seed %d, round %d: %v beside %v", seed, round, f, o)
						}
					}
					if o.Begin <= f.Begin && f.Begin < o.End() {
						active++
					}
				}
				if active > atOnce {
					t.Fatalf("seed %d, round %d: %d at once", seed, round, active)
				}
			}
			if length < end+calmTime && len(faults) > 0 {
				t.Fatalf("seed %d, round %d: no calm at the end", seed, round)
			}
		}
	}
	for _, c := range choices() {
		if kinds[c.kind] == 0 {
			t.Errorf("%s never comes", c.kind)
		}
		if _, known := bounds()[c.kind]; !known {
			t.Errorf("%s has no bound", c.kind)
		}
	}
	if overlaps == 0 {
		t.Error("no two faults ever overlap")
	}
}
