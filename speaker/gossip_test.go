package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/membership"
)

func TestTheGossipFollowsTheAddressesOfNodes(t *testing.T) {
	t.Parallel()
	v4, v6, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("192.0.2.2")
	o := options{Options: &kube.Options{}, gossipPort: membership.DefaultPort}
	g := newGossip(nil, identity{node: "n1", addresses: []netip.Addr{v4}}, o, logr.Discard())
	tests := []struct {
		name  string
		nodes []announce.Node
		own   []netip.Addr
	}{
		{"a Node with both families", []announce.Node{{Name: "n1", Addresses: []netip.Addr{v6, v4}}}, []netip.Addr{v6, v4}},
		{"a Node that has lost its addresses", []announce.Node{{Name: "n1"}}, []netip.Addr{v6, v4}},
		{"a Node that is not there", []announce.Node{{Name: "n2", Addresses: []netip.Addr{other, v6}}}, []netip.Addr{v6, v4}},
		{"a Node that has another address", []announce.Node{{Name: "n1", Addresses: []netip.Addr{v4}}}, []netip.Addr{v4}},
	}
	for _, tt := range tests { // one after the other
		g.setPeers(tt.nodes)
		if !slices.Equal(g.own, tt.own) {
			t.Errorf("%s: this speaker listens at %v", tt.name, g.own)
		}
		if len(g.peers) != 1 || !slices.Equal(g.peers[0].Addresses, tt.nodes[0].Addresses) {
			t.Errorf("%s: peers %v", tt.name, g.peers)
		}
	}
}

func TestNewsThatCannotBeReadAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	var lines []string
	log := funcr.New(func(_, l string) { lines = append(lines, l) }, funcr.Options{})
	g := newGossip(nil, identity{node: "n1"}, options{Options: &kube.Options{}}, log)
	now := time.Unix(1_000_000, 0)
	for range 600 {
		g.complain(errors.New("bad"), now)
		now = now.Add(200 * time.Millisecond)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], `"times"=1`) || !strings.Contains(lines[1], `"times"=300`) {
		t.Errorf("two minutes long, five times a second: %d lines, %q", len(lines), lines)
	}
	if g.hear([]byte("no news")) {
		t.Error("it takes what it cannot read")
	}
}
