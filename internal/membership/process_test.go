package membership

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/name"
)

// childEnv holds the order of a child process, which is this test binary started again.
const childEnv = "BALLAST_TEST_MEMBER"

// order is what a child is to do.
type order struct {
	Self  Peer
	Peers []Peer
	Keys  []byte
	// Answered says that the LAN answers for all nodes, as their kernels would.
	Answered bool
	// Burn makes the child no member: it computes until it is killed.
	Burn bool
}

func TestMain(m *testing.M) {
	if value := os.Getenv(childEnv); value != "" {
		if err := child(value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is one member in a process of its own; it writes each view as a line.
func child(value string) error {
	var o order
	if err := json.Unmarshal([]byte(value), &o); err != nil {
		return err
	}
	for x := uint64(1); o.Burn; x *= 3 {
		if x == 0 {
			return nil
		}
	}
	keys, err := ParseKeys(o.Keys)
	if err != nil {
		return err
	}
	config := Config{NodeName: o.Self.Name, Addresses: o.Self.Addresses, Keys: keys, Label: "test", Log: logr.Discard()}
	if o.Answered {
		config.Ask = func(context.Context, name.NodeName) Answer { return up }
	}
	m, err := New(config)
	if err != nil {
		return err
	}
	m.SetPeers(o.Peers)
	go func() {
		for view := range m.Views() {
			_ = json.NewEncoder(os.Stdout).Encode(view)
		}
	}()
	return m.Run(context.Background())
}

// process is a child.
type process struct {
	views <-chan View
	// kill ends it without a word; signal sends it something else.
	kill   func()
	signal func(syscall.Signal)
}

// run starts a child.
func runChild(t *testing.T, o order) process {
	t.Helper()
	value, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childEnv+"="+string(value))
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	views, ended := make(chan View, 10000), make(chan struct{})
	go func() { // Pdeathsig follows the thread that starts the child
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var v View
			if json.Unmarshal(lines.Bytes(), &v) == nil {
				views <- v
			}
		}
		_ = command.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	kill := func() {
		_ = command.Process.Kill()
		<-ended
	}
	t.Cleanup(kill)
	return process{views, kill, func(s syscall.Signal) { _ = command.Process.Signal(s) }}
}

// spawn starts a member in a process of its own and returns its views, and a function that
// kills it without a word.
func spawn(t *testing.T, o order) (<-chan View, func()) {
	t.Helper()
	p := runChild(t, o)
	return p.views, p.kill
}

// throttle has a process run only now and then for some time, and then again.
func throttle(p process, stopped, running, during time.Duration) {
	for end := time.Now().Add(during); time.Now().Before(end); {
		p.signal(syscall.SIGSTOP)
		<-time.After(stopped)
		p.signal(syscall.SIGCONT)
		<-time.After(running)
	}
}

// seen counts, in the views so far, how often anybody was less than alive.
func seen(t *testing.T, p process, self name.NodeName, all []name.NodeName, count map[string]int) {
	t.Helper()
	for {
		select {
		case v := <-p.views:
			h := health(v)
			for _, n := range all {
				if h[n] != Alive {
					count[fmt.Sprintf("%s %v", n, h[n])]++
				}
				if h[n] == Dead {
					t.Errorf("%s takes %s for dead", self, n)
				}
			}
			if v.Deaf {
				t.Errorf("%s is deaf", self)
			}
		default:
			return
		}
	}
}

func TestProcessesThatGetLittleTimeAreNotTakenForDead(t *testing.T) {
	at := hosts(10)
	var all []name.NodeName
	var ps []process
	for _, p := range at {
		all = append(all, p.Name)
		ps = append(ps, runChild(t, order{Self: p, Peers: at, Keys: Keys{key(1)}.Format(), Answered: true}))
	}
	for _, p := range ps {
		await(t, p.views, true, all...)
	}
	check := func(what string) {
		count := map[string]int{}
		for i, p := range ps {
			seen(t, p, all[i], all, count)
		}
		t.Logf("%s: views that say less than alive: %v", what, count)
	}
	check("while all run")
	throttle(ps[0], 150*time.Millisecond, 20*time.Millisecond, 4*time.Second)
	check("one gets a tenth of its time")
	throttle(ps[0], time.Second, 20*time.Millisecond, time.Millisecond)
	<-time.After(time.Second) // what the others think of it has arrived
	check("one stands still for a second")
	var burning []process
	for range 2 * runtime.NumCPU() {
		burning = append(burning, runChild(t, order{Burn: true}))
	}
	<-time.After(4 * time.Second)
	check("two others compute on each core")
	for _, b := range burning {
		b.kill()
	}
	// In the end all are alive for all. Views arrive on change only, so one more is provoked: the
	// tenth leaves without a word, and the LAN says that it is still there.
	ps[9].kill()
	for i, p := range ps[:9] {
		if !awaitHealth(p.views, at[9].Name, Silent, all[:9]) {
			t.Errorf("%s does not see the others alive and the last silent", all[i])
		}
	}
}

// awaitHealth reads views until one says how one node is, and that others are alive.
func awaitHealth(views <-chan View, n name.NodeName, want Health, others []name.NodeName) bool {
	limit := time.After(patience)
	for {
		select {
		case v := <-views:
			if health(v)[n] == want && slices.Equal(living(v), others) {
				return true
			}
		case <-limit:
			return false
		}
	}
}
