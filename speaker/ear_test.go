package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
)

// peerAt is a node on the network of an interface.
func peerAt(n byte) lan.Neighbor {
	return lan.Neighbor{Address: netip.AddrFrom4([4]byte{10, 0, 0, n}), MAC: link.MAC{2, 0, 0, 0, 0, n}}
}

// played are rounds of 200 ms at the pace that an ear asks for.
type played struct {
	ear
	now time.Time
}

// play plays rounds for some time, and returns after how long the ear changed its mind; -1: it did not.
func (p *played) play(d time.Duration, r round) time.Duration {
	changed := time.Duration(-1)
	for begin := p.now; p.now.Sub(begin) < d; {
		wait, _ := p.next(3)
		r.began = p.now.Add(wait)
		r.ended = r.began.Add(200 * time.Millisecond)
		p.now = r.ended
		if p.hear(r) && changed < 0 {
			changed = p.now.Sub(begin)
		}
	}
	return changed
}

func TestAnInterfaceIsDeafWhenNothingGetsThrough(t *testing.T) {
	t.Parallel()
	quiet, heard := round{missed: true}, round{missed: true, heard: true}
	stranger := round{}
	mute := func(hosts ...lan.Neighbor) round { return round{missed: true, heard: true, silent: hosts} }
	excused := mute(peerAt(2), peerAt(3))
	excused.excused = []lan.Neighbor{peerAt(2)}
	for _, tt := range []struct {
		name  string
		round round
		deaf  bool
		after time.Duration // from the last answer on, at most
	}{
		{"silence of those who answered before, and of all others", quiet, true, 2500 * time.Millisecond},
		{"silence where nobody ever answered", stranger, false, 0},
		{"a foreign host that is heard shows that it is not", heard, false, 0},
		{"two living nodes that do not answer, though others are heard", mute(peerAt(2), peerAt(3)), true, 5 * time.Second},
		{"a living node and a gateway that do not", mute(peerAt(2), lan.Neighbor{}), true, 5 * time.Second},
		{"one living node that does not may be deaf itself", mute(peerAt(2)), false, 0},
		{"a gateway that does not may be away", mute(lan.Neighbor{}), false, 0},
		{"a node that says that it is deaf is no witness", excused, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &played{now: time.Unix(1e9, 0)}
			p.play(5*time.Second, round{answered: true})
			after := p.play(time.Minute, tt.round)
			if p.deaf != tt.deaf || tt.deaf && (after < 0 || after > tt.after) || !tt.deaf && after >= 0 {
				t.Errorf("deaf %v, after %v", p.deaf, after)
			}
		})
	}
}

func TestLossIsNotDeafness(t *testing.T) {
	t.Parallel()
	p := &played{now: time.Unix(1e9, 0)}
	p.play(time.Second, round{answered: true})
	for range 100 {
		if p.play(800*time.Millisecond, round{missed: true, silent: []lan.Neighbor{peerAt(2), peerAt(3)}}) >= 0 {
			t.Fatal("deaf though somebody answers again and again")
		}
		p.play(time.Millisecond, round{answered: true})
	}
}

func TestAFrameAtAnyTimeBeginsTheQuietAnew(t *testing.T) {
	t.Parallel()
	p := &played{now: time.Unix(1e9, 0)}
	p.play(time.Second, round{answered: true})
	for range 100 {
		if p.play(800*time.Millisecond, round{missed: true}) >= 0 {
			t.Fatal("deaf though a host asks each second")
		}
		p.play(time.Millisecond, round{missed: true, heard: true})
	}
}

func TestDeafnessEndsWhenSomebodyIsHeardAgain(t *testing.T) {
	t.Parallel()
	silent := []lan.Neighbor{peerAt(2), peerAt(3)}
	for _, tt := range []struct {
		name   string
		lost   round
		back   round
		ends   bool
		within time.Duration
	}{
		{"somebody answers", round{missed: true}, round{answered: true}, true, 3 * time.Second},
		{"a foreign host is heard", round{missed: true}, round{missed: true, heard: true}, true, 3 * time.Second},
		{"silence goes on", round{missed: true}, round{missed: true}, false, 0},
		{"what is sent is lost now, and others are heard", round{missed: true}, round{missed: true, heard: true, silent: silent}, false, 0},
		{"what is sent is lost still, and others are heard", round{missed: true, heard: true, silent: silent}, round{heard: true}, false, 0},
		{"what is sent arrives again", round{missed: true, heard: true, silent: silent}, round{answered: true, heard: true}, true, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &played{now: time.Unix(1e9, 0)}
			p.play(time.Second, round{answered: true})
			p.play(10*time.Second, tt.lost)
			if !p.deaf {
				t.Fatal("it is not deaf")
			}
			after := p.play(20*time.Second, tt.back)
			if p.deaf == tt.ends || tt.ends && after > tt.within {
				t.Errorf("deaf %v, after %v", p.deaf, after)
			}
		})
	}
}

func TestACableThatComesAndGoesIsTrustedLaterEachTime(t *testing.T) {
	t.Parallel()
	p := &played{now: time.Unix(1e9, 0)}
	p.play(time.Second, round{answered: true})
	for _, least := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		if p.play(5*time.Second, round{missed: true}) < 0 {
			t.Fatal("it is not deaf")
		}
		if after := p.play(70*time.Second-time.Millisecond, round{answered: true}); after < least || after > least+4*time.Second {
			t.Errorf("good after %v, want %v and little more", after, least)
		}
		p.over = p.now // the next loss comes soon
	}
	p.play(2*relapse, round{answered: true})
	p.play(5*time.Second, round{missed: true})
	if after := p.play(10*time.Second, round{answered: true}); after < 0 || after > 3*time.Second {
		t.Errorf("good after %v, though it was good for a long time before", after)
	}
}

func TestInCalmFewQuestionsAreAsked(t *testing.T) {
	t.Parallel()
	for nodes, want := range map[int]time.Duration{2: time.Second, 25: time.Second, 50: 2 * time.Second, 200: 8 * time.Second} {
		if got, wide := (&ear{}).next(nodes); got != want || wide {
			t.Errorf("%d nodes: every %v, of several %v; want %v", nodes, got, wide, want)
		}
	}
}
