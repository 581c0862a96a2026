package config_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
)

// meta names an object; objects are older the smaller their age.
func meta(name string, born int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(born), 0))}
}

func pool(name string, born int, addresses ...string) v1alpha1.IPAddressPool {
	return v1alpha1.IPAddressPool{ObjectMeta: meta(name, born), Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
}

// ranges writes what each pool hands out.
func ranges(c config.Compiled) string {
	var pools []string
	for _, p := range c.Pools {
		pools = append(pools, string(p.Name)+": "+strings.Join(config.FormatRanges(p.Ranges), " "))
	}
	return strings.Join(pools, "; ")
}

func TestPools(t *testing.T) {
	t.Parallel()
	edit := func(p v1alpha1.IPAddressPool, e func(*v1alpha1.IPAddressPoolSpec)) v1alpha1.IPAddressPool {
		e(&p.Spec)
		return p
	}
	allocation := func(priority int32) func(*v1alpha1.IPAddressPoolSpec) {
		return func(s *v1alpha1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1alpha1.ServiceAllocation{Priority: &priority}
		}
	}
	for _, tc := range []struct {
		name     string
		pools    []v1alpha1.IPAddressPool
		reserved string
		want     string
		reason   v1alpha1.Reason
		says     string
	}{
		{
			name: "CIDR, range and single address keep their order", pools: []v1alpha1.IPAddressPool{pool("a", 1, "198.51.100.0/30", "192.0.2.5-192.0.2.9", "192.0.2.1")},
			want: "a: 198.51.100.0-198.51.100.3 192.0.2.5-192.0.2.9 192.0.2.1",
		},
		{name: "an entry that repeats counts once", pools: []v1alpha1.IPAddressPool{pool("a", 1, "192.0.2.0/30", "192.0.2.2-192.0.2.5")}, want: "a: 192.0.2.0-192.0.2.3 192.0.2.4-192.0.2.5"},
		{name: "excluded addresses are cut out", pools: []v1alpha1.IPAddressPool{edit(pool("a", 1, "192.0.2.0/29"), func(s *v1alpha1.IPAddressPoolSpec) { s.Exclude = []string{"192.0.2.1", "192.0.2.4/30"} })}, want: "a: 192.0.2.0 192.0.2.2-192.0.2.3"},
		{name: "an IPv6 CIDR lacks its first address", pools: []v1alpha1.IPAddressPool{pool("a", 1, "2001:db8::10/124")}, want: "a: 2001:db8::11-2001:db8::1f"},
		{
			name: "the older of two keeps what both contain", pools: []v1alpha1.IPAddressPool{pool("a", 2, "192.0.2.0/29"), pool("b", 1, "192.0.2.4-192.0.2.20")},
			want: "a: 192.0.2.0-192.0.2.3; b: 192.0.2.4-192.0.2.20", reason: v1alpha1.ReasonOverlap, says: "b at 192.0.2.4-192.0.2.7",
		},
		{name: "of two of one age the first by name is older", pools: []v1alpha1.IPAddressPool{pool("b", 1, "192.0.2.0/29"), pool("a", 1, "192.0.2.0/29")}, want: "a: 192.0.2.0-192.0.2.7; b: ", reason: v1alpha1.ReasonOverlap},
		{name: "reserved addresses are cut out", pools: []v1alpha1.IPAddressPool{pool("a", 1, "192.0.2.0/29")}, reserved: "192.0.2.3/32 10.0.0.0/8", want: "a: 192.0.2.0-192.0.2.2 192.0.2.4-192.0.2.7", reason: v1alpha1.ReasonReservedOverlap, says: "192.0.2.3"},
		{name: "a reversed range is left out", pools: []v1alpha1.IPAddressPool{pool("a", 1, "192.0.2.9-192.0.2.1", "192.0.2.20")}, want: "a: 192.0.2.20", reason: v1alpha1.ReasonInvalidAddress, says: "did you mean"},
		{name: "a drained pool says so", pools: []v1alpha1.IPAddressPool{edit(pool("a", 1, "192.0.2.1"), func(s *v1alpha1.IPAddressPoolSpec) { s.Drain = true })}, want: "a: 192.0.2.1", reason: v1alpha1.ReasonDraining},
		{
			name: "pools are tried by priority, then those without, then the open ones by name", pools: []v1alpha1.IPAddressPool{
				pool("open2", 1, "192.0.2.1"), pool("open1", 2, "192.0.2.2"), edit(pool("last", 3, "192.0.2.3"), allocation(0)),
				edit(pool("second", 4, "192.0.2.4"), allocation(20)), edit(pool("first", 5, "192.0.2.5"), allocation(10)),
			},
			want: "first: 192.0.2.5; second: 192.0.2.4; last: 192.0.2.3; open1: 192.0.2.2; open2: 192.0.2.1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := config.Objects{Pools: tc.pools}
			for _, r := range strings.Fields(tc.reserved) {
				o.Reserved = append(o.Reserved, netip.MustParsePrefix(r))
			}
			c := config.Compile(o)
			if got := ranges(c); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			expect(t, c.Problems, tc.reason, tc.says)
		})
	}
}

