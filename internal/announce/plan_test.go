package announce_test

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

func set(prefixes ...string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(netip.MustParsePrefix(p))
	}
	s, err := b.IPSet()
	if err != nil {
		panic(err)
	}
	return s
}

func only(key, value string) announce.Selectors {
	return announce.Selectors{labels.SelectorFromSet(labels.Set{key: value})}
}

// node is a healthy node n with the LAN 10.0.0.0/24 on eth0.
func node(n string, address string, edit ...func(*announce.Node)) announce.Node {
	prefix := netip.MustParsePrefix(address + "/24")
	made := announce.Node{
		Name: name.NodeName(n), Labels: labels.Set{"name": n}, Addresses: []netip.Addr{prefix.Addr()}, Health: announce.Alive, Proxy: announce.ProxyReady,
		Interfaces: []announce.Interface{
			{Name: "eth0", Up: true, Prefixes: []netip.Prefix{prefix}},
			{Name: "eth1", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}},
		},
		Established: []announce.Session{{Peer: "r4", IPv4: announce.Carried}, {Peer: "r6", IPv6: announce.Carried}},
	}
	for _, e := range edit {
		e(&made)
	}
	return made
}

// world is three healthy nodes, of which "a" plans, two pools and two peers.
func world() announce.View {
	return announce.View{
		Self: "a", Joined: true,
		Namespaces: map[string]labels.Set{"shop": {"tier": "web"}},
		Nodes:      []announce.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3")},
		Config: announce.Config{
			Pools: []announce.Pool{
				{Name: "lan", Addresses: set("10.0.0.128/25")},
				{Name: "wan", Labels: labels.Set{"kind": "wan"}, Addresses: set("192.0.2.0/24", "2001:db8::/64"), Origin: set("203.0.113.0/24")},
			},
			Peers: []announce.NodePeer{
				{Peer: announce.Peer{Name: "r4", IPv4: true}},
				{Peer: announce.Peer{Name: "r6", IPv6: true}},
			},
		},
	}
}

func l2(edit func(*announce.L2Advertisement)) func(*announce.View) {
	return func(v *announce.View) {
		var adv announce.L2Advertisement
		if edit != nil {
			edit(&adv)
		}
		v.Config.L2 = append(v.Config.L2, adv)
	}
}

func bgp(edit func(*announce.BGPAdvertisement)) func(*announce.View) {
	return func(v *announce.View) {
		adv := announce.BGPAdvertisement{Length4: 32, Length6: 128}
		if edit != nil {
			edit(&adv)
		}
		v.Config.BGP = append(v.Config.BGP, adv)
	}
}

// ownNode lets the planning node alone announce.
func ownNode(a *announce.L2Advertisement) { a.Nodes = only("name", "a") }

// conflict is one over 10.0.0.200.
func conflict(c announce.Conflict) func(*announce.View) {
	return func(v *announce.View) {
		c.Address, c.MAC, c.Interface = netip.MustParseAddr("10.0.0.200"), announce.MAC{2, 0, 0, 0, 0, 9}, "eth0"
		v.Conflicts = map[netip.Addr]announce.Conflict{c.Address: c}
	}
}

func eachNode(edit func(*announce.Node)) func(*announce.View) {
	return func(v *announce.View) {
		for i := range v.Nodes {
			edit(&v.Nodes[i])
		}
	}
}

