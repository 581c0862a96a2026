package announce_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// settled is a State with Services of which every fifth is in another network and another namespace, with a step that
// tells it a fact and returns how many units are planned until there is no more to do.
type settled struct {
	*announce.State
	now    time.Time
	config announce.Config
}

const settledServices = 1000

func newSettled(t testing.TB) *settled {
	t.Helper()
	s, _, now := full(3, settledServices)
	w := world()
	l2(nil)(&w)
	w.Config.Pools[0].Addresses = set("10.0.0.0/8", "192.0.2.0/24")
	for i := range settledServices / 5 {
		one := service(fmt.Sprintf("192.0.2.%d", i))
		one.Key.Namespace, one.Key.Name = "lab", fmt.Sprintf("s%d", i)
		s.Step(now, announce.Known{Service: one})
	}
	settled := &settled{State: s, now: now, config: w.Config}
	settled.tell(announce.Configured{Config: w.Config})
	return settled
}

func (s *settled) tell(f announce.Fact) int {
	before := s.Planned()
	s.Step(s.now, f)
	for again := s.Again(); !again.IsZero() && !again.After(s.now); again = s.Again() {
		s.Step(s.now)
	}
	return s.Planned() - before
}

// nodes returns the nodes with the first one edited.
func (s *settled) nodes(edit func(*announce.Node)) announce.NodesKnown {
	list := append([]announce.Node{}, s.Nodes()...)
	list[0].Interfaces = append([]announce.Interface{}, list[0].Interfaces...)
	list[0].Labels = labels.Merge(list[0].Labels, nil)
	edit(&list[0])
	return announce.NodesKnown{Nodes: list}
}

func TestAFactHasPlannedOnlyWhatItConcerns(t *testing.T) {
	t.Parallel()
	const all, lab = settledServices + settledServices/5, settledServices / 5
	add := func(i announce.Interface) func(*announce.Node) {
		return func(n *announce.Node) { n.Interfaces = append(n.Interfaces, i) }
	}
	label := func(n *announce.Node) { n.Labels["zone"] = "west" }
	edited := func(edit func(*announce.Node)) func(*settled) announce.Fact {
		return func(s *settled) announce.Fact { return s.nodes(edit) }
	}
	namespaces := func(m map[string]labels.Set) func(*settled) announce.Fact {
		return func(*settled) announce.Fact { return announce.NamespacesKnown{Labels: m} }
	}
	for _, tt := range []struct {
		name   string
		config func(*announce.Config)
		fact   func(*settled) announce.Fact
		want   int
	}{
		{"a namespace that no advertisement selects by", nil, namespaces(map[string]labels.Set{"shop": {}, "ci": {"tier": "web"}}), 0},
		{"a namespace without Services", func(c *announce.Config) { c.L2[0].Namespaces = only("tier", "web") }, namespaces(map[string]labels.Set{"shop": {}, "ci": {"tier": "web"}}), 0},
		{"a namespace that an advertisement now selects", func(c *announce.Config) { c.L2[0].Namespaces = only("tier", "web") }, namespaces(map[string]labels.Set{"shop": {}, "lab": {"tier": "web"}}), lab},
		{"a namespace with another label", func(c *announce.Config) { c.L2[0].Namespaces = only("tier", "web") }, namespaces(map[string]labels.Set{"shop": {}, "lab": {"owner": "me"}}), 0},
		{"a Node's label that nobody selects by", nil, edited(label), 0},
		{"a Node's label that an advertisement selects by", func(c *announce.Config) { c.L2[0].Nodes = only("zone", "west") }, edited(label), all},
		{"a Node's label that an advertisement prefers", func(c *announce.Config) {
			c.L2[0].Preferred = []announce.Preference{{Weight: 1, Nodes: only("zone", "west")[0]}}
		}, edited(label), all},
		{"a Node's label that a peer is for", func(c *announce.Config) {
			c.Peers = []announce.NodePeer{{Peer: announce.Peer{Name: "r1"}, Nodes: only("zone", "west")}}
		}, edited(label), all},
		{"a Node's label of another value than an advertisement selects", func(c *announce.Config) { c.L2[0].Nodes = only("zone", "east") }, edited(label), 0},
		{"an interface without addresses", nil, edited(add(card("wlan9"))), 0},
		{"an interface in a network of no Service", nil, edited(add(card("wlan9", "172.16.0.1/24"))), 0},
		{"an interface in the network of some", nil, edited(add(card("wlan9", "192.0.2.250/24"))), lab},
		{"an interface with a name that an advertisement asks for", func(c *announce.Config) { c.L2[0].Interfaces = []string{"eth*", "wlan*"} }, edited(add(card("wlan9"))), all},
		{"an interface with a name that no advertisement asks for", func(c *announce.Config) { c.L2[0].Interfaces = []string{"eth*"} }, edited(add(card("wlan9"))), 0},
		{"an interface in a network of no Service, while they say which networks there are instead", func(c *announce.Config) { c.L2[0].Interfaces = []string{"bond*"} }, edited(add(card("wlan9", "172.16.0.1/24"))), all},
		{"the interface with the Node's address", nil, edited(func(n *announce.Node) { n.Interfaces[0].MAC[5]++ }), all},
		{"a Node that is drained", nil, edited(func(n *announce.Node) { n.Drain = "asked to" }), all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSettled(t)
			if tt.config != nil {
				s.config.L2 = slices.Clone(s.config.L2)
				tt.config(&s.config)
				s.tell(announce.Configured{Config: s.config})
				s.now = s.now.Add(time.Minute) // handovers are over
				s.tell(announce.Configured{Config: s.config})
			}
			if got := s.tell(tt.fact(s)); got != tt.want {
				t.Errorf("%d units were planned, want %d of %d", got, tt.want, all)
			}
		})
	}
}