func TestAggregatesMaySpanAllButWhatIsExcluded(t *testing.T) {
	t.Parallel()
	excluding := pool("b", 2, "198.51.100.0/24")
	excluding.Spec.Exclude = []string{"198.51.100.7"}
	c := config.Compile(config.Objects{Pools: []v1alpha1.IPAddressPool{pool("a", 1, "2001:db8::/64"), excluding}})
	for prefix, want := range map[string]bool{"2001:db8::/64": true, "2001:db8::/60": false, "198.51.100.0/24": false, "198.51.100.128/25": true} {
		got := slices.ContainsFunc(c.Announce.Pools, func(p announce.Pool) bool { return p.Addresses.ContainsPrefix(netip.MustParsePrefix(prefix)) })
		if got != want {
			t.Errorf("%s lies within what may be announced: got %t, want %t", prefix, got, want)
		}
	}
}

func TestWhatAPoolSpannedBeforeAnEditIsStillItsOwn(t *testing.T) {
	t.Parallel()
	p := pool("a", 1, "192.0.2.0/25")
	p.Spec.Exclude = []string{"192.0.2.7"}
	p.Status.ObservedAddresses = []string{"192.0.2.0/24"}
	p.Status.Retained = []string{"198.51.100.9"}
	c := config.Compile(config.Objects{Pools: []v1alpha1.IPAddressPool{p}})
	for address, want := range map[string]bool{"192.0.2.7": true, "192.0.2.200": true, "198.51.100.9": true, "198.51.100.8": false} {
		a := netip.MustParseAddr(address)
		allocating := slices.ContainsFunc(c.Pools[0].Origin, func(r netipx.IPRange) bool { return r.Contains(a) })
		if announcing := c.Announce.Pools[0].Origin.Contains(a); announcing != want || allocating != want {
			t.Errorf("%s belongs to the pool when it is held: got %t for announcing and %t for allocating, want %t", address, announcing, allocating, want)
		}
	}
}

// expect checks that there is exactly one problem, or none for "".
func expect(t *testing.T, problems []config.Problem, reason v1alpha1.Reason, says string) {
	t.Helper()
	if reason == "" {
		if len(problems) > 0 {
			t.Errorf("got problems %+v, want none", problems)
		}
		return
	}
	if len(problems) != 1 || problems[0].Reason != reason || !strings.Contains(problems[0].Message, says) {
		t.Errorf("got problems %+v, want one, %s, that says %q", problems, reason, says)
	}
}

