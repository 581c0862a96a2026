//go:build e2e

package interop

import (
	"bufio"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// out runs a command in the router's namespace and returns what it prints; a failure is what it says.
func (r *router) out(program string, args ...string) string {
	out, err := exec.Command("ip", append([]string{"netns", "exec", r.namespace, program}, args...)...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

// counter is a counter of the kernel's TCP in a namespace (/proc/net/netstat).
func counter(t *testing.T, namespace, name string) int {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", namespace, "cat", "/proc/net/netstat").Output()
	must(t, err)
	lines := strings.Split(string(out), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if at := slices.Index(names, name); at > 0 {
			n, err := strconv.Atoi(values[at])
			must(t, err)
			return n
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}

// probePrefix is that of a route that comes and goes to see that something watches.
const probePrefix = "203.0.113.99/32"

// routesThatLeave watches the kernel's routes in a router's namespace, into which its daemon puts what it learns.
func routesThatLeave(r *router) func() string {
	r.t.Helper()
	left := watchLines(r.t, "Deleted", "ip", "-n", r.namespace, "monitor", "route")
	watching(r.t, left, func() {
		ip(r.t, "-n", r.namespace, "route", "add", "blackhole", probePrefix)
		ip(r.t, "-n", r.namespace, "route", "delete", "blackhole", probePrefix)
	})
	return left
}

// watching waits until a route that comes and goes is seen to leave.
func watching(t *testing.T, left func() string, comeAndGo func()) {
	t.Helper()
	eventually(t, "watching", func() string {
		comeAndGo()
		return fmt.Sprint(strings.Contains(left(), strings.TrimSuffix(probePrefix, "/32")))
	}, "true")
}

// watchLines runs a command until the test ends; the result returns those of its lines so far that contain a word.
func watchLines(t *testing.T, word string, command ...string) func() string {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	var mu sync.Mutex
	var found []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), word) {
				mu.Lock()
				found = append(found, lines.Text())
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-done
		_ = c.Wait()
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(found, "; ")
	}
}
