package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// controlRequest and controlAnswer are what goes over the control socket, one of each a connection.
type (
	controlRequest struct{ Command []string }
	controlAnswer  struct{ Output, Error string }
)

// controlLimit bounds one command over the control socket.
const controlLimit = 2 * time.Minute

// serveControl listens on the lab's control socket until the lab goes down.
func (l *Lab) serveControl() error {
	listener, err := net.Listen("unix", controlSocket(l.opts.Prefix))
	if err != nil {
		return fmt.Errorf("listen on control socket: %w", err)
	}
	l.wg.Go(func() {
		defer context.AfterFunc(l.background, func() { listener.Close() })()
		var answers sync.WaitGroup
		defer answers.Wait()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answers.Go(func() { l.answerControl(conn) })
		}
	})
	return nil
}

func controlSocket(prefix string) string { return filepath.Join(stateDir(prefix), "control.sock") }

func (l *Lab) answerControl(conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(l.background, controlLimit)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(controlLimit))
	var request controlRequest
	if json.NewDecoder(conn).Decode(&request) != nil || len(request.Command) == 0 {
		return
	}
	output, err := l.control(ctx, request.Command[0], request.Command[1:])
	answer := controlAnswer{Output: output}
	if err != nil {
		answer.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(answer)
}

// Control sends a command to the lab of that prefix, in whichever process it runs, and returns what it says.
func Control(ctx context.Context, prefix string, command ...string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", controlSocket(prefix))
	if err != nil {
		return "", fmt.Errorf("reach lab %q: %w; is it up?", prefix, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(controlLimit))
	if err := json.NewEncoder(conn).Encode(controlRequest{Command: command}); err != nil {
		return "", fmt.Errorf("send command: %w", err)
	}
	var answer controlAnswer
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return "", fmt.Errorf("receive answer: %w", err)
	}
	if answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Output, err
}

// control runs one command of the control socket.
func (l *Lab) control(ctx context.Context, verb string, args []string) (string, error) {
	switch verb {
	case "status":
		return l.Status(ctx), nil
	case "down":
		go func() { _ = l.Down() }() // not joined: Down waits for this command's answer
		return "", nil
	case "diagnostics":
		return l.Diagnostics(), nil
	}
	if output, known, err := l.controlFault(ctx, verb, args); known {
		return output, err
	}
	if len(args) == 0 {
		return "", fmt.Errorf("run %s: it needs an argument", verb)
	}
	switch verb {
	case "power-off", "power-on", "cut", "restore", "isolate", "rejoin", "stop-heartbeat", "start-heartbeat":
		n, err := l.NodeNamed(args[0])
		if err != nil {
			return "", err
		}
		return "", n.control(ctx, verb, args[1:])
	case "reboot", "shut-down", "lose", "mend", "answer", "stop-answer", "register", "deregister":
		n, err := l.NodeNamed(args[0])
		if err != nil {
			return "", err
		}
		return "", n.controlFault(ctx, verb, args[1:])
	case "add-backend":
		return l.controlBackend(ctx, args)
	case "remove-backend":
		return "", l.removeBackend(ctx, args[0])
	}
	p, err := l.Process(args[0])
	if err != nil {
		return "", err
	}
	return "", p.control(ctx, verb, args[1:])
}

func (n *Node) control(ctx context.Context, verb string, ifaces []string) error {
	switch verb {
	case "power-off":
		return n.PowerOff(ctx)
	case "power-on":
		return n.PowerOn(ctx)
	case "cut":
		return n.Cut(ctx, ifaces...)
	case "restore":
		return n.Restore(ctx, ifaces...)
	case "isolate":
		return n.Isolate(ctx, ifaces...)
	case "rejoin":
		return n.Rejoin(ctx, ifaces...)
	case "start-heartbeat":
		return n.StartHeartbeat()
	}
	n.StopHeartbeat()
	return nil
}

func (p *Process) control(ctx context.Context, verb string, args []string) error {
	sig := syscall.SIGTERM
	if len(args) > 0 {
		named, err := signalNamed(args[0])
		if err != nil {
			return err
		}
		sig = named
	}
	switch verb {
	case "start":
		return p.Start()
	case "stop":
		return p.Stop(ctx, sig)
	case "restart":
		return p.Restart(ctx, sig)
	case "kill":
		return p.Kill()
	case "pause":
		return p.Pause()
	case "resume":
		return p.Resume()
	}
	return fmt.Errorf("run %q: no such command", verb)
}

// signalNamed reads the name of a signal, with or without SIG.
func signalNamed(name string) (syscall.Signal, error) {
	sig, ok := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP,
	}[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
	if !ok {
		return 0, fmt.Errorf("read signal %q: want TERM, INT, KILL or HUP", name)
	}
	return sig, nil
}

// controlBackend is add-backend NODE APP [NAMESPACE].
func (l *Lab) controlBackend(ctx context.Context, args []string) (string, error) {
	if len(args) < 2 {
		return "", errors.New("add backend: want a node and an app")
	}
	spec := Backend{Node: args[0], App: args[1]}
	if len(args) > 2 {
		spec.Namespace = args[2]
	}
	b, err := l.AddBackend(ctx, spec)
	if err != nil {
		return "", err
	}
	return "pod " + b.Pod + "\n", nil
}

func (l *Lab) removeBackend(ctx context.Context, pod string) error {
	l.mu.Lock()
	backends := slices.Clone(l.backends)
	l.mu.Unlock()
	for _, b := range backends {
		if b.Pod == pod {
			return b.Remove(ctx)
		}
	}
	return fmt.Errorf("remove backend %q: no such pod of the lab", pod)
}

// Status is a few lines for people: hosts and processes.
func (l *Lab) Status(context.Context) string {
	var b strings.Builder
	fmt.Fprintf(&b, "lab %s, files in %s\n\n", l.opts.Prefix, l.state.dir)
	hosts := l.allHosts()
	slices.SortFunc(hosts, func(a, b *Host) int { return a.IPv4.Compare(b.IPv4) })
	for _, h := range hosts {
		fmt.Fprintf(&b, "%-6s %-12s %-14s namespace %s\n", h.Name, h.IPv4, h.IPv6, h.ns.name)
	}
	b.WriteString("\n")
	for _, p := range l.Processes() {
		fmt.Fprintf(&b, "%-20s %s\n", p.name, p.Status())
	}
	return b.String()
}

// Done is closed when Down begins, whoever asked for it.
func (l *Lab) Done() <-chan struct{} { return l.background.Done() }