// drawNode edits a node as facts from the API do.
func drawNode(t *rapid.T, n *announce.Node) {
	prefixes := []string{"10.0.0.7/24", "10.0.0.9/8", "192.0.2.250/24", "172.16.0.1/24", "10.0.0.2/32", n.Addresses[0].String() + "/24"}
	n.Interfaces = nil
	for _, i := range []string{"eth0", "eth1", "wlan9"} {
		if !rapid.Bool().Draw(t, "there") {
			continue
		}
		one := card(i, rapid.SliceOfN(rapid.SampledFrom(prefixes), 0, 2).Draw(t, "prefixes")...)
		one.Up, one.Deaf = rapid.IntRange(0, 3).Draw(t, "down") > 0, rapid.IntRange(0, 5).Draw(t, "deaf") == 0
		n.Interfaces = append(n.Interfaces, one)
	}
	n.Labels = labels.Set{"zone": rapid.SampledFrom([]string{"west", "east", "north"}).Draw(t, "zone")}
}

// drawConfig draws advertisements and peers that select by namespaces, labels and interfaces.
func drawConfig(t *rapid.T) announce.Config {
	w := world()
	l2(nil)(&w)
	c := w.Config
	maybe := func(label string, s announce.Selectors) announce.Selectors {
		if rapid.Bool().Draw(t, label) {
			return s
		}
		return nil
	}
	for i := range c.L2 {
		c.L2[i].Namespaces, c.L2[i].Nodes = maybe("by namespace", only("tier", "web")), maybe("by node", only("zone", "west"))
		c.L2[i].Interfaces = rapid.SampledFrom([][]string{nil, {"eth*"}, {"wlan9", "eth1"}}).Draw(t, "interfaces")
		if rapid.Bool().Draw(t, "prefers") {
			c.L2[i].Preferred = []announce.Preference{{Weight: 1, Nodes: only("zone", "east")[0]}}
		}
	}
	if rapid.Bool().Draw(t, "BGP") {
		c.BGP = []announce.BGPAdvertisement{{
			Selection: announce.Selection{Name: "b", Namespaces: maybe("BGP by namespace", only("tier", "web")), Nodes: maybe("BGP by node", only("zone", "east"))},
			Length4:   32, Length6: 128,
		}}
		c.Peers[0].Nodes = maybe("peer by node", only("zone", "west"))
	}
	return c
}

// twin is a State whose decisions are followed.
type twin struct {
	*announce.State
	decided map[name.ServiceKey]announce.Decision
}

// tell has a twin learn facts and plan until there is no more to do.
func (w *twin) tell(now time.Time, facts ...announce.Fact) {
	changes := w.Step(now, facts...)
	for again := w.Again(); !again.IsZero() && !again.After(now); again = w.Again() {
		changes = append(changes, w.Step(now)...)
	}
	for _, c := range changes {
		w.decided[c.Service.Key] = c.Decision
	}
}

func TestWhatAFactDoesNotConcernWouldBePlannedAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		w := world()
		members := announce.MembersKnown{Joined: true}
		for _, n := range w.Nodes {
			members.Members = append(members.Members, announce.Member{Node: n.Name, Health: announce.Alive, Since: now})
		}
		var first []announce.Fact
		for i := range 24 {
			one := service(fmt.Sprintf([]string{"10.0.0.%d", "192.0.2.%d"}[i%2], 128+i))
			one.Key.Namespace, one.Key.Name = []string{"shop", "lab", "ci"}[i%3], fmt.Sprintf("s%d", i)
			first = append(first, announce.Known{Service: one})
		}
		self, config := rapid.SampledFrom([]name.NodeName{"a", ""}).Draw(t, "self"), drawConfig(t)
		frugal, lavish := &twin{announce.NewState(self), map[name.ServiceKey]announce.Decision{}}, &twin{announce.NewState(self), map[name.ServiceKey]announce.Decision{}}
		both := func(facts ...announce.Fact) {
			frugal.tell(now, facts...)
			lavish.tell(now, facts...)
		}
		shutdown := time.Duration(0)
		all := func() announce.Fact { // it plans every unit, and nobody shuts down
			shutdown++
			return announce.GraceKnown{Grace: time.Minute, Shutdown: shutdown}
		}
		both(append(first, announce.Configured{Config: config}, announce.NodesKnown{Nodes: w.Nodes}, members)...)
		for range rapid.IntRange(1, 6).Draw(t, "facts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			for range 3 { // a plan may follow from another unit's
				both(all())
			}
			var fact announce.Fact
			if rapid.Bool().Draw(t, "namespaces") {
				m := map[string]labels.Set{}
				for _, ns := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"shop", "lab", "ci"}), rapid.ID).Draw(t, "namespaces") {
					m[ns] = labels.Set{rapid.SampledFrom([]string{"tier", "owner"}).Draw(t, "label"): "web"}
				}
				fact = announce.NamespacesKnown{Labels: m}
			} else {
				w.Nodes = slices.Clone(w.Nodes)
				drawNode(t, &w.Nodes[rapid.IntRange(0, 2).Draw(t, "node")])
				fact = announce.NodesKnown{Nodes: w.Nodes}
			}
			frugal.tell(now, fact)
			lavish.tell(now, all(), fact)
			for key, d := range lavish.decided {
				if !reflect.DeepEqual(d, frugal.decided[key]) {
					t.Fatalf("after %+v the decision of %s is %+v, planned anew it would be %+v", fact, key, frugal.decided[key], d)
				}
			}
		}
	})
}
