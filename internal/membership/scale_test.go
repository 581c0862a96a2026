package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// lan is many watches, each with what a process adds to it, in steps of a fourth of an interval.
// The gossip is simulated: it knows who lives, a few seconds late.
type lan struct {
	t      *testing.T
	now    time.Time
	nodes  []*station
	byName map[name.NodeName]*station
	random *rand.Rand
	loss   float64
	// cost of heartbeats, without the gossip.
	packets, octets int
	// frames are those that questions put on the LAN, answers among them.
	frames int
	// deaths are of nodes without power, wrong of others; changes counts all changes of health.
	deaths  []time.Duration
	died    time.Time
	wrong   []string
	changes int
}

type station struct {
	*watch
	boot, seq, nonce uint64
	told             map[name.NodeName]bool
	inbox            []packet
	answers          []answering
	held             time.Time
	dead             bool
	side             int
	seen             uint64
	health           map[name.NodeName]Health
}

// answering is a question that the LAN answers when it is due.
type answering struct {
	of  name.NodeName
	due time.Time
	how Answer
}

func newLAN(t *testing.T, n int) *lan {
	l := &lan{t: t, now: time.Unix(1_000_000, 0), byName: map[name.NodeName]*station{}, random: rand.New(rand.NewPCG(5, 6))}
	for i := range n {
		s := &station{watch: newWatch(name.NodeName(fmt.Sprintf("n%03d", i))), boot: uint64(i + 1), told: map[name.NodeName]bool{}, health: map[name.NodeName]Health{}}
		l.nodes = append(l.nodes, s)
		l.byName[s.self] = s
	}
	for _, s := range l.nodes {
		var names []name.NodeName
		for _, o := range l.nodes {
			names = append(names, o.self)
		}
		s.setPeers(names, l.now)
		for _, o := range l.nodes {
			l.act(s, s.gossip(o.self, true, false, l.now))
		}
	}
	return l
}

func (l *lan) send(s *station, to name.NodeName, p packet) {
	o := l.byName[to]
	s.seq++
	p.boot, p.seq, p.from, p.flags = s.boot, s.seq, s.self, p.flags|joined
	if s.deaf {
		p.flags |= deaf
	}
	if s.told[to] {
		p.flags |= watched
	}
	l.packets++
	l.octets += fixedLen + 2 + len(p.from) + len(p.about) + tagLen + 28
	if !s.dead && !o.dead && s.side == o.side && l.random.Float64() >= l.loss {
		o.inbox = append(o.inbox, p)
	}
}

func (l *lan) act(s *station, do todo) {
	for _, n := range do.ping {
		s.nonce++
		l.send(s, n, packet{kind: ping, nonce: s.peers[n].challenge(s.nonce, l.now)})
	}
	for _, n := range do.suspect {
		for o := range s.peers {
			if o != n {
				l.send(s, o, packet{kind: suspect, about: n})
			}
		}
	}
	for _, n := range do.ask {
		o := l.byName[n]
		a := answering{n, l.now, up}
		l.frames += 2
		if o.dead || o.side != s.side {
			l.frames++ // three questions, no answer
			a.due, a.how = l.now.Add(150*ms), nobody
			for _, x := range l.nodes {
				a.how.Others = a.how.Others || x != s && x != o && !x.dead && x.side == s.side
			}
		}
		s.answers = append(s.answers, a)
	}
	for _, n := range do.join {
		s.peers[n].gossiped, s.watching = true, nil
	}
}

// step lets a fourth of an interval pass.
func (l *lan) step(number int) {
	l.now = l.now.Add(25 * ms)
	for i, s := range l.nodes {
		if s.dead || s.held.After(l.now) {
			continue
		}
		inbox := s.inbox
		s.inbox = nil
		for _, p := range inbox {
			if p.kind == ping {
				l.send(s, p.from, packet{kind: pong, nonce: p.nonce})
			}
			l.act(s, s.hear(p, l.now))
		}
		s.answers = slices.DeleteFunc(s.answers, func(a answering) bool {
			if a.due.After(l.now) {
				return false
			}
			s.answered(a.of, a.how, l.now)
			return true
		})
		if number%looks == i%looks {
			l.beat(s)
		}
		l.act(s, s.look(l.now))
		l.compare(s)
	}
}

// beat sends heartbeats to those that watch a node, and to those that do no longer.
func (l *lan) beat(s *station) {
	now := s.watchers()
	for _, o := range l.nodes {
		if s.told[o.self] && !slices.Contains(now, o.self) {
			delete(s.told, o.self)
			l.send(s, o.self, packet{kind: heartbeat})
		}
	}
	for _, n := range now {
		s.told[n] = true
		l.send(s, n, packet{kind: heartbeat})
	}
}

