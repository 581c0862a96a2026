package layer2

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// happening is an event at a time after the start.
type happening struct {
	at    time.Duration
	event func(*duty, moment)
}

// What happens to the duties of these tests.

func opens(d *duty, m moment)   { d.begin(m) }
func closes(d *duty, _ moment)  { d.end() }
func hurries(d *duty, m moment) { d.hurry(m) }
func foreign(d *duty, m moment) { d.see(sign{mac: mac9}, m) }
func another(d *duty, m moment) { d.see(sign{mac: mac1}, m) }
func fellow(d *duty, m moment)  { d.see(sign{mac: mac8, fellow: true}, m) }
func replies(d *duty, m moment) { d.see(sign{mac: mac8, fellow: true, answer: true}, m) }
func probed(d *duty, m moment)  { d.see(sign{mac: mac8, fellow: true, probe: true}, m) }
func broken(d *duty, m moment)  { d.fail(m) }
func renewed(d *duty, m moment) { d.renew(m) }
func met(d *duty, m moment)     { d.meet(m) }

func becomes(r role) func(*duty, moment) { return func(d *duty, m moment) { d.assign(r, m) } }

// play lets events happen to a duty and lets it act as it wants, until a time, and returns what
// it said, and how phase and rival changed. Announcements after the first of a takeover are
// left out.
func play(d *duty, settings moment, until time.Duration, events []happening) []string {
	start := time.Now()
	var log []string
	for {
		at, next := until+1, -1
		if len(events) > 0 {
			at, next = events[0].at, 0
		}
		if t, ok := d.next(); ok && t.Sub(start) < at {
			at, next = max(t.Sub(start), 0), 1
		}
		if next < 0 || at > until {
			return log
		}
		before, m := *d, settings
		m.now = start.Add(at)
		said, event := nothing, (*duty).act
		if next == 0 {
			event, events = events[0].event, events[1:]
		} else {
			said = d.says(m.now)
		}
		defense := past(d.defend, m.now)
		event(d, m)
		log = append(log, diary(at, before, *d, said, defense)...)
	}
}

func diary(at time.Duration, before, after duty, said message, defense bool) []string {
	var lines []string
	note := func(words ...string) { lines = append(lines, at.String()+" "+strings.Join(words, " ")) }
	switch {
	case said == probe:
		note("probe")
	case said == inquiry:
		note("inquiry")
	case said == check:
		note("check")
	case said == announcement && defense:
		note("defense")
	case said == announcement && before.step == 0:
		note("announcement")
	}
	if before.phase != after.phase {
		note([]string{"waiting", "probing", "blocked", "owning", "deputizing"}[after.phase])
	}
	was, is := before.rival.told(), after.rival.told()
	switch {
	case was == is:
	case is == rival{}:
		note("forgotten")
	case is.over:
		note("over")
	default:
		note("rival", map[link.MAC]string{mac9: "foreign", mac1: "another", mac8: "fellow"}[is.mac], map[bool]string{true: "before", false: "after"}[is.probe])
	}
	return lines
}

