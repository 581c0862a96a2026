package ipam_test

import (
	"testing"
	"time"
)

// TestSharersAreEditedOneAfterTheOther is terms of sharing that do not fit for a while.
func TestSharersAreEditedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	udp, tcp := port(53, "UDP"), port(53, "TCP")
	pair := []event{pools(two()), asks("n/a", under("k"), local("app=x"), tcp), asks("n/b", under("k"), local("app=x"), udp)}
	across := []event{pools(two()), asks("n/a", under("k", "m"), tcp), asks("m/b", under("k", "n"), udp)}
	after := func(before []event, more ...event) []event { return append(before[:len(before):len(before)], more...) }
	for _, tc := range []struct {
		name    string
		events  []event
		want    outcome
		message string
	}{
		{name: "another policy of both, one after the other, keeps both", events: after(pair, asks("n/a", under("k"), tcp), passes(9*time.Second), asks("n/b", under("k"), udp), passes(time.Hour)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.1"}},
		{name: "another key of both too", events: after(pair, asks("n/b", under("l"), local("app=x"), udp), passes(9*time.Second), asks("n/a", under("l"), local("app=x"), tcp), passes(time.Hour)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.1"}},
		{name: "another selector of both too", events: after(pair, asks("n/b", under("k"), local("app=y"), udp), asks("n/a", under("k"), local("app=y"), tcp), passes(time.Hour)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.1"}},
		{name: "consent that is withdrawn and given again keeps both", events: after(across, asks("n/a", under("k"), tcp), passes(9*time.Second), asks("n/a", under("k", "m"), tcp), passes(time.Hour)), want: outcome{"n/a", "192.0.2.1", "m/b", "192.0.2.1"}},
		{name: "for ten seconds it keeps the address and says why it will not for longer", events: after(pair, asks("n/b", under("k"), udp), passes(9*time.Second)), want: outcome{"n/b", "192.0.2.1 - SharingConflict", "n/a", "192.0.2.1"}, message: "externalTrafficPolicy"},
		{name: "after ten seconds who changed its terms leaves", events: after(pair, asks("n/b", under("k"), udp), passes(10*time.Second)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "also if it is the older", events: after(pair, asks("n/a", under("k"), tcp), passes(10*time.Second)), want: outcome{"n/a", "192.0.2.2", "n/b", "192.0.2.1"}},
		{name: "who lost its key leaves too", events: after(pair, asks("n/b", udp), passes(10*time.Second)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "further edits give no more time", events: after(pair, asks("n/b", under("k"), udp), passes(9*time.Second), asks("n/b", under("l"), udp), passes(time.Second)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "a clash of ports ends it at once", events: after(pair, asks("n/b", under("k"), local("app=x"), tcp)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "also with another key at the same time", events: after(pair, asks("n/b", under("l"), tcp)), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "also while there is time left", events: after(pair, asks("n/b", under("k"), udp), asks("n/a", under("k"), local("app=x"), udp)), want: outcome{"n/a", "192.0.2.2", "n/b", "192.0.2.1"}},
		{name: "who names another address leaves at once", events: after(pair, asks("n/b", under("l"), udp, address("192.0.2.2"))), want: outcome{"n/a", "192.0.2.1", "n/b", "192.0.2.2"}},
		{name: "nobody joins two who do not agree", events: after(pair, asks("n/b", under("k"), udp), asks("n/c", under("k"), port(80, "TCP"))), want: outcome{"n/c", "192.0.2.2"}},
		{name: "who stays when the other is deleted keeps it for good", events: after(pair, asks("n/b", under("k"), udp), gone("n/a"), passes(time.Hour)), want: outcome{"n/b", "192.0.2.1"}},
		{name: "of three, the two who agree in the end stay", events: after(pair, asks("n/c", under("k"), local("app=x"), port(80, "TCP")), asks("n/a", under("k"), tcp), asks("n/b", under("k"), udp), passes(10*time.Second)), want: outcome{"n/c", "192.0.2.1", "n/a", "192.0.2.2", "n/b", "192.0.2.2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, play(tc.events...), tc.message)
		})
	}
}
