package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// RouterKind is a routing daemon.
type RouterKind string

// The routing daemons, as Debian has them. Each accepts sessions of any AS number but its own
// from any address of the LAN, for both families, keeps routes while a speaker restarts
// (RFC 4724, as a helper), and honors GRACEFUL_SHUTDOWN (RFC 8326). FRR and BIRD do BFD with
// whoever does it with them.
const (
	// FRR writes its routes to the kernel, several next hops to a route.
	FRR RouterKind = "frr"
	// BIRD does too.
	BIRD RouterKind = "bird"
	// OpenBGPD writes no routes to the kernel on Linux: the lab copies them from it, five times a second.
	OpenBGPD RouterKind = "openbgpd"
	// GoBGP writes none without the help of zebra; as with OpenBGPD, the lab does.
	GoBGP RouterKind = "gobgp"
)

// RouterKinds returns all of them.
func RouterKinds() []RouterKind { return []RouterKind{FRR, BIRD, OpenBGPD, GoBGP} }

// BFDTimers are a router's for BFD (RFC 5880): the least time between packets that it wants
// to receive and to send, in milliseconds, and how many may be missed.
type BFDTimers struct {
	Receive, Transmit, Multiplier int
}

func (b BFDTimers) withDefaults() BFDTimers {
	for _, field := range []struct {
		value    *int
		fallback int
	}{{&b.Receive, 300}, {&b.Transmit, 300}, {&b.Multiplier, 3}} {
		if *field.value == 0 {
			*field.value = field.fallback
		}
	}
	return b
}

// routingDaemon is what the lab must know of a kind of router.
type routingDaemon struct {
	// tools are files that must exist.
	tools []string
	// process is how the one that speaks BGP is called on router r1: process-r1.
	process string
	// start writes the configuration and starts all processes.
	start func(context.Context, *router) error
	// cli is the command line with which a person asks the daemon.
	cli func(*router) []string
	// routes and sessions ask the daemon.
	routes   func(context.Context, *router) (Routes, error)
	sessions func(context.Context, *router) ([]Session, error)
	// noFIB is that it writes nothing to the kernel.
	noFIB bool
}

// router is one router of a lab.
type router struct {
	lab  *Lab
	host *Host
	dir  string // configuration, pid files and sockets
}

func (k RouterKind) daemon() (routingDaemon, error) {
	switch k {
	case FRR:
		return frrDaemon(), nil
	case BIRD:
		return birdDaemon(), nil
	case OpenBGPD:
		return openBGPDaemon(), nil
	case GoBGP:
		return goBGPDaemon(), nil
	}
	return routingDaemon{}, fmt.Errorf("find router kind %q: want one of %v", k, RouterKinds())
}

// RouterKind is the routing daemon of the lab's routers.
func (l *Lab) RouterKind() RouterKind { return l.opts.RouterKind }

// router finds a router by name, and its daemon.
func (l *Lab) router(name string) (*router, routingDaemon, error) {
	if !l.opts.isRouter(name) {
		return nil, routingDaemon{}, fmt.Errorf("find router %q: the lab has %d, from r1 on", name, l.opts.Routers)
	}
	d, err := l.opts.RouterKind.daemon()
	return &router{lab: l, host: l.hosts[name], dir: l.state.path(name)}, d, err
}

// startRouters starts the daemons of every router.
func (l *Lab) startRouters(ctx context.Context) error {
	starts := []func(context.Context) error{}
	for i := range l.opts.Routers {
		starts = append(starts, func(ctx context.Context) error { return l.startRouter(ctx, fmt.Sprintf("r%d", i+1)) })
	}
	return parallel(ctx, starts...)
}

func (l *Lab) startRouter(ctx context.Context, name string) error {
	r, d, err := l.router(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("prepare router %s: %w", name, err)
	}
	if err := d.start(ctx, r); err != nil {
		return fmt.Errorf("start router %s: %w", name, err)
	}
	if err := l.awaitRouter(ctx, name); err != nil {
		return err
	}
	if d.noFIB {
		l.wg.Go(func() { r.copyRoutes(l.background, d) })
	}
	return nil
}