func TestDuties(t *testing.T) {
	t.Parallel()
	first, known, deputy := role{first: true}, role{}, role{owner: mac8}
	tests := []struct {
		name   string
		role   role
		mode   Detection
		until  time.Duration
		events []happening
		want   string
	}{
		{"a known address is answered at once", known, Fast, time.Minute, []happening{{0, opens}}, "0s owning, 0s announcement, 4s check"},
		{
			"an address is answered for the first time after three probes", first, Fast, time.Minute,
			[]happening{{0, opens}},
			"0s probing, 0s probe, 100ms probe, 200ms probe, 300ms owning, 300ms announcement, 4.3s check",
		},
		{
			"full detection takes its time", first, Full, time.Minute,
			[]happening{{0, opens}},
			"0s probing, 0s probe, 1s probe, 2s probe, 4s owning, 4s announcement, 8s check",
		},
		{"with detection off, an address is answered at once", first, Off, time.Minute, []happening{{0, opens}}, "0s owning, 0s announcement"},
		{
			"a conflict keeps the address back until it is free", first, Fast, 3 * time.Minute,
			[]happening{{0, opens}, {150 * time.Millisecond, foreign}, {10200 * time.Millisecond, foreign}},
			"0s probing, 0s probe, 100ms probe, 150ms blocked, 150ms rival foreign before, " +
				"10.15s probing, 10.15s probe, 10.2s blocked, " +
				"20.2s probing, 20.2s probe, 20.3s probe, 20.4s probe, 20.5s owning, 20.5s over, 20.5s announcement, 24.5s check, 1m20.5s forgotten",
		},
		{
			"a fellow node that has the address is asked again soon", first, Fast, time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, fellow}, {251 * time.Millisecond, fellow}},
			"0s probing, 0s probe, 50ms blocked, 250ms probing, 250ms inquiry, 251ms blocked, " +
				"451ms probing, 451ms inquiry, 551ms probe, 651ms probe, 751ms owning, 751ms announcement",
		},
		{
			"with full detection it is asked again as soon", first, Full, 2 * time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, fellow}, {251 * time.Millisecond, fellow}},
			"0s probing, 0s probe, 50ms blocked, 250ms probing, 250ms inquiry, 251ms blocked, " +
				"451ms probing, 451ms inquiry, 1.451s probe",
		},
		{
			"the probe of a fellow node is no conflict", first, Fast, time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, probed}, {500 * time.Millisecond, probed}},
			"0s probing, 0s probe, 100ms probe, 200ms probe, 300ms owning, 300ms announcement",
		},
		{
			"who is told to announce leaves the address to no fellow node", first, Fast, time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, fellow}, {60 * time.Millisecond, renewed}},
			"0s probing, 0s probe, 50ms blocked, 60ms owning, 60ms announcement",
		},
		{
			"but to another host it does", first, Fast, time.Second,
			[]happening{
				{0, renewed},
				{0, opens},
				{10 * time.Millisecond, renewed},
				{50 * time.Millisecond, foreign},
				{60 * time.Millisecond, renewed},
			},
			"0s probing, 0s probe, 50ms blocked, 50ms rival foreign before",
		},
		{
			"a host that is no node is more in the way than a fellow node", first, Fast, 10 * time.Second,
			[]happening{
				{0, opens},
				{50 * time.Millisecond, fellow},
				{251 * time.Millisecond, foreign},
				{252 * time.Millisecond, fellow},
			},
			"0s probing, 0s probe, 50ms blocked, 250ms probing, 250ms inquiry, " +
				"251ms blocked, 251ms rival foreign before",
		},
		{
			"a host that turns out to be a fellow node is asked at once", first, Fast, time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, foreign}, {100 * time.Millisecond, met}},
			"0s probing, 0s probe, 50ms blocked, 50ms rival foreign before, 100ms probing, 100ms inquiry, " +
				"200ms probe, 300ms probe, 400ms owning, 400ms over, 400ms announcement",
		},
		{
			"a defense against another host delays none against a fellow node", known, Off, 20 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {10300 * time.Millisecond, fellow}},
			"0s owning, 0s announcement, 10s rival foreign after, 10s defense, 10.35s defense",
		},
		{
			"a deputy has nothing to do with who was in the way", first, Fast, time.Minute,
			[]happening{{0, opens}, {50 * time.Millisecond, fellow}, {60 * time.Millisecond, becomes(deputy)}},
			"0s probing, 0s probe, 50ms blocked, 60ms deputizing",
		},
		{
			"detection that began ends, though the address is no longer first", first, Fast, time.Second,
			[]happening{{0, opens}, {150 * time.Millisecond, becomes(known)}},
			"0s probing, 0s probe, 100ms probe, 200ms probe, 300ms owning, 300ms announcement",
		},
		{
			"an address that is answered is not probed, though it becomes first", known, Fast, time.Minute,
			[]happening{{0, opens}, {time.Second, becomes(first)}, {2 * time.Second, closes}, {3 * time.Second, opens}},
			"0s owning, 0s announcement, 3s announcement, 7s check",
		},
		{
			"detection starts anew if the interface was away meanwhile", first, Fast, time.Second,
			[]happening{{0, opens}, {150 * time.Millisecond, closes}, {500 * time.Millisecond, opens}},
			"0s probing, 0s probe, 100ms probe, 500ms probe, 600ms probe, 700ms probe, 800ms owning, 800ms announcement",
		},
		{
			"detection starts anew if a probe could not be sent", first, Fast, time.Second,
			[]happening{{0, opens}, {150 * time.Millisecond, broken}},
			"0s probing, 0s probe, 100ms probe, 250ms probe, 350ms probe, 450ms probe, 550ms owning, 550ms announcement",
		},
		{
			"what waits for detection begins when that is off", first, Fast, 3 * time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, foreign}, {time.Second, hurries}},
			"0s probing, 0s probe, 50ms blocked, 50ms rival foreign before, 1s owning, 1s over, 1s announcement",
		},
		{
			"another host that comes later is warded off each 10 s at most, and forgotten", known, Fast, 5 * time.Minute,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {11 * time.Second, foreign}, {19 * time.Second, foreign}, {20 * time.Second, foreign}},
			"0s owning, 0s announcement, 4s check, 10s rival foreign after, 10s defense, 20s defense, 1m20s over, 2m20s forgotten",
		},
		{
			"a conflict that returns is a new one", known, Fast, 100 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {80 * time.Second, foreign}},
			"0s owning, 0s announcement, 4s check, 10s rival foreign after, 10s defense, 1m10s over, 1m20s rival foreign after, 1m20s defense",
		},
		{
			"a fellow node that announces, and does not answer then, is soon over", known, Fast, 80 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, fellow}},
			"0s owning, 0s announcement, 4s check, 10s rival fellow after, 10.05s defense, 11.05s check, " +
				"13.05s over, 1m13.05s forgotten",
		},
		{
			"one that answers then stays", known, Fast, 69 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, fellow}, {11051 * time.Millisecond, replies}},
			"0s owning, 0s announcement, 4s check, 10s rival fellow after, 10.05s defense, 11.05s check, " +
				"11.101s defense",
		},
		{
			"one that returns stays as well", known, Fast, time.Minute,
			[]happening{{0, opens}, {10 * time.Second, fellow}, {40 * time.Second, fellow}},
			"0s owning, 0s announcement, 4s check, 10s rival fellow after, 10.05s defense, 11.05s check, " +
				"13.05s over, 40s rival fellow after, 40.05s defense",
		},
		{
			"with detection off nobody is asked whether it has gone", known, Off, 80 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, fellow}},
			"0s owning, 0s announcement, 10s rival fellow after, 10.05s defense, 1m10s over",
		},
		{
			"the last word against a fellow node is ours, but pauses grow", known, Off, 40 * time.Second,
			[]happening{
				{0, opens},
				{10 * time.Second, fellow},
				{10010 * time.Millisecond, fellow},
				{10100 * time.Millisecond, fellow},
				{10500 * time.Millisecond, fellow},
				{11 * time.Second, fellow},
				{32 * time.Second, fellow},
			},
			"0s owning, 0s announcement, 10s rival fellow after, 10.05s defense, 10.25s defense, " +
				"10.65s defense, 11.45s defense, 32.05s defense",
		},
		{
			"an owner that is told to announces as after a takeover", known, Fast, time.Minute,
			[]happening{{0, opens}, {10 * time.Second, renewed}},
			"0s owning, 0s announcement, 4s check, 10s announcement, 14s check",
		},
		{
			"nobody else announces when told to", deputy, Fast, time.Minute,
			[]happening{
				{0, renewed},
				{0, opens},
				{10 * time.Second, renewed},
				{20 * time.Second, closes},
				{20 * time.Second, renewed},
			},
			"0s deputizing",
		},
		{
			"of two that quarrel the first is named until it is silent for 10 s", known, Fast, 40 * time.Second,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {15 * time.Second, another}, {21 * time.Second, another}},
			"0s owning, 0s announcement, 4s check, 10s rival foreign after, 10s defense, 21s rival another after, 21s defense",
		},
		{
			"a deputy never says anything", deputy, Fast, 5 * time.Minute,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {20 * time.Second, closes}, {30 * time.Second, opens}},
			"0s deputizing, 10s rival foreign after, 1m10s over, 2m10s forgotten",
		},
		{
			"a deputy that becomes the owner takes over, also if the address is first", deputy, Fast, time.Minute,
			[]happening{{0, opens}, {time.Second, becomes(first)}},
			"0s deputizing, 1s owning, 1s announcement, 5s check",
		},
		{
			"an owner that becomes a deputy is silent", known, Fast, time.Minute,
			[]happening{{0, opens}, {10 * time.Second, foreign}, {10 * time.Second, becomes(deputy)}, {30 * time.Second, foreign}},
			"0s owning, 0s announcement, 4s check, 10s rival foreign after, 10s deputizing",
		},
		{
			"who becomes a deputy while it probes answers at once", first, Fast, time.Second,
			[]happening{{0, opens}, {50 * time.Millisecond, becomes(deputy)}},
			"0s probing, 0s probe, 50ms deputizing",
		},
		{
			"a deputy that becomes the owner while the interface is away announces when it returns", deputy, Fast, time.Minute,
			[]happening{{0, opens}, {time.Second, closes}, {2 * time.Second, becomes(known)}, {3 * time.Second, opens}},
			"0s deputizing, 2s owning, 3s announcement, 7s check",
		},
		{
			"a role that changes before the interface is there is the one that counts", first, Fast, time.Minute,
			[]happening{{0, becomes(known)}, {time.Second, opens}},
			"1s owning, 1s announcement, 5s check",
		},
		{
			"what is seen while the interface is away does not count", known, Fast, time.Minute,
			[]happening{{0, foreign}, {time.Second, opens}, {2 * time.Second, closes}, {3 * time.Second, foreign}},
			"1s owning, 1s announcement",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(play(&duty{role: tt.role}, moment{detection: tt.mode}, tt.until, tt.events), ", "); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestDutiesAlwaysHold lets anything happen in any order, and checks what must never be.
func TestDutiesAlwaysHold(t *testing.T) {
	t.Parallel()
	events := []func(*duty, moment){
		opens, closes, hurries, foreign, another, fellow, replies, probed, broken, renewed,
		becomes(role{}), becomes(role{first: true}), becomes(role{owner: mac8}), (*duty).reschedule,
	}
	rapid.Check(t, func(t *rapid.T) {
		d := duty{role: rapid.SampledFrom([]role{{}, {first: true}, {owner: mac8}, {owner: mac9, first: true}}).Draw(t, "role")}
		mode := rapid.SampledFrom([]Detection{Fast, Full}).Draw(t, "mode")
		refresh := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour}).Draw(t, "refresh")
		now, answered, defended := time.Now(), false, time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			m := moment{now: now, refresh: refresh, detection: mode, random: rapid.Float64Range(0, 0.999).Draw(t, "random")}
			at, ok := d.next()
			if ok && rapid.IntRange(0, 3).Draw(t, "what") > 0 {
				if at.After(now) {
					now = at
				}
				m.now = now
				said := d.says(now)
				switch {
				case said != nothing && (!d.open || d.role.owner != link.MAC{}):
					t.Fatalf("says %v without the interface or as a deputy: %+v", said, d)
				case said == check && !answered:
					t.Fatalf("checks what it does not answer: %+v", d)
				case (said == probe || said == inquiry) && answered:
					t.Fatalf("probes for what it has answered: %+v", d)
				case said == announcement && !d.answer().answered:
					t.Fatalf("announces what it does not answer: %+v", d)
				case past(d.defend, now) && now.Sub(defended) < d.pause:
					t.Fatalf("defends after %v", now.Sub(defended))
				case past(d.defend, now):
					defended = now
				}
				if at, _ := d.next(); said == check && at.After(now) {
					t.Fatalf("a check is not due at once: %+v", d)
				}
				d.act(m)
			} else {
				now = now.Add(time.Duration(rapid.IntRange(0, 20000).Draw(t, "wait")) * time.Millisecond)
				m.now = now
				rapid.SampledFrom(events).Draw(t, "event")(&d, m)
			}
			if answered && !d.answer().answered {
				t.Fatalf("no longer answers: %+v", d)
			}
			answered = d.answer().answered
			if answered && d.answer().mac != d.role.owner {
				t.Fatalf("gives %v: %+v", d.answer().mac, d)
			}
		}
	})
}

