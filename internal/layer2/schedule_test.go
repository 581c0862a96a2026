package layer2

import (
	"testing"
	"time"
)

func TestFollowingIsATakeoverAndThenRefreshes(t *testing.T) {
	t.Parallel()
	var at time.Duration
	for step := 0; !refreshing(step + 1); step++ {
		wait, again := following(step, 0, 0)
		if !again {
			t.Fatalf("the takeover ends with announcement %d", step)
		}
		at += wait
	}
	if at != 4*time.Second {
		t.Errorf("the takeover lasts %v, want 4 s", at)
	}
	last := len(takeover())
	if _, again := following(last, 0, 0); again {
		t.Error("an address is refreshed though that is off")
	}
	for _, random := range []float64{0, 0.5, 0.999} {
		if wait, again := following(last, time.Minute, random); !again || wait < 54*time.Second || wait > 66*time.Second {
			t.Errorf("a refresh comes after %v", wait)
		}
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	t.Parallel()
	for failures := range 100 {
		for _, random := range []float64{0, 0.5, 0.999} {
			if d := backoff(failures, random); d < firstRetry/2 || d > lastRetry {
				t.Errorf("backoff(%d, %v) = %v", failures, random, d)
			}
		}
	}
}

func TestDetectionKeepsTheTimesOfItsMode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode   Detection
		random float64
		want   [probes + 1]time.Duration
	}{
		{Fast, 0.5, [...]time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond}},
		{"", 0.5, [...]time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond}},
		{Full, 0, [...]time.Duration{0, time.Second, time.Second, 2 * time.Second}},
		{Full, 0.5, [...]time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second}},
	}
	for _, tt := range tests {
		for sent, want := range tt.want {
			if got := tt.mode.listening(sent, tt.random); got != want {
				t.Errorf("%q: after %d probes it waits %v, want %v", tt.mode, sent, got, want)
			}
		}
	}
}
