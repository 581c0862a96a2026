package membership

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNobodyIsDeadWithoutAReason drives a watch at random. A node may become dead only by its own
// word, or because the LAN was asked, did not answer, and would have.
func TestNobodyIsDeadWithoutAReason(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScene()
		s.meet()
		s.it().reached = rapid.Bool().Draw(t, "the LAN answered before")
		answers := rapid.SampledFrom([]Answer{{}, up, serving, down, nobody, {Neighbor: true}})
		health, lately, stood := s.it().health, s.now, s.now
		var old []packet
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			before, allowed := *s.it(), false
			switch what := rapid.IntRange(0, 8).Draw(t, "what"); what {
			case 0, 1, 2, 3:
				s.now = s.now.Add(25 * ms)
				s.do(s.look(s.now))
			case 4:
				f := rapid.SampledFrom([]flags{0, joined, joined | watched, joined | deaf | watched, left}).Draw(t, "flags")
				k := rapid.SampledFrom([]kind{heartbeat, pong, farewell, suspect}).Draw(t, "kind")
				p := s.packet(k, f)
				old = append(old, p)
				s.do(s.hear(p, s.now))
				allowed = f&deaf != 0 && k != farewell || k == farewell && f&left != 0
				lately = s.now
			case 5:
				if len(old) > 0 {
					s.do(s.hear(rapid.SampledFrom(old).Draw(t, "again"), s.now))
					if s.it().health != before.health || s.it().heard != before.heard || s.it().seq != before.seq {
						t.Fatalf("a packet that came before changed it to %+v", *s.it())
					}
				}
			case 6:
				a := answers.Draw(t, "answer")
				if before.asking {
					s.answered("it", a, s.now)
				}
				allowed = !a.Neighbor && a.Asked && a.Others && before.reached && lately.Before(before.asked) && !stood.After(before.asked)
			case 7:
				gone := rapid.Bool().Draw(t, "left")
				s.do(s.gossip("it", !gone && rapid.Bool().Draw(t, "alive"), gone, s.now))
				allowed = gone
			case 8:
				s.now = s.now.Add(time.Duration(rapid.IntRange(101, 3000).Draw(t, "stands still")) * ms)
				stood = s.now
				s.do(s.look(s.now))
			}
			if now := s.it().health; now == Dead && health != Dead && !allowed {
				t.Fatalf("it is dead; before %+v, now %+v", before, *s.it())
			}
			health = s.it().health
			if s.it().heard.After(s.now) {
				t.Fatal("heard in the future")
			}
		}
	})
}

// TestANodeThatIsHeardInTimeIsAlive has packets come in time, and everything else say that the
// node is dead.
func TestANodeThatIsHeardInTimeIsAlive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScene()
		s.meet()
		for range rapid.IntRange(1, 60).Draw(t, "heartbeats") {
			s.pass(time.Duration(rapid.IntRange(1, 9).Draw(t, "looks")) * 25 * ms)
			s.heard(heartbeat, joined|watched)
			if rapid.Bool().Draw(t, "the gossip says that it is dead") {
				s.do(s.gossip("it", false, false, s.now))
				s.now = s.now.Add(ms)
				s.heard(pong, joined|watched)
			}
			if s.it().asking {
				s.answered("it", rapid.SampledFrom([]Answer{{}, down, nobody, up}).Draw(t, "answer"), s.now)
			}
			if s.it().health != Alive {
				t.Fatalf("it is %v", s.it().health)
			}
		}
	})
}
