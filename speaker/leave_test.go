package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ballast-lb/ballast/test/assets"
)

// patience bounds each wait for something that should come soon.
const patience = 20 * time.Second

func TestLeavingOrRestarting(t *testing.T) {
	t.Parallel()
	deleted := metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}
	condition := func(c corev1.NodeCondition) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{c}}}
	}
	tainted := func(key string) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key}}}}
	}
	for _, tc := range []struct {
		name string
		e    evidence
		want bool
		says string
	}{
		{"SIGTERM alone is a restart", evidence{signal: syscall.SIGTERM}, false, "nothing says"},
		{"SIGINT is a leave", evidence{signal: os.Interrupt}, true, "SIGINT"},
		{"a host that goes down is a leave", evidence{signal: syscall.SIGTERM, nologin: true}, true, "/run/nologin"},
		{"a healthy node and a DaemonSet that lives on are a restart", evidence{
			signal: syscall.SIGTERM, node: condition(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}), daemonSet: &appsv1.DaemonSet{}, namespace: &corev1.Namespace{},
		}, false, ""},
		{"a Node that is gone is a leave", evidence{nodeGone: true}, true, "was deleted"},
		{"a Node that is being deleted is a leave", evidence{node: &corev1.Node{ObjectMeta: deleted}}, true, "Node is being deleted"},
		{"a Node that is out of service is a leave", evidence{node: tainted(corev1.TaintNodeOutOfService)}, true, "out-of-service"},
		{"other taints are a restart", evidence{node: tainted(corev1.TaintNodeUnschedulable)}, false, ""},
		{"a Node that shuts down is a leave", evidence{node: condition(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "node is shutting down"})}, true, "shuts down"},
		{"a Node that shuts down and has other errors is a leave", evidence{node: condition(corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "[container runtime is down, node is shutting down]",
		})}, true, "shuts down"},
		{"a Node that is not ready for another reason is a restart", evidence{node: condition(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "container runtime is down"})}, false, ""},
		{"a Node that is not heard of is a restart", evidence{node: condition(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."})}, false, ""},
		{"a DaemonSet that is gone is a leave", evidence{daemonSetGone: true}, true, "DaemonSet was deleted"},
		{"a DaemonSet that is being deleted is a leave", evidence{daemonSet: &appsv1.DaemonSet{ObjectMeta: deleted}}, true, "DaemonSet is being deleted"},
		{"a namespace that is being deleted is a leave", evidence{namespace: &corev1.Namespace{ObjectMeta: deleted}}, true, "namespace"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got, why := tc.e.leaving(); got != tc.want || !strings.Contains(why, tc.says) {
				t.Errorf("got %t, %q; want %t, %q", got, why, tc.want, tc.says)
			}
		})
	}
}

func sigterm() os.Signal { return syscall.SIGTERM }

// bench is a real API server with what a speaker in a pod looks at.
func bench(t *testing.T) (client.Client, *departure) {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	bin, err := assets.Dir()
	if err != nil {
		t.Fatal(err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: bin}
	cfg, err := env.Start()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	c, err := client.New(cfg, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "speaker"}
	containers := corev1.PodSpec{Containers: []corev1.Container{{Name: "speaker", Image: "ballast"}}}
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ballast-system", Name: "speaker"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: containers},
	}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ballast-system", Name: "speaker-abcde"}, Spec: containers}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ballast-system"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, set, pod,
	} {
		if o == client.Object(pod) {
			pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}
		}
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T: %v", o, err)
		}
	}
	return c, &departure{reader: c, node: "n1", pod: pod.Name, namespace: pod.Namespace, nologin: filepath.Join(t.TempDir(), "nologin"), signal: sigterm}
}

