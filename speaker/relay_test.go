package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/membership"
	"github.com/ballast-lb/ballast/internal/name"
)

// colleague is a speaker's gossip on loopback, and the state that it tells and asks. What its state would tell
// all others, it does not, as if that got lost.
type colleague struct {
	*gossip

	mu    sync.Mutex
	state *announce.State
	// knows is closed when its state knows claims for this many units, joined when it has joined.
	wanted        int
	knows, joined chan struct{}
}

const gossipTestPort = 27947

func newColleague(i int, nodes []announce.Node, services []announce.Service, wanted int) *colleague {
	self := identity{node: nodes[i].Name, addresses: nodes[i].Addresses, cluster: "test"}
	o := options{Options: &kube.Options{}, gossipPort: gossipTestPort}
	c := &colleague{
		gossip: newGossip(nil, self, o, logr.Discard()), state: announce.NewState(self.node),
		wanted: wanted, knows: make(chan struct{}), joined: make(chan struct{}),
	}
	facts := []announce.Fact{
		announce.NodesKnown{Nodes: nodes},
		announce.NamespacesKnown{Labels: map[string]labels.Set{"shop": {}}},
		announce.MembersKnown{},
	}
	for _, s := range services {
		facts = append(facts, announce.Known{Service: s})
	}
	c.state.Step(time.Now(), facts...)
	c.keys, c.changed = membership.Keys{membership.Key(make([]byte, 32))}, func() {}
	c.tell = func(_ context.Context, facts ...announce.Fact) error {
		c.step(facts...)
		return nil
	}
	c.query = func(_ context.Context, look func(*announce.State)) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		look(c.state)
		return nil
	}
	c.setPeers(nodes)
	return c
}

// step has its state learn facts.
func (c *colleague) step(facts ...announce.Fact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Step(time.Now(), facts...)
	c.relay.learned(c.state.Learned())
	if c.wanted > 0 && len(c.state.News().Claims) == c.wanted {
		c.wanted = 0
		close(c.knows)
	}
	for _, f := range facts {
		if m, is := f.(announce.MembersKnown); is && m.Joined {
			select {
			case <-c.joined:
			default:
				close(c.joined)
			}
		}
	}
}

// What gets lost on its way is told to who asks, by a digest: one claim in a datagram, many over a connection.
func TestWhoMissedClaimsHearsThemFromAnotherThatItAsks(t *testing.T) {
	t.Parallel()
	const units = 200
	var nodes []announce.Node
	for i := range 2 {
		nodes = append(nodes, announce.Node{
			Name: name.NodeName(fmt.Sprintf("n%d", i)), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 19, byte(i + 1)})},
		})
	}
	var services []announce.Service
	claims := announce.News{}
	for i := range units {
		a := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
		services = append(services, announce.Service{Key: name.ServiceKey{Namespace: "shop", Name: a.String()}, Addresses: []netip.Addr{a}})
		claims.Claims = append(claims.Claims, election.Claim{Unit: a, Owner: "n9", Epoch: 7})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	colleagues := []*colleague{newColleague(0, nodes, services, 0), newColleague(1, nodes, services, units)}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, c := range colleagues {
		running.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wait := func(what string, is <-chan struct{}) {
		select {
		case <-is:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
	for _, c := range colleagues {
		wait("it has joined", c.joined)
	}
	colleagues[0].mu.Lock() // it passes nothing on
	colleagues[0].state.Step(time.Now(), announce.Heard{News: claims})
	colleagues[0].state.Learned()
	colleagues[0].mu.Unlock()
	wait("the other knows all claims", colleagues[1].knows)
	_ = colleagues[1].query(ctx, func(s *announce.State) {
		if counts := s.Counts(time.Now()); counts.Mended != units && counts.Mended != 0 { // 0: an exchange, of those that follow a join, was faster
			t.Errorf("it counts %d claims that it missed", counts.Mended)
		}
	})
}
