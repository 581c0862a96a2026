package membership

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const ms = time.Millisecond

// What the LAN says of a node.
var (
	up      = Answer{Asked: true, Neighbor: true, Others: true}
	serving = Answer{Asked: true, Neighbor: true, Speaker: true, Others: true}
	down    = Answer{Asked: true, Others: true}
	nobody  = Answer{Asked: true}
	// elsewhere is the answer for a node that shares no network with this one.
	elsewhere = Answer{Others: true}
)

// scene plays a watch of node "me" with one other node, "it", step by step.
type scene struct {
	*watch
	now       time.Time
	boot, seq uint64
	warnings  int
	last      todo
}

func newScene() *scene {
	s := &scene{watch: newWatch("me"), now: time.Unix(1_000_000, 0), boot: 11}
	s.warn = func(string, name.NodeName) { s.warnings++ }
	s.setPeers([]name.NodeName{"me", "it"}, s.now)
	return s
}

func (s *scene) it() *peer { return s.peers["it"] }

// do takes what follows as Run does: a ping gets a nonce.
func (s *scene) do(d todo) {
	s.last = d
	if slices.Contains(d.ping, "it") && s.it() != nil {
		s.it().challenge(77, s.now)
	}
}

// packet is the next one of the node.
func (s *scene) packet(k kind, f flags) packet {
	s.seq++
	return packet{kind: k, flags: f, boot: s.boot, seq: s.seq, from: "it"}
}

func (s *scene) heard(k kind, f flags) {
	p := s.packet(k, f)
	if k == pong {
		p.nonce = s.it().nonce
	}
	s.do(s.hear(p, s.now))
}

// pass lets time pass in looks.
func (s *scene) pass(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(25 * ms)
		s.do(s.look(s.now))
	}
}

// meet makes the node alive, watched, and answered for by the LAN.
func (s *scene) meet() {
	s.do(s.gossip("it", true, false, s.now))
	s.heard(pong, joined|watched)
	s.pass(25 * ms)
	s.answered("it", up, s.now)
	s.heard(heartbeat, joined|watched)
}

// askedAgain lets time pass until the LAN is asked again.
func (s *scene) askedAgain() bool {
	for range 100 {
		s.pass(25 * ms)
		if slices.Contains(s.last.ask, "it") {
			s.pass(150 * ms)
			return true
		}
	}
	return false
}

// again has the LAN asked again, which says something.
func (s *scene) again(a Answer) {
	if s.askedAgain() {
		s.answered("it", a, s.now)
	}
}

