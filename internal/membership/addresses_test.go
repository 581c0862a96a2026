package membership

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// addressed returns a crew whose members have these addresses.
func addressed(list ...[]string) *crew {
	c := newCrew(len(list))
	for i, texts := range list {
		c.peers[i].Addresses = parse(texts...)
	}
	return c
}

func parse(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

// name tells all members, as Kubernetes does, which addresses a node has from now on.
func (c *crew) name(i int, texts ...string) {
	c.mu.Lock()
	c.peers[i].Addresses = parse(texts...)
	peers := slices.Clone(c.peers)
	c.mu.Unlock()
	for _, s := range c.nodes {
		s.SetPeers(peers)
	}
	if s := c.nodes[peers[i].Name]; s != nil {
		s.SetAddresses(peers[i].Addresses)
	}
}

// notDead fails if anybody has been taken for dead.
func (c *crew) notDead(t *testing.T) {
	t.Helper()
	for _, x := range c.forget() {
		if x.health == Dead {
			t.Errorf("%s takes %s for dead", x.by, x.of)
		}
	}
}

// settle lets members meet, and the LAN answer for each once.
func (c *crew) settle(t *testing.T) {
	t.Helper()
	until(t, 5*time.Second, "all alive", func() bool { return c.all(numbers(len(c.peers))) })
	time.Sleep(5 * time.Second) // virtual time
	c.forget()
}

func TestNodesMeetWhateverTheirAddresses(t *testing.T) {
	for text, addresses := range map[string][][]string{
		"the families of one are in another order": {
			{"192.0.2.1", "fd00::1"}, {"192.0.2.2", "fd00::2"}, {"fd00::3", "192.0.2.3"},
		},
		"one has IPv6 only":                        {{"192.0.2.1", "fd00::1"}, {"192.0.2.2", "fd00::2"}, {"fd00::3"}},
		"one has IPv4 only, the others IPv6 first": {{"fd00::1", "192.0.2.1"}, {"fd00::2", "192.0.2.2"}, {"192.0.2.3"}},
		"all have IPv6 only":                       {{"fd00::1"}, {"fd00::2"}, {"fd00::3"}},
		"one has several of a family":              {{"192.0.2.1"}, {"192.0.2.2"}, {"198.51.100.3", "fd00::3", "192.0.2.3"}},
	} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := addressed(addresses...)
				defer c.end()
				for i := range c.peers {
					c.begin(t, i, nil)
				}
				c.settle(t)
				time.Sleep(time.Minute) // virtual time
				if changes := c.forget(); len(changes) > 0 {
					t.Errorf("though nothing happens: %v", changes)
				}
			})
		})
	}
}

func TestANodeWhoseAddressesChangeIsFoundAgain(t *testing.T) {
	tests := []struct {
		name          string
		before, after []string
		// late is how long after its interface the Node has the new addresses.
		late time.Duration
	}{
		{"an IPv4 address is another", []string{"192.0.2.3"}, []string{"192.0.2.99"}, 0},
		{"the Node has it a second later", []string{"192.0.2.3"}, []string{"192.0.2.99"}, time.Second},
		{"the Node has it a second before", []string{"192.0.2.3"}, []string{"192.0.2.99"}, -time.Second},
		{"one of two families is another", []string{"192.0.2.3", "fd00::3"}, []string{"192.0.2.99", "fd00::3"}, 300 * ms},
		{"both are others, in another order", []string{"192.0.2.3", "fd00::3"}, []string{"fd00::99", "192.0.2.99"}, 300 * ms},
		{"a family goes", []string{"192.0.2.3", "fd00::3"}, []string{"fd00::3"}, 300 * ms},
		{"IPv6 takes the place of IPv4", []string{"192.0.2.3"}, []string{"fd00::3"}, 300 * ms},
		{"the order is another", []string{"192.0.2.3", "fd00::3"}, []string{"fd00::3", "192.0.2.3"}, 300 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := addressed([]string{"192.0.2.1", "fd00::1"}, []string{"192.0.2.2", "fd00::2"}, tt.before)
				defer c.end()
				for i := range c.peers {
					c.begin(t, i, nil)
				}
				c.settle(t)
				node, began := c.host(2), time.Now()
				steps := []func(){func() { c.net.move(node, parse(tt.after...)...) }, func() { c.name(2, tt.after...) }}
				if tt.late < 0 {
					slices.Reverse(steps)
				}
				steps[0]()
				time.Sleep(max(tt.late, -tt.late)) // virtual time
				steps[1]()
				time.Sleep(100 * ms) // virtual time
				until(t, 5*time.Second, "all alive again", func() bool { return c.all(numbers(3)) })
				took := time.Since(began)
				time.Sleep(time.Minute) // virtual time
				changes := c.forget()
				for _, x := range changes {
					if x.of != c.peers[2].Name && x.by != c.peers[2].Name || x.health == Dead || x.at.Sub(began) > 6*time.Second {
						t.Errorf("%s takes %s for %v after %v", x.by, x.of, x.health, x.at.Sub(began))
					}
				}
				t.Logf("all alive for all after %v, %d changes", took, len(changes))
				if !c.all(numbers(3)) {
					t.Error("not all are alive a minute later")
				}
			})
		})
	}
}

func TestNodesThatExchangeTheirAddressesFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(4)
		defer c.end()
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		c.settle(t)
		c.net.move(c.host(2))
		c.net.move(c.host(3), parse("192.0.2.3")...)
		c.net.move(c.host(2), parse("192.0.2.4")...)
		c.name(2, "192.0.2.4")
		time.Sleep(300 * ms) // virtual time: both Nodes have the same address for a while
		c.name(3, "192.0.2.3")
		until(t, 5*time.Second, "all alive again", func() bool { return c.all(numbers(4)) })
		time.Sleep(time.Minute) // virtual time
		c.notDead(t)
		if !c.all(numbers(4)) {
			t.Error("not all are alive a minute later")
		}
	})
}

// A restart may come with other addresses while the others still take the speaker for alive. What
// it says of itself then, such as its keys, is heard.
func TestANodeThatRestartsWithOtherAddressesIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := addressed([]string{"192.0.2.1", "fd00::1"}, []string{"192.0.2.2", "fd00::2"}, []string{"192.0.2.3", "fd00::3"})
		defer c.end()
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		c.settle(t)
		c.nodes[c.peers[2].Name].stop()
		c.name(2, "fd00::3", "192.0.2.3")
		c.begin(t, 2, nil)
		until(t, 5*time.Second, "all alive again", func() bool { return c.all(numbers(3)) })
		c.notDead(t)
		for _, s := range c.nodes {
			if err := s.SetKeys(Keys{key(2)}); err != nil {
				t.Fatal(err)
			}
		}
		until(t, time.Minute, "the keys of all are the new ones", func() bool {
			for _, s := range c.nodes {
				if !slices.Equal(ringKeys(s.ring), []Key{key(2)}) {
					return false
				}
			}
			return true
		})
		c.notDead(t)
	})
}

func TestNodesWithoutACommonFamilyLeaveEachOtherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := addressed([]string{"192.0.2.1"}, []string{"fd00::2"})
		defer c.end()
		c.net.host(stranger)
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		time.Sleep(time.Minute) // virtual time
		for i := range c.peers {
			other := c.peers[1-i].Name
			if v := c.view(i); !v.Joined || health(v)[other] != Silent {
				t.Errorf("%s sees %+v", c.peers[i].Name, v)
			}
			if n := c.host(i).frames.Load(); n > 0 {
				t.Errorf("%s has sent %d packets", c.peers[i].Name, n)
			}
		}
	})
}

// A third node tells such nodes of each other. That they cannot send to each other is no reason
// to doubt it.
func TestNodesWithoutACommonFamilyHearOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := addressed([]string{"192.0.2.1"}, []string{"fd00::2"}, []string{"192.0.2.3", "fd00::3"})
		defer c.end()
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		until(t, 5*time.Second, "the third knows both", func() bool {
			h := health(c.view(2))
			return h[c.peers[0].Name] == Alive && h[c.peers[1].Name] == Alive
		})
		time.Sleep(5 * time.Second) // virtual time
		c.forget()
		sent := c.host(0).frames.Load()
		time.Sleep(time.Minute) // virtual time
		if changes := c.forget(); len(changes) > 0 {
			t.Errorf("though nothing happens: %v", changes)
		}
		if n := (c.host(0).frames.Load() - sent) / 60; n > 60 {
			t.Errorf("one sends %d packets a second", n)
		}
	})
}