func TestWishesAgree(t *testing.T) {
	t.Parallel()
	owner, first, low, high := role{}, role{first: true}, role{owner: mac8}, role{owner: mac9, first: true}
	tests := []struct {
		name  string
		roles []role
		want  role
	}{
		{"one wish is done", []role{high}, high},
		{"an owner prevails over a deputy", []role{low, owner, high}, owner},
		{"the deputy of the lowest owner prevails", []role{high, low}, low},
		{"first is what all say is first", []role{first, first}, first},
		{"first is not what one says is not", []role{first, owner}, owner},
		{"first is not what has a deputy", []role{first, low}, owner},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				var e entry
				for i, r := range tt.roles {
					e.wish(name.ServiceKey{Name: string(rune('a' + i))}, high)
					e.wish(name.ServiceKey{Name: string(rune('a' + i))}, r)
				}
				if got := agree(e.wishes); got != tt.want {
					t.Errorf("agree() = %+v, want %+v", got, tt.want)
				}
				slices.Reverse(tt.roles)
			}
		})
	}
}

func TestTheMoreAddressesAndNodesThereAreTheMoreRarelyEachIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		owned, unheard int
		want           time.Duration
	}{
		{0, 1, time.Second}, {20, 5, time.Second}, {100, 5, 5 * time.Second}, {100, 199, 100 * time.Second},
	} {
		if got := (moment{owned: tt.owned, unheard: tt.unheard}).apartPause(); got != tt.want {
			t.Errorf("%d addresses, %d nodes: %v, want %v", tt.owned, tt.unheard, got, tt.want)
		}
	}
}
