package layer2

import (
	"bytes"
	"cmp"
	"time"

	"github.com/ballast-lb/ballast/internal/link"
)

// role is what this node is to an address.
type role struct {
	// owner is zero if this node is the owner; on a deputy, it is the owner's address.
	owner link.MAC
	// first says that nobody has answered for the address before.
	first bool
	// yields says that this node gives way to a fellow node that is not heard and answers for the
	// address, and answers again once none does.
	yields bool
}

// compare orders roles: an owner, who has no other to name, before a deputy; deputies by
// their owners; those who do not say that the address is first before those who do, and those who
// do not yield before those who do.
func (r role) compare(o role) int {
	return cmp.Or(bytes.Compare(r.owner[:], o.owner[:]), compareBools(r.first, o.first), compareBools(r.yields, o.yields))
}

// compareBools puts false first.
func compareBools(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

// phase is how far a duty has come.
type phase uint8

const (
	waiting    phase = iota // for the interface, which has not been there yet
	probing                 // asks whether another host has the address; not answered
	blocked                 // another host or node has the address; not answered, probed again later
	owning                  // answered and announced
	deputizing              // answered on behalf of the owner
)

// message is what a duty has to say to the network.
type message uint8

const (
	nothing message = iota
	probe           // before the address is answered
	inquiry         // a probe that goes to the rival only
	announcement
	check // of an owner: does another host answer, too?
)

// answer is what the network is to be told of an address that it asks for.
type answer struct {
	// watched says that its use by another host matters; answered that it is answered for.
	watched, answered bool
	// mac is the hardware address to give; zero is the interface's own.
	mac link.MAC
}

// moment is what a duty takes from outside when something happens.
type moment struct {
	now time.Time
	// random is in [0, 1).
	random    float64
	refresh   time.Duration
	detection Detection
	// obstructed is the number of addresses that fellow nodes keep from being answered, contested of
	// those that others use, owned of those that this node answers for as the owner.
	obstructed, contested, owned int
	// apart says that there may be other owners that this node does not hear, unheard how many.
	apart   bool
	unheard int
}

// apartPause is the wait between two checks of one address while the node is apart.
func (m moment) apartPause() time.Duration {
	return max(apartLeast, apartEach*time.Duration(m.owned*(1+m.unheard/apartCrowd)))
}

// lasts returns how long an owner takes a conflict to go on that does not show. One that only
// its checks show must not end between two of them, even if the answer to one is lost.
func (m moment) lasts() time.Duration {
	if m.detection == Off {
		return quiet
	}
	return max(quiet, m.refresh*5/2)
}

// duty is this node's part in one address on one interface. It is a state machine: its methods
// are the events; next, says and answer tell what is to be done. It is pure.
type duty struct {
	role  role
	phase phase
	// open says that the interface can be used.
	open bool
	// step counts the probes, or the announcements since the takeover; due is when the next
	// thing happens by schedule, or zero.
	step int
	due  time.Time
	// defend is when a defense is to be sent, or zero; defended is when the last one was, and
	// pause the least time from then to the next one against a fellow node.
	defend, defended time.Time
	pause            time.Duration
	// check is when a check is to be sent, or zero. Only an owner's is not zero.
	check time.Time
	rival rival
}

// next returns when act is to be called, and whether at all.
func (d *duty) next() (time.Time, bool) {
	at := d.due
	if !d.defend.IsZero() {
		at = earlier(at, d.defend)
	}
	if !d.check.IsZero() {
		at = earlier(at, d.check)
	}
	if d.aging() {
		at = earlier(at, d.rival.until)
	}
	return at, !at.IsZero()
}

// earlier returns the earlier one of two times, of which x may be zero.
func earlier(x, y time.Time) time.Time {
	if x.IsZero() || y.Before(x) {
		return y
	}
	return x
}

// past says whether t is a time that has come.
func past(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

// aging says whether the rival is forgotten by time alone: one that keeps the address from
// being answered is not.
func (d *duty) aging() bool {
	return d.rival != rival{} && d.phase != probing && d.phase != blocked
}

// first says whether the announcement that act is about to make is the first of a takeover.
func (d *duty) first(now time.Time) bool {
	return d.phase == owning && d.step == 0 && !past(d.defend, now) && !past(d.check, now)
}

// says returns what act is about to say.
func (d *duty) says(now time.Time) message {
	switch {
	case past(d.defend, now):
		return announcement
	case past(d.check, now):
		return check
	case !past(d.due, now):
		return nothing
	case d.phase == owning:
		return announcement
	case d.phase == probing && d.step == 0 && d.rival.obstructs():
		return inquiry
	case d.phase == probing && d.step < probes:
		return probe
	}
	return nothing
}

// answer returns what is to be said to those who ask.
func (d *duty) answer() answer {
	switch d.phase {
	case probing, blocked:
		return answer{watched: true}
	case owning:
		return answer{watched: true, answered: true}
	case deputizing:
		return answer{watched: true, answered: true, mac: d.role.owner}
	}
	return answer{}
}

// begin is the event that the interface can be used, for the first time or again.
func (d *duty) begin(m moment) {
	d.open = true
	switch {
	case d.phase == waiting && d.role.owner != link.MAC{}:
		d.phase = deputizing
	case d.phase == waiting && !d.role.first:
		d.take(m)
	case d.phase == owning:
		d.renew(m)
	case d.phase != deputizing:
		d.detect(m)
	}
}

// end is the event that the interface can be used no more.
func (d *duty) end() {
	d.open, d.due, d.defend, d.check = false, time.Time{}, time.Time{}, time.Time{}
}

// assign is the event that the node's role is another. Whether the address is answered for
// the first time matters no more once that is being found out.
func (d *duty) assign(r role, m moment) {
	changed, yielded := d.role.owner != r.owner, d.role.yields
	d.role = r
	switch {
	case d.phase == waiting:
	case !changed && d.phase == owning && r.yields && d.rival.unheard && !d.rival.over && d.rival.unanswered == 0:
		d.yield(m)
	case !changed && yielded && !r.yields && (d.phase == probing || d.phase == blocked):
		d.take(m)
	case !changed:
	case r.owner == link.MAC{}:
		d.take(m)
	default:
		d.phase, d.due, d.defend, d.check = deputizing, time.Time{}, time.Time{}, time.Time{}
		d.rival.probe = false
		if d.rival.silent {
			d.rival = rival{}
		}
	}
}

// act is the event that next had announced; what says returned has been said.
func (d *duty) act(m moment) {
	switch due := past(d.due, m.now); {
	case past(d.defend, m.now):
		d.defend, d.defended = time.Time{}, m.now
		d.pause = min(max(2*d.pause, duelPause), defendInterval)
		if d.rival.fleeting && d.check.IsZero() && m.detection != Off {
			d.check = m.now.Add(checkWait)
		}
	case past(d.check, m.now):
		d.checked(m)
	case due && d.phase == owning:
		if checking(d.step) && m.detection != Off {
			d.check = m.now
		}
		wait, again := following(d.step, m.refresh, m.random)
		d.step++
		d.due = time.Time{}
		if again {
			d.due = m.now.Add(wait)
		}
	case due && d.phase == probing && d.step < probes:
		d.step++
		d.due = m.now.Add(m.detection.listening(d.step, m.random))
	case due && d.phase == probing:
		d.take(m)
	case due:
		d.detect(m)
	case !d.aging() || d.rival.until.After(m.now):
	case d.rival.over:
		d.rival = rival{}
	default:
		d.rival.expire(m.now)
	}
}

// checked follows a check that has been sent.
func (d *duty) checked(m moment) {
	d.check = time.Time{}
	switch r := &d.rival; {
	case r.over:
	case r.unheard && r.unanswered+1 < followLost:
		r.unanswered++
		d.check = m.now.Add(followPause(m.contested))
	case r.unheard, r.fleeting:
		r.until = m.now.Add(answerWait)
	}
	if m.apart && m.detection != Off {
		d.check = earlier(d.check, m.now.Add(m.apartPause()))
	}
}

// part is the event that there may be other owners that this node does not hear: it asks for them soon.
func (d *duty) part(m moment) {
	if d.open && d.phase == owning && m.detection != Off {
		d.check = earlier(d.check, m.now.Add(portion(apartSoon*time.Duration(m.owned*(1+m.unheard/apartCrowd)), m.random)))
	}
}

// lose is the event that the rival, a fellow node, is not heard any more.
func (d *duty) lose(m moment) {
	d.rival.unheard, d.rival.unanswered = true, 0
	if d.open && d.phase == owning && m.detection != Off {
		d.check = m.now
	}
}

// fail is the event that a probe could not be sent, so that the probes prove nothing.
func (d *duty) fail(m moment) {
	if d.open && d.phase == probing {
		d.step, d.due = 0, m.now.Add(firstRetry+portion(probeWait, m.random))
	}
}

// renew is the event that the address is to be announced as after a takeover. It is not left to a
// fellow node any longer.
func (d *duty) renew(m moment) {
	switch {
	case !d.open:
	case d.phase == owning:
		d.step, d.due = 0, m.now
	case (d.phase == probing || d.phase == blocked) && d.rival.obstructs():
		d.take(m)
	}
}

// see is the event that another host, a fellow node or not, shows that it uses the address. The probe
// of a fellow node shows only that it believes to become the owner too, which claims decide. One that
// uses the address may have been its owner until now, so it is asked again soon.
func (d *duty) see(s sign, m moment) {
	if !d.open || d.phase == waiting || s.fellow && s.probe {
		return
	}
	d.note(s, m)
	switch {
	case d.phase == probing && s.fellow:
		d.phase, d.step, d.due = blocked, 0, m.now.Add(askPause(m.obstructed))
	case d.phase == probing:
		d.phase, d.step = blocked, 0
		d.due = m.now.Add(probeAgain + portion(probeAgainSpread, m.random))
	case d.phase == owning && s.unheard && d.role.yields:
		d.yield(m)
	case d.phase == owning:
		if s.unheard && m.detection != Off {
			d.check = earlier(d.check, m.now.Add(followPause(m.contested)))
		}
		if d.defend.IsZero() {
			d.ward(s.fellow, m.now)
		}
	}
}

// yield leaves the address to the fellow node that is the rival, and asks it from time to time
// whether it still answers.
func (d *duty) yield(m moment) {
	d.phase, d.step, d.due = blocked, 0, m.now.Add(askPause(m.obstructed))
	d.defend, d.check = time.Time{}, time.Time{}
	d.rival.probe = true
}

// ward lets the owner announce again against another host, if it may. Which of two nodes owns is not
// found out here, but for as long as this one is told that it does, it has the last word: each sign
// of a fellow node is answered, if need be after the pause.
func (d *duty) ward(fellow bool, now time.Time) {
	since := now.Sub(d.defended)
	switch {
	case fellow && since < duelOver:
		d.defend = now.Add(max(claimWait, d.pause-since))
	case fellow:
		d.defend, d.pause = now.Add(claimWait), 0
	case since >= defendInterval:
		d.defend, d.pause = now, 0
	}
}

// meet is the event that the rival is found to be a fellow node. What it has kept from being answered
// until now may not have been its to keep.
func (d *duty) meet(m moment) {
	if d.rival.fellow = true; d.open && d.phase == blocked {
		d.detect(m)
	}
}

// detect begins to find out whether another host has the address.
func (d *duty) detect(m moment) {
	if m.detection == Off && !d.role.yields {
		d.take(m)
		return
	}
	d.phase, d.step, d.due = probing, 0, m.now.Add(m.detection.listening(0, m.random))
	if d.rival.obstructs() {
		d.due = m.now
	}
}

// hurry is the event that conflict detection is off: what waits for it begins.
func (d *duty) hurry(m moment) {
	d.check = time.Time{}
	if d.open && (d.phase == probing || d.phase == blocked) && !d.role.yields {
		d.take(m)
	}
}

// take begins to answer and announce as the owner.
func (d *duty) take(m moment) {
	d.phase, d.step, d.due = owning, 0, time.Time{}
	if d.open {
		d.due = m.now
	}
	switch {
	case d.rival.silent:
		d.rival = rival{}
	case d.rival.probe && !d.rival.over:
		d.rival.expire(m.now)
	}
}

// reschedule is the event that the refresh interval is another. Whether a conflict goes on is
// then found out anew.
func (d *duty) reschedule(m moment) {
	if d.phase == owning && d.rival != (rival{}) && !d.rival.over {
		d.rival.until = m.now.Add(m.lasts())
	}
	if !d.open || d.phase != owning || !refreshing(d.step) {
		return
	}
	d.due = time.Time{}
	if m.refresh > 0 {
		d.due = m.now.Add(portion(m.refresh, m.random))
	}
}
