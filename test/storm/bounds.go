package storm

import (
	"slices"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// Bounds that do not depend on what is going on.
const (
	// noise is what the witness cannot tell from nothing: a question or answer that a busy machine kept for some ticks.
	noise = 400 * time.Millisecond
	// twoLimit is how long two nodes may answer after any fault began or ended: owners who hear each other settle it
	// within a second of the first frame, and a planned move makes before it breaks.
	twoLimit = time.Second
	// yieldAlone and yieldBehind are how long they may where neither hears what the other claims: if one of them hears no
	// speaker at all, and otherwise. Rule 11 of ADR 25 says 2 and 8 s, after each has noticed.
	yieldAlone, yieldBehind = 4 * time.Second, 10 * time.Second
	// conditionLimit is how long a condition may be untrue while a speaker that knows better can write it.
	conditionLimit = 5 * time.Second
	// conditionWithoutAPI: nobody who knows can write it. A Speaker is called Unknown after 90 s, then the controller
	// does.
	conditionWithoutAPI = 95 * time.Second
	// settleTime after the last fault is left to service proxies and clients before a failed connection or a move counts.
	settleTime = 10 * time.Second
	// connectionLimit is how long a target may be without a successful connection in calm: one lost attempt and the next.
	connectionLimit = 3 * time.Second
)

// bound is for how long nobody may answer because a fault begins or ends: when nothing else goes on, and beside others,
// when the first successor may be unfit as well, or quorum missing for 3 s.
type bound struct {
	begin, end       time.Duration
	besideOthers     time.Duration // for either
	otherNetworkOnly time.Duration // begin, if the fault spares the network of gossip; 0: as begin
}

// bounds is the table. Kinds that stand here with zeros excuse nothing.
func bounds() map[Kind]bound {
	const s = time.Second
	return map[Kind]bound{
		// The death of a node is noticed and its addresses are taken within a second. An interface without gossip is
		// asked each second, three times.
		CableCut:     {begin: s, besideOthers: 4 * s, otherNetworkOnly: 3 * s},
		SendsNothing: {begin: s, besideOthers: 4 * s, otherNetworkOnly: 3 * s},
		PowerLost:    {begin: s, besideOthers: 4 * s},
		// Who wakes first asks who answers meanwhile.
		NodeFrozen: {begin: s, end: s, besideOthers: 4 * s},
		// Its heartbeats are heard, so only the LAN's questions tell: each second, three times.
		ReceivesNothing: {begin: 3 * s, besideOthers: 4 * s},
		// As a death for either side, without quorum 3 s more; at the end one side yields.
		Split: {begin: s, end: s, besideOthers: 4 * s},
		// Others hear both: nothing is to be moved.
		PairParted: {end: s, besideOthers: s},
		// The LAN says that the nodes live: nothing is to be moved. A refusal says nothing of the other speaker.
		GossipSplit:    {besideOthers: s},
		GossipDropped:  {besideOthers: s},
		GossipRejected: {besideOthers: s},
		// A deputy answers once the silence is noticed, until the speaker is back; after the grace period another node.
		SpeakerFrozen:    {begin: s, end: s, besideOthers: 2 * s},
		SpeakerRestarted: {begin: s, end: s, besideOthers: 2 * s},
		SpeakerKilled:    {begin: s, end: s, besideOthers: 2 * s},
		SpeakerStopped:   {begin: s, end: s, besideOthers: 2 * s},
		// Its answers are late; a deputy may step in and out.
		SpeakerSlow: {begin: s, end: s, besideOthers: 2 * s},
		// Others may ask the old address once.
		Renumbered: {begin: s, end: s, besideOthers: 2 * s},
		// The interface may no longer fit: a planned move.
		WrongMask: {begin: s, end: s, besideOthers: 3 * s},
		// What is announced stays.
		APILost:      {},
		APILostByAll: {},
		APIStopped:   {},
	}
}

// excuse is what one transition of a fault excuses.
func (f Fault) excuse(ends, alone bool) time.Duration {
	b := bounds()[f.Kind]
	switch {
	case !alone:
		return max(b.begin, b.end, b.besideOthers)
	case ends:
		return b.end
	case b.otherNetworkOnly > 0 && !slices.Contains(f.LANs, lab.FirstLAN):
		return b.otherNetworkOnly
	}
	return b.begin
}

// mute says whether the node cannot answer the witness of a network while the fault lasts. The witness, the control
// plane and n1 are on the same side of every split.
func (f Fault) mute(node string, lan lab.LAN) bool {
	switch f.Kind {
	case CableCut, SendsNothing, ReceivesNothing, Split:
		return f.concerns(node) && f.on(lan)
	case NodeFrozen, PowerLost:
		return f.concerns(node)
	}
	return false
}

// awaySpeaker says whether the node's speaker does not run while the fault lasts.
func (f Fault) awaySpeaker(node string) bool {
	away := []Kind{SpeakerFrozen, SpeakerStopped, SpeakerKilled, SpeakerRestarted}
	return slices.Contains(away, f.Kind) && f.concerns(node)
}

// unheard says whether others may not hear the node's gossip though its kernel answers.
func (f Fault) unheard(node string) bool {
	switch f.Kind {
	case GossipDropped, GossipRejected, GossipSplit:
		return f.concerns(node)
	case Split, CableCut, SendsNothing, ReceivesNothing:
		return f.concerns(node) && f.on(lab.FirstLAN)
	}
	return false
}

// blocks says whether gossip does not get through between two nodes, though frames do on some network, and whether one
// of them then hears no speaker at all.
func (f Fault) blocks(a, b string) (blocked, alone bool) {
	switch f.Kind {
	case GossipDropped, GossipRejected:
		return f.concerns(a) || f.concerns(b), true
	case CableCut, SendsNothing, ReceivesNothing:
		return f.on(lab.FirstLAN) && (f.concerns(a) || f.concerns(b)), true
	case GossipSplit, Split:
		return f.on(lab.FirstLAN) && f.concerns(a) != f.concerns(b), len(f.Nodes) == 1
	}
	return false, false
}

// withoutAPI says whether the node's speaker cannot write.
func (f Fault) withoutAPI(node string) bool {
	switch f.Kind {
	case APILost, APILostByAll, APIStopped, NodeFrozen, PowerLost:
		return f.concerns(node)
	case Split, CableCut, SendsNothing, ReceivesNothing:
		return f.concerns(node) && f.on(lab.FirstLAN)
	}
	return false
}

// parts says whether two nodes cannot hear each other though a witness of the network hears both.
func (f Fault) parts(a, b string) bool {
	return f.Kind == PairParted && f.concerns(a) && f.concerns(b)
}
