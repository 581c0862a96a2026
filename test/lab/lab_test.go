//go:build e2e

package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ballast-lb/ballast/test/lab"
)

// crashVariable makes this test program bring up the lab of that prefix and then die.
const crashVariable = "LAB_TEST_CRASH"

func TestMain(m *testing.M) {
	if prefix := os.Getenv(crashVariable); prefix != "" {
		crash(prefix)
	}
	os.Exit(m.Run())
}

// crash brings a lab up, says so, and leaves without a word to it.
func crash(prefix string) {
	l, err := lab.Up(context.Background(), lab.Options{Prefix: prefix, Nodes: 1, NoBallast: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// One process that only its record in the lab's folder can find: no parent-death signal.
	orphan := exec.Command("sleep", "300")
	if err := orphan.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	record(prefix, "orphan", orphan.Process.Pid)
	for _, p := range l.Processes() {
		fmt.Println(p.Pid())
	}
	fmt.Println(orphan.Process.Pid)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// record notes a process as the lab does.
func record(prefix, name string, pid int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		panic(err)
	}
	started := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	path := filepath.Join("/run/ballast-lab", prefix, "pids", name)
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d %s\n", pid, started), 0o644); err != nil {
		panic(err)
	}
}

func up(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.DownOnSignal = true
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.Diagnostics())
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// leftovers lists namespaces and folders of a prefix.
func leftovers(t *testing.T, prefix string) []string {
	t.Helper()
	namespaces, err := filepath.Glob("/run/netns/" + prefix + "-*")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("/run/ballast-lab/" + prefix)
	if err != nil {
		t.Fatal(err)
	}
	return append(namespaces, folders...)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

const webService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`

// A Service whose ingress is written by hand is delivered by the real kube-proxy, in both
// families, from the LAN and from the WAN through a static route.
func TestTrafficToAHandWrittenIngressIsDelivered(t *testing.T) {
	for _, mode := range []lab.ProxyMode{lab.NFTables, lab.IPTables} {
		t.Run(string(mode), func(t *testing.T) {
			ctx := t.Context()
			l := up(t, lab.Options{Prefix: "labt", Nodes: 2, Routers: 1, ProxyMode: mode, NoBallast: true})
			if _, err := l.AddBackend(ctx, lab.Backend{App: "web", Node: "n1"}); err != nil {
				t.Fatal(err)
			}
			if err := l.Apply(ctx, webService); err != nil {
				t.Fatal(err)
			}
			patch := `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9"},{"ip":"2001:db8::9"}]}}}`
			_, err := l.Client().CoreV1().Services("default").Patch(ctx, "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
			if err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{"lan", "r1"} { // n2 has no endpoint and must forward
				for _, route := range []string{"192.0.2.9 via 10.10.0.12", "2001:db8::9 via fd00:10::12"} {
					if out, err := l.Exec(ctx, from, append([]string{"ip", "route", "add"}, strings.Fields(route)...)...); err != nil {
						t.Fatal(out, err)
					}
				}
			}
			for _, from := range []string{"lan", "wan"} {
				for _, url := range []string{"http://192.0.2.9/", "http://[2001:db8::9]/"} {
					err := l.WaitFor(ctx, from+" reaches "+url, func(ctx context.Context) error {
						body, err := l.HTTP(ctx, from, url)
						if err == nil && !strings.HasPrefix(body, "pod=web-n1-1 node=n1 client=") {
							t.Fatalf("%s answered %q", url, body)
						}
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func TestDownLeavesNoNamespaceAndNoProcess(t *testing.T) {
	l := up(t, lab.Options{Prefix: "labd", Nodes: 1, NoBallast: true})
	var pids []int
	for _, p := range l.Processes() {
		if p.Pid() == 0 {
			t.Errorf("%s does not run", p.Name())
		}
		pids = append(pids, p.Pid())
	}
	if len(leftovers(t, "labd")) == 0 {
		t.Error("a lab that is up shows no namespace: this test looks in the wrong place")
	}
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d still runs", pid)
		}
	}
	if left := leftovers(t, "labd"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUpRemovesWhatACrashedLabLeftBehind(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"=labc")
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the crash did not happen: %v\n%s", err, out)
	}
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	if len(leftovers(t, "labc")) == 0 || len(pids) < 4 {
		t.Fatalf("the crash left nothing to clean: %s", out)
	}
	// A stranger whose pid is on record, but not with its start time, must live.
	stranger := exec.CommandContext(t.Context(), "sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	forged := fmt.Appendf(nil, "%d 1\n", stranger.Process.Pid)
	if err := os.WriteFile("/run/ballast-lab/labc/pids/stranger", forged, 0o644); err != nil {
		t.Fatal(err)
	}
	l := up(t, lab.Options{Prefix: "labc", Nodes: 1, NoBallast: true})
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of the crashed lab still runs", pid)
		}
	}
	if !alive(stranger.Process.Pid) {
		t.Error("a process that is not the lab's was killed")
	}
	if _, err := lab.Up(t.Context(), lab.Options{Prefix: "labc", NoBallast: true}); err == nil || !strings.Contains(err.Error(), lab.ErrInUse.Error()) {
		t.Errorf("a second lab of the same prefix: %v", err)
	}
	if err := l.Down(); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, "labc"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTwoLabsLiveSideBySide(t *testing.T) {
	a := up(t, lab.Options{Prefix: "laba", Nodes: 1, NoBallast: true})
	b := up(t, lab.Options{Prefix: "labb", Nodes: 1, NoBallast: true})
	if err := a.Apply(t.Context(), webService); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Kubectl(t.Context(), "get", "services", "-o", "name"); err != nil || strings.Contains(out, "web") {
		t.Errorf("the other lab's services: %q, %v", out, err)
	}
	if err := a.Down(); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Kubectl(t.Context(), "get", "nodes", "-o", "name"); err != nil || !strings.Contains(out, "node/n1") {
		t.Errorf("after the first lab went: %q, %v", out, err)
	}
}

// A process that dies is started again; one that is stopped stays away; a node that lost
// power is silent until it is switched on.
func TestProcessesAndNodesFailAndComeBack(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Prefix: "labp", Nodes: 2, NoBallast: true})
	proxy, err := l.Process("proxy-n1")
	if err != nil {
		t.Fatal(err)
	}
	before := proxy.Pid()
	if err := proxy.Kill(); err != nil {
		t.Fatal(err)
	}
	err = l.WaitFor(ctx, "proxy-n1 runs again", func(context.Context) error {
		if pid := proxy.Pid(); pid == 0 || pid == before {
			return fmt.Errorf("pid %d: %s", pid, proxy.Status())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Stop(ctx, syscall.SIGTERM); err != nil || proxy.Pid() != 0 {
		t.Errorf("stop: %v, %s", err, proxy.Status())
	}
	ping := func(want bool) error {
		return l.WaitFor(ctx, fmt.Sprintf("n1 answers: %v", want), func(ctx context.Context) error {
			out, err := l.Exec(ctx, "lan", "ping", "-c", "1", "-W", "1", "10.10.0.11")
			if (err == nil) != want {
				return fmt.Errorf("ping: %v: %s", err, out)
			}
			return nil
		})
	}
	n := l.Node(1)
	steps := []struct {
		what    string
		do      func() error
		answers bool
	}{
		{"power off", func() error { return n.PowerOff(ctx) }, false},
		{"power on", func() error { return n.PowerOn(ctx) }, true},
		{"cut", func() error { return n.Cut(ctx) }, false},
		{"restore", func() error { return n.Restore(ctx, "eth0") }, true},
		{"isolate", func() error { return n.Isolate(ctx) }, false},
		{"rejoin", func() error { return n.Rejoin(ctx) }, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		if err := ping(s.answers); err != nil {
			t.Fatalf("after %s: %v", s.what, err)
		}
	}
	if proxy.Pid() != 0 {
		t.Error("power on started a process that had been stopped before")
	}
	if err := n.Cut(ctx, "eth7"); err == nil {
		t.Error("an interface that does not exist was cut")
	}
}
