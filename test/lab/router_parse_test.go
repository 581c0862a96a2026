package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Two paths to one prefix, as each daemon prints them. The second comes from a node that asks to be avoided.
const (
	frrTable = `{"routes": {"192.0.2.1/32": [{"prefix":"192.0.2.1/32"},
 {"aspath":{"length":1},"valid":true,"bestpath":{"overall":true},"nexthops":[{"ip":"10.10.0.11","used":true}],"peer":{"peerId":"10.10.0.11"}},
 {"aspath":{"length":1},"valid":true,"locPrf":0,"community":{"list":["gracefulShutdown"]},"nexthops":[{"ip":"10.10.0.12"}],"peer":{"peerId":"10.10.0.12"}}]}}`
	birdTable = `BIRD 2.0.12 ready.
Table master4:
192.0.2.1/32         unicast [n4_2 15:53:32.641] * (100) [AS64512?]
	via 10.10.0.11 on eth0
	BGP.as_path: 64512
	BGP.next_hop: 10.10.0.11
	BGP.local_pref: 100
                     unicast [n4_1 15:53:28.642] (100) [AS64512?]
	via 10.10.0.12 on eth0
	BGP.as_path: 64512
	BGP.next_hop: 10.10.0.12
	BGP.local_pref: 0
	BGP.community: (65535,0)
`
	openBGPTable = `{"rib": [
 {"prefix":"192.0.2.1/32","aspath":"64512","exit_nexthop":"10.10.0.11","neighbor":{"remote_addr":"10.10.0.11"},"valid":true,"best":true,"localpref":100},
 {"prefix":"192.0.2.1/32","aspath":"64512","exit_nexthop":"10.10.0.12","neighbor":{"remote_addr":"10.10.0.12"},"valid":true,"localpref":0,"communities":["GRACEFUL_SHUTDOWN"]}]}`
	goBGPTable = `{"192.0.2.1/32":[
 {"best":true,"neighbor-ip":"10.10.0.11","attrs":[{"type":1,"value":2},{"type":2,"as_paths":[{"asns":[64512]}]},{"type":3,"nexthop":"10.10.0.11"}]},
 {"best":false,"neighbor-ip":"10.10.0.12","attrs":[{"type":2,"as_paths":[{"asns":[64512]}]},{"type":3,"nexthop":"10.10.0.12"},{"type":5,"value":0},{"type":8,"communities":[4294901760]}]}]}`
)

func TestEveryDaemonsTableIsReadInTheSameWords(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.1/32")
	for name, read := range map[string]func() (Routes, error){
		"FRR":      func() (Routes, error) { r := Routes{}; return r, parseFRRRoutes([]byte(frrTable), r) },
		"BIRD":     func() (Routes, error) { return parseBIRDRoutes(birdTable), nil },
		"OpenBGPD": func() (Routes, error) { return parseOpenBGPRoutes([]byte(openBGPTable)) },
		"GoBGP": func() (Routes, error) {
			r := Routes{}
			err := parseGoBGPRoutes([]byte(goBGPTable), r)
			r.markEqual()
			return r, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			routes, err := read()
			if err != nil {
				t.Fatal(err)
			}
			if hops := routes.NextHops(prefix); len(hops) != 1 || hops[0] != netip.MustParseAddr("10.10.0.11") {
				t.Errorf("in use are %v, want 10.10.0.11 alone", hops)
			}
			if paths := routes[prefix]; len(paths) != 2 || paths[1].LocalPref != 0 || !slices.Equal(paths[1].Communities, []string{GracefulShutdown}) {
				t.Errorf("paths are %+v", paths)
			}
		})
	}
}

func TestPathsThatAreAsGoodAsTheBestAreInUse(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.1/32")
	path := func(hop string, pref uint32, hops int) Path {
		return Path{NextHop: netip.MustParseAddr(hop), LocalPref: pref, hops: hops}
	}
	r := Routes{prefix: {path("10.0.0.3", 100, 2), path("10.0.0.2", 100, 1), path("10.0.0.1", 100, 1), path("10.0.0.4", 0, 1)}}
	r[prefix][1].Used = true
	r.markEqual()
	if got := fmt.Sprint(r.NextHops(prefix)); got != "[10.0.0.1 10.0.0.2]" {
		t.Errorf("in use are %s", got)
	}
}

