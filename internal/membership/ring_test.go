package membership

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKeysAreAddedThenUsedThenRemoved(t *testing.T) {
	t.Parallel()
	old, fresh, third := key(1), key(2), key(3)
	tests := []struct {
		name string
		r    rotate
		want Keys
	}{
		{"an empty ring takes what is wanted", rotate{wanted: Keys{fresh, old}}, Keys{fresh, old}},
		{"nothing changes", rotate{wanted: Keys{old}, ring: Keys{old}, have: true, use: true}, Keys{old}},
		{"a new key is understood at once", rotate{wanted: Keys{fresh}, ring: Keys{old}}, Keys{old, fresh}},
		{"a new key behind the old one is never used", rotate{wanted: Keys{old, fresh}, ring: Keys{old, fresh}, have: true, use: true}, Keys{old, fresh}},
		{"it is not used while one does not have it", rotate{wanted: Keys{fresh}, ring: Keys{old, fresh}, use: true}, Keys{old, fresh}},
		{"it is used when all have it", rotate{wanted: Keys{fresh}, ring: Keys{old, fresh}, have: true}, Keys{fresh, old}},
		{"the old one stays while one uses it", rotate{wanted: Keys{fresh}, ring: Keys{fresh, old}, have: true}, Keys{fresh, old}},
		{"the old one goes when all use the new one", rotate{wanted: Keys{fresh}, ring: Keys{fresh, old}, have: true, use: true}, Keys{fresh}},
		{"the old one stays when a member without the new one appears", rotate{wanted: Keys{fresh}, ring: Keys{fresh, old}, use: true}, Keys{fresh, old}},
		{"a third key comes before the second was used", rotate{wanted: Keys{third}, ring: Keys{old, fresh}}, Keys{old, fresh, third}},
		{"the order follows what is wanted", rotate{wanted: Keys{fresh, old}, ring: Keys{old, fresh}, have: true, use: true}, Keys{fresh, old}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.r.next(); !slices.Equal(got, tt.want) {
				t.Errorf("next() = %v, want %v", numbersOf(got), numbersOf(tt.want))
			}
		})
	}
}

// numbersOf shows keys that were made by key.
func numbersOf(keys Keys) (list []byte) {
	for _, k := range keys {
		list = append(list, k[0])
	}
	return list
}

// TestAChangeOfKeysNeverCutsAnybodyOff changes the keys of some nodes at random. Each knows what
// the others have only as of some time ago.
func TestAChangeOfKeysNeverCutsAnybodyOff(t *testing.T) {
	t.Parallel()
	type node struct{ wanted, ring Keys }
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]node, 4)
		for i := range nodes {
			nodes[i] = node{Keys{key(1)}, Keys{key(1)}}
		}
		told := slices.Clone(nodes)
		turn := func(i int) {
			r := rotate{wanted: nodes[i].wanted, ring: nodes[i].ring, have: true, use: true}
			for j, other := range told {
				if j != i {
					r.have = r.have && other.wanted[0] == r.wanted[0]
					r.use = r.use && other.ring[0] == r.wanted[0]
				}
			}
			nodes[i].ring = r.next()
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch i := rapid.IntRange(0, 3).Draw(t, "node"); rapid.IntRange(0, 2).Draw(t, "what") {
			case 0: // it reads the Secret
				nodes[i].wanted = Keys{key(2)}
				nodes[i].ring = rotate{wanted: nodes[i].wanted, ring: nodes[i].ring}.next()
			case 1:
				turn(i)
			case 2: // the gossip brings what it told
				told[i] = node{slices.Clone(nodes[i].wanted), slices.Clone(nodes[i].ring)}
			}
			for i, sender := range nodes {
				for j, receiver := range nodes {
					if !slices.Contains(receiver.ring, sender.ring[0]) {
						t.Fatalf("node %d does not understand node %d: %v", j, i, nodes)
					}
				}
			}
		}
		for i := range nodes {
			nodes[i].wanted = Keys{key(2)}
			nodes[i].ring = rotate{wanted: nodes[i].wanted, ring: nodes[i].ring}.next()
		}
		for range 4 {
			copy(told, nodes)
			for i := range nodes {
				turn(i)
			}
		}
		for i, n := range nodes {
			if !slices.Equal(n.ring, Keys{key(2)}) {
				t.Fatalf("node %d ends with %v", i, numbersOf(n.ring))
			}
		}
	})
}

// holds waits until the ring of each member is this.
func holds(t *testing.T, what string, members []*Membership, want Keys) {
	t.Helper()
	limit := time.Now().Add(patience)
	for _, m := range members {
		for !slices.Equal(Keys(ringKeys(m.ring)), want) {
			if time.Now().After(limit) {
				t.Fatalf("%s: %s has %v, want %v", what, m.config.NodeName, numbersOf(ringKeys(m.ring)), numbersOf(want))
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}

func TestMembersChangeTheirKeysOneAfterTheOther(t *testing.T) {
	t.Parallel()
	at := hosts(3)
	var members []*Membership
	for _, p := range at {
		m, _ := start(t, answered(p, key(1)))
		m.SetPeers(at)
		members = append(members, m)
	}
	before := map[*Membership]uint64{} // those that were not met yet count
	for _, m := range members {
		await(t, m.Views(), true, "a", "b", "c")
		before[m] = m.Stats().Deaths
	}
	for i, m := range members {
		if i == 2 { // one does not have it yet, and the others had time
			rung := time.After(3 * ringEvery)
			holds(t, "one lacks the key", members[:2], Keys{key(1), key(2)})
			<-rung
			holds(t, "one lacks the key", members[:2], Keys{key(1), key(2)})
		}
		if err := m.SetKeys(Keys{key(2)}); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, "all have the key", members, Keys{key(2)})
	for _, m := range members {
		if s := m.Stats(); s.Deaths != before[m] {
			t.Errorf("%s counted %d deaths", m.config.NodeName, s.Deaths-before[m])
		}
	}
}