func TestAnotherFamilyIsUsedWhenOneStopsWorking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := addressed([]string{"192.0.2.1", "fd00::1"}, []string{"192.0.2.2", "fd00::2"}, []string{"192.0.2.3", "fd00::3"})
		defer c.end()
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		c.settle(t)
		c.net.cut(1, netip.MustParseAddr("192.0.2.3"))
		time.Sleep(5 * time.Second) // virtual time
		c.notDead(t)
		until(t, time.Second, "all alive over IPv6", func() bool { return c.all(numbers(3)) })
		time.Sleep(time.Minute) // virtual time
		c.net.cut(1, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"))
		c.net.cut(2, netip.MustParseAddr("fd00::3"))
		time.Sleep(5 * time.Second) // virtual time
		c.notDead(t)
		until(t, time.Second, "all alive over IPv4", func() bool { return c.all(numbers(3)) })
	})
}

func TestANodeThatStartsWhereOneFamilyIsBlockedJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := addressed([]string{"192.0.2.1", "fd00::1"}, []string{"192.0.2.2", "fd00::2"})
		defer c.end()
		c.net.host(stranger)
		c.net.cut(1, netip.MustParseAddr("192.0.2.2"))
		for i := range c.peers {
			c.begin(t, i, nil)
		}
		until(t, aloneAfter+time.Second, "all alive", func() bool { return c.all(numbers(2)) })
	})
}

// What listens at one address only, as an earlier version does, may be behind a firewall there.
func TestWhoIsRefusedAtOneAddressAndNotAnsweredAtAnotherHasNotJoined(t *testing.T) {
	for _, order := range [][]string{{"192.0.2.2", "fd00::2"}, {"fd00::2", "192.0.2.2"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := addressed([]string{"192.0.2.1", "fd00::1"}, order)
				defer c.end()
				c.net.host(parse(order...)...) // its kernel answers; nobody reads from its ports
				c.net.host(stranger)
				c.net.mute(c.peers[0].Addresses[0], netip.MustParseAddr("192.0.2.2"), true)
				c.begin(t, 0, nil)
				time.Sleep(time.Minute) // virtual time
				if v := c.view(0); v.Joined {
					t.Errorf("view %+v", v)
				}
			})
		})
	}
}

// earlier makes a member as an earlier version is: it listens at one address, and sends to the
// address that others advertise.
func earlier(c *Config) { c.Addresses = c.Addresses[:1] }

func TestAnEarlierVersionAndThisOneMeet(t *testing.T) {
	for text, addresses := range map[string][][]string{
		"IPv4":       {{"192.0.2.1"}, {"192.0.2.2"}, {"192.0.2.3"}},
		"IPv4 first": {{"192.0.2.1", "fd00::1"}, {"192.0.2.2", "fd00::2"}, {"192.0.2.3", "fd00::3"}},
		"IPv6 first": {{"fd00::1", "192.0.2.1"}, {"fd00::2", "192.0.2.2"}, {"fd00::3", "192.0.2.3"}},
	} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := addressed(addresses...)
				defer c.end()
				for i := range c.peers {
					s := c.begin(t, i, earlier)
					s.SetPeers(nil) // so it knows the others' addresses from the gossip
				}
				seeds := slices.Clone(c.peers[1:])
				for i := range seeds {
					seeds[i].Addresses = seeds[i].Addresses[:1]
				}
				c.nodes[c.peers[0].Name].SetPeers(seeds)
				c.settle(t)
				for i := range c.peers { // a rolling update
					c.nodes[c.peers[i].Name].stop()
					time.Sleep(time.Second) // virtual time
					c.begin(t, i, nil)
					until(t, 5*time.Second, "all alive again", func() bool { return c.all(numbers(3)) })
					time.Sleep(5 * time.Second) // virtual time
				}
				c.notDead(t)
			})
		})
	}
}

