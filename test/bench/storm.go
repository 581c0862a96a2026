package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
	"github.com/ballast-lb/ballast/test/storm"
)

// stormVerb is no suite of figures: it judges.
const stormVerb = "storm"

// errViolations makes the exit status 2.
var errViolations = errors.New("bounds were exceeded")

// stormSettings are the flags of storm.
type stormSettings struct {
	name, logs, bin, log string
	seed                 uint64
	total, each          time.Duration
	round                int
	resume, plan         bool
}

func parseStorm(args []string) (stormSettings, error) {
	var o stormSettings
	fs := flag.NewFlagSet("bench "+stormVerb, flag.ContinueOnError)
	fs.StringVar(&o.name, "name", "storm", "prefix of the lab")
	fs.StringVar(&o.logs, "logs", "", "folder for the logs of the lab's processes; default: they are removed with the lab")
	fs.StringVar(&o.bin, "bin", "", "folder with controller and speaker; default: bin/ of the repository")
	fs.StringVar(&o.log, "log", "", "file to which each round is appended as a line of JSON")
	fs.BoolVar(&o.resume, "resume", false,
		"go on where the file of --log ends: with the seed after its last, for the rest of the time")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the faults; the same seed makes the same faults")
	fs.DurationVar(&o.total, "for", 30*time.Minute, "how long; the last round is completed")
	fs.DurationVar(&o.each, "each", 10*time.Minute, "how long with each seed, before the next")
	fs.IntVar(&o.round, "round", -1, "only this round of the seed, counted from 0, once")
	fs.BoolVar(&o.plan, "plan", false, "print the faults of the seed (three rounds, or --round) and do nothing")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 || o.total <= 0 || o.each <= 0 {
		return o, errors.New("check flags: times must be positive, and there are no arguments")
	}
	if o.resume && o.log == "" {
		return o, errors.New("check flags: --resume needs --log")
	}
	return o, nil
}

// runStorm brings the lab up, lets the storm loose in it and removes it.
func runStorm(ctx context.Context, args []string) (err error) {
	o, err := parseStorm(args)
	if err != nil {
		return err
	}
	if o.plan {
		printPlan(o)
		return nil
	}
	text, err := header(ctx, o.bin)
	if err != nil {
		return err
	}
	fmt.Print(text)
	entries, out, err := openStormLog(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	options := storm.Options(o.name)
	options.LogDir, options.BinDir, options.DownOnSignal = o.logs, o.bin, true
	options.Progress = func(message string) { progress("%s", message) }
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	l, err := lab.Up(up, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	bed, err := storm.Prepare(ctx, l)
	if err != nil {
		return fmt.Errorf("prepare the lab: %w", err)
	}
	entries, err = rage{bed: bed, entries: entries, out: out}.run(ctx, o)
	printSummary(storm.Summarize(entries))
	if err == nil && storm.Summarize(entries).Bad() {
		err = errViolations
	}
	return err
}

// openStormLog reads what there is of the log, if it is to be resumed, and opens it.
func openStormLog(o stormSettings) ([]storm.Entry, *os.File, error) {
	var entries []storm.Entry
	if o.resume {
		read, size, err := storm.ReadLog(o.log)
		if err == nil && read != nil {
			err = os.Truncate(o.log, size)
		}
		if err != nil {
			return nil, nil, err
		}
		entries = read
	}
	path := o.log
	if path == "" {
		path = os.DevNull
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	return entries, out, nil
}

// rage is where rounds run and are noted.
type rage struct {
	bed     *storm.Bed
	entries []storm.Entry // of the log so far
	out     io.Writer
}

// run runs rounds until the time is over, and returns the log's entries and its own.
func (r rage) run(ctx context.Context, o stormSettings) ([]storm.Entry, error) {
	entries, bed, out := r.entries, r.bed, r.out
	p := storm.ProgressOf(entries, o.seed)
	seed, round, spent := p.NextSeed, max(0, o.round), time.Duration(0)
	for done := p.Done; done < o.total; {
		faults, length := storm.Plan(seed, round)
		progress("seed %d, round %d: %d faults, %s", seed, round, len(faults), length.Round(time.Second))
		began := time.Now()
		seen, err := bed.Round(ctx, seed, round)
		if err != nil {
			return entries, fmt.Errorf("seed %d, round %d: %w", seed, round, err)
		}
		e := storm.EntryOf(seed, round, began, seen)
		printRound(e)
		entries = append(entries, e)
		if err := e.Write(out); err != nil {
			return entries, err
		}
		if o.round >= 0 {
			break
		}
		done, spent, round = done+e.Length, spent+e.Length, round+1
		if spent >= o.each {
			seed, round, spent = seed+1, 0, 0
		}
	}
	return entries, nil
}

// printRound prints a round's faults and what was wrong.
func printRound(e storm.Entry) {
	fmt.Printf("seed %d, round %d, from %s: %d faults, %d violations, the witness was late by at most %s, load %s\n",
		e.Seed, e.Round, e.Began.Format("15:04:05.000"), len(e.Faults), len(e.Violations),
		e.Late.Round(time.Millisecond), e.Load)
	for _, h := range e.Faults {
		fmt.Printf("  %6.1f s to %6.1f s  %s\n", h.Began.Seconds(), h.Ended.Seconds(), h.Fault)
	}
	for _, g := range storm.Groups(e.Violations) {
		fmt.Printf("  VIOLATION at %s: %s\n", e.Began.Add(g.Worst.At).Format("15:04:05.000"), g)
	}
}

func printSummary(s storm.Summary) {
	fmt.Printf("\n%d rounds of seeds %v in %s, %d faults\n", s.Rounds, s.Seeds, s.Length.Round(time.Second), s.Faults)
	for _, f := range storm.Findings() {
		t := s.Found[f]
		if t.Count == 0 {
			fmt.Printf("%-22s never\n", f)
			continue
		}
		fmt.Printf("%-22s %d times; worst: seed %d, round %d: %s\n", f, t.Count, t.Seed, t.Round, t.Worst)
	}
}

func printPlan(o stormSettings) {
	first, count := max(0, o.round), 3
	if o.round >= 0 {
		count = 1
	}
	for round := first; round < first+count; round++ {
		faults, length := storm.Plan(o.seed, round)
		fmt.Printf("seed %d, round %d: %s\n", o.seed, round, length.Round(time.Second))
		for _, line := range storm.Describe(faults) {
			fmt.Println("  " + line)
		}
	}
}
