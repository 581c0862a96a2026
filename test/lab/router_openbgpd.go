package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

const openBGPBinary, openBGPClient = "/usr/sbin/bgpd", "/usr/sbin/bgpctl"

// openBGPRoot is where OpenBGPD locks its processes in; it may be empty but must exist.
const openBGPRoot = "/run/openbgpd"

// openBGPConfig has a template for whoever comes from the LAN and takes all routes. It keeps
// several paths to a prefix and marks those that are as good as the best.
const openBGPConfig = `AS %[1]d
router-id %[2]s
socket "%[3]s"
listen on %[2]s
listen on %[4]s
fib-update no
group nodes {
	announce IPv4 unicast
	announce IPv6 unicast
	announce restart yes
	neighbor %[5]s { descr "nodes4" }
	neighbor %[6]s { descr "nodes6" }
}
allow from any
match from any community GRACEFUL_SHUTDOWN set { localpref 0 }
`

func openBGPDaemon() routingDaemon {
	return routingDaemon{
		tools: []string{openBGPBinary, openBGPClient}, process: "openbgpd", noFIB: true,
		start: startOpenBGPD, cli: openBGPCLI, routes: openBGPRoutes, sessions: openBGPSessions,
	}
}

func openBGPCLI(r *router) []string { return []string{openBGPClient, "-s", r.path("bgpd.sock")} }

func startOpenBGPD(_ context.Context, r *router) error {
	if err := os.MkdirAll(openBGPRoot, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	err := r.write("bgpd.conf", fmt.Sprintf(openBGPConfig, RouterASN, r.host.IPv4, r.path("bgpd.sock"), r.host.IPv6, lanV4, lanV6))
	if err != nil {
		return err
	}
	return r.start("openbgpd", openBGPBinary, "-d", "-f", r.path("bgpd.conf"))
}

func openBGPRoutes(ctx context.Context, r *router) (Routes, error) {
	out, err := r.run(ctx, append(openBGPCLI(r), "-j", "show", "rib", "detail")...)
	if err != nil {
		return nil, err
	}
	return parseOpenBGPRoutes([]byte(out))
}

// parseOpenBGPRoutes reads `bgpctl -j show rib detail`.
func parseOpenBGPRoutes(out []byte) (Routes, error) {
	var table struct {
		RIB []struct {
			Prefix, ASPath    string
			NextHop           string `json:"exit_nexthop"`
			Neighbor          struct{ Remote_addr string }
			Valid, Best, ECMP bool
			LocalPref         uint32
			Communities       []string
		}
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return nil, fmt.Errorf("decode routes: %w", err)
	}
	routes := Routes{}
	for _, e := range table.RIB {
		prefix, err1 := netip.ParsePrefix(e.Prefix)
		hop, err2 := netip.ParseAddr(e.NextHop)
		if err1 != nil || err2 != nil {
			continue
		}
		p := Path{NextHop: hop, Used: e.Valid && (e.Best || e.ECMP), LocalPref: e.LocalPref, hops: len(strings.Fields(e.ASPath))}
		p.From, _ = netip.ParseAddr(e.Neighbor.Remote_addr)
		for _, c := range e.Communities {
			p.Communities = append(p.Communities, wellKnown(c))
		}
		slices.Sort(p.Communities)
		routes[prefix] = append(routes[prefix], p)
	}
	return routes, nil
}

func openBGPSessions(ctx context.Context, r *router) ([]Session, error) {
	out, err := r.run(ctx, append(openBGPCLI(r), "-j", "show", "neighbor")...)
	if err != nil {
		return nil, err
	}
	return parseOpenBGPSessions([]byte(out))
}

// parseOpenBGPSessions reads `bgpctl -j show neighbor`.
func parseOpenBGPSessions(out []byte) ([]Session, error) {
	var table struct {
		Neighbors []struct {
			Remote_as, Remote_addr, State string
			Config                        struct{ Template bool }
		}
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return nil, fmt.Errorf("decode sessions: %w", err)
	}
	var sessions []Session
	for _, n := range table.Neighbors {
		peer, err := netip.ParseAddr(n.Remote_addr)
		if err != nil || n.Config.Template {
			continue
		}
		asn, _ := strconv.ParseUint(n.Remote_as, 10, 32)
		sessions = append(sessions, Session{Peer: peer, ASN: uint32(asn), State: n.State, Established: n.State == "Established"})
	}
	return sessions, nil
}
