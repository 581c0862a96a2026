package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// diagnosticsLimit bounds each question of Diagnostics.
const diagnosticsLimit = 5 * time.Second

// Diagnostics collects what a failed test wants to know: the processes with the ends of their
// logs, the cluster's objects and events, the routers' tables. It works, with less to say,
// when parts of the lab do not.
func (l *Lab) Diagnostics() string {
	var b strings.Builder
	fmt.Fprintf(&b, "=== lab %s: processes\n", l.opts.Prefix)
	for _, p := range l.Processes() {
		fmt.Fprintf(&b, "%-20s %s\n", p.name, p.Status())
	}
	if l.client != nil {
		for _, args := range l.questions() {
			l.ask(&b, "cp", append([]string{l.kube("kubectl"), "--request-timeout=3s"}, args...))
		}
	}
	for i := range l.opts.Routers {
		l.askRouter(&b, fmt.Sprintf("r%d", i+1))
	}
	for _, host := range []string{"lan", "wan"} {
		l.ask(&b, host, []string{"ip", "neigh"})
	}
	for _, p := range l.Processes() {
		lines := 8
		if strings.HasPrefix(p.name, "controller-") || strings.HasPrefix(p.name, "speaker-") {
			lines = 40
		}
		fmt.Fprintf(&b, "=== last lines of %s\n%s\n", p.logPath, p.LogTail(lines))
	}
	return b.String()
}

// askRouter adds a router's sessions and routes.
func (l *Lab) askRouter(b *strings.Builder, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), diagnosticsLimit)
	defer cancel()
	fmt.Fprintf(b, "=== %s (%s): sessions and routes\n", name, l.opts.RouterKind)
	sessions, err1 := l.RouterSessions(ctx, name)
	for _, s := range sessions {
		fmt.Fprintln(b, s)
	}
	routes, err2 := l.RouterRoutes(ctx, name)
	b.WriteString(routes.String())
	if err := errors.Join(err1, err2); err != nil {
		fmt.Fprintln(b, err)
	}
}

func (l *Lab) questions() [][]string {
	q := [][]string{
		{"get", "nodes,services,endpointslices,pods", "-A", "-o", "wide"},
		{"get", "events.events.k8s.io", "-A", "--sort-by=.metadata.creationTimestamp"},
	}
	if !l.opts.NoBallast {
		q = append(q, []string{"get", "ballast", "-A", "-o", "wide"},
			[]string{"get", "services", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{" "}{.status.conditions}{"\n"}{end}`})
	}
	return q
}

func (l *Lab) ask(b *strings.Builder, host string, command []string) {
	if l.hosts[host] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), diagnosticsLimit)
	defer cancel()
	fmt.Fprintf(b, "=== %s: %s\n", host, strings.Join(command, " "))
	out, err := l.Exec(ctx, host, command...)
	b.WriteString(out)
	if err != nil {
		fmt.Fprintln(b, err)
	}
}
