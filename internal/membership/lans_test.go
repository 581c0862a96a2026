package membership

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// racks puts members alternately on two LANs, between which the gossip is routed. An ask for a node on
// the other LAN is answered as speakers do: it could not be asked, though others are heard.
func racks(t *testing.T, n int) *crew {
	t.Helper()
	c := newCrew(n)
	for i := range n {
		at := c.at(i)
		c.begin(t, i, func(x *Config) {
			x.Ask = func(ctx context.Context, o name.NodeName) Answer {
				if there := c.present(o); rack(there[0]) == rack(at) {
					return c.net.ask(ctx, []netip.Addr{at}, there)
				}
				return Answer{Others: true}
			}
		})
	}
	until(t, time.Minute, "all alive", func() bool { return c.all(numbers(n)) })
	time.Sleep(30 * time.Second)
	c.forget()
	return c
}

func rack(a netip.Addr) byte { return a.As4()[3] % 2 }

func TestADeathOnAnotherLANIsFoundThereAndNoLivingNodeIsTakenForDead(t *testing.T) {
	for _, n := range []int{4, 6, 12} {
		synctest.Test(t, func(t *testing.T) {
			c := racks(t, n)
			defer c.end()
			died := c.peers[n-1]
			c.host(n - 1).dead.Store(true)
			time.Sleep(20 * time.Second)
			for _, x := range c.forget() {
				if x.of != died.Name && x.by != died.Name {
					t.Errorf("%d nodes: %s says that %s, which lives, is %v", n, x.by, x.of, x.health)
				}
			}
			for i := range n - 1 {
				want := Dead
				if rack(c.at(i)) != rack(c.at(n-1)) {
					want = Silent // until those on its LAN have what it owned, or the grace period ends
				}
				if v := c.view(i); health(v)[died.Name] != want || !v.Joined || v.Deaf {
					t.Errorf("%d nodes: %s says %v, joined %v, deaf %v; want %v", n, c.peers[i].Name, health(v)[died.Name], v.Joined, v.Deaf, want)
				}
			}
		})
	}
}

func TestARestartOnAnotherLANChangesNothingForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 12
		c := racks(t, n)
		defer c.end()
		c.nodes[c.peers[n-1].Name].stop()
		time.Sleep(20 * time.Second)
		for _, x := range c.forget() {
			if x.of != c.peers[n-1].Name && x.by != c.peers[n-1].Name || x.health == Dead {
				t.Errorf("%s says that %s is %v", x.by, x.of, x.health)
			}
		}
	})
}

func TestALoneSurvivorWhoseFellowsWereOnOtherLANsJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		for i := 1; i < 3; i++ {
			c.net.host(c.at(i)).dead.Store(true)
		}
		c.begin(t, 0, func(x *Config) {
			x.Ask = func(context.Context, name.NodeName) Answer { return Answer{Others: true} }
		})
		until(t, 10*time.Second, "joined", func() bool { return c.view(0).Joined })
	})
}
