package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ballast-lb/ballast/test/lab"
)

// table is the figures of one section.
type table struct {
	title   string
	columns []string // of the values
	figures []figure
	notes   []string
}

// figure is one line of a table. The zero target says that none was set.
type figure struct {
	name   string
	values []string
	target string
	met    bool
}

// add adds a line without a target.
func (t *table) add(name string, values ...string) {
	t.figures = append(t.figures, figure{name: name, values: values})
}

// aim adds a line with a target, as text, and whether it was met.
func (t *table) aim(target string, met bool, name string, values ...string) {
	t.figures = append(t.figures, figure{name: name, values: values, target: target, met: met})
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// format aligns a table under its title and the command that prints it.
func (t *table) format(command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n$ %s\n\n", t.title, command)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "figure\t%s\ttarget\tmet\n", strings.Join(t.columns, "\t"))
	for _, f := range t.figures {
		values := append(slices.Clone(f.values), make([]string, len(t.columns)-len(f.values))...)
		met := ""
		switch {
		case f.target == "":
		case f.met:
			met = "yes"
		default:
			met = "NO"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.name, strings.Join(values, "\t"), f.target, met)
	}
	_ = w.Flush() // a Builder takes everything
	for _, note := range t.notes {
		fmt.Fprintf(&b, "  %s\n", note)
	}
	return b.String()
}

// quantile is the smallest value that at least the share q of all values does not exceed;
// 0 of none.
func quantile[T int | float64 | time.Duration](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func median[T int | float64 | time.Duration](values []T) T { return quantile(values, 0.5) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func times(ratio float64) string { return fmt.Sprintf("%.2fx", ratio) }

func count(n int) string { return strconv.Itoa(n) }

// header describes the machine and how busy it is with other things.
func header(ctx context.Context, bin string) (string, error) {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", fmt.Errorf("read load: %w", err)
	}
	busy, err := busyShare()
	if err != nil {
		return "", err
	}
	var info unix.Sysinfo_t
	var kernel unix.Utsname
	if err := errors.Join(unix.Sysinfo(&info), unix.Uname(&kernel)); err != nil {
		return "", fmt.Errorf("ask the kernel: %w", err)
	}
	version, err := controllerVersion(ctx, bin)
	if err != nil {
		return "", err
	}
	memory := float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	var b strings.Builder
	fmt.Fprintf(&b, "machine  %d cores, %.0f GiB, Linux %s, %s\n", runtime.NumCPU(), memory, unix.ByteSliceToString(kernel.Release[:]), runtime.Version())
	fmt.Fprintf(&b, "before   load average %s, CPU %.0f%% busy\n", strings.Join(strings.Fields(string(load))[:3], " "), 100*busy)
	fmt.Fprintf(&b, "ballast  %s\n", version)
	if busy > 0.1 {
		b.WriteString("warning  something else keeps this machine busy: times are worse than they would be\n")
	}
	return b.String(), nil
}

func controllerVersion(ctx context.Context, bin string) (string, error) {
	if bin == "" {
		root, err := lab.RepositoryRoot()
		if err != nil {
			return "", err
		}
		bin = filepath.Join(root, "bin")
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "controller"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask the controller for its version (make build makes it): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// busyShare watches for two seconds how much of all cores is in use.
func busyShare() (float64, error) {
	idle, all, err := cpuTicks()
	if err != nil {
		return 0, err
	}
	<-time.After(2 * time.Second) // what is measured is a share of time
	idleAfter, allAfter, err := cpuTicks()
	if err != nil || allAfter == all {
		return 0, err
	}
	return 1 - (idleAfter-idle)/(allAfter-all), nil
}

// cpuTicks reads how long all cores were idle, and how long there were any.
func cpuTicks() (idle, all float64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read CPU times: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line)[1:9] { // user nice system idle iowait irq softirq steal
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read CPU times: %w", err)
		}
		all += ticks
		if i == 3 || i == 4 {
			idle += ticks
		}
	}
	return idle, all, nil
}
