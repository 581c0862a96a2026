package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// frrDir is where Debian's frr package keeps its daemons.
const frrDir = "/usr/lib/frr"

// frrConfig accepts any neighbor from the LAN whose AS is not the router's own. The dynamic
// neighbors' AS, address family and number are the speaker's to choose. BFD speaks with those
// that speak it; `bfd check-control-plane-failure` stays off, since their BFD ends with their process.
const frrConfig = `hostname %[1]s
log stdout informational
service integrated-vtysh-config
!
router bgp %[2]d
 bgp router-id %[3]s
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 neighbor nodes peer-group
 neighbor nodes remote-as external
 neighbor nodes bfd
 neighbor nodes bfd profile lan
 bgp listen limit 1000
 bgp listen range %[4]s peer-group nodes
 bgp listen range %[5]s peer-group nodes
 !
 address-family ipv4 unicast
  neighbor nodes activate
  maximum-paths 64
 exit-address-family
 !
 address-family ipv6 unicast
  neighbor nodes activate
  maximum-paths 64
 exit-address-family
!
`

const frrBFDConfig = `bfd
 profile lan
  receive-interval %d
  transmit-interval %d
  detect-multiplier %d
 exit
exit
`

func frrDaemon() routingDaemon {
	tools := []string{"/usr/bin/vtysh"}
	for _, d := range []string{"zebra", "bgpd", "bfdd"} {
		tools = append(tools, filepath.Join(frrDir, d))
	}
	return routingDaemon{tools: tools, process: "bgpd", start: startFRR, routes: frrRoutes, sessions: frrSessions}
}

func startFRR(ctx context.Context, r *router) error {
	if err := prepareFRR(r); err != nil {
		return err
	}
	if err := r.startFRR("zebra"); err != nil {
		return err
	}
	err := Poll(ctx, waitLimit, "zebra listens on "+r.host.Name, func(context.Context) error {
		_, err := os.Stat(r.path("zserv.api"))
		return err
	})
	if err != nil {
		return err
	}
	for _, daemon := range []string{"bfdd", "bgpd"} {
		if err := r.startFRR(daemon); err != nil {
			return err
		}
	}
	return nil
}

// prepareFRR makes the folder of a router's configuration, pid files and sockets. FRR's
// daemons change to the user frr once they run.
func prepareFRR(r *router) error {
	head := "hostname " + r.host.Name + "\nlog stdout informational\n"
	bfd := r.lab.opts.BFD
	files := map[string]string{
		"bgpd.conf":  fmt.Sprintf(frrConfig, r.host.Name, RouterASN, r.host.IPv4, lanV4, lanV6),
		"bfdd.conf":  head + fmt.Sprintf(frrBFDConfig, bfd.Receive, bfd.Transmit, bfd.Multiplier),
		"zebra.conf": head, "vtysh.conf": "",
	}
	frr, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("find user frr: %w; run tools/deps.sh", err)
	}
	uid, _ := strconv.Atoi(frr.Uid)
	gid, _ := strconv.Atoi(frr.Gid)
	for name, text := range files {
		if err := r.write(name, text); err != nil {
			return err
		}
		if err := os.Chown(r.path(name), uid, gid); err != nil {
			return err
		}
	}
	return os.Chown(r.dir, uid, gid)
}

func (r *router) startFRR(daemon string) error {
	argv := []string{
		filepath.Join(frrDir, daemon),
		"-f", r.path(daemon + ".conf"), "-i", r.path(daemon + ".pid"),
		"-z", r.path("zserv.api"), "--vty_socket", r.dir, "-A", "127.0.0.1", "-P", "0",
	}
	switch daemon {
	case "bfdd":
		argv = append(argv, "--bfdctl", r.path("bfdd.sock"))
	case "zebra":
		argv = append(argv, "--v6-rr-semantics") // replaces IPv6 routes, else it deletes them first
	}
	return r.start(daemon, argv...)
}

// Vtysh runs FRR commands on a router, for example "show ip bgp", and returns their output.
func (l *Lab) Vtysh(ctx context.Context, router string, commands ...string) (string, error) {
	if l.opts.RouterKind != FRR {
		return "", fmt.Errorf("run vtysh on %s: it runs %s", router, l.opts.RouterKind)
	}
	args := append([]string{"vtysh"}, vtyshArgs(l.state.dir, router)...)
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return l.Exec(ctx, router, args...)
}

