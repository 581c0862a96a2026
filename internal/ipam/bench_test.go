package ipam_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// sizes are how many addresses are held beside those that a benchmark allocates.
var sizes = []int{10, 1_000, 100_000, 1_000_000}

// crowd is an allocator with many holders of one pool.
type crowd struct {
	*ipam.Allocator
	requests []ipam.Request
	now      time.Time
}

func newCrowd(n int, p ipam.Pool) *crowd {
	c := &crowd{Allocator: ipam.New(), now: start}
	c.SetPools([]ipam.Pool{p})
	for i := range n {
		r := ipam.Request{Families: []ipam.Family{ipam.FamilyOf(p.Ranges[0].From())}, Required: 1}
		r.Key = ipam.ServiceKey(name.ServiceKey{Namespace: "n", Name: fmt.Sprint(i)})
		c.requests = append(c.requests, r)
		c.Allocate(r, c.now)
		c.Settle(r.Key, c.Held(r.Key), c.now)
	}
	return c
}

// swap releases one holder and lets another in.
func (c *crowd) swap(b *testing.B, out, in ipam.Request) {
	c.now = c.now.Add(time.Millisecond)
	c.Release(out.Key, c.now)
	if d := c.Allocate(in, c.now); d.Reason != "" {
		b.Fatal(d.Message)
	}
	c.Settle(in.Key, c.Held(in.Key), c.now)
}

// run measures pairs of a release and an allocation, two operations.
func run(b *testing.B, c *crowd, pair func(i int)) {
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		pair(i)
	}
	b.StopTimer()
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	runtime.KeepAlive(c)
}

// BenchmarkAllocateRelease lets one holder come and go beside many.
func BenchmarkAllocateRelease(b *testing.B) {
	for _, held := range sizes {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			p := pool("a", "10.0.0.0/8")
			p.ReuseDelay = time.Minute
			c := newCrowd(held, p)
			last := c.requests[held-1]
			run(b, c, func(int) { c.swap(b, last, last) })
		})
	}
}

// BenchmarkRandomRelease releases any holder and lets it in again.
func BenchmarkRandomRelease(b *testing.B) {
	for _, held := range sizes {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			p := pool("a", "10.0.0.0/8")
			p.ReuseDelay = time.Minute
			c := newCrowd(held, p)
			random := rand.New(rand.NewPCG(1, 2))
			run(b, c, func(int) {
				r := c.requests[random.IntN(held)]
				c.swap(b, r, r)
			})
		})
	}
}

// BenchmarkFragmented is BenchmarkRandomRelease where every other address is free, and
// what is freed is used again at once.
func BenchmarkFragmented(b *testing.B) {
	for _, held := range sizes {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			c := newCrowd(2*held, pool("a", "10.0.0.0/8"))
			for i := 0; i < 2*held; i += 2 {
				c.Release(c.requests[i].Key, c.now)
			}
			random := rand.New(rand.NewPCG(1, 2))
			run(b, c, func(int) {
				r := c.requests[2*random.IntN(held)+1]
				c.swap(b, r, r)
			})
		})
	}
}

// BenchmarkPoolSize does the same in pools of very different sizes.
func BenchmarkPoolSize(b *testing.B) {
	for _, addresses := range []string{"192.0.2.0/24", "10.0.0.0/8", "2001:db8::/120", "2001:db8::/64", "2001:db8::/32"} {
		b.Run(addresses, func(b *testing.B) {
			c := newCrowd(100, pool("a", addresses))
			random := rand.New(rand.NewPCG(1, 2))
			run(b, c, func(int) {
				r := c.requests[random.IntN(100)]
				c.swap(b, r, r)
			})
		})
	}
}
