package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const goBGPBinary, goBGPClient = "/usr/bin/gobgpd", "/usr/bin/gobgp"

// goBGPConfig has a peer group for whoever comes from the LAN; AS 0 stands for any.
const goBGPConfig = `[global.config]
  as = %[1]d
  router-id = "%[2]s"
[global.use-multiple-paths.config]
  enabled = true
[global.apply-policy.config]
  import-policy-list = ["shutdown"]
  default-import-policy = "accept-route"
[[defined-sets.bgp-defined-sets.community-sets]]
  community-set-name = "shutdown"
  community-list = ["^65535:0$"]
[[policy-definitions]]
  name = "shutdown"
  [[policy-definitions.statements]]
    name = "shutdown"
    [policy-definitions.statements.conditions.bgp-conditions.match-community-set]
      community-set = "shutdown"
      match-set-options = "any"
    [policy-definitions.statements.actions]
      route-disposition = "accept-route"
    [policy-definitions.statements.actions.bgp-actions]
      set-local-pref = 1
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "nodes"
    peer-as = 0
  [peer-groups.graceful-restart.config]
    enabled = true
    helper-only = true
    restart-time = 120
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
    [peer-groups.afi-safis.mp-graceful-restart.config]
      enabled = true
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
    [peer-groups.afi-safis.mp-graceful-restart.config]
      enabled = true
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "%[3]s"
    peer-group = "nodes"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "%[4]s"
    peer-group = "nodes"
`

func goBGPDaemon() routingDaemon {
	return routingDaemon{
		tools: []string{goBGPBinary, goBGPClient}, process: "gobgpd", noFIB: true,
		start: startGoBGP, cli: goBGPCLI, routes: goBGPRoutes, sessions: goBGPSessions,
	}
}

func goBGPCLI(*router) []string { return []string{goBGPClient} }

func startGoBGP(_ context.Context, r *router) error {
	if err := r.write("gobgpd.toml", fmt.Sprintf(goBGPConfig, RouterASN, r.host.IPv4, lanV4, lanV6)); err != nil {
		return err
	}
	return r.start("gobgpd", goBGPBinary, "-f", r.path("gobgpd.toml"), "-p", "--api-hosts=127.0.0.1:50051", "--pprof-disable")
}

func goBGPRoutes(ctx context.Context, r *router) (Routes, error) {
	routes := Routes{}
	for _, family := range []string{"ipv4", "ipv6"} {
		out, err := r.run(ctx, goBGPClient, "-j", "global", "rib", "-a", family)
		if err != nil {
			return nil, err
		}
		if err := parseGoBGPRoutes([]byte(out), routes); err != nil {
			return nil, err
		}
	}
	routes.markEqual()
	return routes, nil
}

// goBGPAttribute is one path attribute; its type is the number of RFC 4271 and its followers.
type goBGPAttribute struct {
	Type        int
	Value       json.RawMessage
	Nexthop     string
	Communities []uint32
	ASPaths     []struct{ ASNs []uint32 } `json:"as_paths"`
}

// parseGoBGPRoutes adds what `gobgp -j global rib` says to into.
func parseGoBGPRoutes(out []byte, into Routes) error {
	var table map[string][]struct {
		Best     bool
		Neighbor string `json:"neighbor-ip"`
		Attrs    []goBGPAttribute
	}
	if strings.TrimSpace(string(out)) == "" {
		return nil
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return fmt.Errorf("decode routes: %w", err)
	}
	for text, paths := range table {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("decode routes: %w", err)
		}
		for _, e := range paths {
			p := Path{Used: e.Best, LocalPref: defaultLocalPref}
			p.From, _ = netip.ParseAddr(e.Neighbor)
			for _, a := range e.Attrs {
				p.setGoBGP(a)
			}
			if p.NextHop.IsValid() {
				into[prefix] = append(into[prefix], p)
			}
		}
	}
	return nil
}

// Path attributes (RFC 4271 section 5, RFC 1997, RFC 4760).
const (
	attributeASPath      = 2
	attributeNextHop     = 3
	attributeLocalPref   = 5
	attributeCommunities = 8
	attributeMPReach     = 14
)

func (p *Path) setGoBGP(a goBGPAttribute) {
	switch a.Type {
	case attributeASPath:
		for _, segment := range a.ASPaths {
			p.hops += len(segment.ASNs)
		}
	case attributeNextHop, attributeMPReach:
		if hop, err := netip.ParseAddr(a.Nexthop); err == nil {
			p.NextHop = hop
		}
	case attributeLocalPref:
		_ = json.Unmarshal(a.Value, &p.LocalPref) // else the default
	case attributeCommunities:
		for _, c := range a.Communities {
			p.Communities = append(p.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
		}
		slices.Sort(p.Communities)
	}
}

func goBGPSessions(ctx context.Context, r *router) ([]Session, error) {
	out, err := r.run(ctx, goBGPClient, "-j", "neighbor")
	if err != nil {
		return nil, err
	}
	return parseGoBGPSessions([]byte(out))
}

// goBGPEstablished is gobgp's number for the state.
const goBGPEstablished = 6

// parseGoBGPSessions reads `gobgp -j neighbor`.
func parseGoBGPSessions(out []byte) ([]Session, error) {
	var table []struct {
		State struct {
			Address string `json:"neighbor_address"`
			ASN     uint32 `json:"peer_asn"`
			State   int    `json:"session_state"`
		}
	}
	if strings.TrimSpace(string(out)) == "" {
		return nil, nil
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return nil, fmt.Errorf("decode sessions: %w", err)
	}
	var sessions []Session
	for _, n := range table {
		peer, err := netip.ParseAddr(n.State.Address)
		if err != nil {
			continue
		}
		state := []string{"unknown", "idle", "connect", "active", "opensent", "openconfirm", "established"}[min(max(n.State.State, 0), goBGPEstablished)]
		sessions = append(sessions, Session{Peer: peer, ASN: n.State.ASN, State: state, Established: n.State.State == goBGPEstablished})
	}
	return sessions, nil
}
