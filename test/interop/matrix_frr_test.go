//go:build e2e

package interop

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const frrouting = "FRR"

// daemons are the columns of the matrix.
func daemons() []*daemon { return []*daemon{frr(), bird(), openbgpd(), gobgpd()} }

// frr is FRRouting. Its zebra puts routes into the kernel.
func frr() *daemon {
	return &daemon{
		name:    frrouting,
		version: []string{filepath.Join(frrDir, "bgpd"), "--version"},
		start: func(r *router, s site) {
			r.daemon("zebra", "")
			if s.bfd {
				r.daemon("bfdd", "", "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
			}
			r.bgpd = r.daemon("bgpd", frrConfig(s))
		},
		reload: func(r *router, s site) {
			// What this does not mention stays what it was.
			if out := r.out("vtysh", "--vty_socket", r.dir, "-d", "bgpd", "-f", r.write("new.conf", frrConfig(s))); out != "" {
				r.t.Fatalf("vtysh: %s", out)
			}
		},
		session: func(r *router, s site) string { return frrNeighbor(r, s).BgpState },
		route: func(r *router, prefix string) string {
			words := strings.ReplaceAll(r.route(prefix), " pref 100", "")
			return frrBandwidth.ReplaceAllString(words, " bandwidth $1")
		},
		restart: func(r *router, s site) string {
			g := frrNeighbor(r, s).GracefulRestartInfo
			words := []string{fmt.Sprintf("time %d", g.Timers.ReceivedRestartTimer)}
			if g.RBit {
				words = append(words, "R")
			}
			if g.IPv4Unicast.FBit {
				words = append(words, "ipv4 F")
			}
			if g.IPv6Unicast.FBit {
				words = append(words, "ipv6 F")
			}
			return strings.Join(words, " ")
		},
		bfd: func(r *router, _ site) string {
			out, err := r.try("bfdd", "show bfd peers json")
			var peers []struct{ Peer, Status string }
			if err != nil || json.Unmarshal(out, &peers) != nil || len(peers) != 1 {
				return string(out)
			}
			return peers[0].Status
		},
		watch: routesThatLeave,
	}
}

var frrBandwidth = regexp.MustCompile(` LB:[0-9]+:([0-9]+) \([^)]*\)`)

func frrConfig(s site) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("router bgp %d", s.asn)
	add(" bgp router-id %s", routerID(s))
	add(" no bgp ebgp-requires-policy")
	add(" no bgp default ipv4-unicast")
	if s.device != "" {
		add(" neighbor %s interface remote-as %d", s.device, s.nodeASN)
	} else {
		add(" neighbor %s remote-as %d", s.node, s.nodeASN)
	}
	add(" neighbor %s passive", s.neighbor())
	add(" neighbor %s timers %d %d", s.neighbor(), s.hold/time.Second/3, s.hold/time.Second)
	if s.password != "" {
		add(" neighbor %s password %s", s.node, s.password)
	}
	if s.security {
		add(" neighbor %s ttl-security hops 1", s.node)
	}
	if s.hops > 0 {
		add(" neighbor %s ebgp-multihop %d", s.node, s.hops)
	}
	if s.extended {
		add(" neighbor %s capability extended-nexthop", s.node)
	}
	if s.bfd {
		add(" neighbor %s bfd %d 300 300", s.node, bfdMultiplier)
	}
	for _, family := range s.families() {
		add(" address-family %s unicast", family)
		add("  neighbor %s activate", s.neighbor())
		add(" exit-address-family")
	}
	return strings.Join(lines, "\n") + "\n"
}

// routerID is the BGP identifier of a daemon.
func routerID(s site) string {
	if s.own.Is4() {
		return s.own.String()
	}
	return "10.88.0.2"
}

// frrState is what bgpd says of a neighbor.
type frrState struct {
	BgpState            string
	GracefulRestartInfo struct {
		RBit                     bool
		Timers                   struct{ ReceivedRestartTimer int }
		IPv4Unicast, IPv6Unicast struct{ FBit bool }
	}
}

func frrNeighbor(r *router, s site) frrState {
	r.t.Helper()
	var all map[string]frrState
	r.show("bgp neighbors "+s.neighbor(), &all)
	return all[s.neighbor()]
}
