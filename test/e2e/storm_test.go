//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
	"github.com/ballast-lb/ballast/test/storm"
)

// patience is what a busy machine may add to a bound of the judge before TestStorm takes it for a fault. The witness's
// own delays have been forgiven by then.
const patience = 10 * time.Second

// TestStorm breaks a lab of its own at random, from fixed seeds. Meanwhile no address may have two owners or none, and
// no condition be untrue, for much longer than what goes on excuses; and after each calm every address has one owner,
// its Service names that node, and a client reaches it. `bin/bench storm --seed N --round 0` replays a round and is
// strict about times.
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
	for _, seed := range []uint64{6, 10, 11} {
		if err := weather(t.Context(), bed, seed); err != nil {
			faults, _ := storm.Plan(seed, 0)
			t.Fatalf("seed %d, round 0: %v\n%s\n%s", seed, err, strings.Join(storm.Describe(faults), "\n"), l.Diagnostics())
		}
	}
}

// weather runs the first round of a seed, and returns what was wrong in it and after it.
func weather(ctx context.Context, bed *storm.Bed, seed uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	seen, err := bed.Round(ctx, seed, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range storm.Judge(seen) {
		if v.Excess() > patience {
			errs = append(errs, errors.New(v.String()))
		}
	}
	return errors.Join(append(errs, lab.Poll(ctx, time.Minute, "all is well again", bed.Well))...)
}
