package membership

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inUse is how much memory is in use at this moment, garbage among it.
func inUse() uint64 {
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return now.HeapAlloc
}

// Who starts among many hears what they know from some of them: a megabyte from each would be more than
// it can take at once.
func TestAStartAmongManyTakesNewsFromSome(t *testing.T) {
	const n, size, most = 40, 1 << 20, 64 << 20
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(n)
		defer c.end()
		var full atomic.Bool
		var told, heard atomic.Int64
		news := bytes.Repeat([]byte("news"), size/4)
		for i := range n - 1 {
			c.begin(t, i, func(x *Config) {
				x.News = func() ([]byte, bool) {
					if !full.Load() {
						return nil, true
					}
					told.Add(1)
					return news, true
				}
			})
		}
		until(t, time.Minute, "all alive", func() bool { return c.all(numbers(n - 1)) })
		full.Store(true)
		runtime.GC()
		before, peak := inUse(), uint64(0)
		began := time.Now()
		c.begin(t, n-1, func(x *Config) {
			x.Hear = func(b []byte) bool {
				heard.Add(int64(len(b)))
				peak = max(peak, inUse())
				return true
			}
		})
		until(t, 10*time.Second, "it has joined", func() bool { return c.view(n - 1).Joined })
		t.Logf("it has joined after %v, told by %d of %d, %d MB in all; at most %d MB more in use, those of all others among them",
			time.Since(began), told.Load(), n-1, heard.Load()>>20, (max(peak, before)-before)>>20)
		if told.Load() > 6 || peak > before+most {
			t.Errorf("told by %d, %d MB", told.Load(), (peak-before)>>20)
		}
		until(t, 10*time.Second, "it is alive for all", func() bool { return c.all(numbers(n)) })
	})
}
