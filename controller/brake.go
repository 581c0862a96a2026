package main

import (
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// The first repair of an ingress that somebody overwrote is at once; then each waits
// twice as long as the one before, until nobody has interfered for a while.
const (
	firstBrake = time.Second
	lastBrake  = 5 * time.Minute
	calm       = 10 * time.Minute
)

// brake slows down a fight with another writer over a Service's ingress. It is safe for
// concurrent use.
type brake struct {
	now func() time.Time

	mu     sync.Mutex
	fights map[name.ServiceKey]fight
}

// fight is a Service whose ingress somebody else keeps overwriting.
type fight struct {
	last  time.Time     // when it was repaired last
	pause time.Duration // until it may be repaired again
}

func newBrake(now func() time.Time) *brake {
	return &brake{now: now, fights: map[name.ServiceKey]fight{}}
}

// wait returns how long to wait before an ingress is repaired; 0 means now, and counts as a repair.
func (b *brake) wait(key name.ServiceKey) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	f, known := b.fights[key]
	if known && now.Sub(f.last) > calm {
		f = fight{}
	}
	if left := f.pause - now.Sub(f.last); known && left > 0 {
		return left
	}
	b.fights[key] = fight{last: now, pause: min(max(2*f.pause, firstBrake), lastBrake)}
	return 0
}

// forget ends what is known of a Service that is gone.
func (b *brake) forget(key name.ServiceKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.fights, key)
}
