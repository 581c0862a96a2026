package membership

import (
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// Health is how the speaker of a node is, as seen from here.
type Health uint8

// The states of health.
const (
	// Dead: neither the speaker nor the node gives a sign of life, or the speaker has left, or
	// says that it hears nobody.
	Dead Health = iota
	// Silent: the speaker gives no sign of life, or has not joined yet; the node answers on the LAN.
	Silent
	// Unheard: the speaker lives, since it answers on the LAN or others hear it, but what it sends to
	// this node does not get through.
	Unheard
	// Alive: the speaker lives and has joined.
	Alive
)

// String returns the name of the state.
func (h Health) String() string { return [...]string{"Dead", "Silent", "Unheard", "Alive"}[h] }

// Answer is what the LAN says of a node.
type Answer struct {
	// Asked says that the node was asked, on a network that both share. Otherwise its silence says
	// nothing: those who share a network with it judge, and the grace period does.
	Asked bool
	// Neighbor says that the node answered, Speaker that its speaker did for an address that it
	// owns, Others that anybody else was heard on a network of this node's, also if the node itself
	// could not be asked.
	Neighbor, Speaker, Others bool
}

// result is what became of a question to the LAN.
type result uint8

// The results.
const (
	// nodeAnswered: the node did. nodeSilent: it did not. notAsked: it shares no network with this node.
	nodeAnswered result = iota
	nodeSilent
	notAsked
	// voided: this process was held up meanwhile, and may have missed the answer.
	voided
	resultCount
)

const (
	// watchers is how many others each node sends heartbeats to.
	watchers = 3
	// beacon is how often an absent node is told that this one is there.
	beacon = 250 * time.Millisecond
	// askAgain is the least time between two questions for an owner that this node deputizes
	// for, askSlowly that for others that are silent, and askAlive that for the living, to know
	// that their LAN can be asked; see watch.rest for many nodes.
	askAgain  = 100 * time.Millisecond
	askSlowly = 2 * time.Second
	askAlive  = 60 * time.Second
	// askFirst is the time between questions for a living node that never answered, askPause the
	// least time between any two questions for nodes that nothing is wrong with.
	askFirst = 3 * time.Second
	askPause = 100 * time.Millisecond
	// askDead is the least time between two questions for a node that the LAN found dead, and
	// askDeadMost the longest: it grows to a quarter of the time since then. All nodes together ask
	// for the dead askDeadRate times a second at most, unless that takes longer than askDeadMost.
	askDead     = 500 * time.Millisecond
	askDeadMost = time.Minute
	askDeadRate = 20
	// gossipAfter is how long a node may be silent before the gossip, if it still hears it,
	// overrules missing heartbeats.
	gossipAfter = 3 * time.Second
	// challenge is how long a pong is waited for.
	challenge = 2 * time.Second
	// inquiries is how many others are asked whether they hear a node that this one misses, and
	// inquired how long they look out for it.
	inquiries = 5
	inquired  = time.Second
	// muteMost is how often in a row the node may answer without its speaker before that is taken to be
	// away: it does not answer for each address that this node believes it to own.
	muteMost = 3
	// unheard is how long a living node may not have been heard before a death elsewhere casts
	// doubt on it. doubts is how many nodes are asked for then, at most, by one node, and
	// doubtsOfAll roughly by all together.
	unheard     = time.Second
	doubts      = 32
	doubtsOfAll = 320
	// stall is the time between two looks from which on this process itself was held up, unless
	// they are that far apart anyway; see watch.stalled.
	stall = 100 * time.Millisecond
)

// peer is what is known of another node's speaker.
type peer struct {
	name name.NodeName
	// known says that it is among the peers that this node was told of.
	known bool
	// gossiped says that the gossip counts it as alive.
	gossiped bool
	// boot and seq are of the newest packet; nonce is of the ping that is waiting for its pong.
	boot, seq, nonce uint64
	// pinged is when it was last pinged, challenged when with a new nonce.
	pinged, challenged time.Time
	heard              time.Time
	flags              flags
	// stopping says that the last packet was a farewell.
	stopping bool

	health Health
	since  time.Time
	// lost says that it is dead because the LAN did not answer for it, not by its own word: it may
	// live, on the other side of a cut. witnessed says that another node heard it when this one last asked.
	lost, witnessed bool
	// reached says that the LAN has answered for it while it was alive; missed counts the
	// questions since then that were not answered.
	reached bool
	missed  int
	// asking says that the LAN is being asked, since asked; suspected that it is because another
	// node, or this one, misses the heartbeats.
	asking    bool
	asked     time.Time
	suspected bool
	// told says that the others were told that this node misses its heartbeats.
	told bool
	// answer is the node's, kept until its pong has had its time; void says that this process was
	// held up while the LAN was asked, and may have missed the answer.
	answer *Answer
	void   bool
	// vetoed says that another node has heard it since this one asked.
	vetoed bool
	// mute counts the answers in a row of a node that is unheard without one of its speaker.
	mute int
	// inquirers are the nodes that miss it, and when they asked whether this one hears it.
	inquirers map[name.NodeName]time.Time
	// verify is when the gossip was last asked for it directly.
	verify time.Time
	// noted says that the log has been told why the node cannot be judged.
	noted bool
}
