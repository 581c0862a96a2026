//go:build e2e

package e2e

import (
	"testing"

	"github.com/ballast-lb/ballast/test/lab"
)

// TestBGP has speakers, nodes, routers and whole peers fail in a lab of its own, where three nodes
// announce to two routers, and looks at the routers' tables and at what a client on the WAN
// notices. Like TestFailover it asserts order and outcome, never times. One alone:
//
//	go test -tags e2e -run 'TestBGP/a_speaker_that_crashes' ./test/e2e
func TestBGP(t *testing.T) {
	f := &fixture{options: lab.Options{Prefix: "e2ebgp", Nodes: 4, Routers: 2}}
	t.Cleanup(func() {
		if f.lab == nil {
			return
		}
		if err := f.lab.Down(); err != nil {
			t.Error(err)
		}
	})
	newBGPRig(t, f).prepare()
	for _, s := range bgpScenarios() {
		t.Run(s.name, func(t *testing.T) {
			r := newBGPRig(t, f)
			r.settle()
			r.must(r.lab.ForgetConnections(r.Context())) // of earlier scenarios, to other pods
			s.run(r)
		})
	}
}

// bgpScenario is one thing that happens to the lab, and what a client must see of it.
type bgpScenario struct {
	name string
	run  func(*bgpRig)
}

func bgpScenarios() []bgpScenario {
	return []bgpScenario{
		{"BFD takes a node whose cable is cut out of both routers", cutWithBFD},
		{"the hold time does that without BFD", cutWithoutBFD},
		{"a node that loses power leaves both routers and returns", powerOffWithBFD},
		{"a speaker that hangs leaves both routers and returns", hungSpeaker},
		{"a node that reboots leaves both routers after the restart time and returns", rebootOverBGP},
		{"a node that says that it shuts down is left before it is dark", announcedReboot},

		{"a speaker that stops and starts changes no route", terminatedBGPSpeaker},
		{"a speaker that crashes and starts changes no route", killedBGPSpeaker},
		{"a restart of all speakers changes no route while another peer is unreachable", rollingBGPRestartBesideABlackHole},

		{"a drained node asks to be avoided first, then withdraws, and no connection fails", drainOverBGP},
		{"a router that restarts learns all routes again", restartedRouter},

		{"a password is in force and can be changed", passwordRotation},
		{"peers that are of no use disturb no other", besideBadPeers},
		{"what the objects say is what the router sees", fieldsOverBGP},

		// The last one: kube-controller-manager takes a minute and more to find the API server again.
		{"the routes stay while the API server is away", bgpWithoutAPI},
	}
}
