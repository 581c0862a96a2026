package membership

import (
	"testing"
	"testing/synctest"
	"time"
)

// Two of five nodes do not reach each other, by gossip, heartbeats or the LAN; all others reach
// everybody: neither takes the other for dead, for as long as somebody hears it.
func TestANodeThatOthersHearIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5
		c := newCrew(n)
		defer c.end()
		for i := range n {
			c.begin(t, i, nil)
		}
		until(t, time.Minute, "all alive", func() bool { return c.all(numbers(n)) })
		time.Sleep(10 * time.Second)
		c.forget()
		c.net.part(c.at(0), c.at(1))
		time.Sleep(time.Minute)
		for _, x := range c.forget() {
			if x.health == Dead {
				t.Errorf("%s takes %s for dead", x.by, x.of)
			}
		}
		var sum Stats
		for _, x := range c.nodes {
			one := x.Stats()
			sum.Vetoes, sum.Vetoed, sum.Silent = sum.Vetoes+one.Vetoes, sum.Vetoed+one.Vetoed, sum.Silent+one.Silent
		}
		if sum.Vetoes == 0 || sum.Vetoed == 0 || sum.Vetoed > sum.Vetoes || sum.Silent == 0 {
			t.Errorf("%d vetoes were told, %d heard, %d questions were not answered", sum.Vetoes, sum.Vetoed, sum.Silent)
		}
		c.host(1).dead.Store(true)
		until(t, 5*time.Second, "dead for all", func() bool {
			for _, i := range []int{0, 2, 3, 4} {
				if health(c.view(i))[c.peers[1].Name] != Dead {
					return false
				}
			}
			return true
		})
	})
}

func TestEachAnswerIsCountedOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer Answer
		held   bool // this process was held up meanwhile
		want   result
	}{
		{"the node answers", up, false, nodeAnswered},
		{"it answers though this process was held up", up, true, nodeAnswered},
		{"it does not answer", down, false, nodeSilent},
		{"it may have answered", down, true, voided},
		{"it shares no network", elsewhere, false, notAsked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.it().asking, s.it().asked, s.it().void = true, s.now, tt.held
			s.answered("it", tt.answer, s.now)
			var want [resultCount]uint64
			want[tt.want] = 1
			if s.results != want {
				t.Errorf("counted %v", s.results)
			}
		})
	}
}
