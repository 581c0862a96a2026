package lab

import (
	"testing"
	"time"
)

func TestStartTimeIsReadPastAnyProcessName(t *testing.T) {
	tests := map[string]struct{ stat, want string }{
		"a plain name":                       {"7 (sh) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2", "12345"},
		"a name with blanks and parentheses": {"7 (a ) (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1 2", "99"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := parseStartTime(tt.stat); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := parseStartTime("7 (sh) S 1"); err == nil {
		t.Error("a short line was accepted")
	}
}

func FuzzStartTime(f *testing.F) {
	f.Add("7 (sh) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2")
	f.Fuzz(func(t *testing.T, stat string) {
		if got, err := parseStartTime(stat); err == nil && got == "" {
			t.Error("empty start time without an error")
		}
	})
}

func TestBackoffStartsAtOnceThenDoublesUpToItsMaximum(t *testing.T) {
	b := Backoff{}.withDefaults()
	want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}
	for i, w := range want {
		if got := b.delay(i + 1); got != w {
			t.Errorf("delay after %d failures: %s, want %s", i+1, got, w)
		}
	}
}

func TestIPv6AddressesReadLikeTheirIPv4Twins(t *testing.T) {
	for octet, want := range map[int]string{2: "fd00:10::2", 11: "fd00:10::11", 50: "fd00:10::50", 150: "fd00:10::150", 254: "fd00:10::fe", 253: "fd00:10::fd"} {
		if got := at(lanV6, octet).Addr().String(); got != want {
			t.Errorf("octet %d: %s, want %s", octet, got, want)
		}
	}
}