func vtyshArgs(stateDir, router string) []string {
	dir := filepath.Join(stateDir, router)
	return []string{"--vty_socket", dir, "--config_dir", dir}
}

func frrRoutes(ctx context.Context, r *router) (Routes, error) {
	routes := Routes{}
	for _, family := range []string{"ipv4", "ipv6"} {
		out, err := r.lab.Vtysh(ctx, r.host.Name, "show bgp "+family+" unicast json detail")
		if err != nil {
			return nil, err
		}
		if err := parseFRRRoutes([]byte(out), routes); err != nil {
			return nil, err
		}
	}
	return routes, nil
}

// frrPath is one path in `show bgp ... json detail`; the first element of a prefix is not one.
type frrPath struct {
	ASPath    struct{ Length int }
	Valid     bool
	LocPrf    *uint32
	LocalPref *uint32 `json:"localpref"`
	Multipath bool
	BestPath  struct{ Overall bool }
	Community struct{ List []string }
	Nexthops  []struct{ IP, Scope string }
	Peer      struct{ PeerID string }
}

// parseFRRRoutes adds what it reads to into.
func parseFRRRoutes(out []byte, into Routes) error {
	var table struct{ Routes map[string][]frrPath }
	if err := json.Unmarshal(out, &table); err != nil {
		return fmt.Errorf("decode routes: %w", err)
	}
	for text, paths := range table.Routes {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("decode routes: %w", err)
		}
		for _, p := range paths {
			if path, ok := p.path(); ok {
				into[prefix] = append(into[prefix], path)
			}
		}
	}
	return nil
}

func (p frrPath) path() (Path, bool) {
	path := Path{LocalPref: defaultLocalPref, hops: p.ASPath.Length, Used: p.Valid && (p.Multipath || p.BestPath.Overall)}
	for _, set := range []*uint32{p.LocPrf, p.LocalPref} {
		if set != nil {
			path.LocalPref = *set
		}
	}
	for _, c := range p.Community.List {
		path.Communities = append(path.Communities, wellKnown(c))
	}
	slices.Sort(path.Communities)
	path.From, _ = netip.ParseAddr(p.Peer.PeerID)
	for _, hop := range p.Nexthops {
		if a, err := netip.ParseAddr(hop.IP); err == nil && (!path.NextHop.IsValid() || hop.Scope == "global") {
			path.NextHop = a
		}
	}
	return path, path.NextHop.IsValid()
}

// wellKnown turns a daemon's name of a community into its value.
func wellKnown(name string) string {
	values := map[string]string{
		"gracefulshutdown": GracefulShutdown, "gshut": GracefulShutdown,
		"noexport": "65535:65281", "noadvertise": "65535:65282", "noexportsubconfed": "65535:65283",
	}
	key := strings.Map(func(c rune) rune {
		if c == '-' || c == '_' || c == ' ' {
			return -1
		}
		return c
	}, strings.ToLower(name))
	if value, known := values[key]; known {
		return value
	}
	return name
}

func frrSessions(ctx context.Context, r *router) ([]Session, error) {
	out, err := r.lab.Vtysh(ctx, r.host.Name, "show bgp neighbors json", "show bfd peers json")
	if err != nil {
		return nil, err
	}
	return parseFRRSessions([]byte(out))
}

// parseFRRSessions reads `show bgp neighbors json`; what follows it only proves that bfdd answers.
func parseFRRSessions(out []byte) ([]Session, error) {
	var all map[string]json.RawMessage
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	if err := decoder.Decode(&all); err != nil {
		return nil, fmt.Errorf("decode sessions: %w: %s", err, firstLine(string(out)))
	}
	var sessions []Session
	for key, raw := range all {
		peer, err := netip.ParseAddr(key)
		if err != nil {
			continue // a property of the whole
		}
		var n struct {
			RemoteAs    uint32
			BgpState    string
			PeerBfdInfo struct{ Status string }
		}
		if err := json.Unmarshal(raw, &n); err != nil {
			return nil, fmt.Errorf("decode session %s: %w", peer, err)
		}
		sessions = append(sessions, Session{
			Peer: peer, ASN: n.RemoteAs, State: n.BgpState, Established: n.BgpState == "Established", BFD: strings.ToLower(n.PeerBfdInfo.Status),
		})
	}
	return sessions, nil
}