func TestAdvertisementsAndPeers(t *testing.T) {
	t.Parallel()
	asn, bits := int64(64513), int32(20)
	internal := v1alpha1.DynamicASNInternal
	peer := func(edit func(*v1alpha1.BGPPeerSpec)) config.Objects {
		p := v1alpha1.BGPPeer{ObjectMeta: meta("r1", 1), Spec: v1alpha1.BGPPeerSpec{MyASN: 64512, PeerASN: &asn, PeerAddress: "192.0.2.254"}}
		if edit != nil {
			edit(&p.Spec)
		}
		return config.Objects{Peers: []v1alpha1.BGPPeer{p}}
	}
	secret := func(o config.Objects, kind corev1.SecretType, data map[string][]byte) config.Objects {
		o.Secrets = []corev1.Secret{{ObjectMeta: meta("md5", 1), Type: kind, Data: data}}
		return o
	}
	password := func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "md5"} }
	l2 := func(spec v1alpha1.L2AdvertisementSpec) config.Objects {
		return config.Objects{L2: []v1alpha1.L2Advertisement{{ObjectMeta: meta("adv", 1), Spec: spec}}}
	}
	bgp := func(spec v1alpha1.BGPAdvertisementSpec) config.Objects {
		return config.Objects{BGP: []v1alpha1.BGPAdvertisement{{ObjectMeta: meta("adv", 1), Spec: spec}}, Pools: []v1alpha1.IPAddressPool{pool("p", 1, "192.0.2.0/24")}}
	}
	for _, tc := range []struct {
		name    string
		objects config.Objects
		peers   int
		reason  v1alpha1.Reason
		says    string
	}{
		{"a plain peer", peer(nil), 1, "", ""},
		{"a disabled peer has no session", peer(func(s *v1alpha1.BGPPeerSpec) { s.Disabled = true }), 0, "", ""},
		{"a peer whose Secret is missing has no session", peer(password), 0, v1alpha1.ReasonSecretMissing, "md5 does not exist"},
		{"a peer whose Secret is of another type has no session", secret(peer(password), corev1.SecretTypeOpaque, nil), 0, v1alpha1.ReasonSecretMissing, "kubernetes.io/basic-auth"},
		{"a peer whose Secret has no password has no session", secret(peer(password), corev1.SecretTypeBasicAuth, nil), 0, v1alpha1.ReasonSecretMissing, "no key password"},
		{"a peer with its Secret", secret(peer(password), corev1.SecretTypeBasicAuth, map[string][]byte{"password": []byte("x")}), 1, "", ""},
		{"a dynamic AS number", peer(func(s *v1alpha1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = nil, &internal }), 1, "", ""},
		{"a router that is to be found", peer(func(s *v1alpha1.BGPPeerSpec) { s.PeerAddress, s.Interface = "", "eth0" }), 1, "", ""},
		{"graceful restart without BFD is a warning", peer(func(s *v1alpha1.BGPPeerSpec) { s.GracefulRestart = &v1alpha1.GracefulRestart{} }), 1, v1alpha1.ReasonNoBFD, "keep the routes of a node that is dead for 30s"},
		{"a peer whose BFD profile is missing has a session without", peer(func(s *v1alpha1.BGPPeerSpec) { s.BFDProfile = "fast" }), 1, v1alpha1.ReasonProfileMissing, "fast"},
		{"an L2Advertisement that names a pool that is not there", l2(v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{"gone"}}), 0, v1alpha1.ReasonPoolMissing, "gone"},
		{"an invalid selector", l2(v1alpha1.L2AdvertisementSpec{NodeSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}}}), 0, v1alpha1.ReasonInvalid, "selects nothing"},
		{"a malformed glob", l2(v1alpha1.L2AdvertisementSpec{Interfaces: []string{"eth["}}), 0, v1alpha1.ReasonInvalid, "eth["},
		{"a BGPAdvertisement that names a peer that is not there", bgp(v1alpha1.BGPAdvertisementSpec{Peers: []string{"gone"}}), 0, v1alpha1.ReasonPeerMissing, "gone"},
		{"an unknown community alias", bgp(v1alpha1.BGPAdvertisementSpec{Communities: []string{"vpn"}}), 0, v1alpha1.ReasonInvalid, `"vpn"`},
		{"a well-known community", bgp(v1alpha1.BGPAdvertisementSpec{Communities: []string{"no-export"}}), 0, "", ""},
		{"an aggregate that no pool holds", bgp(v1alpha1.BGPAdvertisementSpec{AggregationLength: &bits}), 0, v1alpha1.ReasonAggregateTooWide, "/20"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := config.Compile(tc.objects)
			expect(t, c.Problems, tc.reason, tc.says)
			if len(c.Announce.Peers) != tc.peers {
				t.Errorf("got %d peers, want %d", len(c.Announce.Peers), tc.peers)
			}
		})
	}
}

