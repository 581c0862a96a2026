package api

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// create asks the API server for an object with the given spec (YAML), without keeping it.
func create(t *testing.T, kind, name, spec string) (*unstructured.Unstructured, error) {
	t.Helper()
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(spec), &parsed); err != nil {
		t.Fatalf("parse spec: %v", err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": parsed}}
	object.SetGroupVersionKind(gvk(kind))
	object.SetName(name)
	if kind == "AddressClaim" {
		object.SetNamespace("default")
	}
	err := shared.admin.Create(t.Context(), object, client.DryRunAll, client.FieldValidation("Strict"))
	return object, err
}

func TestWhatTheSchemaAccepts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ says, kind, spec string }{
		{"CIDRs, ranges and single addresses of both families", "IPAddressPool", `{addresses: ["192.0.2.0/24", "198.51.100.10-198.51.100.50", "203.0.113.7", "2001:db8::/64", "2001:db8:1::1-2001:db8:1::ff", "2001:db8:2::7", "2001:DB8:3::/48"]}`},
		{"a reversed range, which the Ready condition reports", "IPAddressPool", `{addresses: ["192.0.2.20-192.0.2.10"]}`},
		{"a pool of 256 items of the greatest length", "IPAddressPool", `{addresses: [` + strings.Repeat(`"2001:0db8:1111:2222:3333:4444:5555:6666-2001:0db8:1111:2222:3333:4444:5555:7777",`, 256) + `]}`},
		{"a pool with every field", "IPAddressPool", `{addresses: [192.0.2.0/24], exclude: [192.0.2.1, 192.0.2.64/28], avoidBuggyIPs: false, autoAssign: false, drain: true, reclaimPolicy: Reassign, reuseDelay: 1m30s, serviceAllocation: {priority: 10, namespaces: [shop], namespaceSelectors: [{matchLabels: {tier: web}}], serviceSelectors: [{matchExpressions: [{key: expose, operator: In, values: ["true"]}]}], maxPerNamespace: 20}}`},
		{"a pool without reuse delay", "IPAddressPool", `{addresses: [192.0.2.0/24], reuseDelay: 0s}`},
		{"an AddressClaim of any address", "AddressClaim", `{}`},
		{"an AddressClaim with every field", "AddressClaim", `{pool: wan, addresses: ["192.0.2.1", "2001:db8::1"], ipFamilies: [IPv6, IPv4]}`},
		{"an L2Advertisement of everything", "L2Advertisement", `{}`},
		{"an L2Advertisement with every field", "L2Advertisement", `{ipAddressPools: [lan], ipAddressPoolSelectors: [{matchLabels: {a: b}}], namespaceSelectors: [{matchLabels: {a: b}}], serviceSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchLabels: {a: b}}], preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {a: b}}}], interfaces: [eth0, "bond*", "enp[0-9]s?", "eth0.100", "br-lan@x"]}`},
		{"a BGPAdvertisement of everything", "BGPAdvertisement", `{}`},
		{"a BGPAdvertisement with every field", "BGPAdvertisement", `{ipAddressPools: [wan], peers: [router1], aggregationLength: 24, aggregationLengthV6: 64, localPref: 4294967295, med: 0, asPathPrepend: 10, weightByEndpoints: NonTransitive, communities: ["64512:100", "0:0", "65535:65535", "large:4294967295:0:2", no-export, vpn-only, my_alias.2]}`},
		{"a BGPPeer with as little as possible", "BGPPeer", `{myASN: 64512, peerASN: 4294967295, peerAddress: 192.0.2.1}`},
		{"an unnumbered BGPPeer", "BGPPeer", `{myASN: 64512, dynamicASN: external, interface: eth0}`},
		{"a BGPPeer with every field", "BGPPeer", `{myASN: 64512, localASN: 64600, peerASN: 64513, peerAddress: "2001:db8::1", peerPort: 1179, sourceAddress: "2001:db8::2", routerID: 192.0.2.9, holdTime: 3s, keepaliveTime: 1s, connectTime: 5s, ttlSecurity: {hops: 1}, ebgpMultiHop: false, passwordSecret: {name: router1}, bfdProfile: fast, gracefulRestart: {restartTime: 2m0s}, ipFamilies: [IPv4, IPv6], nodeSelectors: [{matchLabels: {rack: a}}], disabled: true}`},
		{"a hold time of zero", "BGPPeer", `{myASN: 1, peerASN: 1, peerAddress: 192.0.2.1, holdTime: 0s}`},
		{"a hold time of 90s that Go writes as 1m30s", "BGPPeer", `{myASN: 1, peerASN: 1, peerAddress: 192.0.2.1, holdTime: 1m30s}`},
		{"a BFDProfile of defaults", "BFDProfile", `{}`},
		{"a BFDProfile at its limits", "BFDProfile", `{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 255, passiveMode: true, minimumTtl: 1}`},
		{"community aliases", "Community", `{communities: [{name: vpn-only, value: "64512:200"}, {name: big, value: "large:1:2:4294967295"}]}`},
		{"settings with every field", "Settings", `{layer2: {gracePeriod: 0s, refreshInterval: 0s, conflictDetection: Full}, membership: {heartbeatInterval: 20ms, missed: 2}, serviceProxy: {mode: Required, healthURL: "http://127.0.0.1:9879/healthz"}, drain: {onCordon: true, gracefulShutdownTime: 1m0s, withdrawTime: 0s}, ignoreExcludeLabel: true}`},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			if _, err := create(t, tc.kind, "default", tc.spec); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// peer returns the spec of a valid BGPPeer with more fields.
func peer(more string) string {
	return `{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, ` + more + `}`
}

func TestWhatTheSchemaRefuses(t *testing.T) {
	t.Parallel()
	const form, hostBits, family = "must be a CIDR", "has host bits set", "of one family"
	for _, tc := range []struct{ says, kind, spec, want string }{
		{"a pool without addresses", "IPAddressPool", `{}`, "spec.addresses: Required"},
		{"a pool with an empty list", "IPAddressPool", `{addresses: []}`, "at least 1 items"},
		{"a pool with 257 items", "IPAddressPool", `{addresses: [` + strings.Repeat(`"192.0.2.1",`, 257) + `]}`, "at most 256"},
		{"an item of 81 characters", "IPAddressPool", `{addresses: ["` + strings.Repeat("1", 81) + `"]}`, "80"},
		{"an empty item", "IPAddressPool", `{addresses: [""]}`, "spec.addresses[0]"},
		{"a word", "IPAddressPool", `{addresses: [192.0.2.1, example]}`, `spec.addresses[1]: Invalid value: ` + "MSG" + form},
		{"a zone", "IPAddressPool", `{addresses: ["fe80::1%eth0"]}`, form},
		{"an IPv4-mapped address", "IPAddressPool", `{addresses: ["::ffff:192.0.2.1"]}`, form},
		{"an IPv4-mapped CIDR", "IPAddressPool", `{addresses: ["::ffff:192.0.2.0/120"]}`, form},
		{"leading zeros", "IPAddressPool", `{addresses: ["192.0.2.010"]}`, form},
		{"leading zeros in a prefix length", "IPAddressPool", `{addresses: ["192.0.2.0/024"]}`, form},
		{"blanks around the dash", "IPAddressPool", `{addresses: ["192.0.2.1 - 192.0.2.9"]}`, form},
		{"a leading blank", "IPAddressPool", `{addresses: [" 192.0.2.1"]}`, form},
		{"a range of CIDRs", "IPAddressPool", `{addresses: ["192.0.2.0/25-192.0.2.128/25"]}`, form},
		{"a range of three", "IPAddressPool", `{addresses: ["192.0.2.1-192.0.2.2-192.0.2.3"]}`, form},
		{"a range without end", "IPAddressPool", `{addresses: ["192.0.2.1-"]}`, form},
		{"a short range", "IPAddressPool", `{addresses: ["192.0.2.1-9"]}`, form},
		{"a prefix length beyond the family's", "IPAddressPool", `{addresses: ["192.0.2.0/33"]}`, form},
		{"host bits", "IPAddressPool", `{addresses: ["192.0.2.1/24"]}`, hostBits},
		{"IPv6 host bits", "IPAddressPool", `{addresses: ["2001:db8::1/64"]}`, hostBits},
		{"a range of two families", "IPAddressPool", `{addresses: ["192.0.2.1-2001:db8::1"]}`, family},
		{"an excluded word", "IPAddressPool", `{addresses: [192.0.2.0/24], exclude: [gateway]}`, form},
		{"excluded host bits", "IPAddressPool", `{addresses: [192.0.2.0/24], exclude: [192.0.2.1/28]}`, hostBits},
		{"an excluded range of two families", "IPAddressPool", `{addresses: [192.0.2.0/24], exclude: ["192.0.2.1-::1"]}`, family},
		{"an unknown reclaim policy", "IPAddressPool", `{addresses: [192.0.2.0/24], reclaimPolicy: Delete}`, `"Retain", "Reassign"`},
		{"a reuse delay without unit", "IPAddressPool", `{addresses: [192.0.2.0/24], reuseDelay: "60"}`, "must be a duration"},
		{"a negative reuse delay", "IPAddressPool", `{addresses: [192.0.2.0/24], reuseDelay: -1s}`, "must be a duration"},
		{"a reuse delay of two days", "IPAddressPool", `{addresses: [192.0.2.0/24], reuseDelay: 48h}`, "between 0s and 24h"},
		{"a negative priority", "IPAddressPool", `{addresses: [192.0.2.0/24], serviceAllocation: {priority: -1}}`, "greater than or equal to 0"},
		{"a negative quota", "IPAddressPool", `{addresses: [192.0.2.0/24], serviceAllocation: {maxPerNamespace: -1}}`, "greater than or equal to 0"},
		{"an unknown field", "IPAddressPool", `{addresses: [192.0.2.0/24], protocol: layer2}`, `unknown field "spec.protocol"`},

		{"a claim of two addresses of one family", "AddressClaim", `{addresses: [192.0.2.1, 192.0.2.2]}`, "one a family"},
		{"a claim of three addresses", "AddressClaim", `{addresses: [192.0.2.1, "2001:db8::1", "2001:db8::2"]}`, "at most 2"},
		{"a claim of a range", "AddressClaim", `{addresses: [192.0.2.1-192.0.2.2]}`, "must be one IP address"},
		{"a claim of a word", "AddressClaim", `{addresses: [gateway]}`, "must be one IP address"},
		{"a claim of an address of a family that it does not want", "AddressClaim", `{addresses: [192.0.2.1], ipFamilies: [IPv6]}`, "of a family that ipFamilies lacks"},
		{"a claim of an unknown family", "AddressClaim", `{ipFamilies: [IPv5]}`, `"IPv4", "IPv6"`},
		{"a claim of one family twice", "AddressClaim", `{ipFamilies: [IPv4, IPv4]}`, "Duplicate"},

		{"an interface name with a slash", "L2Advertisement", `{interfaces: [eth/0]}`, "interface name"},
		{"an interface name with a blank", "L2Advertisement", `{interfaces: ["eth 0"]}`, "interface name"},
		{"an open bracket", "L2Advertisement", `{interfaces: ["eth[0"]}`, "interface name"},
		{"an interface name of 16 characters", "L2Advertisement", `{interfaces: [abcdefghijklmnop]}`, "15 characters"},
		{"an interface twice", "L2Advertisement", `{interfaces: [eth0, eth0]}`, "Duplicate"},
		{"a weight of zero", "L2Advertisement", `{preferredNodeSelectors: [{weight: 0, preference: {}}]}`, "greater than or equal to 1"},
		{"a weight of 101", "L2Advertisement", `{preferredNodeSelectors: [{weight: 101, preference: {}}]}`, "less than or equal to 100"},
		{"a preference without weight", "L2Advertisement", `{preferredNodeSelectors: [{preference: {}}]}`, "weight: Required"},

		{"an IPv4 aggregate of /0", "BGPAdvertisement", `{aggregationLength: 0}`, "greater than or equal to 1"},
		{"an IPv4 aggregate of /33", "BGPAdvertisement", `{aggregationLength: 33}`, "less than or equal to 32"},
		{"an IPv6 aggregate of /129", "BGPAdvertisement", `{aggregationLengthV6: 129}`, "less than or equal to 128"},
		{"eleven prepends", "BGPAdvertisement", `{asPathPrepend: 11}`, "less than or equal to 10"},
		{"a local preference of 33 bits", "BGPAdvertisement", `{localPref: 4294967296}`, "less than or equal to 4294967295"},
		{"a negative MED", "BGPAdvertisement", `{med: -1}`, "greater than or equal to 0"},
		{"an unknown weight", "BGPAdvertisement", `{weightByEndpoints: "Sometimes"}`, `"Off", "NonTransitive", "Transitive"`},
		{"a standard community of 17 bits", "BGPAdvertisement", `{communities: ["65536:1"]}`, "at most 65535"},
		{"a large community of 33 bits", "BGPAdvertisement", `{communities: ["large:4294967296:1:2"]}`, "at most 4294967295"},
		{"a community of three parts without large", "BGPAdvertisement", `{communities: ["64512:1:2"]}`, "must be a standard community"},
		{"a community with leading zeros", "BGPAdvertisement", `{communities: ["064512:1"]}`, "must be a standard community"},
		{"a community that is a number", "BGPAdvertisement", `{communities: ["64512"]}`, "must be a standard community"},
		{"a community twice", "BGPAdvertisement", `{communities: [no-export, no-export]}`, "Duplicate"},

		{"a peer without our ASN", "BGPPeer", `{peerASN: 1, peerAddress: 192.0.2.1}`, "myASN: Required"},
		{"our ASN 0", "BGPPeer", `{myASN: 0, peerASN: 1, peerAddress: 192.0.2.1}`, "greater than or equal to 1"},
		{"a peer ASN of 33 bits", "BGPPeer", `{myASN: 1, peerASN: 4294967296, peerAddress: 192.0.2.1}`, "less than or equal to 4294967295"},
		{"neither peerASN nor dynamicASN", "BGPPeer", `{myASN: 1, peerAddress: 192.0.2.1}`, "exactly one of peerASN and dynamicASN"},
		{"both peerASN and dynamicASN", "BGPPeer", peer(`dynamicASN: internal`), "exactly one of peerASN and dynamicASN"},
		{"an unknown dynamicASN", "BGPPeer", `{myASN: 1, dynamicASN: any, peerAddress: 192.0.2.1}`, `"internal", "external"`},
		{"neither address nor interface", "BGPPeer", `{myASN: 1, peerASN: 1}`, "exactly one of peerAddress and interface"},
		{"both address and interface", "BGPPeer", peer(`interface: eth0`), "exactly one of peerAddress and interface"},
		{"a host name for a peer", "BGPPeer", `{myASN: 1, peerASN: 1, peerAddress: router.example}`, "must be an IPv4 or IPv6 address"},
		{"an unspecified peer", "BGPPeer", `{myASN: 1, peerASN: 1, peerAddress: 0.0.0.0}`, "one router"},
		{"a link-local peer", "BGPPeer", `{myASN: 1, peerASN: 1, peerAddress: "fe80::1"}`, "use interface instead"},
		{"a peer interface that is a glob", "BGPPeer", `{myASN: 1, peerASN: 1, interface: "eth*"}`, "name of a network interface"},
		{"a peer interface of 16 characters", "BGPPeer", `{myASN: 1, peerASN: 1, interface: abcdefghijklmnop}`, "15"},
		{"port 0", "BGPPeer", peer(`peerPort: 0`), "greater than or equal to 1"},
		{"port 65536", "BGPPeer", peer(`peerPort: 65536`), "less than or equal to 65535"},
		{"a source that is no address", "BGPPeer", peer(`sourceAddress: eth0`), "must be an IPv4 or IPv6 address"},
		{"a source of the other family", "BGPPeer", peer(`sourceAddress: "2001:db8::1"`), "must be of one family"},
		{"an IPv6 router ID", "BGPPeer", peer(`routerID: "2001:db8::1"`), "form of an IPv4 address"},
		{"router ID 0.0.0.0", "BGPPeer", peer(`routerID: 0.0.0.0`), "form of an IPv4 address"},
		{"a hold time of 2s", "BGPPeer", peer(`holdTime: 2s`), "0s (never expires) or between 3s"},
		{"a hold time of 65536s", "BGPPeer", peer(`holdTime: 65536s`), "0s (never expires) or between 3s"},
		{"a hold time of parts of a second", "BGPPeer", peer(`holdTime: 3500ms`), "whole seconds"},
		{"a keepalive time beyond the default hold time", "BGPPeer", peer(`keepaliveTime: 90s`), "shorter than holdTime"},
		{"a keepalive time without hold time", "BGPPeer", peer(`holdTime: 0s, keepaliveTime: 1s`), "shorter than holdTime"},
		{"a connect time of zero", "BGPPeer", peer(`connectTime: 0s`), "between 1s and 65535s"},
		{"TTL security with multihop", "BGPPeer", peer(`ebgpMultiHop: true, ttlSecurity: {hops: 2}`), "exclude each other"},
		{"TTL security without hops", "BGPPeer", peer(`ttlSecurity: {}`), "hops: Required"},
		{"TTL security over 255 hops", "BGPPeer", peer(`ttlSecurity: {hops: 255}`), "less than or equal to 254"},
		{"a password without name", "BGPPeer", peer(`passwordSecret: {}`), "name: Required"},
		{"a restart time of 4096s", "BGPPeer", peer(`gracefulRestart: {restartTime: 4096s}`), "between 1s and 4095s"},
		{"a third address family", "BGPPeer", peer(`ipFamilies: [IPv4, IPv5]`), `"IPv4", "IPv6"`},
		{"an address family twice", "BGPPeer", peer(`ipFamilies: [IPv4, IPv4]`), "Duplicate"},
		{"a local ASN equal to ours", "BGPPeer", peer(`localASN: 64512`), "leave it out"},

		{"a BFD interval of 9 ms", "BFDProfile", `{receiveInterval: 9}`, "greater than or equal to 10"},
		{"a BFD interval of 61 s", "BFDProfile", `{transmitInterval: 61000}`, "less than or equal to 60000"},
		{"a BFD multiplier of 0", "BFDProfile", `{detectMultiplier: 0}`, "greater than or equal to"},
		{"a BFD multiplier of 256", "BFDProfile", `{detectMultiplier: 256}`, "less than or equal to 255"},
		{"a minimum TTL of 255", "BFDProfile", `{minimumTtl: 255}`, "less than or equal to 254"},

		{"an alias with a colon", "Community", `{communities: [{name: "a:b", value: "1:1"}]}`, "':' is for values"},
		{"an alias of a well-known name", "Community", `{communities: [{name: No-Export, value: "1:1"}]}`, "well-known"},
		{"an alias twice", "Community", `{communities: [{name: a, value: "1:1"}, {name: a, value: "1:2"}]}`, "Duplicate"},
		{"an alias of an alias", "Community", `{communities: [{name: a, value: b}]}`, "must be a standard community"},
		{"an alias out of range", "Community", `{communities: [{name: a, value: "1:65536"}]}`, "at most 65535"},

		{"a negative grace period", "Settings", `{layer2: {gracePeriod: -1s}}`, "must be a duration"},
		{"a grace period of a day", "Settings", `{layer2: {gracePeriod: 24h}}`, "between 0s and 1h"},
		{"a refresh each millisecond", "Settings", `{layer2: {refreshInterval: 1ms}}`, "between 1s and 1h"},
		{"an unknown conflict detection", "Settings", `{layer2: {conflictDetection: Slow}}`, `"Fast", "Full", "Off"`},
		{"a heartbeat each millisecond", "Settings", `{membership: {heartbeatInterval: 1ms}}`, "between 20ms and 10s"},
		{"one missed heartbeat", "Settings", `{membership: {missed: 1}}`, "greater than or equal to 2"},
		{"an unknown proxy mode", "Settings", `{serviceProxy: {mode: Never}}`, `"Auto", "Required", "Off"`},
		{"a health URL without scheme", "Settings", `{serviceProxy: {healthURL: "127.0.0.1:9879"}}`, "must be a URL"},
		{"a health URL of files", "Settings", `{serviceProxy: {healthURL: "file:///etc/passwd"}}`, "must be a URL"},
		{"a withdraw time of an hour", "Settings", `{drain: {withdrawTime: 1h}}`, "between 0s and 60s"},
	} {
		t.Run(tc.says, func(t *testing.T) {
			t.Parallel()
			_, err := create(t, tc.kind, "default", tc.spec)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range strings.Split(tc.want, "MSG") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("refused, but without %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "rule evaluation") || strings.Contains(err.Error(), "no such overload") {
				t.Errorf("a rule broke instead of saying no: %v", err)
			}
		})
	}
	t.Run("settings of another name", func(t *testing.T) {
		t.Parallel()
		if _, err := create(t, "Settings", "other", `{}`); err == nil || !strings.Contains(err.Error(), "must be named default") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestEveryWellKnownCommunityIsUsableByNameAndNoAlias(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"no-export", "no-advertise", "no-export-subconfed", "no-peer", "graceful-shutdown", "blackhole", "accept-own", "llgr-stale", "no-llgr"} {
		if _, known := v1alpha1.WellKnownCommunity(name); !known {
			t.Errorf("%s has no value", name)
		}
		if _, err := create(t, "BGPAdvertisement", "default", `{communities: [`+name+`]}`); err != nil {
			t.Error(err)
		}
		if _, err := create(t, "Community", "default", `{communities: [{name: `+name+`, value: "1:1"}]}`); err == nil {
			t.Errorf("%s can be an alias", name)
		}
	}
}
