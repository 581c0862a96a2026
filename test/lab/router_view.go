package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Routes are a router's table: all paths to each prefix, as its daemon tells.
type Routes map[netip.Prefix][]Path

// Path is one of the ways to a prefix.
type Path struct {
	// NextHop is the global address, if it has one beside a link-local one.
	NextHop netip.Addr
	// From is the neighbor.
	From netip.Addr
	// Used says that it is the best one, or one of several that are as good.
	Used bool
	// Communities are standard ones in the form 64512:100, sorted. GRACEFUL_SHUTDOWN is 65535:0.
	Communities []string
	// LocalPref is what the router's policy made of it, 100 unless told otherwise.
	LocalPref uint32
	hops      int // length of the AS path
}

// GracefulShutdown is the well-known community of RFC 8326.
const GracefulShutdown = "65535:0"

// NextHops are those of the paths in use, sorted, each once.
func (r Routes) NextHops(prefix netip.Prefix) []netip.Addr {
	var hops []netip.Addr
	for _, p := range r[prefix] {
		if p.Used {
			hops = append(hops, p.NextHop)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}

// markEqual marks all paths that are as good as the best one, for daemons that tell the best one
// alone but forward over all (in BIRD, "merge paths").
func (r Routes) markEqual() {
	for _, paths := range r {
		best := slices.IndexFunc(paths, func(p Path) bool { return p.Used })
		if best < 0 {
			continue
		}
		for i := range paths {
			paths[i].Used = paths[i].LocalPref == paths[best].LocalPref && paths[i].hops == paths[best].hops
		}
	}
}

// Session is one of a router's BGP sessions, as its daemon tells.
type Session struct {
	Peer        netip.Addr
	ASN         uint32
	Established bool
	// State is the daemon's own word.
	State string
	// BFD is the daemon's word for the state of the BFD session, in lower case: up, down, ...; empty
	// without one.
	BFD string
}

// RouterRoutes asks a router's daemon for its routes.
func (l *Lab) RouterRoutes(ctx context.Context, name string) (Routes, error) {
	r, d, err := l.router(name)
	if err != nil {
		return nil, err
	}
	routes, err := d.routes(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("ask router %s for routes: %w", name, err)
	}
	return routes, nil
}

// RouterSessions asks a router's daemon for its sessions, sorted by the peer's address.
func (l *Lab) RouterSessions(ctx context.Context, name string) ([]Session, error) {
	r, d, err := l.router(name)
	if err != nil {
		return nil, err
	}
	sessions, err := d.sessions(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("ask router %s for sessions: %w", name, err)
	}
	slices.SortFunc(sessions, func(a, b Session) int { return a.Peer.Compare(b.Peer) })
	return sessions, nil
}

// RouterFIB returns what a router's kernel forwards to next hops, each list sorted.
func (l *Lab) RouterFIB(ctx context.Context, name string) (map[netip.Prefix][]netip.Addr, error) {
	r, _, err := l.router(name)
	if err != nil {
		return nil, err
	}
	return r.kernelRoutes(ctx)
}

func (r *router) kernelRoutes(ctx context.Context) (map[netip.Prefix][]netip.Addr, error) {
	all := map[netip.Prefix][]netip.Addr{}
	for _, family := range []string{"-4", "-6"} {
		out, err := r.run(ctx, "ip", "-j", family, "route")
		if err != nil {
			return nil, err
		}
		routes, err := parseKernelRoutes([]byte(out), family == "-6")
		if err != nil {
			return nil, err
		}
		for prefix, hops := range routes {
			all[prefix] = hops
		}
	}
	return all, nil
}

// kernelHop is where `ip -j route` says a gateway's address, in the route or in one of its next hops.
type kernelHop struct {
	Gateway string
	Via     struct{ Host string }
}

// parseKernelRoutes reads the output of `ip -j route`.
func parseKernelRoutes(out []byte, v6 bool) (map[netip.Prefix][]netip.Addr, error) {
	var list []struct {
		Dst string
		kernelHop
		Nexthops []kernelHop
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("decode kernel routes: %w", err)
	}
	routes := map[netip.Prefix][]netip.Addr{}
	for _, e := range list {
		prefix, ok := prefixOf(e.Dst, v6)
		if !ok {
			continue
		}
		for _, hop := range append(e.Nexthops, e.kernelHop) {
			if a, err := netip.ParseAddr(cmp.Or(hop.Gateway, hop.Via.Host)); err == nil {
				routes[prefix] = append(routes[prefix], a)
			}
		}
		slices.SortFunc(routes[prefix], netip.Addr.Compare)
		if len(routes[prefix]) == 0 {
			delete(routes, prefix)
		}
	}
	return routes, nil
}

// prefixOf reads a destination as iproute2 and BIRD print it.
func prefixOf(s string, v6 bool) (netip.Prefix, bool) {
	if s == "default" {
		if v6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

// String is one line a path, for people.
func (r Routes) String() string {
	var lines []string
	for prefix, paths := range r {
		for _, p := range paths {
			mark := " "
			if p.Used {
				mark = "*"
			}
			lines = append(lines, fmt.Sprintf("%s %-24s via %-18s local preference %d %s\n", mark, prefix, p.NextHop, p.LocalPref, strings.Join(p.Communities, " ")))
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return strings.Join(lines, "")
}

// String is one line.
func (s Session) String() string {
	return fmt.Sprintf("%-24s AS %-8d %s BFD %s", s.Peer, s.ASN, s.State, cmp.Or(s.BFD, "none"))
}

// AwaitSessions waits until a router has that many established sessions.
func (l *Lab) AwaitSessions(ctx context.Context, name string, n int) error {
	return l.WaitFor(ctx, fmt.Sprintf("%s has %d sessions", name, n), func(ctx context.Context) error {
		sessions, err := l.RouterSessions(ctx, name)
		if err != nil {
			return err
		}
		sessions = slices.DeleteFunc(sessions, func(s Session) bool { return !s.Established })
		if len(sessions) != n {
			return fmt.Errorf("it has %d: %v", len(sessions), sessions)
		}
		return nil
	})
}

// defaultLocalPref is what routes from eBGP have unless a policy says otherwise.
const defaultLocalPref = 100
