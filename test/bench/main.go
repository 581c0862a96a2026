// Command bench measures the allocation side of Ballast on a real control plane, a lab
// of package test/lab, how nodes of it stand in for each other in layer 2, and how routers follow them in BGP, and prints each
// figure beside its target and with the command
// that prints it alone. It asserts nothing and is no part of the tests: figures depend on
// the machine, which the header describes.
//
// What it creates lies in the namespace "bench" of its own lab, which is removed when it
// ends, fails or is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `bench: what Ballast costs and how fast it is, on a real control plane. Needs root, make kube, make build

usage: bench allocation [FLAGS]   without nodes: %s
       bench speaker [FLAGS]      one node that announces in layer 2: %s
       bench failover [FLAGS]     nodes that fail: %s
       bench bgp [FLAGS]          nodes that announce to routers: %s
       bench first [FLAGS]        the first connections to new addresses: %s
       bench storm [FLAGS]        random faults, judged: exit status 2 if a bound was exceeded

`

// section is one part of a suite: what it measures can be printed alone.
type section struct {
	name string
	run  func(context.Context, *bed) (table, error)
}

// suite is the sections that share a lab.
type suite struct {
	name     string
	nodes    int
	sections []section
	// close is set if each section brings up itself what it needs, and removes what is left of that.
	close func() error
}

func suites() []suite {
	return []suite{
		{name: "allocation", sections: []section{
			{"burst", burst}, {"writes", writes}, {"paced", paced}, {"restart", restart}, {"memory", memory},
		}},
		{name: "speaker", nodes: 1, sections: []section{{"memory", memory}}},
		{name: "failover", nodes: failoverNodes, sections: []section{
			{"death", death},
			{"many", many},
			{"reboot", reboots},
			{"restart", speakerRestarts},
			{"drain", drains},
			{"partition", partitions},
			{"oneway", oneWays},
			{"gossip", gossipLosses},
			{"capacity", capacity},
			{"api", withoutAPI}, // the last: kube-proxies take up to a minute to find the API server again, and know no new Services until then
		}},
		bgpSuite(),
		firstSuite(),
	}
}

func (s suite) names() string {
	var names []string
	for _, one := range s.sections {
		names = append(names, one.name)
	}
	return strings.Join(names, ",")
}

// settings are the flags.
type settings struct {
	suite    string
	sections []section
	given    []string // the flags that were set, to repeat a section
	prefix   string
	logs     string
	bin      string
	rounds   int
	services int
	few      int
	many     int
	samples  int
	rate     int
	workers  int
	rest     time.Duration

	runs      int
	addresses int
	capacity  int
	partition time.Duration
	routes    int
}

// command is what prints a section alone.
func (s settings) command(section string) string {
	return strings.Join(append([]string{"bin/bench", s.suite, "-run", section}, s.given...), " ")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		os.Exit(130) // like the lab, which is removed by now
	case errors.Is(err, errViolations):
		os.Exit(2)
	case err != nil && !errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case referenceVerb:
		return reference(ctx)
	case announcerVerb:
		return announcer(ctx, os.Stdin)
	case stormVerb:
		return runStorm(ctx, args[1:])
	}
	all := suites()
	for _, s := range all {
		if s.name != verb {
			continue
		}
		options, err := parse(s, args[1:])
		if err != nil {
			return err
		}
		return benchmark(ctx, s, options)
	}
	fmt.Fprintf(os.Stderr, usage, all[0].names(), all[1].names(), all[2].names(), all[3].names(), all[4].names())
	return fmt.Errorf("choose what to measure: %q is none of allocation, speaker, failover, bgp, first and storm", verb)
}

func parse(s suite, args []string) (settings, error) {
	o := settings{suite: s.name}
	fs := flag.NewFlagSet("bench "+s.name, flag.ContinueOnError)
	sections := fs.String("run", s.names(), "sections to run, separated by commas")
	fs.StringVar(sections, "sections", s.names(), "the same as -run")
	fs.StringVar(&o.prefix, "name", "bench", "prefix of the lab")
	fs.StringVar(&o.logs, "logs", "", "folder for the logs of the lab's processes; default: they are removed with the lab")
	fs.StringVar(&o.bin, "bin", "", "folder with controller and speaker; default: bin/ of the repository")
	fs.IntVar(&o.runs, "runs", 20, "runs of each scenario of failover and bgp, and new addresses of each section of first")
	fs.IntVar(&o.addresses, "addresses", 1000, "addresses of the dead node in many")
	fs.IntVar(&o.capacity, "capacity", 10000, "addresses of the one node in capacity")
	fs.DurationVar(&o.partition, "partition", 10*time.Second, "how long the LAN is split in partition; 3m is longer than everything that speakers remember")
	fs.IntVar(&o.routes, "routes", 10000, "routes of bgp's load, router, and the large cases of its paced and restart")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds of burst, restart and load")
	fs.IntVar(&o.services, "services", 1000, "Services of burst and writes, and of the middle step of memory")
	fs.IntVar(&o.few, "few", 100, "Services present in the small case of paced")
	fs.IntVar(&o.many, "many", 5000, "Services present in the large case of paced, in restart and in memory")
	fs.IntVar(&o.samples, "samples", 300, "paced creates for Ballast, and as many for the reference client; of bgp's paced in each case")
	fs.IntVar(&o.rate, "rate", 20, "paced creates a second, both together")
	fs.IntVar(&o.workers, "workers", 32, "clients that create and delete at once")
	fs.DurationVar(&o.rest, "rest", 0, "how much longer memory lets the processes rest before it reads; Go's collector needs two minutes to run by itself")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if min(o.rounds, o.services, o.few, o.many, o.samples, o.rate, o.workers, o.runs, o.addresses, o.capacity, o.routes) < 1 || fs.NArg() > 0 {
		return o, errors.New("check flags: every number must be at least 1, and there are no arguments")
	}
	fs.Visit(func(f *flag.Flag) {
		if f.Name != "run" && f.Name != "sections" {
			o.given = append(o.given, "-"+f.Name, f.Value.String())
		}
	})
	for name := range strings.SplitSeq(*sections, ",") {
		i := slices.IndexFunc(s.sections, func(one section) bool { return one.name == name })
		if i < 0 {
			return o, fmt.Errorf("check -run: %q is none of %s", name, s.names())
		}
		o.sections = append(o.sections, s.sections[i])
	}
	return o, nil
}

// benchmark brings a lab up, runs the sections in it and removes it.
func benchmark(ctx context.Context, s suite, o settings) (err error) {
	began := time.Now()
	text, err := header(ctx, o.bin)
	if err != nil {
		return err
	}
	fmt.Print(text)
	b, end := &bed{settings: o}, s.close
	if end == nil {
		if b, err = newBed(ctx, s.nodes, o); err != nil {
			return err
		}
		end = b.close
	}
	defer func() { err = errors.Join(err, end()) }()
	for _, one := range o.sections {
		progress("%s", one.name)
		t, err := one.run(ctx, b)
		if err != nil {
			err = fmt.Errorf("measure %s: %w", one.name, err)
			if s.close == nil {
				err = b.explain(ctx, err)
			}
			return err
		}
		fmt.Print(t.format(o.command(one.name)))
	}
	progress("done in %s", time.Since(began).Round(time.Second))
	return nil
}

// progress tells on standard error what is under way.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
