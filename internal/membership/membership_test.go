package membership

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/name"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// hosts returns peers a, b, c and so on, with loopback addresses that no other test uses.
func hosts(n int) []Peer {
	a := [4]byte{127, byte(1 + rand.N(254)), byte(rand.N(256)), 0}
	var list []Peer
	for i := range n {
		a[3] = byte(i + 1)
		list = append(list, Peer{Name: name.NodeName(rune('a' + i)), Addresses: []netip.Addr{netip.AddrFrom4(a)}})
	}
	return list
}

// start runs a member in this process and returns it and a function that ends it.
func start(t *testing.T, config Config) (*Membership, func()) {
	t.Helper()
	if config.Label == "" {
		config.Label = "test"
	}
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	stop := func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run() = %v", err)
			}
			ended <- nil
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return m, stop
}

// living returns those members of a view that are alive.
func living(v View) []name.NodeName {
	var list []name.NodeName
	for _, x := range v.Members {
		if x.Health == Alive {
			list = append(list, x.Name)
		}
	}
	return list
}

// await reads views until one says who is alive as is wanted.
func await(t *testing.T, views <-chan View, joined bool, want ...name.NodeName) {
	t.Helper()
	var last View
	limit := time.After(patience)
	for {
		select {
		case last = <-views:
			if last.Joined == joined && slices.Equal(living(last), want) {
				return
			}
		case <-limit:
			t.Fatalf("the last view is %+v, want %v, joined %v", last, want, joined)
		}
	}
}

func member(p Peer, keys ...Key) Config {
	return Config{NodeName: p.Name, Addresses: p.Addresses, Keys: keys, Log: logr.Discard()}
}

// answered is a member on a LAN that answers for everybody: who is missed because the machine is busy is not dead.
func answered(p Peer, keys ...Key) Config {
	c := member(p, keys...)
	c.Ask = func(context.Context, name.NodeName) Answer { return up }
	return c
}

func TestMembersFindEachOtherAndNoticeWhoLeaves(t *testing.T) {
	t.Parallel()
	at, k := hosts(3), key(1)
	a, _ := start(t, member(at[0], k))
	b, _ := start(t, member(at[1], k))
	c, stop := start(t, member(at[2], k))
	await(t, a.Views(), false, "a") // nobody has said who the peers are
	for _, m := range []*Membership{a, b, c} {
		m.SetPeers(at)
	}
	for _, m := range []*Membership{a, b, c} {
		await(t, m.Views(), true, "a", "b", "c")
	}
	stop()
	await(t, a.Views(), true, "a", "b")
	await(t, b.Views(), true, "a", "b")
}

func TestAMemberThatDiesIsNoticedAndFoundAgainWhenItReturns(t *testing.T) {
	t.Parallel()
	at, k := hosts(3), key(1)
	b, _ := start(t, member(at[1], k))
	b.SetPeers(at)
	var views []<-chan View
	var kill func()
	dying := order{Self: Peer{Name: "c", Addresses: at[2].Addresses}, Peers: at, Keys: Keys{k}.Format()}
	for _, o := range []order{{Self: at[0], Peers: at, Keys: Keys{k}.Format()}, dying} {
		v, f := spawn(t, o)
		views, kill = append(views, v), f
	}
	await(t, b.Views(), true, "a", "b", "c")
	await(t, views[0], true, "a", "b", "c")
	await(t, views[1], true, "a", "b", "c")
	kill()
	await(t, b.Views(), true, "a", "b")
	await(t, views[0], true, "a", "b")
	again, _ := spawn(t, dying)
	await(t, again, true, "a", "b", "c")
	await(t, b.Views(), true, "a", "b", "c")
}

func TestAMemberThatReturnsWithAnotherAddressIsAccepted(t *testing.T) {
	t.Parallel()
	at, k := hosts(3), key(1)
	before, after := at[:2], []Peer{at[0], {Name: "b", Addresses: at[2].Addresses}}
	a, _ := start(t, member(at[0], k))
	a.SetPeers(before)
	v, kill := spawn(t, order{Self: before[1], Peers: before, Keys: Keys{k}.Format()})
	await(t, v, true, "a", "b")
	await(t, a.Views(), true, "a", "b")
	kill()
	await(t, a.Views(), true, "a")
	a.SetPeers(after)
	v, _ = spawn(t, order{Self: after[1], Peers: after, Keys: Keys{k}.Format()})
	await(t, v, true, "a", "b")
	await(t, a.Views(), true, "a", "b")
}

