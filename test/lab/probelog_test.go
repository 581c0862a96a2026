package lab

import (
	"net/netip"
	"testing"
	"time"
)

func TestReportFindsTheLongestGapByCompletion(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	one, two := netip.MustParseAddrPort("10.10.0.100:80"), netip.MustParseAddrPort("10.10.0.101:80")
	good := func(target netip.AddrPort, start, took int) Attempt {
		d := time.Duration(took) * time.Millisecond
		return Attempt{Target: target, Start: at(start), Connected: d, Answered: d, Outcome: Answered}
	}
	bad := func(target netip.AddrPort, start int) Attempt {
		return Attempt{Target: target, Start: at(start), Outcome: TimedOut}
	}
	tests := map[string]struct {
		log          ProbeLog
		gap          int
		failed, slow int
	}{
		"steady":                            {ProbeLog{Attempts: []Attempt{good(one, 0, 1), good(one, 10, 1), good(one, 20, 1)}}, 10, 0, 0},
		"one failed":                        {ProbeLog{Attempts: []Attempt{good(one, 0, 1), bad(one, 10), good(one, 20, 1)}}, 20, 1, 0},
		"a slow one began in the gap":       {ProbeLog{Attempts: []Attempt{good(one, 0, 1), good(one, 10, 500), good(one, 600, 1)}}, 509, 0, 1},
		"the prober itself was slow":        {ProbeLog{Attempts: []Attempt{good(one, 0, 1), good(one, 10, 500)}, Delays: []Delay{{At: at(15), Length: 480 * time.Millisecond}}}, 509, 0, 0},
		"nothing succeeds at the beginning": {ProbeLog{Attempts: []Attempt{bad(one, 0), bad(one, 10), good(one, 70, 1)}}, 71, 2, 0},
		"nothing succeeds at the end":       {ProbeLog{Attempts: []Attempt{good(one, 0, 1), bad(one, 10), bad(one, 90)}}, 89, 2, 0},
		"nothing ever succeeds":             {ProbeLog{Attempts: []Attempt{bad(one, 0), bad(one, 50)}}, 50, 2, 0},
		"each target counts for itself":     {ProbeLog{Attempts: []Attempt{good(one, 0, 1), good(two, 5, 1), good(one, 10, 1), bad(two, 15), good(one, 20, 1), good(two, 25, 1)}}, 20, 1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := tt.log.Report(time.Time{}, time.Time{})
			if r.Gap != time.Duration(tt.gap)*time.Millisecond || r.Failed != tt.failed || r.Slow != tt.slow {
				t.Errorf("got %s; want gap %d ms, %d failed, %d slow", r, tt.gap, tt.failed, tt.slow)
			}
		})
	}
}
