package lan

// asking is the course of a question: what to send when, and when to end. It knows no clock: tick
// is to be called at once, and from then on every Interval.
type asking struct {
	question Question
	heard    Answer
	ticks    int // so far
}

// lastTick is the tick after the extra wait.
const lastTick = Probes + 1 + int(ExtraWait/Interval)

// tick returns the frames to send now, and whether the question is over.
func (a *asking) tick() (frames [][]byte, over bool) {
	a.ticks++
	switch {
	case a.ticks == lastTick || a.over():
		return nil, true
	case a.ticks <= Probes:
		q := a.question
		if a.ticks < Probes && q.Neighbor != (Neighbor{}) {
			q.Others = nil // most often somebody is heard unasked
		}
		return probes(q, a.heard), false
	}
	return nil, false
}

// hear notes what was heard, and returns whether the question is over.
func (a *asking) hear(part Answer) (over bool) {
	a.heard = a.heard.and(part)
	return a.over()
}

// over says whether there is nothing left to wait for. From the end of the probes on, that is
// anything at all: who has heard the neighbor does not ask for others, and who has heard others
// knows that the neighbor is silent. A speaker's answer has had its time.
func (a *asking) over() bool {
	if a.ticks > Probes || a.question.Neighbor == (Neighbor{}) {
		return a.heard.Neighbor || a.heard.Others
	}
	return a.heard.Neighbor && (a.heard.Speaker || !a.question.Speaker.IsValid())
}
