package membership

import (
	"os"
	"runtime/pprof"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestScaleTry(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("NN"))
	if f := os.Getenv("PROF"); f != "" {
		w, _ := os.Create(f)
		_ = pprof.StartCPUProfile(w)
		defer pprof.StopCPUProfile()
	}
	real := time.Now()
	_ = real
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(n)
		defer c.end()
		for i := range n {
			c.begin(t, i, nil)
		}
		t.Log("joined", until(t, 30*time.Second, "all alive", func() bool { return c.all(numbers(n)) }))
		c.forget()
		time.Sleep(10 * time.Second)
		t.Log(len(c.forget()))
	})
}
