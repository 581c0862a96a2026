//go:build e2e

package interop

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const goBGP = "GoBGP"

// gobgpd is GoBGP's daemon. It has no kernel routes of its own.
func gobgpd() *daemon {
	return &daemon{
		name:    goBGP,
		version: []string{"gobgpd", "--version"},
		start: func(r *router, s site) {
			r.bgpd = r.run("gobgpd", "-f", r.write("gobgpd.toml", gobgpdConfig(s)), "--api-hosts", "unix://"+gobgpSocket(r), "--pprof-disable")
			eventually(r.t, "gobgpd", func() string { return fmt.Sprint(strings.Contains(gobgp(r, "neighbor"), "Peer")) }, "true")
		},
		reload: func(r *router, s site) {
			r.write("gobgpd.toml", gobgpdConfig(s))
			must(r.t, r.bgpd.Process.Signal(syscall.SIGHUP))
		},
		session: func(r *router, s site) string {
			var peer struct {
				State struct {
					State int `json:"session_state"`
				}
			}
			out := gobgp(r, "-j", "neighbor", gobgpNeighbor(s))
			if err := json.Unmarshal([]byte(out), &peer); err != nil {
				return out
			}
			if peer.State.State == 6 {
				return "Established"
			}
			return fmt.Sprintf("state %d", peer.State.State)
		},
		route: gobgpdRoute,
		restart: func(r *router, s site) string {
			_, said, _ := strings.Cut(gobgp(r, "neighbor", gobgpNeighbor(s)), "Remote: restart time ")
			said, _, _ = strings.Cut(said, "4-octet-as")
			seconds, _, _ := strings.Cut(said, " ")
			words := []string{"time " + seconds}
			if strings.Contains(said, "restart flag set") {
				words = append(words, "R")
			}
			for _, family := range []string{"ipv4", "ipv6"} {
				if strings.Contains(said, family+"-unicast, forward flag set") {
					words = append(words, family+" F")
				}
			}
			return strings.Join(words, " ")
		},
		watch: func(r *router) func() string {
			left := watchLines(r.t, "DEL", "ip", "netns", "exec", r.namespace, "gobgp", "--target", "unix://"+gobgpSocket(r), "monitor", "global", "rib")
			watching(r.t, left, func() {
				gobgp(r, "global", "rib", "add", probePrefix)
				gobgp(r, "global", "rib", "del", probePrefix)
			})
			return left
		},
		cannot: map[string]lack{
			rowBFD:         {"no BFD", gobgpdRefusesBFD},
			rowBFD6:        {"no BFD", gobgpdRefusesBFD},
			rowBFDMultiHop: {"no BFD", gobgpdRefusesBFD},
			rowRestartBFD:  {"no BFD", gobgpdRefusesBFD},
		},
	}
}

// gobgpNeighbor is what gobgp calls the neighbor.
func gobgpNeighbor(s site) string {
	if s.device != "" {
		return s.node.WithZone(s.device).String()
	}
	return s.node.String()
}

func gobgpSocket(r *router) string { return filepath.Join(r.dir, "gobgpd.sock") }

func gobgp(r *router, words ...string) string {
	return r.out("gobgp", append([]string{"--target", "unix://" + gobgpSocket(r)}, words...)...)
}

func gobgpdConfig(s site, more ...string) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("[global.config]\nas = %d\nrouter-id = %q", s.asn, routerID(s))
	// Its policies have no way to set LOCAL_PREF 0.
	add(`[global.apply-policy.config]
import-policy-list = ["incoming"]
default-import-policy = "accept-route"
[[defined-sets.bgp-defined-sets.community-sets]]
community-set-name = "shutdown"
community-list = ["65535:0"]
[[policy-definitions]]
name = "incoming"
[[policy-definitions.statements]]
name = "shutdown"
[policy-definitions.statements.conditions.bgp-conditions.match-community-set]
community-set = "shutdown"
[policy-definitions.statements.actions]
route-disposition = "accept-route"
[policy-definitions.statements.actions.bgp-actions]
set-local-pref = 1`)
	add("[[neighbors]]")
	if s.device != "" {
		add("[neighbors.config]\nneighbor-interface = %q\npeer-as = %d", s.device, s.nodeASN)
	} else {
		add("[neighbors.config]\nneighbor-address = %q\npeer-as = %d", s.node, s.nodeASN)
	}
	if s.password != "" {
		add("auth-password = %q", s.password)
	}
	add("[neighbors.timers.config]\nhold-time = %d\nkeepalive-interval = %d\nidle-hold-time-after-reset = 1", s.hold/time.Second, s.hold/time.Second/3)
	add("[neighbors.transport.config]\npassive-mode = true")
	if s.security {
		add("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255")
	}
	if s.hops > 0 {
		add("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = %d", s.hops)
	}
	add("[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 120\nhelper-only = true")
	lines = append(lines, more...)
	for _, family := range s.families() {
		add("[[neighbors.afi-safis]]")
		add("[neighbors.afi-safis.config]\nafi-safi-name = \"%s-unicast\"", family)
		add("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true")
	}
	return strings.Join(lines, "\n") + "\n"
}

// gobgpdRefusesBFD proves that BFD for a neighbor is no configuration, and the same without is one.
func gobgpdRefusesBFD(t *testing.T) {
	c := newCell(t, gobgpd())
	check := func(more ...string) (string, error) {
		out, err := exec.Command("gobgpd", "--dry-run", "-f", c.r.write("check.toml", gobgpdConfig(c.site, more...))).CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err != nil {
		t.Errorf("gobgpd refuses a configuration without BFD: %s", out)
	}
	if out, err := check("[neighbors.bfd.config]\nenabled = true"); err == nil {
		t.Errorf("gobgpd accepts BFD: %s", out)
	}
}

func gobgpdRoute(r *router, prefix string) string {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	out := gobgp(r, "-j", "global", "rib", "-a", family)
	var table map[string][]struct {
		Attrs []struct {
			Type        int
			Nexthop     string
			Metric      uint32
			Communities []uint32
			Paths       []struct{ Asns []uint32 } `json:"as_paths"`
			// Value is of a type of its own for each attribute, or missing.
			Value json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return out
	}
	var routes []string
	for _, path := range table[prefix] {
		l := learned{pref: 100}
		var large []string
		for _, a := range path.Attrs {
			if a.Nexthop != "" {
				l.via = a.Nexthop
			}
			switch a.Type {
			case 2: // AS_PATH
				for _, segment := range a.Paths {
					l.path = strings.Trim(fmt.Sprint(segment.Asns), "[]")
				}
			case 4: // MULTI_EXIT_DISC
				l.med = a.Metric
			case 5: // LOCAL_PREF
				l.pref = decimal(string(a.Value))
			case 8: // COMMUNITIES
				for _, c := range a.Communities {
					l.communities = append(l.communities, communityName(c))
				}
			case 16: // EXTENDED COMMUNITIES
				var all []struct{ Bandwidth float64 }
				must(r.t, json.Unmarshal(a.Value, &all))
				for _, c := range all {
					l.bandwidths = append(l.bandwidths, fmt.Sprintf("%.0f", c.Bandwidth))
				}
			case 32: // LARGE_COMMUNITY
				var all []struct{ ASN, LocalData1, LocalData2 uint32 }
				must(r.t, json.Unmarshal(a.Value, &all))
				for _, c := range all {
					large = append(large, fmt.Sprintf("%d:%d:%d", c.ASN, c.LocalData1, c.LocalData2))
				}
			}
		}
		l.communities = append(l.communities, large...)
		routes = append(routes, l.String())
	}
	return strings.Join(routes, "; ")
}