func TestDepartureAsksTheAPIServer(t *testing.T) {
	c, d := bench(t)
	expect := func(what string, want bool, says string) {
		t.Helper()
		if got, why := d.leaving(t.Context()); got != want || !strings.Contains(why, says) {
			t.Errorf("%s: got %t, %q; want %t, %q", what, got, why, want, says)
		}
	}
	remove := func(o client.Object, options ...client.DeleteOption) {
		t.Helper()
		if err := c.Delete(t.Context(), o, options...); err != nil {
			t.Fatal(err)
		}
	}
	set := &appsv1.DaemonSet{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: d.namespace, Name: "speaker"}, set); err != nil {
		t.Fatal(err)
	}
	expect("all lives on", false, "nothing says")
	if err := os.WriteFile(d.nologin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("the host goes down", true, "the host goes down")
	if err := os.Remove(d.nologin); err != nil {
		t.Fatal(err)
	}
	remove(set, client.PropagationPolicy(metav1.DeletePropagationForeground))
	expect("the DaemonSet is being deleted", true, "DaemonSet is being deleted")
	outside := *d
	outside.pod = ""
	if got, why := outside.leaving(t.Context()); got {
		t.Errorf("outside a pod: got a leave, %q", why)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(set), set); err != nil {
		t.Fatal(err)
	}
	set.Finalizers = nil
	if err := c.Update(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	expect("the DaemonSet is gone", true, "DaemonSet was deleted")
	again := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: set.Name}, Spec: set.Spec}
	if err := c.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	expect("the DaemonSet was replaced", false, "nothing says")
	d.pod = "typo"
	expect("the pod is gone", false, "a restart is assumed: get Pod")
	remove(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	expect("the Node is gone", true, "Node was deleted")
}

func TestDepartureWithoutAnAnswerIsARestart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	cfg := &rest.Config{Host: "http://" + l.Addr().String()}
	c, err := client.New(cfg, client.Options{Scheme: clientgoscheme.Scheme, Mapper: mapper()})
	if err != nil {
		t.Fatal(err)
	}
	d := &departure{reader: c, node: "n1", pod: "speaker-abcde", namespace: "ballast-system", nologin: filepath.Join(t.TempDir(), "nologin"), signal: sigterm}
	begun := time.Now()
	leaves, why := d.leaving(t.Context())
	if leaves || !strings.Contains(why, "a restart is assumed") {
		t.Errorf("got %t, %q", leaves, why)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %s", took)
	}
}

func TestASpeakerThatHasLostItsRightsLeaves(t *testing.T) {
	t.Parallel()
	for code, leaves := range map[int]bool{http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusInternalServerError: false} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
			t.Cleanup(server.Close)
			c, err := client.New(&rest.Config{Host: server.URL}, client.Options{Scheme: clientgoscheme.Scheme, Mapper: mapper()})
			if err != nil {
				t.Fatal(err)
			}
			d := &departure{reader: c, node: "n1", pod: "speaker-abcde", namespace: "ballast-system", nologin: filepath.Join(t.TempDir(), "nologin"), signal: sigterm}
			if got, why := d.leaving(t.Context()); got != leaves || leaves && !strings.Contains(why, "being removed") {
				t.Errorf("got %t, %q", got, why)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	if os.Getenv("BALLAST_TEST_SIGNALS") != "" {
		child()
	}
	for _, tc := range []struct {
		name  string
		first syscall.Signal
		said  string
	}{{"SIGTERM", syscall.SIGTERM, "terminated"}, {"SIGINT", syscall.SIGINT, "interrupt"}} {
		t.Run("a second signal after "+tc.name+" ends the process", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSignals$")
			cmd.Env = append(os.Environ(), "BALLAST_TEST_SIGNALS=1")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			read := func(want string) {
				t.Helper()
				b := make([]byte, 100)
				n, err := out.Read(b)
				if got := strings.TrimSpace(string(b[:n])); got != want {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
			}
			send := func(s syscall.Signal) {
				t.Helper()
				if err := cmd.Process.Signal(s); err != nil {
					t.Error(err)
				}
			}
			read("ready")
			send(tc.first)
			read(tc.said)
			send(syscall.SIGTERM)
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("got %v, want exit status 1", err)
			}
		})
	}
}

// child is a process that says which signal came, and then does not end by itself.
func child() {
	ctx, which := signals(context.Background())
	if which() != nil {
		os.Exit(3)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	_, _ = os.Stdout.WriteString(which().String() + "\n")
	<-time.After(patience)
	os.Exit(4)
}

func TestSignalsEndWithTheirParent(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	ctx, which := signals(parent)
	cancel()
	<-ctx.Done()
	if which() != nil {
		t.Errorf("got %v, want none", which())
	}
}

// mapper knows the kinds that a departure asks for, without asking the API server.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(appsv1.SchemeGroupVersion.WithKind("DaemonSet"), meta.RESTScopeNamespace)
	return m
}
