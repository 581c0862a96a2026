//go:build e2e

package e2e

import (
	"testing"

	"github.com/ballast-lb/ballast/test/lab"
)

// TestFailover takes nodes, speakers and cables away in a lab of its own, and looks from
// outside at who answers for an address and at whether a client notices. Its scenarios
// assert order and outcome, never times; `bin/bench failover` measures those. One alone:
//
//	go test -tags e2e -run 'TestFailover/a_node_that_loses_power' ./test/e2e
//
// BALLAST_LAB_BIN names a folder with other programs than those of `make build`.
func TestFailover(t *testing.T) {
	f := &fixture{options: lab.Options{Prefix: "e2efo", Nodes: 4, SecondLAN: true}}
	t.Cleanup(func() {
		if f.lab == nil {
			return
		}
		if err := f.lab.Down(); err != nil {
			t.Error(err)
		}
	})
	newRig(t, f).prepare()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, f)
			r.settle()
			r.must(r.lab.ForgetConnections(r.Context())) // of earlier scenarios, to other pods
			s.run(r)
		})
	}
}

// scenario is one thing that happens to the lab, and what a client must see of it.
type scenario struct {
	name string
	run  func(*rig)
}

func scenarios() []scenario {
	return []scenario{
		{"a node whose cables are cut is replaced and takes nothing back", cutNode},
		{"a node that loses power is replaced and takes nothing back", powerOffNode},
		{"a node with many addresses is replaced for all of them", manyAddresses},
		{"a node that reboots is replaced and takes nothing back", rebootNode},
		{"the loss of an interface moves what it announced", lostInterface},
		{"an interface that loses all frames is replaced though its link is up", deafInterface},
		{"an interface whose frames do not arrive is replaced too", muteInterface},
		{"a node that shares no network with others is replaced, and nobody else", standsApart},
		{"both families of a Service move together", bothFamilies},

		{"a speaker that stops and starts moves nothing", terminatedSpeaker},
		{"a speaker that crashes and starts moves nothing", killedSpeaker},
		{"a deputy answers while the speaker is away", deputyAnswers},
		{"a restart of all speakers one by one moves nothing", rollingRestart},
		{"a crash of all speakers at once moves nothing", allKilled},
		{"speakers that hardly get to run move nothing", throttledSpeakers},
		{"a speaker that stood still says nothing of what it has lost", standingSpeaker},

		{"the exclude label hands over without a failed connection", excludeLabel},
		{"the drain annotation hands over without a failed connection", drainAnnotation},
		{"the deletion of the Node hands over without a failed connection", deletedNode},
		{"a rolling update of a Local Service fails no connection", localRollingUpdate},
		{"a Local Service whose owner cannot know that the pod moved ends where the pod is", localWithoutAPI},
		{"a preference moves an address only after a while", preference},
		{"rebalance evens the nodes out", rebalance},

		{"a partition ends with one owner", partition},
		{"a node and a host cut off for a moment keep nothing that they took", shortCut},
		{"a speaker that starts behind a firewall that rejects gossip owns nothing", gossipRejected},
		{"a node that cannot send is replaced", sendingLost},
		{"a node that cannot receive is replaced", receivingLost},
		{"blocked gossip alone moves nothing", gossipBlocked},
		{"a speaker that starts while the API server is away says nothing", startedWithoutAPI},
		{"a node is replaced while the API server is away", withoutAPI},

		{"an address that a foreign host has is not announced", foreignFirst},
		{"an address that a foreign host takes later is kept", foreignLater},
		{"a node that answers though it should not is named", strictARPMissing},
	}
}
