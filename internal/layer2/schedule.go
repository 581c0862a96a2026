package layer2

import "time"

// DefaultRefreshInterval is how often an address is announced again without other settings.
const DefaultRefreshInterval = 60 * time.Second

// Detection is how thoroughly the network is asked whether another host has an address before
// that is answered for the first time, and whether it is asked again while it is answered. The
// values are those of Settings.
type Detection string

const (
	// Fast sends three probes within 300 ms. It is what an Announcer begins with.
	Fast Detection = "Fast"
	// Full keeps the timing of RFC 5227 section 2.1.1, 4 to 7 s, for IPv6 too.
	Full Detection = "Full"
	// Off asks nobody.
	Off Detection = "Off"
)

const (
	// frameRate bounds the probes, announcements and checks a second that this node sends on all
	// interfaces together: 10,000 IPv4 addresses are first announced within 1.3 s, at 4 Mbit/s.
	frameRate = 8000
	// frameBurst is how many may follow each other without a pause.
	frameBurst = 200
	// ratePause is how long to wait once the rate is reached.
	ratePause = 10 * time.Millisecond

	// freshPause is how long to wait before it is asked again whether the node is in touch with its
	// fellows (Config.Fresh).
	freshPause = 50 * time.Millisecond

	// probes is how many probes find an address free (RFC 5227 section 1.1: PROBE_NUM).
	probes = 3
	// fastPause is the pause after each probe of Fast.
	fastPause = 100 * time.Millisecond
	// probeWait bounds the random wait of Full before its first probe (RFC 5227 section 1.1:
	// PROBE_WAIT).
	probeWait = time.Second
	// probePause is the least pause of Full between probes, and probePauseSpread how much
	// longer it may be at random (RFC 5227 section 1.1: PROBE_MIN, and PROBE_MAX less that).
	probePause, probePauseSpread = time.Second, time.Second
	// announceWait is the wait of Full after its last probe (RFC 5227 section 1.1:
	// ANNOUNCE_WAIT).
	announceWait = 2 * time.Second
	// probeAgain is the wait before an address that another host has is probed anew, and as
	// much as probeAgainSpread more, at random: two nodes that probe at the same time would
	// otherwise keep each other out for ever.
	probeAgain, probeAgainSpread = 10 * time.Second, time.Second

	// askLeast is the least wait before a fellow node that has the address is asked again: it may
	// have been the owner until now, and not have heard yet that it is not. askEach is how much
	// longer the wait is for each address of which that is so, up to probeAgain: a node that lets
	// its kernel answer for all of them is asked 100 times a second.
	askLeast, askEach = 200 * time.Millisecond, 10 * time.Millisecond
	// obstructionPatience is how long a fellow node must have kept an address from being answered for
	// that to be a conflict: until then it may be the owner of before.
	obstructionPatience = 2 * time.Second

	// defendInterval is the least time between two defenses of an address (RFC 5227 section
	// 1.1: DEFEND_INTERVAL).
	defendInterval = 10 * time.Second
	// claimWait is the wait before a defense against a fellow node. One that takes an address over
	// in good order tells its claim and announces at the same moment: what this node knows may be
	// older by that much.
	claimWait = 50 * time.Millisecond
	// duelPause is the least time between the first two defenses against a fellow node. It doubles
	// with each, up to defendInterval, so that two that both believe that they own make no storm.
	duelPause = 200 * time.Millisecond
	// duelOver is the time after a defense from which on the next one is the first of a row.
	duelOver = 2 * defendInterval
	// checkWait is the wait after a defense against a fellow node before it is asked whether it
	// still uses the address; if no answer has come after another answerWait, it does not.
	checkWait, answerWait = time.Second, 2 * time.Second
	// followLeast is the least wait before a fellow node that is not heard, and uses an address too, is
	// asked again whether it does, and followEach how much longer the wait is for each address that
	// others use. Once it has not answered followLost times, nor for another answerWait, it does not.
	followLeast, followEach = time.Second, 50 * time.Millisecond
	followLost              = 2
	// apartLeast is the least time between two checks of one address by an owner that does not hear all
	// speakers (SetApart), apartEach that between checks of any, and apartSoon when that begins. It is
	// longer by as much for each apartCrowd nodes that are not heard: they may all ask like this one.
	apartLeast           = time.Second
	apartEach, apartSoon = 50 * time.Millisecond, 10 * time.Millisecond
	apartCrowd           = 10
	// lookPause is the least time between two looks at what was seen of other hosts.
	lookPause = 20 * time.Millisecond
	// quiet is how long, at least, nothing must be seen of a conflict for it to be over.
	quiet = 60 * time.Second

	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// takeover returns the pauses between the announcements of a takeover. RFC 5227 section 2.3
// asks for two announcements; further ones reach hosts that missed those, for instance
// behind a switch port that has just come up.
func takeover() []time.Duration {
	return []time.Duration{
		100 * time.Millisecond, // 0.1 s after the first
		400 * time.Millisecond, // 0.5 s
		500 * time.Millisecond, // 1 s
		time.Second,            // 2 s
		2 * time.Second,        // 4 s
	}
}

// following returns the wait after announcement number step of an address, counted from 0,
// and whether there is another one at all. random is in [0, 1) and keeps the refreshes of
// many addresses apart: they lie within a tenth of the interval.
func following(step int, refresh time.Duration, random float64) (time.Duration, bool) {
	if pauses := takeover(); step < len(pauses) {
		return pauses[step], true
	}
	if refresh <= 0 {
		return 0, false
	}
	return time.Duration(float64(refresh) * (0.9 + 0.2*random)), true
}

// refreshing says whether announcement number step of an address is a refresh.
func refreshing(step int) bool { return step > len(takeover()) }

// checking says whether announcement number step of an address is followed by a check. Another
// host may begin to answer for the address when this node does, or later: kube-proxy in IPVS mode
// puts it on an interface of every node when the Service gets it, and without strictARP the
// kernels then answer ARP for it.
func checking(step int) bool { return step >= len(takeover()) }

// listening returns the wait after sent probes, before the next one or, after the last, before
// the address is found free. random is in [0, 1).
func (d Detection) listening(sent int, random float64) time.Duration {
	switch {
	case d == Full && sent == 0:
		return portion(probeWait, random)
	case d == Full && sent < probes:
		return probePause + portion(probePauseSpread, random)
	case d == Full:
		return announceWait
	case sent == 0:
		return 0
	}
	return fastPause
}

// askPause returns the wait before a fellow node that has the address is asked again, if there are
// this many such addresses.
func askPause(obstructed int) time.Duration {
	return min(max(askLeast, time.Duration(obstructed)*askEach), probeAgain)
}

// followPause returns the wait before a fellow node that is not heard is asked again whether it uses
// an address, if others use this many.
func followPause(contested int) time.Duration {
	return followLeast + time.Duration(contested)*followEach
}

// portion returns a part of d; random is in [0, 1).
func portion(d time.Duration, random float64) time.Duration {
	return time.Duration(random * float64(d))
}

// backoff returns the wait before an interface is tried again after this many failures: it
// doubles up to lastRetry, less a random half.
func backoff(failures int, random float64) time.Duration {
	d := min(firstRetry<<min(failures, 10), lastRetry)
	return d - portion(d/2, random)
}
