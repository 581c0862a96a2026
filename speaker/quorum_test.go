package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/name"
)

// voters are nodes on one network, of which the first is this one.
func voters(n int) []announce.Node {
	var list []announce.Node
	for i := range n {
		list = append(list, said(name.NodeName(fmt.Sprintf("n%d", i)), face("eth0", byte(i+1), fmt.Sprintf("10.0.0.%d/24", i+1))))
	}
	return list
}

func TestAQuorumIsMoreThanHalfOfTheNodesOnTheNetwork(t *testing.T) {
	t.Parallel()
	gateways := []netip.Addr{netip.MustParseAddr("10.0.0.254")}
	for _, tt := range []struct {
		name             string
		nodes, suspects  int
		answer           int // of those that are no suspects
		gateway          bool
		has, witness     bool
		suspectsAnswered bool
	}{
		{"a node that has no fellows", 1, 0, 0, false, true, false, false},
		{"one of two, without a gateway", 2, 1, 0, false, false, false, false},
		{"one of two, and the gateway", 2, 1, 0, true, true, true, false},
		{"two of three", 3, 1, 1, false, true, true, false},
		{"one of three, and the gateway", 3, 2, 0, true, false, true, false},
		{"two of four, without a gateway", 4, 2, 1, false, false, true, false},
		{"two of four, and the gateway", 4, 1, 1, true, true, true, false},
		{"a suspect that answers is counted as silent", 3, 1, 0, false, false, false, true},
		{"most of those drawn of two hundred", 200, 1, 9, false, true, true, false},
		{"few of those drawn of two hundred", 200, 1, 7, true, false, true, false},
		{"nearly all drawn, and many suspects", 200, 50, 16, false, true, true, false},
		{"more suspects than fellows", 200, 110, 16, true, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nodes := voters(tt.nodes)
			q := quorums{self: "n0", log: logr.Discard(), nodes: &(&neighbors{}).nodes}
			q.nodes.Store(&nodes)
			var suspects []name.NodeName
			for _, n := range nodes[tt.nodes-tt.suspects:] {
				suspects = append(suspects, n.Name)
			}
			b := q.ballot(face("eth0", 1, "10.0.0.1/24"), suspects, gateways)
			if b.roll != tt.nodes || b.suspects != tt.suspects || len(b.hosts)-b.suspects > pollMax {
				t.Fatalf("roll %d, %d suspects, %d asked", b.roll, b.suspects, len(b.hosts))
			}
			heard := lan.Tally{Answered: make([]bool, len(b.hosts)), Gateway: tt.gateway}
			for i := range heard.Answered {
				heard.Answered[i] = i < b.suspects && tt.suspectsAnswered || i >= b.suspects && i < b.suspects+tt.answer
			}
			if b.has(heard) != tt.has || b.witness(heard) != tt.witness || (len(b.answered(heard)) > 0) != tt.suspectsAnswered {
				t.Errorf("has %v, witness %v, suspects %v", b.has(heard), b.witness(heard), b.answered(heard))
			}
		})
	}
}

func TestNodesOnOtherNetworksHaveNoVote(t *testing.T) {
	t.Parallel()
	nodes := append(voters(2), said("elsewhere", face("eth0", 9, "172.16.0.1/24")), said("unknown"))
	q := quorums{self: "n0", log: logr.Discard(), nodes: &(&neighbors{}).nodes}
	q.nodes.Store(&nodes)
	if b := q.ballot(face("eth0", 1, "10.0.0.1/24"), nil, nil); b.roll != 2 || len(b.hosts) != 1 {
		t.Errorf("%d of %d are asked", len(b.hosts), b.roll)
	}
}
