//go:build e2e

package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// lab is a few hosts, each a network namespace, on one Ethernet: a bridge in a namespace of
// its own. Each host's link is eth0.
type lab struct {
	t      *testing.T
	prefix string
}

// labs counts them, so that tests can run at the same time.
var labs atomic.Int32

// newLab makes the Ethernet and removes everything when the test ends.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	for tool, from := range map[string]string{"ip": "iproute2", "arping": "arping", "bash": "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", tool, from)
		}
	}
	l := &lab{t, fmt.Sprintf("blstl2-%d-%d-", os.Getpid(), labs.Add(1))}
	l.namespace("lan")
	l.in("lan", "ip link add br0 type bridge stp_state 0 forward_delay 0", "ip link set br0 up")
	return l
}

func (l *lab) ns(host string) string { return l.prefix + host }

func (l *lab) namespace(host string) {
	l.t.Helper()
	l.t.Cleanup(func() {
		_ = exec.Command("ip", "netns", "del", l.ns(host)).Run()
	})
	l.run("ip", "netns", "add", l.ns(host))
	l.in(host, "ip link set lo up")
}

// host makes a namespace whose eth0 is on the Ethernet, up, with this hardware address, and
// with no other address but what addresses say.
func (l *lab) host(host, mac string, addresses ...string) {
	l.t.Helper()
	l.namespace(host)
	l.plug(host, mac)
	for _, a := range addresses {
		l.in(host, "ip addr add "+a+" dev eth0")
	}
}

// plug makes eth0 of a host.
func (l *lab) plug(host, mac string) {
	l.t.Helper()
	l.in("lan",
		fmt.Sprintf("ip link add p-%s type veth peer name eth0 netns %s", host, l.ns(host)),
		"ip link set p-"+host+" master br0 up")
	l.in(host, "ip link set eth0 address "+mac+" up")
}

// in runs commands in a host.
func (l *lab) in(host string, commands ...string) {
	l.t.Helper()
	for _, c := range commands {
		l.run("ip", append([]string{"netns", "exec", l.ns(host)}, strings.Fields(c)...)...)
	}
}

func (l *lab) run(command string, arguments ...string) string {
	l.t.Helper()
	out, err := exec.Command(command, arguments...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v: %s", command, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// output runs a command in a host and returns what it prints, whether or not it fails.
func (l *lab) output(host string, command ...string) string {
	out, _ := exec.Command("ip", append([]string{"netns", "exec", l.ns(host)}, command...)...).CombinedOutput()
	return string(out)
}

// whoHas asks once with the arping program, from a host that has an address, and returns the
// hardware address that answers, or an empty string.
func (l *lab) whoHas(host string, address string) string {
	out := l.output(host, "arping", "-r", "-c", "1", "-w", "1", "-W", "0.3", "-i", "eth0", address)
	return strings.TrimSpace(out)
}

// eventually waits until check returns an empty string, and fails with the last other.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	limit := time.Now().Add(patience)
	for {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(limit) {
			t.Fatal(problem)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inside calls f on a thread that is in a host's namespace. Sockets that f opens stay there.
func (l *lab) inside(host string, f func() error) {
	l.t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		failed <- func() error {
			handle, err := os.Open("/run/netns/" + l.ns(host))
			if err != nil {
				return err
			}
			defer handle.Close()
			if err := unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	if err := <-failed; err != nil {
		l.t.Fatal(err)
	}
}

// child is this test binary, started again in a host's namespace.
type child struct {
	t     *testing.T
	stdin io.WriteCloser
	lines chan event
}

// start starts the speaker's layer-2 half in a host; the end of the test kills it.
func (l *lab) start(host string) *child {
	l.t.Helper()
	command := exec.Command("ip", "netns", "exec", l.ns(host), os.Args[0])
	command.Env = append(os.Environ(), childEnv+"=1")
	stderr := &bytes.Buffer{}
	command.Stderr = stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := command.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	c := &child{l.t, stdin, make(chan event, 1000)}
	started, ended := make(chan error), make(chan struct{})
	go func() { // Pdeathsig follows the thread that starts the child
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<22)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				c.lines <- e
			}
		}
		close(c.lines)
		_ = command.Wait()
	}()
	if err := <-started; err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		stdin.Close() // which ends it in good order
		select {
		case <-ended:
		case <-time.After(patience):
			l.t.Error("the child does not end by itself")
			_ = command.Process.Kill()
			<-ended
		}
		if l.t.Failed() {
			l.t.Logf("%s: %s", host, stderr)
		}
	})
	return c
}

// send gives an order.
func (c *child) send(o order) {
	c.t.Helper()
	if err := json.NewEncoder(c.stdin).Encode(o); err != nil {
		c.t.Fatal(err)
	}
}

// set makes addresses the ones that service announces on eth0.
func (c *child) set(service string, addresses ...string) {
	c.t.Helper()
	o := order{Service: service}
	for _, a := range addresses {
		o.Addresses = append(o.Addresses, netip.MustParseAddr(a))
	}
	c.send(o)
}

// await reads events until one is wanted.
func (c *child) await(what string, wanted func(event) bool) event {
	c.t.Helper()
	limit := time.After(patience)
	var last event
	for {
		select {
		case e, open := <-c.lines:
			if !open {
				c.t.Fatalf("the child ended before %s", what)
			}
			if last = e; wanted(e) {
				return e
			}
		case <-limit:
			c.t.Fatalf("no event says that %s; the last is %+v", what, last)
		}
	}
}

// batch runs a script of ip commands in a host.
func (l *lab) batch(host, script string) {
	l.t.Helper()
	command := exec.Command("ip", "netns", "exec", l.ns(host), "ip", "-batch", "-")
	command.Stdin = strings.NewReader(script)
	if out, err := command.CombinedOutput(); err != nil {
		l.t.Fatalf("ip -batch: %v: %s", err, out)
	}
}
