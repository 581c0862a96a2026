package membership

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/name"
)

func TestAJournalWritesEachLineOnceAMinuteAndCounts(t *testing.T) {
	t.Parallel()
	j, now := newJournal(), time.Unix(1_000_000, 0)
	one, other := line{message: "m", node: "a", before: Alive, now: Dead}, line{message: "m", node: "b", before: Alive, now: Dead}
	if !j.first(one, now) || !j.first(other, now) {
		t.Error("a line is not written")
	}
	for range 5 {
		if now = now.Add(time.Second); j.first(one, now) {
			t.Error("a line is written twice")
		}
	}
	if again := j.again(now.Add(journalTime - 6*time.Second)); again != nil {
		t.Errorf("before the minute is over: %v", again)
	}
	now = now.Add(journalTime)
	if again := j.again(now); !slices.Equal(again, []repeated{{one, 5}}) {
		t.Errorf("when it is over: %v", again)
	}
	if !j.first(other, now) || j.first(one, now) {
		t.Error("what came again is counted on, what did not begins anew")
	}
	if again := j.again(now.Add(journalTime)); !slices.Equal(again, []repeated{{one, 1}}) {
		t.Errorf("a minute later: %v", again)
	}
	if j.again(now.Add(2 * journalTime)); len(j.lines) > 0 {
		t.Errorf("%d lines are kept for ever", len(j.lines))
	}
}

func TestTheLogOfABadNetworkIsShort(t *testing.T) {
	t.Parallel()
	view := func(n int, h Health) View {
		v := View{Members: []Member{{Name: "me", Health: Alive}}}
		for i := range n {
			v.Members = append(v.Members, Member{Name: name.NodeName(fmt.Sprintf("n%03d", i)), Health: h})
		}
		return v
	}
	for _, tt := range []struct {
		name         string
		nodes, turns int
		lines        int
		has          string
	}{
		{"one that comes and goes once", 1, 1, 2, `"msg":"speaker changed","node":"n000","before":"Unheard","now":"Alive"`},
		{"one that comes and goes all the time", 1, 600, 4, `"what":"speaker changed","times":599,"node":"n000"`},
		{"few at once", 5, 1, 10, `"node":"n004","before":"Alive","now":"Unheard"`},
		{"many at once", 199, 1, 2, `"nodes":199,"among":["n000","n001","n002","n003","n004"]`},
		{"many that come and go", 199, 600, 4, `"what":"speakers changed","times":599,"before":"Alive","now":"Unheard"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var lines []string
			m, err := New(Config{
				NodeName: "me", Addresses: somePeers(1)[0].Addresses, Keys: Keys{key(1)},
				Log: funcr.NewJSON(func(l string) { lines = append(lines, l) }, funcr.Options{}),
			})
			if err != nil {
				t.Fatal(err)
			}
			r, last, now := run{Membership: m, journal: newJournal()}, view(tt.nodes, Alive), time.Unix(1_000_000, 0)
			for range tt.turns {
				r.deliver(view(tt.nodes, Unheard), &last, now)
				r.deliver(view(tt.nodes, Alive), &last, now)
			}
			r.recount(now.Add(journalTime))
			if all := strings.Join(lines, "\n"); len(lines) != tt.lines || !strings.Contains(all, tt.has) {
				t.Errorf("%d lines, want %d with %s:\n%s", len(lines), tt.lines, tt.has, all)
			}
		})
	}
}
