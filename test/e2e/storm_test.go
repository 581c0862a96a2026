//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
	"github.com/ballast-lb/ballast/test/storm"
)

// TestStorm breaks a lab of its own at random, from fixed seeds, and looks at what has become of it after each calm:
// every address has one owner, its Service names that node, and a client reaches it. What happens meanwhile, and for
// how long, is judged by `bin/bench storm`, which also replays these rounds: bin/bench storm --seed N --round M.
func TestStorm(t *testing.T) {
	o := storm.Options("e2esto")
	o.DownOnSignal = true
	if dir := os.Getenv("BALLAST_LAB_LOGS"); dir != "" {
		o.LogDir = filepath.Join(dir, o.Prefix)
	}
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	bed, err := storm.Prepare(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range []uint64{1, 6, 11} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		_, err := bed.Round(ctx, seed, 0)
		if err == nil {
			err = lab.Poll(ctx, time.Minute, "all is well again", bed.Well)
		}
		cancel()
		if err != nil {
			faults, _ := storm.Plan(seed, 0)
			for _, line := range storm.Describe(faults) {
				t.Log(line)
			}
			t.Fatalf("seed %d, round 0: %v\n%s", seed, err, l.Diagnostics())
		}
	}
}
