package lan

import (
	"testing"
)

func TestAQuestionEndsWhenThereIsNothingLeftToWaitFor(t *testing.T) {
	t.Parallel()
	neighbor, speaker, others := Answer{Neighbor: true}, Answer{Speaker: true}, Answer{Others: true}
	plain, both := question(), question()
	both.Speaker = vip
	anybody := both
	anybody.Neighbor = Neighbor{}
	type step struct {
		at   int // the tick after which it is heard
		part Answer
	}
	tests := []struct {
		name     string
		question Question
		steps    []step
		frames   []int // sent at each tick
		ends     int   // the tick at which, or after which, it is over
		early    bool  // it ends between two ticks
		want     Answer
	}{
		{"the neighbor's answer ends it", plain, []step{{1, neighbor}}, []int{1}, 1, true, neighbor},
		{"a late answer too", plain, []step{{3, neighbor}}, []int{1, 1, 2}, 3, true, neighbor},
		{"others are asked last", plain, []step{{2, neighbor}}, []int{1, 1}, 2, true, neighbor},
		{"silence lasts for the extra wait", plain, nil, []int{1, 1, 2, 0}, 5, false, Answer{}},
		{"others who are heard are not asked, and spare the extra wait", plain, []step{{1, others}}, []int{1, 1, 1}, 4, false, others},
		{"others heard late end the extra wait", plain, []step{{4, others}}, []int{1, 1, 2, 0}, 4, true, others},
		{"the neighbor heard late ends the extra wait", plain, []step{{4, neighbor}}, []int{1, 1, 2, 0}, 4, true, neighbor},
		{"a speaker that is asked for is waited for", both, []step{{1, neighbor}, {2, speaker}}, []int{2, 1}, 2, true, Answer{Neighbor: true, Speaker: true}},
		{"a speaker that is silent has the time of its probes", both, []step{{1, neighbor}}, []int{2, 1, 2}, 4, false, neighbor},
		{"a speaker that answers without its node does not end it", both, []step{{1, speaker}}, []int{2, 1, 2, 0}, 5, false, speaker},
		{"without a neighbor anybody ends it", anybody, []step{{1, others}}, []int{1}, 1, true, others},
		{"without a neighbor others are asked each time", anybody, nil, []int{1, 1, 1, 0}, 5, false, Answer{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &asking{question: tt.question}
			for tick := 1; ; tick++ {
				frames, over := s.tick()
				if over != (tick == tt.ends && !tt.early) {
					t.Fatalf("over at tick %d: %v", tick, over)
				}
				if over {
					break
				}
				if tick > len(tt.frames) || len(frames) != tt.frames[tick-1] {
					t.Fatalf("%d frames at tick %d, want %v", len(frames), tick, tt.frames)
				}
				for _, x := range tt.steps {
					if x.at == tick {
						over = s.hear(x.part) || over
					}
				}
				if over != (tick == tt.ends && tt.early) {
					t.Fatalf("over after tick %d: %v", tick, over)
				}
				if over {
					break
				}
			}
			if s.heard != tt.want {
				t.Errorf("heard %+v, want %+v", s.heard, tt.want)
			}
		})
	}
}

func TestTheTimesAreTheDesignsOnes(t *testing.T) {
	t.Parallel()
	if whole := Probes * Interval; whole.Milliseconds() != 150 || lastTick != 5 {
		t.Errorf("probes take %v, and %d ticks with the extra wait", whole, lastTick)
	}
}
