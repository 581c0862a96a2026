//go:build e2e

package interop

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const birdName = "BIRD"

// bird is BIRD. It puts routes into the kernel.
func bird() *daemon {
	return &daemon{
		name:    birdName,
		version: []string{"bird", "--version"},
		start: func(r *router, s site) {
			r.run("bird", "-f", "-c", r.write("bird.conf", birdConfig(s)), "-s", filepath.Join(r.dir, "bird.ctl"), "-P", filepath.Join(r.dir, "bird.pid"))
			eventually(r.t, "bird", func() string { return fmt.Sprint(strings.Contains(birdc(r, "show", "status"), "Daemon is up")) }, "true")
		},
		reload: func(r *router, s site) {
			r.write("bird.conf", birdConfig(s))
			if out := birdc(r, "configure"); !strings.Contains(out, "econfigur") {
				r.t.Fatalf("birdc configure: %s", out)
			}
		},
		session: func(r *router, _ site) string {
			return after(birdc(r, "show", "protocols", "all", "node1"), "BGP state:")
		},
		route: birdRoute,
		restart: func(r *router, _ site) string {
			_, said, _ := strings.Cut(birdc(r, "show", "protocols", "all", "node1"), "Neighbor capabilities")
			words := []string{"time " + after(said, "Restart time:")}
			if strings.Contains(said, "Restart recovery") {
				words = append(words, "R")
			}
			for _, family := range []string{"ipv4", "ipv6"} {
				if strings.Contains(after(said, "AF preserved:"), family) {
					words = append(words, family+" F")
				}
			}
			return strings.Join(words, " ")
		},
		bfd: func(r *router, s site) string {
			for line := range strings.Lines(birdc(r, "show", "bfd", "sessions")) {
				if fields := strings.Fields(line); len(fields) > 2 && fields[0] == s.node.String() {
					return strings.ToLower(fields[2])
				}
			}
			return "none"
		},
		watch: routesThatLeave,
	}
}

func birdc(r *router, words ...string) string {
	return r.out("birdc", append([]string{"-s", filepath.Join(r.dir, "bird.ctl")}, words...)...)
}

// after is the rest of the first line that begins with a label.
func after(text, label string) string {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(strings.TrimSpace(line), label); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func birdConfig(s site) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("router id %s;", routerID(s))
	add("log stderr all;")
	add("protocol device { }")
	for _, family := range s.families() {
		// What comes from the kernel are the routes that next hops further away are found by.
		add("protocol kernel { learn; %s { import all; export where source = RTS_BGP; }; }", family)
	}
	if s.bfd {
		add("protocol bfd {")
		add(" interface \"*\" { interval 300 ms; multiplier %d; };", bfdMultiplier)
		add(" multihop { interval 300 ms; multiplier %d; };", bfdMultiplier)
		add("}")
	}
	add("filter incoming {")
	add(" if (65535, 0) ~ bgp_community then bgp_local_pref = 0;")
	add(" accept;")
	add("}")
	if s.device != "" { // it calls the session node1
		add("protocol bgp {")
		add(" local as %d;", s.asn)
		add(" neighbor range fe80::/10 as %d;", s.nodeASN)
		add(" interface %q;", s.device)
		add(" dynamic name %q;", "node")
	} else {
		add("protocol bgp node1 {")
		add(" local %s as %d;", s.own, s.asn)
		add(" neighbor %s as %d;", s.node, s.nodeASN)
	}
	if s.hops > 0 {
		add(" multihop %d;", s.hops)
	} else {
		add(" direct;")
	}
	add(" passive on;")
	add(" error wait time 1, 2;") // else it takes no connection for a minute after each error
	add(" hold time %d;", s.hold/time.Second)
	if s.password != "" {
		add(" password %q;", s.password)
	}
	if s.security {
		add(" ttl security on;")
	}
	switch {
	case s.bfd && s.lenient:
		add(" bfd graceful;")
	case s.bfd:
		add(" bfd on;")
	}
	for _, family := range s.families() {
		extended := ""
		if (s.extended || s.device != "") && family == "ipv4" {
			extended = " extended next hop on;"
		}
		add(" %s { import filter incoming; export none;%s };", family, extended)
	}
	add("}")
	return strings.Join(lines, "\n") + "\n"
}

// birdRoute reads the answer to show route all.
func birdRoute(r *router, prefix string) string {
	text := birdc(r, "show", "route", prefix, "all", "protocol", "node1")
	if !strings.Contains(text, prefix) {
		return ""
	}
	via, local, _ := strings.Cut(after(text, "BGP.next_hop:"), " ")
	if via == "::" {
		via = local
	}
	l := learned{via: via, path: after(text, "BGP.as_path:"), invalid: strings.Contains(text, "unreachable")}
	l.med, l.pref = decimal(after(text, "BGP.med:")), decimal(after(text, "BGP.local_pref:"))
	for _, c := range birdList(after(text, "BGP.community:")) {
		l.communities = append(l.communities, communityName(decimal(c[0])<<16|decimal(c[1])))
	}
	for _, c := range birdList(after(text, "BGP.large_community:")) {
		l.communities = append(l.communities, strings.Join(c, ":"))
	}
	for _, c := range birdList(after(text, "BGP.ext_community:")) {
		l.bandwidths = append(l.bandwidths, bandwidth(strings.TrimPrefix(c[0], "unknown "), c[2]))
	}
	return l.String()
}

// birdList reads (1,2) (3, 4).
func birdList(text string) [][]string {
	var all [][]string
	for item := range strings.SplitSeq(text, "(") {
		item, _, found := strings.Cut(item, ")")
		if !found {
			continue
		}
		parts := strings.Split(item, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		all = append(all, parts)
	}
	return all
}

// decimal reads a number, 0 if there is none.
func decimal(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}
