package storm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// Kind is what a fault does.
type Kind string

// The kinds of faults.
const (
	// CableCut pulls cables out: the node sees the carrier go.
	CableCut Kind = "cable cut"
	// SendsNothing loses what the node sends, ReceivesNothing what is sent to it. Its links stay up.
	SendsNothing    Kind = "sends nothing"
	ReceivesNothing Kind = "receives nothing"
	// Split keeps the nodes in contact with each other only, on the networks named.
	Split Kind = "split"
	// PairParted keeps two nodes from hearing each other; all others hear both.
	PairParted Kind = "pair parted"
	// GossipSplit is Split for gossip and heartbeats only.
	GossipSplit Kind = "gossip split"
	// GossipDropped loses a node's gossip and heartbeats, GossipRejected has its firewall refuse them.
	GossipDropped  Kind = "gossip dropped"
	GossipRejected Kind = "gossip rejected"
	// SpeakerFrozen stops the speaker's process (SIGSTOP), SpeakerSlow lets it run a tenth of the time.
	SpeakerFrozen Kind = "speaker frozen"
	SpeakerSlow   Kind = "speaker slow"
	// SpeakerRestarted ends the speaker by SIGTERM, SpeakerKilled by SIGKILL; it starts again at once.
	SpeakerRestarted Kind = "speaker restarted"
	SpeakerKilled    Kind = "speaker killed"
	// SpeakerStopped ends the speaker by SIGTERM and starts it at the fault's end.
	SpeakerStopped Kind = "speaker stopped"
	// NodeFrozen is a machine that stands still: no process runs, no frame comes or goes. Its links stay up.
	NodeFrozen Kind = "node frozen"
	// PowerLost ends everything on the node, until the fault's end boots it.
	PowerLost Kind = "power lost"
	// Renumbered gives the node another address, WrongMask its address another prefix length (Value).
	Renumbered Kind = "renumbered"
	WrongMask  Kind = "wrong mask"
	// APILost keeps a node from the API server, APILostByAll all nodes. APIStopped ends the API server.
	APILost      Kind = "API lost"
	APILostByAll Kind = "API lost by all"
	APIStopped   Kind = "API stopped"
)

// Fault is one thing that goes wrong for a time.
type Fault struct {
	Kind Kind `json:"kind"`
	// Nodes are those concerned; of Split and GossipSplit those of the island. None: the whole lab.
	Nodes []string `json:"nodes,omitempty"`
	// LANs are the networks concerned, for kinds that are about frames; otherwise none.
	LANs []lab.LAN `json:"lans,omitempty"`
	// Value is the prefix length of WrongMask and the last octet of Renumbered.
	Value int `json:"value,omitempty"`
	// Begin is when it begins, since the beginning of its round. Length is positive.
	Begin  time.Duration `json:"begin"`
	Length time.Duration `json:"length"`
}

// End is when it ends, since the beginning of its round.
func (f Fault) End() time.Duration { return f.Begin + f.Length }

// concerns says whether the node is among those named, or none is.
func (f Fault) concerns(node string) bool { return len(f.Nodes) == 0 || slices.Contains(f.Nodes, node) }

// on says whether it is about that network, or about none in particular.
func (f Fault) on(lan lab.LAN) bool { return len(f.LANs) == 0 || slices.Contains(f.LANs, lan) }

// String is what happens, without times.
func (f Fault) String() string {
	words := []string{string(f.Kind)}
	if len(f.Nodes) > 0 {
		words = append(words, strings.Join(f.Nodes, ","))
	}
	for _, lan := range f.LANs {
		words = append(words, fmt.Sprintf("LAN%d", lan+1))
	}
	if f.Value > 0 {
		words = append(words, fmt.Sprint(f.Value))
	}
	return strings.Join(words, " ")
}
