package main

import (
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

func TestBrakeEndsAFight(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBrake(func() time.Time { return now })
	key := name.ServiceKey{Namespace: "shop", Name: "web"}
	tried, gaveUp := 0, false
	for range 60 { // somebody overwrites the ingress every second for a minute
		pause, lost := b.wait(key)
		if pause == 0 && !lost {
			tried++
		}
		gaveUp = gaveUp || lost
		now = now.Add(time.Second)
	}
	if tried != repairs || !gaveUp {
		t.Errorf("%d repairs in a minute, lost %t; want %d, and that it is lost then", tried, gaveUp, repairs)
	}
	if pause, lost := b.wait(name.ServiceKey{Namespace: "shop", Name: "other"}); pause != 0 || lost {
		t.Error("the fight over one Service slows another down")
	}
	now = now.Add(calm)
	if pause, lost := b.wait(key); pause != 0 || lost {
		t.Error("after a calm the brake is still on")
	}
}
