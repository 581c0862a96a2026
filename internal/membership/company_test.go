package membership

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A firewall that rejects gossip looks like nodes without speakers. Who starts behind it is not
// alone for as long as the LAN says that another speaker answers.
func TestWhoIsRefusedAndHearsAnotherSpeakerOnTheLANHasNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		c.net.host(stranger)
		var there atomic.Bool
		there.Store(true)
		c.begin(t, 0, func(x *Config) { x.Company = func(context.Context) bool { return there.Load() } })
		time.Sleep(time.Minute)
		if c.view(0).Joined {
			t.Fatal("it believes that it is alone")
		}
		there.Store(false)
		until(t, 5*time.Second, "joined", func() bool { return c.view(0).Joined })
	})
}

func TestWhoIsCutOffIsNotInTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		for i := range 3 {
			c.begin(t, i, nil)
		}
		until(t, time.Minute, "all alive", func() bool { return c.all(numbers(3)) })
		time.Sleep(5 * time.Second)
		if !c.nodes[c.peers[0].Name].InTouch() {
			t.Error("it is not in touch in calm")
		}
		c.host(0).hold(5 * time.Second) // what it sends waits
		time.Sleep(2 * time.Second)
		if c.nodes[c.peers[0].Name].InTouch() {
			t.Error("it is in touch though nobody has answered for 2 s")
		}
		time.Sleep(5 * time.Second)
		if !c.nodes[c.peers[0].Name].InTouch() {
			t.Error("it is not in touch again")
		}
	})
}

// That no other speaker is alive for a moment does not make this node the only one: it may be the one
// that was away.
func TestWhoHasJustLostAllOthersIsNotInTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		for i := range 3 {
			c.begin(t, i, nil)
		}
		until(t, time.Minute, "all alive", func() bool { return c.all(numbers(3)) })
		time.Sleep(5 * time.Second)
		for i := 1; i < 3; i++ {
			c.nodes[c.peers[i].Name].stop() // their nodes live on
		}
		time.Sleep(2 * time.Second)
		if c.nodes[c.peers[0].Name].InTouch() {
			t.Error("it is in touch though all others were alive a moment ago, and are silent")
		}
		time.Sleep(3 * time.Second)
		if !c.nodes[c.peers[0].Name].InTouch() {
			t.Error("it says nothing unasked though nobody else has lived for long")
		}
	})
}

// A node that heard nobody, for however short a time, may have lost what it owned: it does not answer
// for it before it has heard what others say.
func TestWhoWasDeafForAMomentHearsTheOthersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(3)
		defer c.end()
		for i := range 3 {
			c.begin(t, i, nil)
		}
		until(t, time.Minute, "all alive", func() bool { return c.all(numbers(3)) })
		time.Sleep(5 * time.Second)
		c.net.cut(1, c.at(0))
		until(t, 2*time.Second, "deaf, and still joined", func() bool { v := c.view(0); return v.Deaf && v.Joined })
		c.net.cut(0, c.at(0))
		until(t, time.Second, "that it has fallen behind", func() bool { return !c.view(0).Joined })
		until(t, time.Second, "all alive again", func() bool { return c.all(numbers(3)) })
	})
}
