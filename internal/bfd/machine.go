package bfd

import "time"

const (
	// slowest is the least DesiredMinTxInterval of a session that is not Up (RFC 5880 section 6.8.3).
	slowest = time.Second
	// secondLook is after how long it is looked once more whether a silent peer has said something.
	secondLook = 2 * time.Millisecond
	// stoodStill is how late a process comes that has not just been busy.
	stoodStill = 20 * time.Millisecond
	// firstRemoteMinRx is what the peer is taken to accept before it has said anything (section 6.8.1).
	firstRemoteMinRx = time.Microsecond
)

// machine is one session's state, RFC 5880 section 6.8.1 and its timers. Its methods are pure but
// for the random number they are given; whoever calls them sends what outgoing returns, when due.
type machine struct {
	Session
	my, your          uint32
	state, remote     State
	diag, remoteDiag  Diagnostic
	remoteMinRx       time.Duration
	remoteDesired     time.Duration
	remoteMultiplier  uint8
	remoteDemand      bool
	desired, required time.Duration // as sent
	// transmit and receive are desired and required as they are in effect: a change that would make
	// the peer's detection fail waits until the peer has confirmed it (section 6.8.3).
	transmit, receive time.Duration
	polling           bool
	// urgent asks for a packet at once: what it says is new. final is the answer to a poll.
	urgent, final bool
	// sent is when the last periodic packet left, due when the next should. detect is when the
	// peer's silence is a failure; zero: it is not waited for.
	sent, due, detect time.Time
	// excused says that it has been looked once already whether the peer is silent.
	excused bool
	since   time.Time
}

func newMachine(s Session, discriminator uint32, now time.Time) *machine {
	m := &machine{Session: s, my: discriminator, state: Down, remote: Down, remoteMinRx: firstRemoteMinRx, since: now, due: now}
	m.desired, m.required = m.wants()
	m.transmit, m.receive = m.desired, m.required
	return m
}

// wants are the intervals that the configuration asks for in the present state.
func (m *machine) wants() (desired, required time.Duration) {
	desired, required = m.Transmit, m.Receive
	if m.state != Up {
		desired = max(desired, slowest)
	}
	return desired, required
}

// configure takes other timers; the session goes on.
func (m *machine) configure(s Session) {
	if s.Multiplier != m.Multiplier {
		m.urgent = true
	}
	m.Session = s
	m.adapt()
}

// adapt brings the intervals to what is wanted, with a poll sequence if the peer has to know (section 6.8.3).
func (m *machine) adapt() {
	desired, required := m.wants()
	if desired == m.desired && required == m.required {
		return
	}
	m.desired, m.required = desired, required
	if m.state == Up {
		m.polling = true
		m.transmit, m.receive = min(m.transmit, desired), max(m.receive, required)
	} else {
		m.transmit, m.receive = desired, required
	}
	m.urgent = true
}

// enter changes the state.
func (m *machine) enter(s State, d Diagnostic, now time.Time) {
	if s == m.state {
		return
	}
	m.state, m.since, m.urgent = s, now, true
	if s == Up || d != NoDiagnostic {
		m.diag = d
	}
	if s != Up { // nobody is asked to agree
		m.polling = false
		m.transmit, m.receive = m.desired, m.required
	}
	m.adapt()
}

// disable takes the session out of service (section 6.8.16).
func (m *machine) disable(now time.Time) {
	m.enter(AdminDown, AdministrativelyDown, now)
	m.detect = time.Time{}
}

// take takes a packet that belongs to the session: the rest of section 6.8.6.
func (m *machine) take(p Packet, now time.Time) {
	m.your, m.remote, m.remoteDiag, m.remoteDemand = p.My, p.State, p.Diagnostic, p.Demand
	m.remoteDesired, m.remoteMultiplier = p.DesiredMinTx, p.Multiplier
	if m.remoteMinRx != p.RequiredMinRx {
		m.remoteMinRx = p.RequiredMinRx
		if next := m.sent.Add(m.interval()); !m.sent.IsZero() && m.due.After(next) {
			m.due = next
		}
	}
	if m.polling && p.Final {
		m.polling = false
		m.transmit, m.receive = m.desired, m.required
	}
	if m.state != AdminDown {
		m.react(now)
		m.detect = now.Add(m.detection())
		m.excused = false
	}
	if p.Poll {
		m.final = true
	}
}

// react is the state machine of section 6.2.
func (m *machine) react(now time.Time) {
	switch {
	case m.remote == AdminDown:
		if m.state != Down {
			m.enter(Down, NeighborSignaledDown, now)
		}
	case m.state == Down && m.remote == Down:
		m.enter(Init, NoDiagnostic, now)
	case m.state == Down && m.remote == Init, m.state == Init && m.remote >= Init:
		m.enter(Up, NoDiagnostic, now)
	case m.state == Up && m.remote == Down:
		m.enter(Down, NeighborSignaledDown, now)
	}
}

// interval is the time between two packets, without jitter (section 6.8.2).
func (m *machine) interval() time.Duration { return max(m.transmit, m.remoteMinRx) }

// detection is how long the peer may be silent (section 6.8.4).
func (m *machine) detection() time.Duration {
	return time.Duration(m.remoteMultiplier) * max(m.receive, m.remoteDesired)
}

// expire looks whether the peer has been silent for too long. It looks twice, since packets may have been on their way
// through this process; if the caller comes so late that the process must have stood still, one interval later.
func (m *machine) expire(now time.Time) {
	if m.detect.IsZero() || now.Before(m.detect) {
		return
	}
	if late := now.Sub(m.detect); !m.excused {
		m.excused = true
		m.detect = now.Add(secondLook)
		if late > stoodStill {
			m.detect = now.Add(max(m.receive, m.remoteDesired))
		}
		return
	}
	m.detect, m.excused = time.Time{}, false
	m.your, m.remoteMinRx, m.remoteDemand = 0, firstRemoteMinRx, false
	if m.state == Init || m.state == Up {
		m.enter(Down, DetectionTimeExpired, now)
	}
	m.remote = Down
}

// silent says whether the rules of section 6.8.7 forbid periodic packets.
func (m *machine) silent() bool {
	return m.Passive && m.your == 0 || m.remoteMinRx == 0 || m.remoteDemand && m.state == Up && m.remote == Up && !m.polling
}

// outgoing returns the packet to send now, if there is one. random is within 0..1.
func (m *machine) outgoing(now time.Time, random float64) (Packet, bool) {
	periodic := !m.silent() && (m.urgent || !now.Before(m.due))
	if !periodic && !m.final {
		return Packet{}, false
	}
	p := Packet{
		Diagnostic: m.diag, State: m.state, Final: m.final, Poll: m.polling && !m.final, Multiplier: m.Multiplier,
		My: m.my, Your: m.your, DesiredMinTx: m.desired, RequiredMinRx: m.required,
	}
	m.final = false
	if periodic {
		m.urgent = m.polling && p.Final // the poll still has to go out
		m.sent, m.due = now, now.Add(m.jittered(random))
	}
	return p, true
}

// jittered is the time until the next packet: up to a quarter less than the interval, and at
// most nine tenths if one lost packet is a failure (section 6.8.7).
func (m *machine) jittered(random float64) time.Duration {
	least, most := 0.75, 1.0
	if m.Multiplier == 1 {
		most = 0.9
	}
	return time.Duration(float64(m.interval()) * (least + (most-least)*random))
}

// next is when the machine is to be looked at again; zero: after the next packet.
func (m *machine) next() time.Time {
	next := m.detect
	if !m.silent() && (next.IsZero() || m.due.Before(next)) {
		next = m.due
	}
	return next
}