// service has an endpoint on every node, for addresses written with blanks between.
func service(addresses string) announce.Service {
	s := announce.Service{
		Key: name.ServiceKey{Namespace: "shop", Name: "web"}, Allocated: true, Labels: labels.Set{"app": "web"},
		Endpoints: map[name.NodeName]announce.Endpoints{"a": {Ready: 1}, "b": {Ready: 1}, "c": {Ready: 1}},
	}
	for _, a := range strings.Fields(addresses) {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return s
}

func with(s announce.Service, edit func(*announce.Service)) announce.Service {
	edit(&s)
	return s
}

// planned is what the view's node decides of a Service that is a unit of its own.
func planned(s announce.Service, v *announce.View) announce.Decision {
	u := announce.Unit{Services: []announce.Service{s}}
	if len(s.Addresses) > 0 {
		u.Name = slices.MinFunc(s.Addresses, netip.Addr.Compare)
	}
	return announce.Plan(u, v, time.Time{}).Decisions[0]
}

// verdictCase is a row of TestVerdict.
type verdictCase struct {
	name    string
	service announce.Service
	view    []func(*announce.View)
	owner   name.NodeName // "*" is any
	reason  v1alpha1.Reason
	says    string
}

// announced says whether the row's reason is that of an announced Service, maybe with a warning.
func (c verdictCase) announced() bool {
	if c.reason == v1alpha1.ReasonAddressConflict {
		return strings.HasPrefix(c.says, "answers")
	}
	return slices.Contains([]v1alpha1.Reason{v1alpha1.ReasonAnnounced, v1alpha1.ReasonServiceProxyUnknown, v1alpha1.ReasonStrictARPMissing}, c.reason)
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	local := func(endpoints map[name.NodeName]announce.Endpoints) func(*announce.Service) {
		return func(s *announce.Service) { s.Local, s.Endpoints = true, endpoints }
	}
	down := func(n *announce.Node) { n.Interfaces[0].Up = false }
	for _, tc := range []verdictCase{
		{name: "no advertisement", service: service("10.0.0.200"), reason: v1alpha1.ReasonNoAdvertisement, says: "No L2Advertisement"},
		{name: "a Service that is not Allocated is not announced", service: with(service("10.0.0.200"), func(s *announce.Service) { s.Allocated = false }), view: []func(*announce.View){l2(nil)}},
		{name: "an address of no pool is not announced", service: service("198.51.100.1"), view: []func(*announce.View){l2(nil), bgp(nil)}, reason: v1alpha1.ReasonNoAdvertisement},
		{name: "an address that its pool retains is announced", service: service("203.0.113.9"), view: []func(*announce.View){bgp(nil)}, reason: v1alpha1.ReasonAnnounced},
		{name: "layer 2 has one owner", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "answers on eth0."},
		{name: "an advertisement of another pool does not count", service: service("10.0.0.200"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Pools.Names = []name.PoolName{"wan"} })}, reason: v1alpha1.ReasonNoAdvertisement},
		{name: "pool names and selectors are ORed", service: service("192.0.2.1"), view: []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) {
			a.Pools = announce.Names[name.PoolName]{Names: []name.PoolName{"lan"}, Selectors: only("kind", "wan")}
		})}, reason: v1alpha1.ReasonAnnounced},
		{name: "an advertisement of another namespace does not count", service: service("10.0.0.200"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Namespaces = only("tier", "db") })}, reason: v1alpha1.ReasonNoAdvertisement},
		{name: "an advertisement of other Services does not count", service: service("10.0.0.200"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Services = only("app", "db") })}, reason: v1alpha1.ReasonNoAdvertisement},
		{name: "only selected nodes own", service: service("10.0.0.200"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Nodes = only("name", "b") })}, owner: "b", reason: v1alpha1.ReasonAnnounced},
		{name: "no endpoint anywhere", service: with(service("10.0.0.200"), func(s *announce.Service) { s.Endpoints = nil }), view: []func(*announce.View){l2(nil)}, reason: v1alpha1.ReasonNoEndpoints},
		{name: "one that terminates counts if none is ready", service: with(service("10.0.0.200"), local(map[name.NodeName]announce.Endpoints{"b": {Serving: 1}})), view: []func(*announce.View){l2(nil)}, owner: "b", reason: v1alpha1.ReasonAnnounced},
		{name: "one that terminates does not count if one is ready elsewhere", service: with(service("10.0.0.200"), local(map[name.NodeName]announce.Endpoints{"b": {Serving: 1}, "c": {Ready: 1}})), view: []func(*announce.View){l2(nil)}, owner: "c", reason: v1alpha1.ReasonAnnounced},
		{name: "an endpoint without a node serves policy Cluster", service: with(service("10.0.0.200"), func(s *announce.Service) { s.Endpoints = map[name.NodeName]announce.Endpoints{"": {Ready: 1}} }), view: []func(*announce.View){l2(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced},
		{name: "an endpoint without a node does not serve policy Local", service: with(service("10.0.0.200"), local(map[name.NodeName]announce.Endpoints{"": {Ready: 1}})), view: []func(*announce.View){l2(nil)}, reason: v1alpha1.ReasonNoEligibleNode, says: "Local"},
		{name: "every node excluded", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.Excluded = true })}, reason: v1alpha1.ReasonAllNodesExcluded, says: "exclude-from-external-load-balancers"},
		{name: "every network unavailable", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.NetworkUnavailable = true })}, reason: v1alpha1.ReasonNoEligibleNode},
		{name: "no speaker alive", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.Health = announce.Dead })}, reason: v1alpha1.ReasonNoEligibleNode, says: "On none of the 3 nodes"},
		{name: "a speaker that has not joined owns nothing", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), func(v *announce.View) { v.Nodes[0].Health, v.Nodes[2].Health = announce.Silent, announce.Dead }}, owner: "b", reason: v1alpha1.ReasonAnnounced},
		{name: "layer 2 carries both families", service: service("10.0.0.200 2001:db8::1"), view: []func(*announce.View){l2(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "answers on eth0."},
		{name: "an advertisement of one family's pool leaves the other out", service: service("10.0.0.200 2001:db8::1"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Pools.Names = []name.PoolName{"lan"} })}, owner: "*", reason: v1alpha1.ReasonNoAdvertisement, says: "Not announced: 2001:db8::1."},
		{name: "a dead speaker owns nothing", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), func(v *announce.View) { v.Nodes[0].Health, v.Nodes[2].Health = announce.Dead, announce.Dead }}, owner: "b", reason: v1alpha1.ReasonAnnounced},
		{name: "an interface that is down is none, though the other one holds an address", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(down)}, reason: v1alpha1.ReasonNoInterface},
		{name: "globs choose the interface", service: service("10.0.0.200"), view: []func(*announce.View){l2(func(a *announce.L2Advertisement) { a.Interfaces = []string{"*1"} })}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "on eth1."},
		{name: "a foreign network is announced where the node's address is", service: service("192.0.2.1"), view: []func(*announce.View){l2(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "on eth0."},
		{name: "layer 2 carries IPv6", service: service("2001:db8::1"), view: []func(*announce.View){l2(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "answers on eth0."},
		{name: "every node drained", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.Drain = "cordoned" })}, reason: v1alpha1.ReasonNoEligibleNode, says: "a (cordoned), b (cordoned)"},
		{name: "no service proxy is ready", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.Proxy = announce.ProxyNotReady })}, reason: v1alpha1.ReasonServiceProxyNotReady},
		{name: "the service proxy of one node is ready", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), func(v *announce.View) {
			v.Nodes[0].Proxy, v.Nodes[2].Proxy = announce.ProxyNotReady, announce.ProxyNotReady
		}}, owner: "b", reason: v1alpha1.ReasonAnnounced},
		{name: "a service proxy that does not say is a warning", service: service("10.0.0.200"), view: []func(*announce.View){l2(nil), eachNode(func(n *announce.Node) { n.Proxy = announce.ProxyUnknown })}, owner: "*", reason: v1alpha1.ReasonServiceProxyUnknown, says: "answers on eth0."},
		{name: "another host was there first", service: service("10.0.0.200"), view: []func(*announce.View){l2(ownNode), conflict(announce.Conflict{Probe: true})}, owner: "a", reason: v1alpha1.ReasonAddressConflict, says: "02:00:00:00:00:09"},
		{name: "another host came later", service: service("10.0.0.200"), view: []func(*announce.View){l2(ownNode), conflict(announce.Conflict{})}, owner: "a", reason: v1alpha1.ReasonAddressConflict, says: "answers on eth0. Another host"},
		{name: "a node answers though it should not", service: service("10.0.0.200"), view: []func(*announce.View){l2(ownNode), conflict(announce.Conflict{Node: "b"})}, owner: "a", reason: v1alpha1.ReasonStrictARPMissing, says: "Node b"},
		{name: "BGP names the peers", service: service("192.0.2.1 2001:db8::1"), view: []func(*announce.View){bgp(nil)}, reason: v1alpha1.ReasonAnnounced, says: "by BGP to r4, r6."},
		{name: "no session is up", service: service("192.0.2.1"), view: []func(*announce.View){bgp(nil), eachNode(func(n *announce.Node) { n.Established = nil })}, reason: v1alpha1.ReasonSessionsDown},
		{name: "no peer takes the family", service: service("2001:db8::1"), view: []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) { a.Peers = []name.PeerName{"r4"} })}, reason: v1alpha1.ReasonSessionsDown, says: "No BGPPeer"},
		{name: "one family without a session is not announced in full", service: service("192.0.2.1 2001:db8::1"), view: []func(*announce.View){bgp(nil), eachNode(func(n *announce.Node) { n.Established = n.Established[:1] })}, reason: v1alpha1.ReasonSessionsDown, says: "Not announced: 2001:db8::1"},
		{name: "a session that does not carry the family does not count", service: service("192.0.2.1 2001:db8::1"), view: []func(*announce.View){bgp(nil), eachNode(func(n *announce.Node) { n.Established[1].IPv6 = announce.NotCarried })}, reason: v1alpha1.ReasonSessionsDown, says: "Not announced: 2001:db8::1"},
		{name: "a family without a next hop is said so", service: service("192.0.2.1 2001:db8::1"), view: []func(*announce.View){bgp(nil), eachNode(func(n *announce.Node) { n.Established[1].IPv6 = announce.NoNextHop })}, reason: v1alpha1.ReasonNoNextHop, says: "Not announced: 2001:db8::1"},
		{name: "layer 2 and BGP together", service: service("192.0.2.1"), view: []func(*announce.View){l2(nil), bgp(nil)}, owner: "*", reason: v1alpha1.ReasonAnnounced, says: "by BGP to r4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := world()
			for _, edit := range tc.view {
				edit(&v)
			}
			d := planned(tc.service, &v)
			if d.Verdict.Reason != tc.reason || d.Verdict.Announced != tc.announced() || !strings.Contains(d.Verdict.Message, tc.says) {
				t.Errorf("got verdict %+v, want reason %q and a message with %q", d.Verdict, tc.reason, tc.says)
			}
			if tc.owner == "*" && d.Owner == "" || tc.owner != "*" && d.Owner != tc.owner {
				t.Errorf("got owner %q, want %q", d.Owner, tc.owner)
			}
			if (d.Owner == v.Self) != (len(d.Layer2) > 0) {
				t.Errorf("owner is %q, and %q answers for %v", d.Owner, v.Self, d.Layer2)
			}
		})
	}
}

