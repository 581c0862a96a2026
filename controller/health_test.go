package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/ballast-lb/ballast/internal/kube"
)

// probe asks a health port until the answer has a status and says something.
func probe(t *testing.T, address, path string, status int, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	said := ""
	for ctx.Err() == nil {
		got, body, err := get(ctx, "http://"+address+path)
		if err == nil && got == status && strings.Contains(body, says) {
			return
		}
		said = fmt.Sprint(got, " ", body, " ", err)
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("%s answers %s, want %d and %q", path, said, status, says)
}

func get(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), errors.Join(err, resp.Body.Close())
}

// freePort is an address on loopback at which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	return l.Addr().String()
}

// running runs a daemon with an API server until the test ends, and returns where it serves its health.
func running(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	written := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: %q}}], users: [{name: u, user: {}}]}`, server)
	if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	ctx, cancel := context.WithCancel(t.Context())
	o := &kube.Options{Namespace: "ballast-system", Metrics: "0", Health: freePort(t)}
	done := make(chan error, 1)
	go func() { done <- run(ctx, o, true, logr.Discard()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return o.Health
}

//nolint:paralleltest // the kubeconfig is named by the environment
func TestTheControllerIsAliveWhileItWaits(t *testing.T) {
	address := running(t, "http://"+freePort(t))
	probe(t, address, "/healthz", http.StatusOK, "ok")
	probe(t, address, "/readyz", http.StatusServiceUnavailable, "waiting for the API server")
}

func TestAControllerWithoutRightsSaysWhichAreMissing(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	a.stop()
	cfg := rest.CopyConfig(a.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:ballast-system:controller", Groups: []string{"system:authenticated"}}
	o := a.options()
	mgr, err := newManager(cfg, o, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := wire(ctx, mgr, o, logr.Discard()); err != nil {
		t.Fatal(err)
	}
	readiness, err := kube.NewReadiness(cfg, mgr.GetCache(), rights(o.Namespace), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- readiness.Manage(ctx, mgr) }()
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { readiness.Run(ctx) })
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	a.becomes(readiness.Why, "it is not allowed to get services, list services, watch services, get nodes, list nodes, ")

	allowed := granted(t, "../config/rbac/controller_role.yaml")
	for i := range allowed.cluster {
		allowed.cluster[i].Name = "ballast-controller"
		a.create(&allowed.cluster[i])
	}
	for i := range allowed.namespaced {
		a.create(&allowed.namespaced[i])
	}
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "ballast-system", Name: "controller"}}
	meta := metav1.ObjectMeta{Name: "ballast-controller", Namespace: "ballast-system"}
	a.create(&rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}})
	a.becomes(readiness.Why, "it is not allowed to get services, ")
	a.create(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: meta.Name}, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}})
	a.becomes(readiness.Why, "") // what is asked for is what config/rbac gives
}

// becomes waits until something says an error; "": none.
func (a *api) becomes(why func() error, says string) {
	a.t.Helper()
	deadline, err := time.Now().Add(patience), error(nil)
	for time.Now().Before(deadline) {
		if err = why(); says == "" && err == nil || says != "" && err != nil && strings.Contains(err.Error(), says) {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	a.t.Fatalf("got %v, want %q", err, says)
}

// roles are those of a file of manifests.
type roles struct {
	cluster    []rbacv1.ClusterRole
	namespaced []rbacv1.Role
}

func granted(t *testing.T, file string) roles {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all roles
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var role rbacv1.ClusterRole
		if err := yaml.UnmarshalStrict([]byte(strings.TrimPrefix(document, "---\n")), &role); err != nil {
			t.Fatal(err)
		}
		if role.Kind == "Role" {
			all.namespaced = append(all.namespaced, rbacv1.Role{ObjectMeta: role.ObjectMeta, Rules: role.Rules})
			continue
		}
		all.cluster = append(all.cluster, role)
	}
	return all
}