func TestPeersThatAreInEachOthersWay(t *testing.T) {
	t.Parallel()
	asn := int64(64513)
	west := []metav1.LabelSelector{{MatchLabels: map[string]string{"zone": "west"}}}
	east := []metav1.LabelSelector{{MatchLabels: map[string]string{"zone": "east"}}}
	type peer struct {
		address, id string
		nodes       []metav1.LabelSelector
	}
	for _, tc := range []struct {
		name  string
		peers []peer // the oldest first
		want  string // reasons, by peer
	}{
		{"two routers", []peer{{"192.0.2.1", "", nil}, {"192.0.2.2", "", nil}}, ""},
		{"one router twice", []peer{{"192.0.2.1", "", nil}, {"192.0.2.1", "", nil}}, "p2 Invalid"},
		{"one router, on some nodes twice", []peer{{"192.0.2.1", "", west}, {"192.0.2.1", "", nil}}, "p2 Invalid"},
		{"one router, from different nodes", []peer{{"192.0.2.1", "", west}, {"192.0.2.1", "", east}}, ""},
		{"one router ID", []peer{{"192.0.2.1", "10.0.0.1", nil}, {"192.0.2.2", "10.0.0.1", nil}}, ""},
		{"one that does not say", []peer{{"192.0.2.1", "10.0.0.1", nil}, {"192.0.2.2", "", nil}}, ""},
		{"two router IDs", []peer{{"192.0.2.1", "10.0.0.1", nil}, {"192.0.2.2", "10.0.0.2", nil}}, "p2 RouterIDConflict"},
		{"two router IDs of different nodes", []peer{{"192.0.2.1", "10.0.0.1", west}, {"192.0.2.2", "10.0.0.2", east}}, ""},
		{"a conflict with one that is not the oldest", []peer{{"192.0.2.1", "10.0.0.1", west}, {"192.0.2.2", "10.0.0.2", east}, {"192.0.2.3", "10.0.0.3", east}}, "p3 RouterIDConflict"},
		{"as the oldest, after one that was not right", []peer{{"192.0.2.1", "10.0.0.1", nil}, {"192.0.2.2", "10.0.0.2", nil}, {"192.0.2.3", "10.0.0.1", nil}}, "p2 RouterIDConflict"},
		{"as the oldest, which is for fewer nodes", []peer{{"192.0.2.1", "10.0.0.1", west}, {"192.0.2.2", "10.0.0.2", east}, {"192.0.2.3", "10.0.0.1", nil}}, "p3 RouterIDConflict"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var o config.Objects
			for i, p := range tc.peers {
				o.Peers = append(o.Peers, v1alpha1.BGPPeer{ObjectMeta: meta(fmt.Sprintf("p%d", i+1), i+1), Spec: v1alpha1.BGPPeerSpec{
					MyASN: 64512, PeerASN: &asn, PeerAddress: p.address, RouterID: p.id, NodeSelectors: p.nodes,
				}})
			}
			c := config.Compile(o)
			var got []string
			for _, p := range c.Problems {
				got = append(got, p.Name+" "+string(p.Reason))
			}
			if strings.Join(got, ", ") != tc.want || len(c.Announce.Peers) != len(tc.peers) {
				t.Errorf("problems %v and %d peers, want %q and %d", c.Problems, len(c.Announce.Peers), tc.want, len(tc.peers))
			}
		})
	}
}