// awaitRouter waits until the daemon answers.
func (l *Lab) awaitRouter(ctx context.Context, name string) error {
	return Poll(ctx, waitLimit, string(l.opts.RouterKind)+" answers on "+name, func(ctx context.Context) error {
		_, err := l.RouterSessions(ctx, name)
		return err
	})
}

// write makes a file in the router's folder that its daemon may read and nobody else.
func (r *router) write(name, text string) error {
	return os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600)
}

func (r *router) path(name string) string { return filepath.Join(r.dir, name) }

// run asks with the daemon's command-line program.
func (r *router) run(ctx context.Context, argv ...string) (string, error) {
	return r.lab.Exec(ctx, r.host.Name, argv...)
}

// start starts a process of the router.
func (r *router) start(name string, argv ...string) error {
	return r.lab.newProcess(name+"-"+r.host.Name, r.host, argv...).Start()
}

// RouterProcess is the process that speaks BGP on a router.
func (l *Lab) RouterProcess(name string) (*Process, error) {
	_, d, err := l.router(name)
	if err != nil {
		return nil, err
	}
	return l.Process(d.process + "-" + name)
}

// RestartRouter ends the process that speaks BGP on a router, starts it again and returns when it
// answers. Its sessions come back when the speakers connect again.
func (l *Lab) RestartRouter(ctx context.Context, name string, sig syscall.Signal) error {
	p, err := l.RouterProcess(name)
	if err != nil {
		return err
	}
	if err := p.Restart(ctx, sig); err != nil {
		return err
	}
	return l.awaitRouter(ctx, name)
}

// RouterCLI runs a command of the daemon's own command-line program on a router: vtysh (one
// argument a command), birdc, bgpctl or gobgp.
func (l *Lab) RouterCLI(ctx context.Context, name string, args ...string) (string, error) {
	r, d, err := l.router(name)
	if err != nil {
		return "", err
	}
	if l.opts.RouterKind == FRR {
		return l.Vtysh(ctx, name, args...)
	}
	return r.run(ctx, append(d.cli(r), args...)...)
}

// copyInterval is how often routes are copied from a daemon that does not write to the kernel.
const copyInterval = 200 * time.Millisecond

// copyRoutes does what the daemon does not until ctx ends: it writes the daemon's routes to the
// kernel. A daemon that is away takes its routes with it.
func (r *router) copyRoutes(ctx context.Context, d routingDaemon) {
	have := map[netip.Prefix][]netip.Addr{}
	for pause(ctx, copyInterval) == nil {
		asked, cancel := context.WithTimeout(ctx, diagnosticsLimit)
		want, err := d.routes(asked, r)
		cancel()
		if err != nil {
			want = Routes{}
		}
		lines := copyLines(have, want)
		if len(lines) == 0 {
			continue
		}
		if err := r.host.ns.ip(ctx, lines...); err != nil {
			have, _ = r.kernelRoutes(ctx) // some lines may have worked
			continue
		}
		have = map[netip.Prefix][]netip.Addr{}
		for prefix := range want {
			have[prefix] = want.NextHops(prefix)
		}
	}
}

// copyLines are the ip commands that turn one table into another.
func copyLines(have map[netip.Prefix][]netip.Addr, want Routes) []string {
	var lines []string
	for prefix, hops := range have {
		if len(want.NextHops(prefix)) == 0 && len(hops) > 0 {
			lines = append(lines, fmt.Sprintf("route del %s proto bgp", prefix))
		}
	}
	for prefix := range want {
		hops := want.NextHops(prefix)
		if len(hops) == 0 || slices.Equal(hops, have[prefix]) {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "route replace %s proto bgp metric 20", prefix)
		for _, hop := range hops {
			family := "inet"
			if hop.Is6() {
				family = "inet6"
			}
			fmt.Fprintf(&b, " nexthop via %s %s dev eth0", family, hop)
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return lines
}
