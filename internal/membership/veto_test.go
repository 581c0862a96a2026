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
