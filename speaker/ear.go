package main

import (
	"time"

	"github.com/ballast-lb/ballast/internal/lan"
)

const (
	// askLeast is the shortest time between two questions in calm, askTogether how many questions all
	// nodes of a network together ask in a second.
	askLeast, askTogether = time.Second, 25
	// narrowRounds is after how many rounds without an answer several hosts are asked at once.
	narrowRounds = 3
	// quietTime is for how long nothing at all must be heard: longer than the second after which a host
	// asks again whose question had no answer (RFC 1122 section 2.3.2.1), so that one that asks is heard.
	quietTime = 1200 * time.Millisecond
	// muteTime is for how long nobody must answer where other hosts are heard, muteLeast how many of
	// those who should must have been asked.
	muteTime, muteLeast = 3 * time.Second, 2
	// doubtTime is for how long several are asked at once when others are heard, doubtEvery how often.
	doubtTime, doubtEvery = 4 * time.Second, time.Second
	// deafEvery is how often a deaf interface that hears nothing asks: with a round's time that is nearly
	// always, so that a foreign host's question is heard too.
	deafEvery = 50 * time.Millisecond
	// goodRounds is how many good rounds in a row end deafness.
	goodRounds = 2
	// relapse is how soon after its end deafness counts as the same again; each time it has to be good
	// for longer, from firstPause to lastPause.
	relapse, firstPause, lastPause = time.Minute, time.Second, time.Minute
)

// round is what one round of questions on an interface has found.
type round struct {
	began, ended time.Time
	// answered says that one of those who were asked did. Heard says that a frame of any host came in.
	answered, heard bool
	// missed says that one did not answer who has before.
	missed bool
	// silent are those that did not answer though they have before and, to the knowledge of the
	// gossip, which takes another interface, live and are on the network. A gateway is a host without
	// an address.
	silent []lan.Neighbor
	// excused are those of whose interface it is now known that it is down or deaf.
	excused []lan.Neighbor
}

// ear finds out from rounds whether an interface is deaf: its link is up, but nothing gets through,
// in one direction or in both. It is pure, and its zero value knows nothing.
//
//   - It is deaf once nobody has answered for quietTime, among them one that has before, and nothing
//     else was heard either. Who hears a foreign host is not deaf by this rule: clients on its side of
//     a cut reach it.
//   - It is deaf too once nobody has answered for muteTime though others are heard, if at least muteLeast
//     hosts were asked that have answered before, one of them a node, that should: what it sends gets lost.
//     A gateway or another node that answers shows that it does not.
//   - It is so no more after goodRounds in which somebody answered or, unless it is deaf by the second
//     rule as well, was heard.
type ear struct {
	deaf bool
	// began is when the silence began that goes on, quiet since when nothing was heard either; zero:
	// there is none. Rounds counts those in it, quietRounds the last ones without anything heard.
	began, quiet        time.Time
	rounds, quietRounds int
	silent              map[lan.Neighbor]bool
	// good counts the last good rounds while deaf, goodSince is when the first began.
	good      int
	goodSince time.Time
	// over is when deafness last ended, pause for how long the interface then has to be good.
	over  time.Time
	pause time.Duration
}

// hear takes what a round has found, and returns whether the interface is deaf now, or no more.
func (e *ear) hear(r round) (changed bool) {
	switch {
	case r.answered:
		e.began, e.quiet, e.rounds, e.quietRounds, e.silent = time.Time{}, time.Time{}, 0, 0, nil
	case !e.began.IsZero() || r.missed:
		e.miss(r)
	}
	if e.deaf {
		return e.recover(r)
	}
	quiet := !e.quiet.IsZero() && e.quietRounds > narrowRounds && r.ended.Sub(e.quiet) >= quietTime
	mute := e.mute() && r.ended.Sub(e.began) >= muteTime
	if !quiet && !mute {
		return false
	}
	switch {
	case e.over.IsZero() || r.ended.Sub(e.over) >= relapse:
		e.pause = 0
	default:
		e.pause = min(max(2*e.pause, firstPause), lastPause)
	}
	e.deaf, e.good = true, 0
	return true
}

// miss notes a round in which nobody answered.
func (e *ear) miss(r round) {
	if e.began.IsZero() {
		e.began, e.silent = r.began, map[lan.Neighbor]bool{}
	}
	e.rounds++
	for _, host := range r.silent {
		e.silent[host] = true
	}
	for _, host := range r.excused {
		delete(e.silent, host)
	}
	switch {
	case r.heard:
		e.quiet, e.quietRounds = time.Time{}, 0
	case e.quiet.IsZero():
		e.quiet, e.quietRounds = r.began, 1
	default:
		e.quietRounds++
	}
}

// mute says whether enough have been silent that should have answered.
func (e *ear) mute() bool {
	gateways := 0
	for host := range e.silent {
		if !host.Address.IsValid() {
			gateways++
		}
	}
	return len(e.silent) >= muteLeast && len(e.silent) > gateways
}

// recover takes a round of a deaf interface.
func (e *ear) recover(r round) (over bool) {
	if !r.answered && (!r.heard || e.mute()) {
		e.good = 0
		return false
	}
	if e.good++; e.good == 1 {
		e.goodSince = r.began
	}
	if e.good < goodRounds || r.ended.Sub(e.goodSince) < e.pause {
		return false
	}
	*e = ear{over: r.ended, pause: e.pause}
	return true
}

// next returns how long to wait until the next round, and whether to ask several hosts in it; nodes is
// how many are on the network.
func (e *ear) next(nodes int) (wait time.Duration, wide bool) {
	calm := max(askLeast, time.Duration(nodes)*time.Second/askTogether)
	switch silence := !e.began.IsZero(); {
	case e.deaf && (e.good > 0 || e.mute()):
		return askLeast, false
	case e.deaf:
		return deafEvery, false
	case !silence:
		return calm, false
	case e.rounds < narrowRounds:
		return 0, false
	case e.quietRounds > 0:
		return 0, e.quietRounds >= narrowRounds
	case e.rounds < narrowRounds+int(doubtTime/doubtEvery):
		return doubtEvery, true
	}
	return calm, false
}