func TestTheHealthOfANodeFollowsFromWhatIsHeard(t *testing.T) {
	t.Parallel()
	alive := joined | watched
	missed := func(s *scene) { s.pass(275 * ms) }
	tests := []struct {
		name   string
		happen func(*scene)
		want   Health
	}{
		{"a node that was met is alive", func(*scene) {}, Alive},
		{"one that was never met is silent, however long", func(s *scene) {
			*s = *newScene()
			s.pass(time.Minute)
			s.answered("it", down, s.now)
		}, Silent},
		{"one that the gossip finds is not alive before it says that it joined", func(s *scene) {
			*s = *newScene()
			s.do(s.gossip("it", true, false, s.now))
		}, Silent},
		{"one that is heard and has not joined is not dead though its LAN cannot be asked", func(s *scene) {
			*s = *newScene()
			s.do(s.gossip("it", true, false, s.now))
			s.heard(pong, 0)
			s.pass(25 * ms)
			s.answered("it", elsewhere, s.now)
		}, Silent},
		{"one that has not joined, is heard no more, and whose LAN cannot be asked", func(s *scene) {
			s.heard(heartbeat, 0)
			s.pass(3 * time.Second)
			s.answered("it", elsewhere, s.now)
		}, Silent},
		{"one heartbeat that is lost changes nothing", func(s *scene) { s.pass(200 * ms) }, Alive},
		{"a farewell before a restart makes it silent at once", func(s *scene) { s.heard(farewell, alive) }, Silent},
		{"one that leaves is dead at once", func(s *scene) { s.heard(farewell, left) }, Dead},
		{"the gossip says that it left", func(s *scene) { s.gossip("it", false, true, s.now) }, Dead},
		{"the gossip alone does not make it dead", func(s *scene) { s.gossip("it", false, false, s.now); s.pass(time.Second) }, Alive},
		{"missing heartbeats alone do not make it dead", func(s *scene) { s.pass(5 * time.Second) }, Alive},
		{"the LAN does not answer", func(s *scene) { missed(s); s.pass(150 * ms); s.answered("it", down, s.now) }, Dead},
		{"the LAN cannot be asked", func(s *scene) { missed(s); s.answered("it", elsewhere, s.now); s.pass(150 * ms) }, Silent},
		{"the LAN cannot be asked, and nobody is heard at all", func(s *scene) { missed(s); s.answered("it", Answer{}, s.now); s.pass(150 * ms) }, Alive},
		{"the LAN does not answer, nor ever did", func(s *scene) { s.it().reached = false; missed(s); s.answered("it", down, s.now) }, Silent},
		{"the LAN answers", func(s *scene) { missed(s); s.answered("it", up, s.now); s.pass(150 * ms) }, Silent},
		{"the LAN answers, and its pong may still come", func(s *scene) { missed(s); s.answered("it", up, s.now); s.pass(50 * ms) }, Alive},
		{"the LAN answers, and then its pong comes", func(s *scene) {
			missed(s)
			s.answered("it", up, s.now)
			s.heard(pong, alive)
			s.pass(150 * ms)
		}, Alive},
		{"its speaker answers on the LAN", func(s *scene) { missed(s); s.answered("it", serving, s.now); s.pass(150 * ms) }, Unheard},
		{"a heartbeat comes while the LAN is asked", func(s *scene) {
			missed(s)
			s.pass(25 * ms)
			s.heard(heartbeat, alive)
			s.answered("it", down, s.now)
		}, Alive},
		{"nobody is heard", func(s *scene) { missed(s); s.pass(150 * ms); s.answered("it", nobody, s.now) }, Alive},
		{"a node that says that it is deaf counts as dead", func(s *scene) { s.heard(heartbeat, alive|deaf) }, Dead},
		{"a node that hears again is alive", func(s *scene) { s.heard(heartbeat, alive|deaf); s.heard(heartbeat, alive) }, Alive},
		{"a node that has not joined is silent", func(s *scene) { s.heard(heartbeat, watched) }, Silent},
		{"a dead node that is heard again is alive", func(s *scene) {
			missed(s)
			s.answered("it", down, s.now)
			s.heard(pong, alive)
		}, Alive},
		{"a dead node that the LAN answers for again is silent", func(s *scene) { missed(s); s.answered("it", down, s.now); s.again(up) }, Silent},
		{"a dead node whose speaker answers again is unheard", func(s *scene) { missed(s); s.answered("it", down, s.now); s.again(serving) }, Unheard},
		{"a dead node that the LAN does not answer for stays dead", func(s *scene) { missed(s); s.answered("it", down, s.now); s.again(down) }, Dead},
		{"a dead node that others hear is unheard", func(s *scene) {
			missed(s)
			s.answered("it", down, s.now)
			s.askedAgain()
			s.it().vetoed = true
			s.answered("it", down, s.now)
		}, Unheard},
		{"its speaker answers on the LAN, and then once it does not", func(s *scene) {
			missed(s)
			s.answered("it", serving, s.now)
			s.pass(150 * ms)
			s.again(up)
		}, Unheard},
		{"its speaker answers on the LAN, and then no more", func(s *scene) {
			missed(s)
			s.answered("it", serving, s.now)
			s.pass(150 * ms)
			for range 3 {
				s.again(up)
			}
		}, Silent},
		{"one that has left stays dead though its node answers", func(s *scene) { s.heard(farewell, left); s.pass(time.Minute); s.answered("it", up, s.now) }, Dead},
		{"one that says that it is deaf stays dead though its node answers", func(s *scene) {
			s.heard(heartbeat, alive|deaf)
			s.pass(time.Minute)
			s.answered("it", serving, s.now)
		}, Dead},
		{"a silent node dies when the LAN falls silent", func(s *scene) {
			s.heard(farewell, alive)
			s.pass(2100 * ms)
			s.answered("it", down, s.now)
		}, Dead},
		{"one that nobody watches is not missed", func(s *scene) { s.heard(heartbeat, joined); s.pass(time.Minute) }, Alive},
		{"another misses it, and so does the LAN", func(s *scene) {
			s.heard(heartbeat, joined)
			s.pass(200 * ms)
			s.do(s.hear(packet{kind: suspect, boot: 5, seq: 1, from: "third", about: "it"}, s.now))
			s.peers["third"].challenge(3, s.now)
			s.do(s.hear(packet{kind: pong, boot: 5, seq: 2, nonce: 3, flags: joined, from: "third"}, s.now))
			s.do(s.hear(packet{kind: suspect, boot: 5, seq: 3, flags: joined, from: "third", about: "it"}, s.now))
			s.pass(150 * ms)
			s.answered("it", down, s.now)
		}, Dead},
		{"another process of it is not believed unasked", func(s *scene) { s.boot, s.seq = 12, 0; s.heard(farewell, left) }, Alive},
		{"another process of it is not believed with a wrong nonce", func(s *scene) {
			s.boot, s.seq = 12, 0
			s.heard(heartbeat, 0)
			p := s.packet(pong, 0)
			p.nonce = 78
			s.do(s.hear(p, s.now))
		}, Alive},
		{"another process of it is believed with the right nonce", func(s *scene) {
			s.pass(75 * ms)
			s.boot, s.seq = 12, 0
			s.heard(heartbeat, 0)
			s.heard(pong, 0)
		}, Silent},
		{"a pong that nobody asked for is not believed", func(s *scene) {
			s.boot, s.seq, s.it().nonce = 12, 0, 0
			s.heard(pong, 0)
		}, Alive},
		{"a pong that comes too late is not believed", func(s *scene) {
			s.pass(75 * ms)
			s.boot, s.seq = 12, 0
			s.heard(heartbeat, 0)
			s.now = s.now.Add(2*challenge + ms)
			s.heard(pong, 0)
		}, Alive},
		{"the gossip reaches a silent node whose heartbeats do not come", func(s *scene) {
			missed(s)
			s.answered("it", up, s.now)
			s.pass(gossipAfter)
			s.verified("it", true, s.now)
		}, Alive},
		{"the gossip does not make one alive that is heard and has not joined", func(s *scene) {
			s.become(s.it(), Silent, s.now)
			s.it().heard = s.now
			s.verified("it", true, s.now)
		}, Silent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.meet()
			tt.happen(s)
			if got := s.it().health; got != tt.want {
				t.Errorf("it is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReplayedPacketsChangeNothing(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.meet()
	bye := s.packet(farewell, left)
	s.seq = bye.seq + 1
	s.heard(heartbeat, joined|watched)
	before := *s.it()
	s.now = s.now.Add(time.Second)
	for _, p := range []packet{bye, {kind: pong, boot: 11, seq: 1, nonce: 77, from: "it"}} {
		if s.do(s.hear(p, s.now)); len(s.last.ping)+len(s.last.join) > 0 || !reflect.DeepEqual(*s.it(), before) {
			t.Errorf("%v changed it to %+v, was %+v", p, *s.it(), before)
		}
	}
}

func TestADeadNodeIsAskedForAgainMoreAndMoreRarely(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{2, 200} {
		s := newScene()
		var names []name.NodeName
		for i := range nodes - 2 {
			names = append(names, name.NodeName(fmt.Sprint("n", i)))
		}
		s.meet()
		s.setPeers(append(names, "it"), s.now)
		s.pass(275 * ms)
		s.answered("it", down, s.now)
		asked := map[time.Duration]int{}
		began := s.now
		for s.now.Sub(began) < 10*time.Minute {
			s.pass(25 * ms)
			if slices.Contains(s.last.ask, "it") {
				s.answered("it", down, s.now)
				asked[s.now.Sub(began).Truncate(time.Minute)]++
			}
		}
		if first, last := asked[0], asked[8*time.Minute]; first < 4 || first > 24 || last != 1 {
			t.Errorf("%d nodes: asked %d times in the first minute, %d times in the ninth", nodes, first, last)
		}
	}
}

func TestADeadNodeIsFoundInTime(t *testing.T) {
	t.Parallel()
	for offset := time.Duration(0); offset < 25*ms; offset += ms {
		s := newScene()
		s.meet()
		s.now = s.now.Add(offset)
		s.heard(heartbeat, joined|watched)
		last := s.now
		s.now = s.now.Add(-offset)
		var asked time.Time
		for s.it().health != Dead && s.now.Sub(last) < time.Second {
			s.pass(25 * ms)
			if slices.Contains(s.last.ask, "it") {
				asked = s.now
			}
			if !asked.IsZero() && s.now.Sub(asked) >= 150*ms { // three probes, 50 ms apart
				s.answered("it", down, s.now)
			}
		}
		if took := s.now.Sub(last); took < 300*ms || took > 450*ms {
			t.Errorf("it is dead %v after its last heartbeat", took)
		}
	}
}

func TestAProcessThatStoodStillDeclaresNobodyDead(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.meet()
	s.now = s.now.Add(10 * time.Second)
	if s.do(s.look(s.now)); len(s.last.ask)+len(s.last.suspect) > 0 {
		t.Errorf("after 10 s asleep it asks at once: %+v", s.last)
	}
	s.pass(275 * ms) // now nothing comes; the LAN is asked
	if !s.it().asking {
		t.Fatal("the LAN is not asked")
	}
	s.now = s.now.Add(200 * ms) // it stands still, and may have missed the answer
	s.do(s.look(s.now))
	s.answered("it", down, s.now)
	if s.it().health != Alive {
		t.Fatalf("it is %v", s.it().health)
	}
	s.pass(25 * ms)
	if !s.it().asking {
		t.Fatal("the LAN is not asked again")
	}
	s.now = s.now.Add(200 * ms) // the answer comes before the look
	s.answered("it", down, s.now)
	if s.it().health != Alive {
		t.Fatalf("it is %v", s.it().health)
	}
	s.pass(50 * ms)
	s.answered("it", down, s.now)
	if s.it().health != Dead {
		t.Errorf("it is %v, and was missed while this process ran", s.it().health)
	}
}

func TestAStandstillDoesNotMoveWhatWasHeardIntoTheFuture(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.meet()
	s.now = s.now.Add(10 * time.Second)
	s.heard(heartbeat, joined|watched)
	s.do(s.look(s.now))
	if s.it().heard.After(s.now) {
		t.Errorf("heard in %v", s.it().heard.Sub(s.now))
	}
}

func TestSlowHeartbeatsAreMissedToo(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.interval, s.missed = 10*time.Second, 2
	s.meet()
	for range 40 {
		s.now = s.now.Add(s.interval / looks)
		s.do(s.look(s.now))
	}
	s.answered("it", down, s.now)
	if s.it().health != Dead {
		t.Errorf("it is %v after ten intervals", s.it().health)
	}
}

func TestANodeThatHearsNobodyIsDeafUntilItHearsSomebody(t *testing.T) {
	t.Parallel()
	for what, hear := range map[string]func(*scene){
		"a packet":        func(s *scene) { s.heard(heartbeat, joined|watched) },
		"the node":        func(s *scene) { s.answered("it", up, s.now) },
		"somebody else":   func(s *scene) { s.answered("it", down, s.now) },
		"its own speaker": func(s *scene) { s.answered("it", serving, s.now) },
	} {
		s := newScene()
		s.meet()
		s.pass(425 * ms)
		s.answered("it", nobody, s.now)
		if !s.deaf || s.warnings != 1 || s.it().health != Alive {
			t.Fatalf("deaf %v, %d warnings, %v", s.deaf, s.warnings, s.it().health)
		}
		s.pass(200 * ms)
		if hear(s); s.deaf {
			t.Errorf("it is deaf though it heard %s", what)
		}
	}
}

func TestEachThatMissesHeartbeatsTellsTheOthersOnce(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.meet()
	s.pass(125 * ms)
	var do todo
	if s.suspected("it", s.now, &do); len(do.ask) != 1 || len(do.suspect) > 0 {
		t.Errorf("told of it by another: %+v", do)
	}
	told := 0
	for range 20 {
		s.pass(25 * ms)
		told += len(s.last.suspect)
	}
	if told != 1 {
		t.Errorf("the others are told %d times", told)
	}
}

func TestWhoReturnsIsJoinedAndWhoStartsIsNot(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.meet()
	if s.heard(heartbeat, joined|watched); len(s.last.join) > 0 {
		t.Error("a heartbeat has it joined")
	}
	s.pass(425 * ms)
	s.answered("it", down, s.now)
	if s.heard(heartbeat, joined|watched); len(s.last.join) != 1 {
		t.Error("one that was dead is not joined")
	}
	for range 20 { // it starts anew, and joins the others itself
		if s.heard(heartbeat, 0); len(s.last.join) > 0 {
			t.Fatal("one that has not joined yet is joined for each of its heartbeats")
		}
	}
	if s.heard(heartbeat, joined); len(s.last.join) > 0 {
		t.Error("one that has just joined is joined again")
	}
}

func TestEachNodeIsWatchedByThreeThatAreMembers(t *testing.T) {
	t.Parallel()
	s := newScene()
	if got := s.watchers(); len(got) > 0 {
		t.Errorf("nobody is a member, and %v watch", got)
	}
	var all []name.NodeName
	for i := range 10 {
		n := name.NodeName(rune('a' + i))
		all = append(all, n)
		s.gossip(n, true, false, s.now)
	}
	first := slices.Clone(s.watchers())
	if len(first) != watchers || !slices.Equal(first, s.watchers()) {
		t.Fatalf("%v watch", first)
	}
	s.gossip(first[0], false, false, s.now)
	second := s.watchers()
	if len(second) != watchers || !slices.Contains(second, first[1]) || !slices.Contains(second, first[2]) || slices.Contains(second, first[0]) {
		t.Errorf("%v watch, before %v, of %v", second, first, all)
	}
}
