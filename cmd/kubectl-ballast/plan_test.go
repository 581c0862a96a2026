package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/assets"
)

// api is a real API server, on which no controller runs: tests write status.
type api struct {
	client.Client
	t   *testing.T
	env *envtest.Environment
}

func startAPI(t *testing.T) *api {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	bin, err := assets.Dir()
	if err != nil {
		t.Fatal(err)
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd", "bases")}, ErrorIfCRDPathMissing: true, BinaryAssetsDirectory: bin}
	cfg, err := env.Start()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	a := &api{Client: c, t: t, env: env}
	a.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "web"}}})
	return a
}

// create creates an object, and writes the status that it has.
func (a *api) create(o client.Object) {
	a.t.Helper()
	status, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		a.t.Fatalf("%T is no object", o)
	}
	o.SetUID("")
	o.SetCreationTimestamp(metav1.Time{})
	if err := a.Create(a.t.Context(), o); err != nil {
		a.t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	switch o.(type) {
	case *corev1.Service, *v1alpha1.IPAddressPool, *v1alpha1.AddressClaim:
		status.SetUID(o.GetUID())
		status.SetResourceVersion(o.GetResourceVersion())
		if s, isService := status.(*corev1.Service); isService { // what the API server filled in
			s.Spec = o.(*corev1.Service).Spec
			for i := range s.Status.Conditions {
				s.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		}
		if err := a.Status().Update(a.t.Context(), status); err != nil {
			a.t.Fatalf("write status of %T %s: %v", o, o.GetName(), err)
		}
	}
}

func (a *api) service(s corev1.Service)      { a.t.Helper(); a.create(&s) }
func (a *api) pool(p v1alpha1.IPAddressPool) { a.t.Helper(); a.create(&p) }
func (a *api) claim(c v1alpha1.AddressClaim) { a.t.Helper(); a.create(&c) }

// manifest writes pools as documents of a file.
func (a *api) manifest(pools ...v1alpha1.IPAddressPool) string {
	a.t.Helper()
	var all []string
	for _, p := range pools {
		text, err := yaml.Marshal(p)
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return strings.Join(all, "---\n")
}

// outcome is what a command line did.
type outcome struct {
	status      int
	out, errOut string
}

// kubectl runs a command line of the plugin; no kubeconfig is that of the administrator.
func (a *api) kubectl(kubeconfig []byte, stdin string, args ...string) outcome {
	a.t.Helper()
	if kubeconfig == nil {
		kubeconfig = a.env.KubeConfig
	}
	file := filepath.Join(a.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		a.t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errOut}
	status := run(a.t.Context(), streams, append(args, "--kubeconfig", file))
	return outcome{status, out.String(), errOut.String()}
}

// says checks an exit status, and what stands on standard output and standard error. A
// text that begins with "!" must not stand there. Columns are one blank apart.
func (o outcome) says(t *testing.T, status int, out, errOut []string) {
	t.Helper()
	if o.status != status {
		t.Errorf("exit status: got %d, want %d", o.status, status)
	}
	for _, one := range []struct {
		name, text string
		want       []string
	}{{"output", o.out, out}, {"errors", o.errOut, errOut}} {
		text := strings.Join(strings.FieldsFunc(one.text, func(r rune) bool { return r == ' ' }), " ")
		for _, want := range one.want {
			unwanted, not := strings.CutPrefix(want, "!")
			if not && strings.Contains(text, unwanted) || !not && !strings.Contains(text, want) {
				t.Errorf("%s: want %q in\n%s", one.name, want, one.text)
			}
		}
		if one.want == nil && one.text != "" {
			t.Errorf("%s: want none, got\n%s", one.name, one.text)
		}
	}
}

func TestPlan(t *testing.T) {
	a := startAPI(t)
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	a.pool(lan)
	a.claim(claim("kept", "192.0.2.3")) // the oldest, also if all are of one second; then come one and two
	a.service(service("one", "192.0.2.1"))
	a.service(service("two", "192.0.2.2"))
	a.service(serviceWith(service("six"), func(s *corev1.Service) {
		s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: "wan"}
		family := corev1.IPFamilyPolicySingleStack
		s.Spec.IPFamilyPolicy = &family
	}))

	t.Run("a new pool gives a Service that waits an address", func(t *testing.T) {
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1")), "plan", "-f", "-").says(t, 0, []string{
			"Service shop/six - 198.51.100.1 gets From IPAddressPool wan.",
			"loses: 0, changes: 0, gets: 1, waits: 0, keeps: 3 (3 unchanged are not listed: --all)",
			"wan added IPv4 - -> 1 - -> 1 - -> 0 True", "!lan",
		}, nil)
	})
	t.Run("an edit with Retain keeps", func(t *testing.T) {
		a.kubectl(nil, a.manifest(pool("lan", "192.0.2.1")), "plan", "-f", "-", "--detailed-exitcode").says(t, 0, []string{
			"Service shop/two 192.0.2.2 192.0.2.2 keeps IPAddressPool lan no longer hands 192.0.2.2 out; it stays with its holder.",
			"AddressClaim shop/kept 192.0.2.3 192.0.2.3 keeps", "!shop/one",
			"lan edited IPv4 3 -> 1 3 -> 1 0 Retained",
			"IPAddressPool lan: Retained: Services hold addresses that its spec no longer covers: 192.0.2.2-192.0.2.3.",
		}, nil)
	})
	t.Run("an edit with Reassign changes", func(t *testing.T) {
		edited := a.manifest(with(pool("lan", "192.0.2.1", "192.0.2.8/30"), reassign))
		a.kubectl(nil, edited, "plan", "-f", "-", "--all", "--detailed-exitcode").says(t, 2, []string{
			"AddressClaim shop/kept 192.0.2.3 192.0.2.8 changes IPAddressPool lan no longer hands 192.0.2.3 out.",
			"Service shop/two 192.0.2.2 192.0.2.9 changes IPAddressPool lan no longer hands 192.0.2.2 out.",
			"Service shop/one 192.0.2.1 192.0.2.1 keeps -",
			"Service shop/six - - waits NoPool: The requested IPAddressPool wan does not exist.",
			"loses: 0, changes: 2, gets: 0, waits: 1, keeps: 1\n",
		}, nil)
		a.kubectl(nil, edited, "plan", "-f", "-").says(t, 0, []string{"changes: 2"}, nil)
	})
	t.Run("nothing of all this was written", func(t *testing.T) {
		var list v1alpha1.IPAddressPoolList
		if err := a.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].Generation != 1 {
			t.Errorf("got %+v", list.Items)
		}
	})
	t.Run("a removal with Retain waits for the holders", func(t *testing.T) {
		a.kubectl(nil, "", "plan", "--remove", "lan").says(t, 0, []string{
			"Service shop/one 192.0.2.1 192.0.2.1 keeps IPAddressPool lan is being deleted, and waits until nobody holds an address of it.",
			"lan removed IPv4 3 3 0 Draining", "It is held by AddressClaim shop/kept, Service shop/one, Service shop/two.",
		}, nil)
	})
	t.Run("the files of a folder may be all pools", func(t *testing.T) {
		dir := folder(t, map[string]string{"wan.yaml": a.manifest(pool("wan", "198.51.100.1")), "README.md": "no pool"})
		a.kubectl(nil, "", "plan", "-f", dir, "--prune").says(t, 0, []string{
			"Service shop/six - 198.51.100.1 gets", "lan removed IPv4", "wan added IPv4",
		}, nil)
	})
	t.Run("a selector sees the labels of namespaces, and Services of another class do not count", func(t *testing.T) {
		p := with(pool("wan", "198.51.100.1"), func(p *v1alpha1.IPAddressPool) {
			p.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "web"}}}}
		})
		a.kubectl(nil, a.manifest(p), "plan", "-f", "-").says(t, 0, []string{"Service shop/six - 198.51.100.1 gets"}, nil)
		p.Spec.ServiceAllocation.NamespaceSelectors[0].MatchLabels["tier"] = "db"
		a.kubectl(nil, a.manifest(p), "plan", "-f", "-").says(t, 0, []string{"Service shop/six - - waits PoolNotAllowed: IPAddressPool wan does not admit it"}, nil)
		a.kubectl(nil, a.manifest(p), "plan", "-f", "-", "--load-balancer-class", "example.com/other").says(t, 0, []string{"gets: 0, waits: 0, keeps: 1", "!shop/six"}, nil)
	})
	t.Run("JSON is for programs", func(t *testing.T) {
		o := a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1")), "plan", "-f", "-", "-o", "json")
		o.says(t, 0, []string{}, nil)
		var f forecast
		if err := json.Unmarshal([]byte(o.out), &f); err != nil {
			t.Fatal(err)
		}
		if len(f.Holders) != 1 || f.Holders[0].Change != gets || list(f.Holders[0].Then.Addresses) != "198.51.100.1" ||
			f.Holders[0].Now.Reason != v1alpha1.ReasonNoPool || f.Pools[0].Then.IPv4.Total != "1" || f.Summary[keeps] != 3 {
			t.Errorf("got %+v", f)
		}
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1")), "plan", "-f", "-", "-o", "yaml").says(t, 0, []string{"change: gets", "reason: NoPool"}, nil)
	})
	t.Run("a pool is defaulted and checked by the API server", func(t *testing.T) {
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.0/24")), "plan", "-f", "-").says(t, 0, []string{"wan added IPv4 - -> 254 "}, nil)
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1/24")), "plan", "-f", "-").says(t, 1, nil, []string{"error: the API server rejects standard input: ", `"wan" is invalid`, "has host bits set"})
		a.kubectl(nil, a.manifest(pool("lan", "198.51.100.1 ")), "plan", "-f", "-").says(t, 1, nil, []string{`"lan" is invalid`, "without blanks"})
	})
	t.Run("what makes no sense is an error", func(t *testing.T) {
		wan := a.manifest(pool("wan", "198.51.100.1"))
		for _, row := range []struct {
			stdin string
			args  []string
			want  string
		}{
			{"", nil, "nothing to plan: give -f FILE or --remove POOL"},
			{"", []string{"--prune", "--remove", "lan"}, "--prune needs -f"},
			{wan, []string{"-f", "-", "-o", "wide"}, `unknown output "wide"`},
			{wan, []string{"-f", "-", "--remove", "typo"}, "plan to remove IPAddressPool typo: it does not exist"},
			{wan, []string{"-f", "-", "--context", "typo"}, `context "typo" does not exist`},
			{strings.Replace(wan, "addresses", "adresses", 1), []string{"-f", "-"}, `read standard input: decode IPAddressPool: strict decoding error: unknown field "spec.adresses"`},
			{a.manifest(pool("wan", "198.51.100.1"), pool("wan", "198.51.100.2")), []string{"-f", "-"}, "document 2: IPAddressPool wan stands in standard input already"},
			{wan, []string{"--file", "-"}, "unknown flag: --file; see kubectl ballast plan --help"},
			{"# nothing\n", []string{"-f", "-"}, "there is no IPAddressPool in what -f names"},
		} {
			a.kubectl(nil, row.stdin, append([]string{"plan"}, row.args...)...).says(t, 1, nil, []string{row.want})
		}
	})
	t.Run("other kinds are ignored, and said to be", func(t *testing.T) {
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1"))+"---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n", "plan", "-f", "-").says(t, 0,
			[]string{"gets: 1"}, []string{"ignored: ConfigMap x in standard input; only IPAddressPools are planned"})
	})
	t.Run("a removal with Reassign takes addresses, and says why", func(t *testing.T) {
		var p v1alpha1.IPAddressPool
		if err := a.Get(t.Context(), client.ObjectKey{Name: "lan"}, &p); err != nil {
			t.Fatal(err)
		}
		p.Spec.ReclaimPolicy = v1alpha1.ReclaimReassign
		if err := a.Update(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
		a.kubectl(nil, a.manifest(pool("new", "203.0.113.1-203.0.113.2")), "plan", "-f", "-", "--remove", "lan", "--detailed-exitcode").says(t, 2, []string{
			"Service shop/two 192.0.2.2 - loses PoolExhausted: IPAddressPool new has no free IPv4 address.",
			"AddressClaim shop/kept 192.0.2.3 203.0.113.1 changes IPAddressPool lan is removed.",
			"lan removed IPv4 3 -> - 3 -> - 0 -> - -", "new added IPv4 - -> 2 - -> 2 - -> 0 True",
		}, nil)
	})
	t.Run("who may only look is warned", func(t *testing.T) {
		mayList := func(groups, resources []string) rbacv1.PolicyRule {
			return rbacv1.PolicyRule{APIGroups: groups, Resources: resources, Verbs: []string{"list"}}
		}
		needed := []rbacv1.PolicyRule{mayList([]string{"ballast.dev"}, []string{"ipaddresspools", "addressclaims"}), mayList([]string{""}, []string{"services", "namespaces"})}
		all := append([]rbacv1.PolicyRule{mayList([]string{"", "networking.k8s.io"}, []string{"nodes", "servicecidrs"})}, needed...)
		wan := a.manifest(pool("wan", "198.51.100.1"))
		unchecked := "warning: the API server has not checked IPAddressPool wan of standard input against the rules of its schema: "
		a.kubectl(a.user("viewer", all), wan, "plan", "-f", "-").says(t, 0, []string{"Service shop/six - 198.51.100.1 gets"}, []string{unchecked, "!reserved"})
		a.kubectl(a.user("tenant", needed), wan, "plan", "-f", "-").says(t, 0, []string{"Service shop/six - 198.51.100.1 gets"}, []string{
			unchecked, "reserved as addresses of nodes and pods: ", "reserved as cluster addresses of Services: ", `User "tenant" cannot list resource "nodes"`,
		})
		a.kubectl(a.user("stranger", needed[:1]), wan, "plan", "-f", "-").says(t, 1, nil, []string{`error: list Services: services is forbidden: User "stranger" cannot list`})
	})
	t.Run("a controller that does not run is noticed", func(t *testing.T) {
		a.service(service("new"))
		a.pool(pool("more", "203.0.113.1-203.0.113.9"))
		a.kubectl(nil, a.manifest(pool("wan", "198.51.100.1")), "plan", "-f", "-").says(t, 0, []string{"gets: 1", "!shop/new"}, []string{"warning: the status of 1 Services or AddressClaims is not what the controller would decide now."})
	})
}

// user makes a user with some rights, and returns its kubeconfig.
func (a *api) user(name string, rights []rbacv1.PolicyRule) []byte {
	a.t.Helper()
	a.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rights})
	a.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	})
	u, err := a.env.AddUser(envtest.User{Name: name}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	kubeconfig, err := u.KubeConfig()
	if err != nil {
		a.t.Fatal(err)
	}
	a.granted(u.Config(), name)
	return kubeconfig
}

// granted waits until the API server knows the rights of a new user.
func (a *api) granted(cfg *rest.Config, name string) {
	a.t.Helper()
	c, err := client.New(cfg, client.Options{Scheme: a.Scheme()})
	if err != nil {
		a.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if err = c.List(a.t.Context(), &v1alpha1.IPAddressPoolList{}); err == nil {
			return
		}
	}
	a.t.Fatalf("user %s has no rights: %v", name, err)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		var out, errOut bytes.Buffer
		if status := run(context.Background(), genericiooptions.IOStreams{In: nil, Out: &out, ErrOut: &errOut}, args); status != 0 || !strings.HasPrefix(out.String(), "ballast kubectl-ballast ") {
			t.Errorf("%v: got %d, %q, %q", args, status, out.String(), errOut.String())
		}
	}
}
