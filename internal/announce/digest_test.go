package announce_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
)

// Two that know different things know the same after a few comparisons, whatever each knew, and tell each
// other nothing then.
func TestTwoThatCompareSoonKnowTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const units = 60
		w := newTown(3, units)
		some := rapid.SliceOfN(rapid.IntRange(0, units-1), 0, units)
		for _, s := range w.states[:2] {
			var news announce.News
			for _, i := range some.Draw(t, "units") {
				news.Claims = append(news.Claims, election.Claim{Unit: unit(i), Owner: w.name(i % 2), Epoch: uint64(1 + i%7)})
			}
			if rapid.Bool().Draw(t, "reports") {
				news.Reports = []announce.Report{{Node: "worker-002.example.org", Number: 3}}
			}
			s.Step(w.now, announce.Heard{News: news})
		}
		exchange := func(x, y *announce.State) int {
			answer := x.Beyond(y.Digest())
			y.Step(w.now, announce.Heard{News: answer})
			return len(answer.Claims) + len(answer.Reports)
		}
		for range 2 {
			exchange(w.states[0], w.states[1])
			exchange(w.states[1], w.states[0])
		}
		x, y := w.states[0], w.states[1]
		if !slices.Equal(x.Digest().Sums, y.Digest().Sums) || len(x.News().Claims) != len(y.News().Claims) {
			t.Errorf("one knows %d claims, the other %d", len(x.News().Claims), len(y.News().Claims))
		}
		if told := exchange(x, y); told > 0 {
			t.Errorf("both know the same, and %d are told", told)
		}
	})
}

func TestAnAnswerToADigestIsBoundedAndComesToEverything(t *testing.T) {
	t.Parallel()
	const units = 600
	w := newTown(2, units)
	var news announce.News
	for i := range units {
		news.Claims = append(news.Claims, election.Claim{Unit: unit(i), Owner: w.name(0), Epoch: 1})
	}
	w.states[0].Step(w.now, announce.Heard{News: news})
	rounds := 0
	for ; len(w.states[1].News().Claims) < units && rounds < 20; rounds++ {
		answer := w.states[0].Beyond(w.states[1].Digest())
		if n := len(answer.Claims); n == 0 || n > 512+100 {
			t.Fatalf("round %d: %d claims", rounds, n)
		}
		w.states[1].Step(w.now, announce.Heard{News: answer})
	}
	if rounds > 6 {
		t.Errorf("%d rounds", rounds)
	}
	if answer := w.states[0].Beyond(announce.Digest{Node: "x", Sums: []byte{1}}); !answer.Empty() {
		t.Errorf("a digest of another length is answered with %d claims", len(answer.Claims))
	}
}

func TestHowLongANodeWaitsBeforeItComparesAgain(t *testing.T) {
	t.Parallel()
	told := func(answer bool, units ...int) (h announce.Heard) {
		for _, i := range units {
			h.News.Claims = append(h.News.Claims, election.Claim{Unit: unit(i), Owner: "x", Epoch: 1})
		}
		h.News.Answer = answer
		return h
	}
	inVain := func(n int) []announce.Fact { return slices.Repeat([]announce.Fact{told(true, 1)}, n) }
	for _, tt := range []struct {
		name  string
		facts []announce.Fact
		want  time.Duration
	}{
		{"nothing was told", nil, time.Second},
		{"an answer had something new", []announce.Fact{told(true, 2)}, 250 * time.Millisecond},
		{"news came unasked", []announce.Fact{told(false, 2)}, time.Second},
		{"an answer had nothing new", inVain(1), 2 * time.Second},
		{"two had nothing new", inVain(2), 4 * time.Second},
		{"many had nothing new", inVain(70), 32 * time.Second},
		{"many had nothing new, then news came", append(inVain(70), told(false, 2)), time.Second},
		{"an answer is about a Service that is not known", []announce.Fact{told(true, 5000)}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newTown(1, 10)
			s := w.states[0]
			s.Step(w.now, told(false, 1))
			s.Step(w.now, tt.facts...)
			if _, got := s.Compare(); got != tt.want {
				t.Errorf("it waits for %v, want %v", got, tt.want)
			}
			if _, got := s.Compare(); got != time.Second {
				t.Errorf("after no answer it waits for %v", got)
			}
		})
	}
}

// Claims of Services that are no more are not passed on by those who hear of them by comparing.
func TestWhatIsLearnedByComparingIsPassedOnIfAServiceHoldsIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer bool
		unit   int
		want   int
	}{{false, 1, 1}, {false, 5000, 1}, {true, 1, 1}, {true, 5000, 0}} {
		t.Run(fmt.Sprintf("answer %v, unit %d", tt.answer, tt.unit), func(t *testing.T) {
			t.Parallel()
			w := newTown(1, 10)
			c := election.Claim{Unit: unit(tt.unit), Owner: "x", Epoch: 1}
			w.states[0].Step(w.now, announce.Heard{News: announce.News{Answer: tt.answer, Claims: []election.Claim{c}}})
			if got := len(w.states[0].Learned().Claims); got != tt.want {
				t.Errorf("passed on %d", got)
			}
		})
	}
}
