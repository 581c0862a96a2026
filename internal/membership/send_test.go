package membership

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// ears keeps what each of some members is told.
type ears struct {
	mu    sync.Mutex
	heard map[name.NodeName][]string
}

func (e *ears) adapt(c *Config) {
	c.Hear = func(b []byte) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.heard[c.NodeName] = append(e.heard[c.NodeName], string(b))
		return true
	}
}

// take returns who was told what since the last call.
func (e *ears) take() map[name.NodeName][]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard := e.heard
	e.heard = map[name.NodeName][]string{}
	return heard
}

func TestALetterReachesThoseItIsFor(t *testing.T) {
	long := strings.Repeat("long", 1000)
	tests := []struct {
		name   string
		letter Letter
		among  []int
		many   int
	}{
		{"one member", Letter{To: "n003"}, []int{3}, 1},
		{"this node itself", Letter{To: "n000"}, nil, 0},
		{"nobody that there is", Letter{To: "another"}, nil, 0},
		{"three at random", Letter{Some: 3}, []int{1, 2, 3, 4, 5}, 3},
		{"three at random but two", Letter{Some: 3, Not: []name.NodeName{"n001", "n002"}}, []int{3, 4, 5}, 3},
		{"more than there are", Letter{Some: 3, Not: []name.NodeName{"n001", "n002", "n003", "n004", "another"}}, []int{5}, 1},
	}
	synctest.Test(t, func(t *testing.T) {
		c, e := newCrew(6), &ears{heard: map[name.NodeName][]string{}}
		defer c.end()
		for i := range 6 {
			c.begin(t, i, e.adapt)
		}
		until(t, 20*time.Second, "all alive", func() bool { return c.all(numbers(6)) })
		for _, tt := range tests {
			for _, news := range []string{"short", long} {
				e.take()
				tt.letter.News = []byte(news)
				c.nodes["n000"].Send(tt.letter)
				time.Sleep(2 * time.Second) // virtual time
				heard := e.take()
				if len(heard) != tt.many {
					t.Errorf("%s: told %d members", tt.name, len(heard))
				}
				for _, n := range slices.Sorted(maps.Keys(heard)) {
					meant := slices.ContainsFunc(tt.among, func(i int) bool { return c.peers[i].Name == n })
					if told := heard[n]; !meant || len(told) != 1 || told[0] != news {
						t.Errorf("%s: told %s %d times", tt.name, n, len(told))
					}
				}
			}
		}
	})
}