func TestWithoutAddressesANodeKeepsThoseThatItHad(t *testing.T) {
	t.Parallel()
	m, err := New(Config{NodeName: "a", Addresses: parse("192.0.2.1", "::ffff:192.0.2.1"), Keys: Keys{key(1)}})
	if err != nil {
		t.Fatal(err)
	}
	m.SetAddresses(parse("0.0.0.0", "ff02::1"))
	if got := m.addresses(); !slices.Equal(got, parse("192.0.2.1")) {
		t.Errorf("it has %v", got)
	}
}

func TestRoutesLeadToWhereANodeIs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name              string
		own, theirs       []string
		last, said, other string
		want              [][2]string
	}{
		{"one family", []string{"192.0.2.1"}, []string{"192.0.2.2"}, "", "", "", [][2]string{{"192.0.2.1", "192.0.2.2"}}},
		{"no common family", []string{"192.0.2.1"}, []string{"fd00::2"}, "", "", "", nil},
		{
			"their order counts",
			[]string{"192.0.2.1", "fd00::1"},
			[]string{"fd00::2", "192.0.2.2"},
			"", "", "",
			[][2]string{{"fd00::1", "fd00::2"}, {"192.0.2.1", "192.0.2.2"}},
		},
		{
			"where it was heard last comes first",
			[]string{"192.0.2.1", "fd00::1"},
			[]string{"192.0.2.2", "fd00::2"},
			"fd00::2", "", "",
			[][2]string{{"fd00::1", "fd00::2"}, {"192.0.2.1", "192.0.2.2"}},
		},
		{
			"an address that it no longer has does not",
			[]string{"192.0.2.1"},
			[]string{"192.0.2.2"},
			"192.0.2.9", "", "",
			[][2]string{{"192.0.2.1", "192.0.2.2"}},
		},
		{
			"what the gossip says comes last",
			[]string{"192.0.2.1"},
			[]string{"192.0.2.2"},
			"", "192.0.2.9", "",
			[][2]string{{"192.0.2.1", "192.0.2.2"}, {"192.0.2.1", "192.0.2.9"}},
		},
		{
			"unless it is another's",
			[]string{"192.0.2.1"},
			[]string{"192.0.2.2"},
			"", "192.0.2.9", "192.0.2.9",
			[][2]string{{"192.0.2.1", "192.0.2.2"}},
		},
		{
			"of a node that Kubernetes does not name the gossip says it",
			[]string{"192.0.2.1"},
			nil, "", "192.0.2.9", "",
			[][2]string{{"192.0.2.1", "192.0.2.9"}},
		},
		{
			"each begins in the network where it ends",
			[]string{"192.0.2.1", "198.51.100.1"},
			[]string{"198.51.100.2", "192.0.2.2"},
			"", "", "",
			[][2]string{{"198.51.100.1", "198.51.100.2"}, {"192.0.2.1", "192.0.2.2"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRoutes()
			r.setOwn(parse(tt.own...))
			peers := []Peer{}
			if tt.theirs != nil {
				peers = append(peers, Peer{Name: "b", Addresses: parse(tt.theirs...)})
			}
			if tt.other != "" {
				peers = append(peers, Peer{Name: "c", Addresses: parse(tt.other)})
			}
			r.setPeers(peers)
			var said netip.Addr
			if tt.said != "" {
				said = netip.MustParseAddr(tt.said)
			}
			if tt.last != "" {
				r.works("b", netip.MustParseAddr(tt.last))
			}
			var got [][2]string
			for _, way := range r.to("b", said) {
				got = append(got, [2]string{way.from.String(), way.to.String()})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("routes %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAPeerWhoseAddressesChangeIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	a, peers, now := newAttempts(), somePeers(2), time.Unix(1_000_000, 0)
	a.start(peers, nil, now)
	for _, p := range peers {
		a.done(p.Name, absent, now, 0)
	}
	peers[1].Addresses = parse("fd00::1")
	if started := a.start(peers, nil, now); !same(started, peers[1:]) {
		t.Errorf("started %v", started)
	}
	a.done(peers[1].Name, absent, now, 0)
	a.soon()
	if started := a.start(peers, nil, now); !same(started, peers) {
		t.Errorf("with other addresses of this node, started %v", started)
	}
	if !a.peers[peers[0].Name].tried {
		t.Error("what was found of it is forgotten")
	}
}
