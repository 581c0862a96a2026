package neighbor

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	// minInterval and maxInterval bound the random time between two advertisements (RFC 4861 section 6.2.1); routers
	// that peer unnumbered usually send one in 10 s.
	minInterval = 7500 * time.Millisecond
	maxInterval = 10 * time.Second
	// minGap is that between two advertisements, one of them solicited: MIN_DELAY_BETWEEN_RAS of RFC 4861 section 10.
	minGap = 3 * time.Second
	// maxAnswerDelay bounds the random time to the answer to a solicitation: MAX_RA_DELAY_TIME of RFC 4861 section 10.
	maxAnswerDelay = 500 * time.Millisecond
	// doubt is how long a router is silent before it is solicited, silence how long before another may take its
	// place. Within that time it is solicited at least twice.
	doubt   = 15 * time.Second
	silence = 40 * time.Second
)

// firstGaps are the times between the first advertisements, so that a router that starts with us learns of us soon.
func firstGaps() []time.Duration { return []time.Duration{time.Second, 2 * time.Second} }

// link is what is known of one interface, and when to send on it. The zero value knows nothing and sends at once.
type link struct {
	// router is the one, without a zone; other is one more that is heard. Invalid: none.
	router, other           netip.Addr
	routerHeard, otherHeard time.Time
	// unsure says that the interface was down since the router was heard.
	unsure bool
	// sent counts advertisements since begin, last is when the last one was, next when the next one will be.
	sent       int
	last, next time.Time
}

// begin is for when the interface can be used again.
func (l *link) begin(now time.Time) { l.sent, l.next = 0, now }

// down is for when the interface has no carrier: another router may be there afterwards.
func (l *link) down() { l.unsure = true }

// forget is for when there is another interface under the name.
func (l *link) forget() { *l = link{} }

// hear notes an advertisement.
func (l *link) hear(from netip.Addr, now time.Time) {
	silent := l.unsure || now.Sub(l.routerHeard) >= silence
	switch {
	case from == l.router || !l.router.IsValid() || silent:
		if from == l.other {
			l.other = netip.Addr{}
		}
		l.router, l.routerHeard, l.unsure = from, now, false
	case from == l.other || !l.conflict(now):
		l.other, l.otherHeard = from, now
	}
}

// conflict says whether there is one more router.
func (l *link) conflict(now time.Time) bool {
	return l.other.IsValid() && now.Sub(l.otherHeard) < silence
}

// expiry is when a conflict ends unless more is heard; zero: there is none.
func (l *link) expiry(now time.Time) time.Time {
	if !l.conflict(now) {
		return time.Time{}
	}
	return l.otherHeard.Add(silence)
}

// asks says whether a solicitation goes with the next advertisement.
func (l *link) asks(now time.Time) bool {
	return !l.router.IsValid() || l.unsure || now.Sub(l.routerHeard) >= doubt
}

// solicited notes a solicitation; random is in [0, 1).
func (l *link) solicited(now time.Time, random float64) {
	at := now.Add(time.Duration(random * float64(maxAnswerDelay)))
	if soonest := l.last.Add(minGap); at.Before(soonest) {
		at = soonest
	}
	if at.Before(l.next) {
		l.next = at
	}
}

// advertised notes that an advertisement was sent; random is in [0, 1).
func (l *link) advertised(now time.Time, random float64) {
	gap := minInterval + time.Duration(random*float64(maxInterval-minInterval))
	if first := firstGaps(); l.sent < len(first) {
		gap = first[l.sent]
	}
	l.sent++
	l.last, l.next = now, now.Add(gap)
}

// problem says what keeps a session from being right; empty: nothing.
func (l *link) problem(name string, now time.Time) string {
	switch {
	case !l.router.IsValid():
		return "no router has advertised itself on " + name + " so far"
	case l.conflict(now):
		return fmt.Sprintf("two routers advertise themselves on %s, %v and %v: the session is with the first; a session without an address needs a link to one router alone", name, l.router, l.other)
	}
	return ""
}