func TestAggregatesThatThePoolsDoNotHold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		addresses []string
		exclude   []string
		bits      int32
		wide      bool
	}{
		{"the pool is one", []string{"192.0.2.0/24"}, nil, 24, false},
		{"the pool is several", []string{"192.0.2.0/24"}, nil, 26, false},
		{"the pool is less", []string{"192.0.2.0/24"}, nil, 20, true},
		{"the last is cut off", []string{"192.0.2.0-192.0.2.100"}, nil, 26, true},
		{"the first is cut off", []string{"192.0.2.10-192.0.2.127"}, nil, 26, true},
		{"two entries are one", []string{"192.0.2.0/25", "192.0.2.128/25"}, nil, 24, false},
		{"one is excluded in part", []string{"192.0.2.0/24"}, []string{"192.0.2.77"}, 26, true},
		{"one is excluded wholly", []string{"192.0.2.0/24"}, []string{"192.0.2.64/26"}, 26, false},
		{"host routes", []string{"192.0.2.10-192.0.2.100"}, []string{"192.0.2.77"}, 32, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := pool("p", 1, tc.addresses...)
			p.Spec.Exclude = tc.exclude
			c := config.Compile(config.Objects{
				Pools: []v1alpha1.IPAddressPool{p},
				BGP:   []v1alpha1.BGPAdvertisement{{ObjectMeta: meta("adv", 1), Spec: v1alpha1.BGPAdvertisementSpec{AggregationLength: &tc.bits}}},
			})
			reason := v1alpha1.Reason("")
			if tc.wide {
				reason = v1alpha1.ReasonAggregateTooWide
			}
			expect(t, c.Problems, reason, "host routes are announced")
		})
	}
	older, younger, bits := pool("older", 1, "192.0.2.0/26"), pool("younger", 2, "192.0.2.0/24"), int32(24)
	c := config.Compile(config.Objects{
		Pools: []v1alpha1.IPAddressPool{older, younger},
		BGP:   []v1alpha1.BGPAdvertisement{{ObjectMeta: meta("adv", 1), Spec: v1alpha1.BGPAdvertisementSpec{AggregationLength: &bits, IPAddressPools: []string{"younger"}}}},
	})
	if !slices.ContainsFunc(c.Problems, func(p config.Problem) bool { return p.Reason == v1alpha1.ReasonAggregateTooWide }) {
		t.Errorf("an older pool has a part of the aggregate: %v", c.Problems)
	}
}

func TestAttributesThatDisagreeAreSaidOfTheNewerAdvertisement(t *testing.T) {
	t.Parallel()
	value := func(n int64) *int64 { return &n }
	adv := func(n string, age int, spec v1alpha1.BGPAdvertisementSpec) v1alpha1.BGPAdvertisement {
		return v1alpha1.BGPAdvertisement{ObjectMeta: meta(n, age), Spec: spec}
	}
	west := []metav1.LabelSelector{{MatchLabels: map[string]string{"zone": "west"}}}
	east := []metav1.LabelSelector{{MatchLabels: map[string]string{"zone": "east"}}}
	bits := int32(30)
	for _, tc := range []struct {
		name string
		one  v1alpha1.BGPAdvertisementSpec
		two  v1alpha1.BGPAdvertisementSpec
		says string
	}{
		{"equal ones agree", v1alpha1.BGPAdvertisementSpec{MED: value(5)}, v1alpha1.BGPAdvertisementSpec{MED: value(5)}, ""},
		{"one that does not say agrees", v1alpha1.BGPAdvertisementSpec{MED: value(5)}, v1alpha1.BGPAdvertisementSpec{LocalPref: value(5)}, ""},
		{"different ones do not", v1alpha1.BGPAdvertisementSpec{MED: value(5), LocalPref: value(1)}, v1alpha1.BGPAdvertisementSpec{MED: value(0), LocalPref: value(2)}, "older BGPAdvertisement one gives other values of [localPref med]"},
		{"different peers", v1alpha1.BGPAdvertisementSpec{MED: value(5), Peers: []string{"a"}}, v1alpha1.BGPAdvertisementSpec{MED: value(6), Peers: []string{"b"}}, ""},
		{"a peer in common", v1alpha1.BGPAdvertisementSpec{MED: value(5), Peers: []string{"a"}}, v1alpha1.BGPAdvertisementSpec{MED: value(6)}, "[med]"},
		{"different nodes", v1alpha1.BGPAdvertisementSpec{MED: value(5), NodeSelectors: west}, v1alpha1.BGPAdvertisementSpec{MED: value(6), NodeSelectors: east}, ""},
		{"different pools", v1alpha1.BGPAdvertisementSpec{MED: value(5), IPAddressPools: []string{"p"}}, v1alpha1.BGPAdvertisementSpec{MED: value(6), IPAddressPools: []string{"q"}}, ""},
		{"no prepending is a value too", v1alpha1.BGPAdvertisementSpec{ASPathPrepend: new(int32(0))}, v1alpha1.BGPAdvertisementSpec{ASPathPrepend: new(int32(3))}, "[asPathPrepend]"},
		{"host routes and aggregates", v1alpha1.BGPAdvertisementSpec{MED: value(5)}, v1alpha1.BGPAdvertisementSpec{MED: value(6), AggregationLength: &bits}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := config.Objects{
				BGP:   []v1alpha1.BGPAdvertisement{adv("two", 2, tc.two), adv("one", 1, tc.one)},
				Pools: []v1alpha1.IPAddressPool{pool("p", 1, "192.0.2.0/24"), pool("q", 1, "198.51.100.0/24")},
			}
			for p, address := range map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"} {
				o.Peers = append(o.Peers, v1alpha1.BGPPeer{ObjectMeta: meta(p, 1), Spec: v1alpha1.BGPPeerSpec{MyASN: 1, PeerASN: value(2), PeerAddress: address}})
			}
			reason := v1alpha1.ReasonAttributeConflict
			if tc.says == "" {
				reason = ""
			}
			expect(t, config.Compile(o).Problems, reason, tc.says)
		})
	}
}

