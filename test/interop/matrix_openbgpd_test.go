//go:build e2e

package interop

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const openBGPD = "OpenBGPD"

// openbgpd is OpenBGPD portable. On Linux it has no kernel routes: it is a route server.
func openbgpd() *daemon {
	return &daemon{
		name:    openBGPD,
		version: []string{"/usr/sbin/bgpd", "-V"},
		start: func(r *router, s site) {
			// The user's home, where its processes are confined to; the service file makes it elsewhere.
			must(r.t, os.MkdirAll("/run/openbgpd", 0o755))
			r.run("/usr/sbin/bgpd", "-d", "-f", openbgpdFile(r, s))
			eventually(r.t, "bgpd", func() string { return fmt.Sprint(strings.Contains(bgpctl(r, "show"), s.node.String())) }, "true")
		},
		reload: func(r *router, s site) {
			openbgpdFile(r, s)
			bgpctl(r, "reload")
			// It would rest for half a minute.
			bgpctl(r, "neighbor", s.node.String(), "clear")
		},
		session: func(r *router, _ site) string { return openbgpdNeighbor(r).State },
		route:   openbgpdRoute,
		restart: func(r *router, _ site) string {
			g := openbgpdNeighbor(r).Session.Remote.Capabilities.GracefulRestart
			words := []string{fmt.Sprintf("time %d", g.Timeout)}
			if g.Restart {
				words = append(words, "R")
			}
			for _, family := range []string{"IPv4 unicast", "IPv6 unicast"} {
				for _, p := range g.Protocols {
					if p.Family == family && p.Preserved {
						words = append(words, strings.ToLower(family[:4])+" F")
					}
				}
			}
			return strings.Join(words, " ")
		},
		cannot: map[string]lack{
			rowExtended:    {"no RFC 8950", openbgpdRefuses(nil, "announce extended nexthop yes")},
			rowUnnumbered:  {"no neighbor by interface", openbgpdRefuses(func(s *site) { s.device = "eth0" })},
			rowBFD:         {"no BFD", openbgpdRefuses(nil, "bfd")},
			rowBFD6:        {"no BFD", openbgpdRefuses(nil, "bfd")},
			rowBFDMultiHop: {"no BFD", openbgpdRefuses(nil, "bfd")},
			rowRestartBFD:  {"no BFD", openbgpdRefuses(nil, "bfd")},
		},
	}
}

// openbgpdFile writes the configuration, which nobody else may read.
func openbgpdFile(r *router, s site) string {
	path := r.write("openbgpd.conf", openbgpdConfig(r.dir, s))
	must(r.t, os.Chmod(path, 0o600))
	return path
}

// openbgpdConfig has no local-address: with one, the listening socket gets no MD5 key (7.7, on Linux).
func openbgpdConfig(dir string, s site, more ...string) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("AS %d", s.asn)
	add("router-id %s", routerID(s))
	add("fib-update no")
	add("socket %q", filepath.Join(dir, "openbgpd.sock"))
	add("neighbor %s {", s.neighbor())
	add(" remote-as %d", s.nodeASN)
	add(" passive")
	add(" holdtime %d", s.hold/time.Second)
	for _, family := range []string{"IPv4", "IPv6"} {
		mode := "none"
		if strings.Contains(strings.Join(s.families(), " "), strings.ToLower(family)) {
			mode = "unicast"
		}
		add(" announce %s %s", family, mode)
	}
	if s.password != "" {
		add(" tcp md5sig password %q", s.password)
	}
	if s.security {
		add(" ttl-security yes")
	}
	if s.hops > 0 {
		add(" multihop %d", s.hops)
	}
	lines = append(lines, more...)
	add("}")
	add("allow from any")
	add("match from any community GRACEFUL_SHUTDOWN set localpref 0")
	return strings.Join(lines, "\n") + "\n"
}

// openbgpdRefuses proves that a change and more lines in the neighbor block are refused, while the configuration
// without them is not.
func openbgpdRefuses(change func(*site), more ...string) func(*testing.T) {
	return func(t *testing.T) {
		c := newCell(t, openbgpd())
		check := func(more ...string) (string, error) {
			path := c.r.write("check.conf", openbgpdConfig(c.r.dir, c.site, more...))
			must(t, os.Chmod(path, 0o600))
			out, err := exec.Command("/usr/sbin/bgpd", "-n", "-f", path).CombinedOutput()
			return string(out), err
		}
		if out, err := check(); err != nil {
			t.Errorf("bgpd refuses what all cells begin with: %s", out)
		}
		if change != nil {
			change(&c.site)
		}
		if out, err := check(more...); err == nil {
			t.Errorf("bgpd accepts it: %s", out)
		}
	}
}

func bgpctl(r *router, words ...string) string {
	return r.out("bgpctl", append([]string{"-j", "-s", filepath.Join(r.dir, "openbgpd.sock")}, words...)...)
}

// openbgpdState is what bgpctl says of a neighbor.
type openbgpdState struct {
	State   string
	Session struct {
		Remote struct {
			Capabilities struct {
				GracefulRestart struct {
					Restart   bool
					Timeout   int
					Protocols []struct {
						Family    string
						Preserved bool
					}
				} `json:"graceful_restart"`
			}
		}
	}
}

func openbgpdNeighbor(r *router) openbgpdState {
	var all struct{ Neighbors []openbgpdState }
	out := bgpctl(r, "show", "neighbor")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Neighbors) != 1 {
		return openbgpdState{State: out}
	}
	return all.Neighbors[0]
}

func openbgpdRoute(r *router, prefix string) string {
	var all struct {
		Rib []struct {
			Aspath            string
			Nexthop           string `json:"exit_nexthop"`
			Valid             bool
			Metric, Localpref uint32
			Communities       []string
			Large             []string `json:"large_communities"`
			Extended          []string `json:"extended_communities"`
		}
	}
	out := bgpctl(r, "show", "rib", "detail", prefix)
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return out
	}
	var routes []string
	for _, e := range all.Rib {
		l := learned{via: e.Nexthop, path: e.Aspath, med: e.Metric, pref: e.Localpref, invalid: !e.Valid}
		for _, c := range e.Communities {
			l.communities = append(l.communities, strings.ReplaceAll(strings.ToLower(c), "_", "-"))
		}
		l.communities = append(l.communities, e.Large...)
		for _, c := range e.Extended { // "[4] 64512:1219959552"
			if c == "[4] 0x4004000000000000" { // non-transitive, and bgpctl hides the rest
				l.bandwidths = append(l.bandwidths, "hidden")
				continue
			}
			kind, value, _ := strings.Cut(c, " ")
			_, value, _ = strings.Cut(value, ":")
			l.bandwidths = append(l.bandwidths, bandwidth(strings.Trim(kind, "[]"), value))
		}
		routes = append(routes, l.String())
	}
	return strings.Join(routes, "; ")
}

// bandwidth reads a link bandwidth from an extended community that a daemon shows as numbers: its type, which is
// 0x0004 or 0x4004 (draft-ietf-idr-link-bandwidth), and the 32 bits of a floating point number.
func bandwidth(kind, value string) string {
	if k, err := strconv.ParseUint(strings.TrimPrefix(kind, "0x"), 16, 16); err != nil || k&^0x4000 != 4 {
		return kind + " " + value
	}
	return fmt.Sprintf("%.0f", math.Float32frombits(decimal(value)))
}
