package lab

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const birdBinary, birdClient = "/usr/sbin/bird", "/usr/sbin/birdc"

// birdConfig has a session for whoever comes from the LAN, merges equal paths into one route of
// the kernel, and does to GRACEFUL_SHUTDOWN what RFC 8326 asks for.
const birdConfig = `log stderr all;
router id %[1]s;
protocol device { scan time 10; }
protocol kernel kernel4 { ipv4 { export where source = RTS_BGP; import none; }; merge paths on limit 64; }
protocol kernel kernel6 { ipv6 { export where source = RTS_BGP; import none; }; merge paths on limit 64; }
protocol bfd {
  interface "*" { min rx interval %[2]d ms; min tx interval %[3]d ms; idle tx interval 1 s; multiplier %[4]d; };
  multihop { min rx interval %[2]d ms; min tx interval %[3]d ms; idle tx interval 1 s; multiplier %[4]d; };
}
filter nodes_in {
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  accept;
}
template bgp nodes {
  local as %[5]d;
  bfd on;
  graceful restart aware;
  ipv4 { import filter nodes_in; export none; extended next hop on; };
  ipv6 { import filter nodes_in; export none; };
}
protocol bgp nodes4 from nodes { neighbor range %[6]s external; dynamic name "n4_"; }
protocol bgp nodes6 from nodes { neighbor range %[7]s external; dynamic name "n6_"; }
`

func birdDaemon() routingDaemon {
	return routingDaemon{
		tools: []string{birdBinary, birdClient}, process: "bird",
		start: startBIRD, cli: birdCLI, routes: birdRoutes, sessions: birdSessions,
	}
}

func birdCLI(r *router) []string { return []string{birdClient, "-s", r.path("bird.ctl")} }

func startBIRD(_ context.Context, r *router) error {
	bfd := r.lab.opts.BFD
	err := r.write("bird.conf", fmt.Sprintf(birdConfig, r.host.IPv4, bfd.Receive, bfd.Transmit, bfd.Multiplier, RouterASN, lanV4, lanV6))
	if err != nil {
		return err
	}
	return r.start("bird", birdBinary, "-f", "-c", r.path("bird.conf"), "-s", r.path("bird.ctl"), "-P", r.path("bird.pid"))
}

func birdRoutes(ctx context.Context, r *router) (Routes, error) {
	out, err := r.run(ctx, append(birdCLI(r), "show", "route", "all")...)
	if err != nil {
		return nil, err
	}
	return parseBIRDRoutes(out), nil
}

// parseBIRDRoutes reads `show route all`. A route begins with its prefix at the first column, a
// further path to the same prefix with blanks in its place, and each is followed by attributes:
//
//	192.0.2.1/32         unicast [n4_2 15:53:32.641] * (100) [AS64512?]
//		via 10.10.0.11 on eth0
//		BGP.as_path: 64512
//		BGP.local_pref: 100
//		BGP.community: (64512,100)
func parseBIRDRoutes(out string) Routes {
	routes := Routes{}
	var prefix netip.Prefix
	path := func() *Path { return &routes[prefix][len(routes[prefix])-1] }
	for line := range strings.Lines(out) {
		before, rest, isPath := strings.Cut(line, " unicast [")
		switch key, value, isAttribute := strings.Cut(strings.TrimSpace(line), ": "); {
		case isPath:
			if text := strings.TrimSpace(before); text != "" {
				prefix, _ = prefixOf(text, strings.Contains(text, ":"))
			}
			if prefix.IsValid() {
				routes[prefix] = append(routes[prefix], Path{Used: strings.Contains(rest, "] * ("), LocalPref: defaultLocalPref})
			}
		case len(routes[prefix]) > 0 && isAttribute:
			path().setBIRD(key, value)
		}
	}
	for prefix, paths := range routes {
		if routes[prefix] = slices.DeleteFunc(paths, func(p Path) bool { return !p.NextHop.IsValid() }); len(routes[prefix]) == 0 {
			delete(routes, prefix)
		}
	}
	routes.markEqual()
	return routes
}

// setBIRD notes one attribute.
func (p *Path) setBIRD(key, value string) {
	words := strings.Fields(value)
	if len(words) == 0 {
		return
	}
	switch key {
	case "BGP.next_hop": // a link-local one may follow
		p.NextHop, _ = netip.ParseAddr(words[0])
	case "BGP.as_path":
		p.hops = len(words)
	case "BGP.local_pref":
		if n, err := strconv.ParseUint(words[0], 10, 32); err == nil {
			p.LocalPref = uint32(n)
		}
	case "BGP.community":
		for _, w := range words {
			p.Communities = append(p.Communities, strings.ReplaceAll(strings.Trim(w, "()"), ",", ":"))
		}
		slices.Sort(p.Communities)
	}
}

func birdSessions(ctx context.Context, r *router) ([]Session, error) {
	protocols, err := r.run(ctx, append(birdCLI(r), "show", "protocols", "all")...)
	if err != nil {
		return nil, err
	}
	bfd, err := r.run(ctx, append(birdCLI(r), "show", "bfd", "sessions")...)
	if err != nil {
		return nil, err
	}
	return parseBIRDSessions(protocols, bfd), nil
}

// parseBIRDSessions reads `show protocols all` and `show bfd sessions`.
func parseBIRDSessions(protocols, bfd string) []Session {
	watched := map[netip.Addr]string{}
	for line := range strings.Lines(bfd) {
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		if a, err := netip.ParseAddr(words[0]); err == nil {
			watched[a] = strings.ToLower(words[2])
		}
	}
	var sessions []Session
	var now Session
	scanner := bufio.NewScanner(strings.NewReader(protocols))
	for scanner.Scan() {
		key, value, _ := strings.Cut(strings.TrimSpace(scanner.Text()), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "BGP state":
			now = Session{State: value, Established: value == "Established"}
		case "Neighbor address": // a range's own protocol has none: "Neighbor range"
			now.Peer, _ = netip.ParseAddr(value)
			now.BFD = watched[now.Peer]
		case "Neighbor AS":
			if n, err := strconv.ParseUint(value, 10, 32); err == nil && now.Peer.IsValid() {
				now.ASN = uint32(n)
				sessions = append(sessions, now)
			}
		}
	}
	return sessions
}
