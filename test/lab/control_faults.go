package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlCommand is one command with the least number of its arguments.
type controlCommand struct {
	least int
	run   func() (string, error)
}

// controlFault runs the commands that break the network or look at it. It returns false if
// verb is none of them.
func (l *Lab) controlFault(ctx context.Context, verb string, args []string) (output string, known bool, err error) {
	commands := map[string]controlCommand{
		"partition":   {1, func() (string, error) { return "", l.Partition(ctx, args...) }},
		"heal":        {0, func() (string, error) { return "", l.Heal(ctx) }},
		"stop-api":    {0, func() (string, error) { return "", l.StopAPI(ctx) }},
		"start-api":   {0, func() (string, error) { return "", l.StartAPI(ctx) }},
		"add-host":    {1, func() (string, error) { return l.controlAddHost(ctx, args[0], args[1:]) }},
		"remove-host": {1, func() (string, error) { return "", l.RemoveHost(ctx, args[0]) }},
		"throttle":    {3, func() (string, error) { return "", l.controlThrottle(args) }},
		"unthrottle":  {1, func() (string, error) { return "", l.controlUnthrottle(args[0]) }},
		"who-has":     {2, func() (string, error) { return l.controlAsk(ctx, args[0], args[1:]) }},
		"watch":       {2, func() (string, error) { return l.controlWatch(ctx, args[0], args[1], args[2:]) }},
		"probe":       {3, func() (string, error) { return l.controlProbe(ctx, args[0], args[1], args[2:]) }},
		"hold":        {3, func() (string, error) { return l.controlHold(ctx, args) }},
	}
	for verb, c := range l.controlRouter(ctx, args) {
		commands[verb] = c
	}
	c, known := commands[verb]
	if !known {
		return "", false, nil
	}
	if len(args) < c.least {
		return "", true, fmt.Errorf("run %s: it needs %d arguments", verb, c.least)
	}
	output, err = c.run()
	return output, true, err
}

// controlNode runs the commands that break one node.
func (n *Node) controlFault(ctx context.Context, verb string, args []string) error {
	switch verb {
	case "shut-down":
		return n.ShutDown(ctx)
	case "reboot":
		dark, err := secondsOf(append(args, "5")[0])
		if err != nil {
			return err
		}
		return n.Reboot(ctx, dark)
	case "mend":
		return n.Mend(ctx, args...)
	case "deregister":
		return n.Deregister(ctx)
	case "register":
		return n.Register(ctx)
	}
	if len(args) == 0 {
		return fmt.Errorf("run %s: an argument is missing", verb)
	}
	if verb == "lose" {
		return n.Lose(ctx, Loss(args[0]), args[1:]...)
	}
	address, err := netip.ParseAddr(args[0])
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	if verb == "answer" {
		return n.AnswerFor(ctx, address)
	}
	return n.StopAnsweringFor(ctx, address)
}

func (l *Lab) controlAddHost(ctx context.Context, name string, words []string) (string, error) {
	addresses, err := addressesOf(words)
	if err != nil {
		return "", err
	}
	h, err := l.AddHost(ctx, name, addresses...)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %s %s\n", h.Name, h.IPv4, h.IPv6, h.MAC()), nil
}

func (l *Lab) controlThrottle(args []string) error {
	p, err := l.Process(args[0])
	if err != nil {
		return err
	}
	run, err1 := time.ParseDuration(args[1])
	rest, err2 := time.ParseDuration(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return p.Throttle(run, rest)
}

func (l *Lab) controlUnthrottle(name string) error {
	p, err := l.Process(name)
	if err == nil {
		p.Unthrottle()
	}
	return err
}

// askWindow is how long a person waits for answers.
const askWindow = 300 * time.Millisecond

func (l *Lab) controlAsk(ctx context.Context, host string, words []string) (string, error) {
	addresses, err := addressesOf(words)
	if err != nil {
		return "", err
	}
	answers, err := l.Ask(ctx, host, askWindow, addresses...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&b, "%s:", a)
		for _, s := range answers[a] {
			fmt.Fprintf(&b, " %s", l.describe(s))
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// describe says who spoke for whom.
func (l *Lab) describe(s Sighting) string {
	if s.Source == s.Owner {
		return l.NameOf(s.Owner)
	}
	return fmt.Sprintf("%s (said by %s)", l.NameOf(s.Owner), l.NameOf(s.Source))
}

func (l *Lab) controlWatch(ctx context.Context, host, duration string, words []string) (string, error) {
	addresses, err1 := addressesOf(words)
	length, err2 := secondsOf(duration)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	w, err := l.Watch(host, addresses...)
	if err != nil {
		return "", err
	}
	began := time.Now()
	err = pause(ctx, length)
	seen := w.Stop()
	slices.SortFunc(seen, func(a, b Sighting) int { return a.At.Compare(b.At) })
	var b strings.Builder
	for _, s := range seen {
		unasked := ""
		if s.Unasked {
			unasked = ", unasked"
		}
		fmt.Fprintf(&b, "%8.3f s  %s at %s: %s%s\n", s.At.Sub(began.Round(0)).Seconds(), s.Address, l.describe(s), s.Kind, unasked)
	}
	return b.String(), err
}

func (l *Lab) controlProbe(ctx context.Context, host, duration string, words []string) (string, error) {
	length, err := secondsOf(duration)
	if err != nil {
		return "", err
	}
	spec := Probe{From: host}
	for _, word := range words {
		target, err := targetOf(word)
		if err != nil {
			return "", err
		}
		spec.Targets = append(spec.Targets, target)
	}
	p, err := l.StartProber(spec)
	if err != nil {
		return "", err
	}
	err = pause(ctx, length)
	return p.Stop().Report(time.Time{}, time.Time{}).String() + "\n", err
}

// controlHold is hold HOST SECONDS ADDRESS[:PORT].
func (l *Lab) controlHold(ctx context.Context, args []string) (string, error) {
	length, err1 := secondsOf(args[1])
	target, err2 := targetOf(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	h, err := l.Hold(ctx, Hold{From: args[0], Target: target})
	if err != nil {
		return "", err
	}
	err = pause(ctx, length)
	return h.Stop().String() + "\n", err
}

func addressesOf(words []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, word := range words {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, fmt.Errorf("read address: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}

// targetOf reads an address, to which port 80 belongs, or an address with a port.
func targetOf(word string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(word); err == nil {
		return netip.AddrPortFrom(a, 80), nil
	}
	target, err := netip.ParseAddrPort(word)
	if err != nil {
		return target, fmt.Errorf("read target: %w", err)
	}
	return target, nil
}

// secondsOf reads a positive number of seconds that a command may take.
func secondsOf(word string) (time.Duration, error) {
	n, err := strconv.ParseFloat(word, 64)
	d := time.Duration(n * float64(time.Second))
	if err != nil || d <= 0 || d >= controlLimit {
		return 0, fmt.Errorf("read seconds: %q is not between 0 and %.0f", word, controlLimit.Seconds())
	}
	return d, nil
}
