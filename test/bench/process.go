package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// The lab's names of Ballast's processes.
const (
	controller = "controller-1"
	speaker    = "speaker-n1"
)

const (
	// quietLimit bounds the wait for rest.
	quietLimit = 3 * time.Minute
	// quietWindow is for how long CPU time is counted.
	quietWindow = 2 * time.Second
	// quietShare of one core is what a process at rest may use: leases, heartbeats and watches.
	quietShare = 0.1
	// ticksPerSecond is the kernel's USER_HZ, proc_pid_stat(5).
	ticksPerSecond = 100
)

// quiet waits until Ballast and the API server are at rest: what was asked of them is done.
func (b *bed) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	ticker := time.NewTicker(quietWindow)
	defer ticker.Stop()
	before, err := b.cpuTimes()
	for err == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for rest: gave up after %s", quietLimit)
		case <-ticker.C:
		}
		var after map[int]time.Duration
		if after, err = b.cpuTimes(); atRest(before, after) {
			break
		}
		before = after
	}
	return err
}

func atRest(before, after map[int]time.Duration) bool {
	for pid, used := range after {
		if was, known := before[pid]; !known || float64(used-was) > quietShare*float64(quietWindow) {
			return false
		}
	}
	return len(after) > 0
}

// cpuTimes is the CPU time of the processes that quiet waits for, by pid.
func (b *bed) cpuTimes() (map[int]time.Duration, error) {
	m := map[int]time.Duration{}
	for _, p := range b.lab.Processes() {
		switch p.Name() {
		case controller, speaker, "apiserver", "controller-manager":
		default:
			continue
		}
		pid := p.Pid()
		if pid == 0 {
			return nil, fmt.Errorf("look at %s: %s", p.Name(), p.Status())
		}
		used, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		m[pid] = used
	}
	return m, nil
}

// cpuTime reads what a process has used, user and system.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	// After the name, which may hold anything, utime and stime are the 12th and 13th.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time of process %d: cannot parse %q", pid, data)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// footprint is the resident memory of a process in bytes: now, of that what is not mapped
// from the program's file, and the highest so far.
type footprint struct{ now, anonymous, highest int64 }

// footprintOf reads VmRSS, RssAnon and VmHWM, proc_pid_status(5).
func footprintOf(p *lab.Process) (footprint, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return footprint{}, fmt.Errorf("read memory of %s (%s): %w", p.Name(), p.Status(), err)
	}
	var f footprint
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		into := map[string]*int64{"VmRSS": &f.now, "RssAnon": &f.anonymous, "VmHWM": &f.highest}[key]
		if into == nil {
			continue
		}
		var kib int64
		if _, err := fmt.Sscanf(value, "%d kB", &kib); err != nil {
			return footprint{}, fmt.Errorf("read memory of %s: %w", p.Name(), err)
		}
		*into = kib << 10
	}
	return f, nil
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
