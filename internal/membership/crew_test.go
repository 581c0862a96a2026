package membership

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/name"
)

// change is what one node saw of another, when.
type change struct {
	by, of name.NodeName
	health Health
	at     time.Time
}

// crew are members in memory and what they saw.
type crew struct {
	net   *network
	peers []Peer
	nodes map[name.NodeName]*sailor

	mu      sync.Mutex
	changes []change
}

type sailor struct {
	*Membership
	node *host
	stop func()
	// last is guarded by the crew's mu, joined is when it was said first.
	last   View
	joined time.Time
}

func newCrew(n int) *crew {
	c := &crew{net: newNetwork(), nodes: map[name.NodeName]*sailor{}}
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		c.peers = append(c.peers, Peer{Name: name.NodeName(fmt.Sprintf("n%03d", i)), Addresses: []netip.Addr{a}})
	}
	return c
}

// at returns the first address of a member.
func (c *crew) at(i int) netip.Addr { return c.peers[i].Addresses[0] }

// host returns the node of a member that has begun, or else that which has its address.
func (c *crew) host(i int) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.nodes[c.peers[i].Name]; s != nil {
		return s.node
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.net.hosts[c.peers[i].Addresses[0]]
}

// begin starts the member with this number; adapt may change its Config.
func (c *crew) begin(t *testing.T, i int, adapt func(*Config)) *sailor {
	t.Helper()
	p := c.peers[i]
	config := Config{
		NodeName: p.Name, Addresses: p.Addresses, Keys: Keys{key(1)}, Label: "test", Log: logr.Discard(), open: c.net.open,
		Ask: func(ctx context.Context, n name.NodeName) Answer {
			return c.net.ask(ctx, c.present(p.Name), c.present(n))
		},
	}
	node := c.net.host(p.Addresses...)
	if adapt != nil {
		adapt(&config)
	}
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	m.SetPeers(c.peers)
	ctx, cancel := context.WithCancel(t.Context())
	s := &sailor{Membership: m, node: node}
	c.mu.Lock()
	c.nodes[p.Name] = s
	c.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	running.Go(func() { c.watch(ctx, s) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	return s
}

// present returns the addresses that a node has on its interfaces.
func (c *crew) present(n name.NodeName) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.nodes[n]; s != nil {
		return c.net.addresses(s.node)
	}
	for _, p := range c.peers {
		if p.Name == n {
			return p.Addresses
		}
	}
	return nil
}

func (c *crew) watch(ctx context.Context, s *sailor) {
	me := s.config.NodeName
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-s.Views():
			c.mu.Lock()
			now := time.Now()
			before := health(s.last)
			for n, h := range health(v) {
				if old, met := before[n]; !met || old != h {
					c.changes = append(c.changes, change{me, n, h, now})
				}
				delete(before, n)
			}
			for n := range before {
				c.changes = append(c.changes, change{me, n, Dead, now})
			}
			if v.Joined && s.joined.IsZero() {
				s.joined = now
			}
			s.last = v
			c.mu.Unlock()
		}
	}
}

// health returns the members of a view by name.
func health(v View) map[name.NodeName]Health {
	m := make(map[name.NodeName]Health, len(v.Members))
	for _, x := range v.Members {
		m[x.Name] = x.Health
	}
	return m
}

// view returns the last view of a member.
func (c *crew) view(i int) View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[c.peers[i].Name].last
}

// joined says since when a member has joined.
func (c *crew) joined(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[c.peers[i].Name].joined
}

// forget returns the changes so far and starts a new list.
func (c *crew) forget() []change {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := c.changes
	c.changes = nil
	return changes
}

// all says whether every one of some members sees all of them as alive.
func (c *crew) all(numbers []int) bool {
	for _, i := range numbers {
		v := c.view(i)
		h := health(v)
		for _, j := range numbers {
			if h[c.peers[j].Name] != Alive {
				return false
			}
		}
		if !v.Joined || v.Deaf {
			return false
		}
	}
	return true
}

// until lets virtual time pass until something is true, and returns how long that took.
func until(t *testing.T, limit time.Duration, what string, is func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // virtual time
		took := time.Since(began)
		switch {
		case is():
			return took
		case took > limit:
			t.Fatalf("after %v: not %s", took, what)
		}
	}
}

// end stops all members.
func (c *crew) end() {
	var stopping sync.WaitGroup
	for _, s := range c.nodes {
		stopping.Go(s.stop)
	}
	stopping.Wait()
	time.Sleep(time.Minute) // virtual time: memberlist lets its probes run out
}

// numbers returns 0 to n-1.
func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