// compare notes what a watch says that it did not say before.
func (l *lan) compare(s *station) {
	if s.seen == s.changes {
		return
	}
	s.seen = s.changes
	for n, p := range s.peers {
		if p.health == s.health[n] {
			continue
		}
		s.health[n] = p.health
		l.changes++
		o := l.byName[n]
		switch {
		case p.health == Dead && o.dead:
			l.deaths = append(l.deaths, l.now.Sub(l.died))
		case p.health == Dead && o.side == s.side:
			l.wrong = append(l.wrong, fmt.Sprintf("%s of %s at %v", s.self, n, l.now))
		}
	}
}

// gossip has the gossip find all that cannot be reached.
func (l *lan) gossip() {
	for _, s := range l.nodes {
		for n, p := range s.peers {
			if o := l.byName[n]; p.gossiped && (o.dead || o.side != s.side) {
				l.act(s, s.gossip(n, false, false, l.now))
			}
		}
	}
}

// run lets time pass.
func (l *lan) run(d time.Duration, each func(step int)) {
	for i := range int(d / (25 * ms)) {
		if each != nil {
			each(i)
		}
		l.step(i)
	}
}

// alive says whether all that have power are alive for all.
func (l *lan) alive() bool {
	for _, s := range l.nodes {
		for n, p := range s.peers {
			if !s.dead && !l.byName[n].dead && p.health != Alive {
				return false
			}
		}
	}
	return true
}

// until runs until something is true.
func (l *lan) until(limit time.Duration, what string, is func() bool) time.Duration {
	l.t.Helper()
	began := l.now
	for i := 0; !is(); i++ {
		if l.now.Sub(began) > limit {
			l.t.Fatalf("after %v: not %s", limit, what)
		}
		l.step(i)
	}
	return l.now.Sub(began)
}

// TestTwoHundredWatches has the heartbeats of two hundred nodes find out who lives.
func TestTwoHundredWatches(t *testing.T) {
	t.Parallel()
	const n = 200
	l := newLAN(t, n)
	l.until(5*time.Second, "all alive", l.alive)
	l.run(30*time.Second, nil) // each has asked for all others once
	l.loss, l.packets, l.octets, l.changes, l.frames = 0.01, 0, 0, 0, 0
	const calm = 30 * time.Second
	l.run(calm, func(step int) {
		if step%4 == 0 { // twenty a second stand still for 200 ms: each once in 10 s
			for range 2 {
				l.nodes[l.random.IntN(n)].held = l.now.Add(200 * ms)
			}
		}
	})
	t.Logf("with 1 %% loss and standstills of 200 ms: a node sends %d packets and %d bytes a second, and sees %d changes in all",
		l.packets/n/int(calm/time.Second), l.octets/n/int(calm/time.Second), l.changes)
	if len(l.wrong) > 0 {
		t.Fatalf("%d times a living node was taken for dead, first by %s", len(l.wrong), l.wrong[0])
	}
	l.until(10*time.Second, "all alive", l.alive)
	l.loss, l.frames = 0, 0
	l.run(calm, nil)
	t.Logf("in calm the LAN carries %d frames a second of questions and answers", l.frames/int(calm/time.Second))
	if most := 100 * int(calm/time.Second); l.frames > most {
		t.Errorf("%d frames in %v of calm, more than %d", l.frames, calm, most)
	}

	last := l.nodes[n-1]
	last.dead, l.died, l.frames = true, l.now, 0
	l.run(time.Second, nil)
	t.Logf("in the second after a death it carries %d", l.frames)
	if l.frames > 1500 { // of 2,000, as those that take over ask for a quorum too
		t.Errorf("%d frames in the second after a death", l.frames)
	}
	l.until(10*time.Second, "dead everywhere", func() bool {
		if since := l.now.Sub(l.died); since > 3*time.Second && since <= 3*time.Second+25*ms {
			l.gossip()
		}
		return len(l.deaths) >= n-1
	})
	slices.Sort(l.deaths)
	t.Logf("a dead node was dead for the others after %v (median), %v (last)", l.deaths[len(l.deaths)/2], l.deaths[len(l.deaths)-1])
	for _, s := range l.nodes[:n/4] {
		s.side = 1
	}
	l.run(3*time.Second, nil)
	l.gossip() // finds those whose three watchers are all on their side
	l.run(5*time.Second, nil)
	for _, s := range l.nodes[:n-1] {
		for m, p := range s.peers {
			if !l.byName[m].dead && (p.health == Dead) == (l.byName[m].side == s.side) {
				t.Fatalf("while the network is cut, %s says that %s is %v", s.self, m, p.health)
			}
		}
	}
	for _, s := range l.nodes {
		s.side = 0
	}
	t.Logf("healed: all alive for all after %v", l.until(5*time.Second, "all alive again", l.alive))
	if len(l.wrong) > 0 {
		t.Errorf("%d times a living node was taken for dead, first by %s", len(l.wrong), l.wrong[0])
	}
}