func TestBGPPeerFields(t *testing.T) {
	t.Parallel()
	asn, dynamic, hops := int64(64599), v1alpha1.DynamicASNExternal, &v1alpha1.TTLSecurity{Hops: 3}
	of := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	milliseconds := func(n int32) *int32 { return &n }
	c := config.Compile(config.Objects{
		Peers: []v1alpha1.BGPPeer{{ObjectMeta: meta("p", 1), Spec: v1alpha1.BGPPeerSpec{
			MyASN: 64512, LocalASN: &asn, DynamicASN: &dynamic, Interface: "eth0", TTLSecurity: hops, BFDProfile: "fast",
			HoldTime: of(0), GracefulRestart: &v1alpha1.GracefulRestart{RestartTime: of(time.Minute)},
		}}},
		BFDProfiles: []v1alpha1.BFDProfile{{ObjectMeta: meta("fast", 1), Spec: v1alpha1.BFDProfileSpec{TransmitInterval: milliseconds(100), DetectMultiplier: milliseconds(5), PassiveMode: true}}},
	})
	want := announce.Peer{
		Name: "p", MyASN: 64512, LocalASN: 64599, Dynamic: announce.External, Interface: "eth0", Port: 179, TTLSecurity: 3, Hold: announce.HoldForever,
		IPv4: true, IPv6: true, GracefulRestart: time.Minute,
		BFD: announce.BFD{Receive: 300 * time.Millisecond, Transmit: 100 * time.Millisecond, Multiplier: 5, Passive: true, MinimumTTL: 254},
	}
	if len(c.Problems) > 0 || len(c.Announce.Peers) != 1 || c.Announce.Peers[0].Peer != want {
		t.Errorf("problems %v, got %+v, want %+v", c.Problems, c.Announce.Peers, want)
	}
}

func TestOtherBGPPeerFields(t *testing.T) {
	t.Parallel()
	asn, port := int64(64513), int32(1790)
	of := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	c := config.Compile(config.Objects{Peers: []v1alpha1.BGPPeer{{ObjectMeta: meta("p", 1), Spec: v1alpha1.BGPPeerSpec{
		MyASN: 64512, PeerASN: &asn, PeerAddress: "2001:db8::1", PeerPort: &port, SourceAddress: "2001:db8::2", RouterID: "10.0.0.1", EBGPMultiHop: true,
		HoldTime: of(9 * time.Second), KeepaliveTime: of(2 * time.Second), ConnectTime: of(5 * time.Second), IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
	}}}})
	want := announce.Peer{
		Name: "p", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("2001:db8::1"), Port: 1790, Source: netip.MustParseAddr("2001:db8::2"),
		RouterID: netip.MustParseAddr("10.0.0.1"), MultiHop: true, Hold: 9 * time.Second, Keepalive: 2 * time.Second, Connect: 5 * time.Second, IPv4: true,
	}
	if len(c.Problems) > 0 || len(c.Announce.Peers) != 1 || c.Announce.Peers[0].Peer != want {
		t.Errorf("problems %v, got %+v, want %+v", c.Problems, c.Announce.Peers, want)
	}
}

