package main

import (
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// The first repair of an ingress that somebody overwrote is at once; each further one
// waits, the next always twice as long. After the last the fight is lost, until nobody has
// interfered for a while.
const (
	firstPause = time.Second
	repairs    = 5
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
	last    time.Time // when it was repaired last
	repairs int
}

func newBrake(now func() time.Time) *brake {
	return &brake{now: now, fights: map[name.ServiceKey]fight{}}
}

// wait returns how long to wait before an ingress is repaired; 0 means now, and counts as
// a repair. Lost says that it is to be left to the other until then.
func (b *brake) wait(key name.ServiceKey) (pause time.Duration, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.fights[key]
	since := b.now().Sub(f.last)
	switch {
	case f.repairs == 0 || since > calm:
		f = fight{}
	case f.repairs == repairs:
		return calm - since, true
	default:
		if left := firstPause<<(f.repairs-1) - since; left > 0 {
			return left, false
		}
	}
	b.fights[key] = fight{last: b.now(), repairs: f.repairs + 1}
	return 0, false
}

// forget ends what is known of a Service that is gone.
func (b *brake) forget(key name.ServiceKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.fights, key)
}