func TestSessionsOfBIRDAreThoseWithANeighbor(t *testing.T) {
	const protocols = `nodes4     BGP        ---        start  15:53:23.614  Passive
  BGP state:          Passive
    Neighbor range:   10.10.0.0/24
n4_1       BGP        ---        up     15:53:28.641  Established
  BGP state:          Established
    Neighbor address: 10.10.0.12
    Neighbor AS:      64512
`
	const bfd = "IP address                Interface  State      Since         Interval  Timeout\n10.10.0.12                eth0       Up         15:53:23.621    0.300    0.900\n"
	want := []Session{{Peer: netip.MustParseAddr("10.10.0.12"), ASN: 64512, State: "Established", Established: true, BFD: "up"}}
	if got := parseBIRDSessions(protocols, bfd); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestKernelRoutesAreThoseWithGateways(t *testing.T) {
	const out = `[{"dst":"10.10.0.0/24","dev":"eth0"},{"dst":"192.0.2.1","nexthops":[{"gateway":"10.10.0.12"},{"gateway":"10.10.0.11"}]},
{"dst":"default","via":{"family":"inet6","host":"fe80::1"}}]`
	got, err := parseKernelRoutes([]byte(out), false)
	if err != nil || fmt.Sprint(got) != "map[0.0.0.0/0:[fe80::1] 192.0.2.1/32:[10.10.0.11 10.10.0.12]]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestCopiedRoutesChangeOnlyWhatDiffers(t *testing.T) {
	a, b, c := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.3/32")
	hop := netip.MustParseAddr("10.10.0.11")
	have := map[netip.Prefix][]netip.Addr{a: {hop}, b: {hop}}
	want := Routes{b: {{NextHop: hop, Used: true}}, c: {{NextHop: netip.MustParseAddr("fd00::1"), Used: true}}}
	got := copyLines(have, want)
	expected := []string{"route del 192.0.2.1/32 proto bgp", "route replace 192.0.2.3/32 proto bgp metric 20 nexthop via inet6 fd00::1 dev eth0"}
	if !slices.Equal(got, expected) {
		t.Errorf("got %q", got)
	}
}

// deletedRoute is the kernel's word of the end of 192.0.2.1 by way of 10.10.0.11.
func deletedRoute() []byte {
	message := []byte{
		44, 0, 0, 0, unix.RTM_DELROUTE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BGP, 0, unix.RTN_UNICAST, 0, 0, 0, 0,
		8, 0, unix.RTA_DST, 0, 192, 0, 2, 1,
		8, 0, unix.RTA_GATEWAY, 0, 10, 10, 0, 11,
	}
	return message
}

func TestADeletedRouteIsSeen(t *testing.T) {
	got := parseRouteEvents(deletedRoute())
	if len(got) != 1 || !got[0].Deleted || got[0].Prefix.String() != "192.0.2.1/32" || fmt.Sprint(got[0].NextHops) != "[10.10.0.11]" {
		t.Errorf("got %+v", got)
	}
}

// FuzzRouteEvents: whatever comes, every event has a prefix and next hops.
func FuzzRouteEvents(f *testing.F) {
	f.Add(deletedRoute())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range parseRouteEvents(data) {
			if !e.Prefix.IsValid() || len(e.NextHops) == 0 {
				t.Errorf("got %+v", e)
			}
		}
	})
}

// FuzzRouters: whatever a daemon prints, every path has a prefix and a next hop.
func FuzzRouters(f *testing.F) {
	for _, seed := range []string{frrTable, birdTable, openBGPTable, goBGPTable} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, out string) {
		all := []Routes{parseBIRDRoutes(out), {}, {}}
		_ = parseFRRRoutes([]byte(out), all[1])
		_ = parseGoBGPRoutes([]byte(out), all[2])
		if r, err := parseOpenBGPRoutes([]byte(out)); err == nil {
			all = append(all, r)
		}
		for _, routes := range all {
			for _, prefix := range slices.Collect(maps.Keys(routes)) {
				for _, p := range routes[prefix] {
					if !prefix.IsValid() || !p.NextHop.IsValid() {
						t.Errorf("%s: %+v", prefix, p)
					}
				}
			}
		}
		_, _ = parseFRRSessions([]byte(out))
		_, _ = parseOpenBGPSessions([]byte(out))
		_, _ = parseGoBGPSessions([]byte(out))
		_ = parseBIRDSessions(out, out)
		_, _ = parseKernelRoutes([]byte(out), false)
	})
}
