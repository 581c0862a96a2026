package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// controlRouter are the commands that are about routers.
func (l *Lab) controlRouter(ctx context.Context, args []string) map[string]controlCommand {
	return map[string]controlCommand{
		"routes":         {1, func() (string, error) { return l.controlRoutes(ctx, args[0]) }},
		"sessions":       {1, func() (string, error) { return l.controlSessions(ctx, args[0]) }},
		"fib":            {1, func() (string, error) { return l.controlFIB(ctx, args[0]) }},
		"cli":            {2, func() (string, error) { return l.RouterCLI(ctx, args[0], args[1:]...) }},
		"monitor-routes": {2, func() (string, error) { return l.controlMonitor(ctx, args[0], args[1]) }},
		"restart-router": {1, func() (string, error) { return "", l.controlRestart(ctx, args) }},
		"add-bad-peer":   {2, func() (string, error) { return l.controlBadPeer(ctx, args[0], Badness(args[1])) }},
	}
}

func (l *Lab) controlRoutes(ctx context.Context, router string) (string, error) {
	routes, err := l.RouterRoutes(ctx, router)
	return routes.String(), err
}

func (l *Lab) controlSessions(ctx context.Context, router string) (string, error) {
	sessions, err := l.RouterSessions(ctx, router)
	var b strings.Builder
	for _, s := range sessions {
		fmt.Fprintln(&b, s)
	}
	return b.String(), err
}

func (l *Lab) controlFIB(ctx context.Context, router string) (string, error) {
	routes, err := l.RouterFIB(ctx, router)
	var lines []string
	for prefix, hops := range routes {
		lines = append(lines, fmt.Sprintf("%-24s via %v\n", prefix, hops))
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), err
}

func (l *Lab) controlMonitor(ctx context.Context, host, duration string) (string, error) {
	length, err := secondsOf(duration)
	if err != nil {
		return "", err
	}
	m, err := l.MonitorRoutes(host)
	if err != nil {
		return "", err
	}
	err = pause(ctx, length)
	return describeEvents(m.Stop()), err
}

// controlRestart is restart-router ROUTER [SIGNAL].
func (l *Lab) controlRestart(ctx context.Context, args []string) error {
	sig := syscall.SIGTERM
	if len(args) > 1 {
		named, err := signalNamed(args[1])
		if err != nil {
			return err
		}
		sig = named
	}
	return l.RestartRouter(ctx, args[0], sig)
}

func (l *Lab) controlBadPeer(ctx context.Context, name string, bad Badness) (string, error) {
	h, err := l.AddBadPeer(ctx, name, bad)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %s\n", h.Name, h.IPv4, h.IPv6), nil
}