func TestCommunities(t *testing.T) {
	t.Parallel()
	c := config.Compile(config.Objects{
		Communities: []v1alpha1.Community{{ObjectMeta: meta("c", 1), Spec: v1alpha1.CommunitySpec{Communities: []v1alpha1.CommunityAlias{{Name: "vpn", Value: "64512:200"}}}}},
		BGP: []v1alpha1.BGPAdvertisement{{ObjectMeta: meta("adv", 1), Spec: v1alpha1.BGPAdvertisementSpec{
			Communities: []string{"vpn", "no-export", "large:64512:1:2", "64512:200"},
		}}},
	})
	want := []announce.Community{{Global: 64512, Local1: 200}, {Global: 0xffff, Local1: 0xff01}, {Large: true, Global: 64512, Local1: 1, Local2: 2}}
	if got := c.Announce.BGP[0].Communities; !slices.Equal(got, want) || len(c.Problems) > 0 {
		t.Errorf("got %v and problems %v, want %v", got, c.Problems, want)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "203.0.113.7", "2001:db8::/64", "::1-::", "1.2.3.4/0", "fe80::1%eth0", "::ffff:1.2.3.4", "-", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := config.ParseRange(s)
		if err != nil {
			return
		}
		if !r.IsValid() || r.From().Is4In6() || r.From().Zone() != "" {
			t.Fatalf("%q gave %v", s, r)
		}
		again, err := config.ParseRange(config.FormatRanges([]netipx.IPRange{r})[0])
		if err != nil || again != r {
			t.Fatalf("%q gave %v, and that written gave %v, %v", s, r, again, err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add("192.0.2.1, 2001:db8::1", "", "key", "a,b", "claim")
	f.Add("", "192.0.2.1", " ", ",", "other/claim")
	f.Add(",", "::1%lo", "key", "A b", "..")
	f.Fuzz(func(t *testing.T, ips, field, key, from, claim string) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{
			v1alpha1.AnnotationLoadBalancerIPs: ips, v1alpha1.AnnotationAllowSharedIP: key,
			v1alpha1.AnnotationAllowSharedIPFrom: from, v1alpha1.AnnotationAddressClaim: claim,
		}}}
		s.Spec.LoadBalancerIP = field
		r := config.Request(s)
		for _, a := range r.Addresses {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%q and %q gave %v", ips, field, r.Addresses)
			}
		}
		if strings.TrimSpace(r.Sharing.Key) != r.Sharing.Key || strings.ContainsAny(r.Claim, "/ ") || slices.ContainsFunc(r.Sharing.From, func(n string) bool { return n == "" || strings.ContainsAny(n, ", /") }) {
			t.Fatalf("sharing %q from %q and claim %q gave %+v", key, from, claim, r.Holder)
		}
		if r.Invalid == "" && strings.TrimSpace(claim) != r.Claim {
			t.Fatalf("claim %q was read as %q without a complaint", claim, r.Claim)
		}
		if (r.Invalid == "") != !strings.HasSuffix(r.Invalid, ".") {
			t.Fatalf("%q is no sentence", r.Invalid)
		}
	})
}

func FuzzClaimRequest(f *testing.F) {
	f.Add("192.0.2.1", "2001:db8::1", "IPv4", "192.0.2.9")
	f.Add("", "::1%lo", "", "x")
	f.Fuzz(func(t *testing.T, first, second, family, status string) {
		c := &v1alpha1.AddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ip"}}
		c.Spec.Addresses, c.Spec.IPFamilies = []string{first, second}, []corev1.IPFamily{corev1.IPFamily(family)}
		c.Status.Addresses = []string{status}
		r := config.ClaimRequest(c)
		for _, a := range slices.Concat(r.Addresses, config.Claimed(c)) {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%+v gave %v and %v", c, r.Addresses, config.Claimed(c))
			}
		}
		if len(r.Families) == 0 || r.Required != len(r.Families) {
			t.Fatalf("%+v gave families %v, of which %d are required", c.Spec, r.Families, r.Required)
		}
	})
}