func TestEveryNodeAgreesOnTheOwner(t *testing.T) {
	t.Parallel()
	v := world()
	l2(nil)(&v)
	answering := 0
	for _, n := range v.Nodes {
		v.Self = n.Name
		if d := planned(service("10.0.0.200"), &v); len(d.Layer2) > 0 {
			answering++
		}
	}
	if answering != 1 {
		t.Errorf("%d nodes answer for the address, want 1", answering)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	pref := uint32(200)
	blue, red := announce.Community{Global: 64512, Local1: 1}, announce.Community{Global: 64512, Local1: 2}
	for _, tc := range []struct {
		name    string
		service announce.Service
		view    []func(*announce.View)
		want    string
	}{
		{"host routes, each to the peers of its family", service("192.0.2.1 2001:db8::1"), []func(*announce.View){bgp(nil)}, "192.0.2.1/32>r4 2001:db8::1/128>r6"},
		{"an aggregate within the pool", service("192.0.2.1 2001:db8::1"), []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) { a.Length4, a.Length6 = 25, 64 })}, "192.0.2.0/25>r4 2001:db8::/64>r6"},
		{"an aggregate wider than the pool is a host route", service("192.0.2.1"), []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) { a.Length4 = 16 })}, "192.0.2.1/32>r4"},
		{"only named peers", service("192.0.2.1 2001:db8::1"), []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) { a.Peers = []name.PeerName{"r6"} })}, "2001:db8::1/128>r6"},
		{"only peers that are for this node", service("192.0.2.1"), []func(*announce.View){bgp(nil), func(v *announce.View) { v.Config.Peers[0].Nodes = only("name", "b") }}, ""},
		{"an advertisement for other nodes", service("192.0.2.1"), []func(*announce.View){bgp(func(a *announce.BGPAdvertisement) { a.Nodes = only("name", "b") })}, ""},
		{"policy Local without an endpoint here", with(service("192.0.2.1"), func(s *announce.Service) {
			s.Local, s.Endpoints = true, map[name.NodeName]announce.Endpoints{"b": {Ready: 1}}
		}), []func(*announce.View){bgp(nil)}, ""},
		{"an excluded node announces nothing", service("192.0.2.1"), []func(*announce.View){bgp(nil), func(v *announce.View) { v.Nodes[0].Excluded = true }}, ""},
		{"a node announces though nobody hears its gossip", service("192.0.2.1"), []func(*announce.View){bgp(nil), eachNode(func(n *announce.Node) { n.Health = announce.Dead })}, "192.0.2.1/32>r4"},
		{"communities are united, the older advertisement's preference wins", service("192.0.2.1"), []func(*announce.View){
			bgp(func(a *announce.BGPAdvertisement) { a.LocalPref, a.Communities = &pref, []announce.Community{red} }),
			bgp(func(a *announce.BGPAdvertisement) { a.Communities = []announce.Community{blue} }),
		}, "192.0.2.1/32>r4 pref=200 64512:1 64512:2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := world()
			for _, edit := range tc.view {
				edit(&v)
			}
			if got := write(planned(tc.service, &v).Routes); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func write(routes []announce.Route) string {
	var all []string
	for _, r := range routes {
		var peers []string
		for _, p := range r.Peers {
			peers = append(peers, string(p))
		}
		said := r.Prefix.String() + ">" + strings.Join(peers, ",")
		if r.LocalPref != nil {
			said += " pref=200"
		}
		for _, c := range r.Communities {
			said += " 64512:" + string(rune('0'+c.Local1))
		}
		all = append(all, said)
	}
	return strings.Join(all, " ")
}

func TestStep(t *testing.T) {
	t.Parallel()
	w := world()
	l2(nil)(&w)
	nodes := func(edit func(*announce.Node)) announce.NodesKnown {
		list := slices.Clone(w.Nodes)
		for i := range list {
			edit(&list[i])
		}
		return announce.NodesKnown{Nodes: list}
	}
	s, now := announce.NewState("a"), time.Time{}
	first := s.Step(now, announce.Configured{Config: w.Config}, announce.NamespacesKnown{Labels: w.Namespaces}, nodes(func(*announce.Node) {}),
		announce.Known{Service: service("10.0.0.200")})
	if len(first) != 1 || first[0].Decision.Owner == "" {
		t.Fatalf("first step: got %+v, want one Service with an owner", first)
	}
	if again := s.Step(now, announce.Known{Service: service("10.0.0.200")}, nodes(func(*announce.Node) {})); len(again) != 0 {
		t.Errorf("the same facts again: got changes %+v, want none", again)
	}
	smaller := w.Config
	smaller.Pools = []announce.Pool{{Name: "lan", Addresses: set("10.0.0.128/28"), Origin: w.Config.Pools[0].Addresses}}
	if got := s.Step(now, announce.Configured{Config: smaller}); len(got) != 0 {
		t.Errorf("the pool was edited and no longer contains the address: got %+v, want that nothing changes", got)
	}
	if got := s.Step(now, announce.MembersKnown{}); len(got) != 1 || got[0].Decision.Owner != "" {
		t.Errorf("gossip knows nobody: got %+v, want that nobody owns it", got)
	}
	now = now.Add(time.Hour)
	if got := s.Step(now, announce.MembersKnown{Joined: true, Members: []announce.Member{{Node: "a", Health: announce.Alive}}}); len(got) != 1 || got[0].Decision.Owner != "a" || len(got[0].Decision.Layer2) != 0 {
		t.Errorf("gossip knows a alone: got %+v, want that a is about to answer", got)
	}
	now = now.Add(time.Second)
	if got := s.Step(now); len(got) != 1 || got[0].Decision.Owner != "a" || len(got[0].Decision.Layer2) != 1 {
		t.Errorf("a while later: got %+v, want that a answers", got)
	}
	if got := s.Step(now, announce.SelfKnown{Proxy: announce.ProxyReady}); len(got) != 1 || got[0].Decision.Verdict.Reason != v1alpha1.ReasonNoInterface {
		t.Errorf("the own links are gone: got %+v, want NoInterface", got)
	}
	if got := s.Step(now, announce.Gone{Service: service("").Key}); len(got) != 1 || !got[0].Gone || !reflect.DeepEqual(got[0].Decision, announce.Decision{}) {
		t.Errorf("the Service is gone: got %+v, want that nothing is announced", got)
	}
	if got := s.Step(now, announce.Gone{Service: service("").Key}); len(got) != 0 {
		t.Errorf("it is gone still: got %+v, want nothing", got)
	}
}

func matching(t *testing.T, selector string) announce.Selectors {
	t.Helper()
	s, err := labels.Parse(selector)
	if err != nil {
		t.Fatal(err)
	}
	return announce.Selectors{s}
}

func TestSharersHaveOneOwner(t *testing.T) {
	t.Parallel()
	on := func(service, node string) func(*announce.View) {
		return l2(func(adv *announce.L2Advertisement) {
			adv.Services = matching(t, "app="+service)
			if node != "" {
				adv.Nodes = matching(t, "name in ("+node+")")
			}
		})
	}
	sharing := func(app, addresses string) announce.Service {
		return with(service(addresses), func(s *announce.Service) { s.Key.Name, s.Labels = app, labels.Set{"app": app} })
	}
	for _, tc := range []struct {
		name     string
		view     []func(*announce.View)
		services []announce.Service
		owners   string // of the services in their order; "-" is none
	}{
		{name: "the owner is a node that may announce both", view: []func(*announce.View){on("x", "a, b"), on("y", "b, c")}, services: []announce.Service{sharing("x", "10.0.0.200"), sharing("y", "10.0.0.200")}, owners: "b b"},
		{name: "without such a node nobody owns it", view: []func(*announce.View){on("x", "a"), on("y", "c")}, services: []announce.Service{sharing("x", "10.0.0.200"), sharing("y", "10.0.0.200")}, owners: "- -"},
		{name: "who is connected by a third counts too", view: []func(*announce.View){on("x", "a, b"), on("y", ""), on("z", "b, c")}, services: []announce.Service{sharing("x", "10.0.0.200"), sharing("y", "10.0.0.200 10.0.0.201"), sharing("z", "10.0.0.201")}, owners: "b b b"},
		{name: "one that no advertisement selects does not matter", view: []func(*announce.View){on("x", "a")}, services: []announce.Service{sharing("x", "10.0.0.200"), sharing("y", "10.0.0.200")}, owners: "a -"},
		{name: "one that is not Allocated does not matter", view: []func(*announce.View){on("x", "a"), on("y", "c")}, services: []announce.Service{
			sharing("x", "10.0.0.200"), with(sharing("y", "10.0.0.200"), func(s *announce.Service) { s.Allocated = false }),
		}, owners: "a -"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := world()
			for _, edit := range tc.view {
				edit(&v)
			}
			s, now := announce.NewState("a"), time.Time{}
			s.Step(now, announce.Configured{Config: v.Config}, announce.NamespacesKnown{Labels: v.Namespaces}, announce.NodesKnown{Nodes: v.Nodes})
			owners := map[string]name.NodeName{}
			for _, one := range tc.services { // one after the other: the first is planned anew for the last
				for _, c := range s.Step(now, announce.Known{Service: one}) {
					owners[c.Service.Key.Name] = c.Decision.Owner
				}
			}
			var got []string
			for _, one := range tc.services {
				got = append(got, cmp.Or(string(owners[one.Key.Name]), "-"))
			}
			if strings.Join(got, " ") != tc.owners {
				t.Errorf("got owners %v, want %s", got, tc.owners)
			}
			alone := announce.Gone{Service: tc.services[len(tc.services)-1].Key}
			for _, c := range s.Step(now, alone) {
				owners[c.Service.Key.Name] = c.Decision.Owner
			}
			if owners[tc.services[0].Key.Name] == "" {
				t.Errorf("the last has gone, and nobody owns the first: %v", owners)
			}
		})
	}
}

func TestAnAttributeThatIsSetToZeroIsSet(t *testing.T) {
	t.Parallel()
	three := announce.Attributes{Prepend: new(uint32(3)), MED: new(uint32(3)), LocalPref: new(uint32(3))}
	zero := announce.Attributes{Prepend: new(uint32(0)), MED: new(uint32(0)), LocalPref: new(uint32(0))}
	if u := zero.Unite(three); u.Prepends() != 0 || *u.MED != 0 || *u.LocalPref != 0 {
		t.Errorf("the first sets zeros, and %d, %d, %d are sent", u.Prepends(), *u.MED, *u.LocalPref)
	}
	if u := (announce.Attributes{}).Unite(three); u.Prepends() != 3 || *u.MED != 3 || *u.LocalPref != 3 {
		t.Errorf("the first sets nothing, and %d, %d, %d are sent", u.Prepends(), *u.MED, *u.LocalPref)
	}
}