func TestANodeWithoutPeersHasJoined(t *testing.T) {
	t.Parallel()
	at := hosts(1)
	m, _ := start(t, member(at[0], key(1)))
	m.SetPeers(at)
	await(t, m.Views(), true, "a")
}

func TestANodeWhosePeersAreAllAbsentHasJoined(t *testing.T) {
	t.Parallel()
	at := hosts(5)
	m, _ := start(t, member(at[0], key(1)))
	m.SetPeers(at)
	await(t, m.Views(), true, "a")
}

func TestOnlyWhoHasTheKeyIsLetIn(t *testing.T) {
	t.Parallel()
	at := hosts(3)
	a, _ := start(t, member(at[0], key(1)))
	thief, _ := start(t, member(at[1], key(2)))
	a.SetPeers(at)
	thief.SetPeers(at)
	await(t, a.Views(), true, "a")
	await(t, thief.Views(), true, "b")

	// A member with the right key is let in meanwhile.
	c, _ := start(t, member(at[2], key(1)))
	c.SetPeers(at)
	await(t, a.Views(), true, "a", "c")
	await(t, c.Views(), true, "a", "c")

	// Once it has the key, so is the thief.
	if err := thief.SetKeys(Keys{key(1)}); err != nil {
		t.Fatal(err)
	}
	await(t, thief.Views(), true, "a", "b", "c")
	await(t, a.Views(), true, "a", "b", "c")
}

func TestAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	at, k := hosts(2), key(1)
	a, _ := start(t, member(at[0], k))
	foreign := member(at[1], k)
	foreign.Label = "another cluster"
	b, _ := start(t, foreign)
	a.SetPeers(at)
	b.SetPeers(at)
	await(t, a.Views(), true, "a")
	await(t, b.Views(), true, "b")
}

func TestAPortThatIsHeldIsWaitedForAndSaidOnce(t *testing.T) {
	t.Parallel()
	at := hosts(1)
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			address := netip.AddrPortFrom(at[0].Addresses[0], DefaultPort).String()
			var held interface{ Close() error }
			var err error
			if network == "tcp" {
				held, err = net.Listen("tcp", address)
			} else {
				held, err = net.ListenPacket("udp", address)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = held.Close() }()
			lines := make(chan string, 100)
			config := member(at[0], key(1))
			config.Log = funcr.New(func(_, args string) { lines <- args }, funcr.Options{})
			m, stop := start(t, config)
			defer stop()
			m.SetPeers(at)
			var said string
			select {
			case said = <-lines:
			case <-time.After(patience):
			}
			if !strings.Contains(said, "cannot open gossip port") || !strings.Contains(said, "address already in use") {
				t.Errorf("logged %s", said)
			}
			// Two tries later it is still said once.
			select {
			case v := <-m.Views():
				t.Errorf("a view arrived without a port: %+v", v)
			case said := <-lines:
				t.Errorf("logged again: %s", said)
			case <-time.After(firstRetry + 2*firstRetry):
			}
			_ = held.Close()
			await(t, m.Views(), true, "a")
		})
	}
}

func TestRunEndsWhileItWaitsForItsPort(t *testing.T) {
	t.Parallel()
	// An address of the documentation range that this host does not have.
	_, stop := start(t, member(Peer{Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}, key(1)))
	stop()
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := member(Peer{Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, key(1))
	tests := []struct {
		name   string
		change func(*Config)
	}{
		{"no node name", func(c *Config) { c.NodeName = "" }},
		{"no address", func(c *Config) { c.Addresses = nil }},
		{"all addresses", func(c *Config) { c.Addresses = []netip.Addr{netip.IPv4Unspecified()} }},
		{"a multicast address", func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("224.0.0.1")} }},
		{"no key", func(c *Config) { c.Keys = nil }},
		{"a label that is too long", func(c *Config) { c.Label = strings.Repeat("x", 256) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := good
			tt.change(&config)
			if _, err := New(config); err == nil {
				t.Error("New() accepts it")
			}
		})
	}
	m, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetKeys(nil); err == nil {
		t.Error("SetKeys() takes away all keys")
	}
}
