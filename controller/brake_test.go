package main

import (
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

func TestBrakeSlowsDownAFight(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBrake(func() time.Time { return now })
	key := name.ServiceKey{Namespace: "shop", Name: "web"}
	repairs := 0
	for range 3600 { // somebody overwrites the ingress every second for an hour
		if b.wait(key) == 0 {
			repairs++
		}
		now = now.Add(time.Second)
	}
	if repairs < 10 || repairs > 30 {
		t.Errorf("%d repairs in an hour, want a few, and more than ten", repairs)
	}
	if b.wait(name.ServiceKey{Namespace: "shop", Name: "other"}) != 0 {
		t.Error("the fight over one Service slows another down")
	}
	now = now.Add(calm + lastBrake)
	if b.wait(key) != 0 || b.wait(key) > firstBrake {
		t.Error("after a calm the brake is still on")
	}
}
