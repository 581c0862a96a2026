// Package api tests the kinds, samples, roles and admission policies in config/ against a
// real kube-apiserver. It starts etcd and kube-apiserver on loopback, and runs nothing of
// Ballast itself.
package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/assets"
)

const (
	namespace = "ballast-system"
	nodeExtra = "authentication.kubernetes.io/node-name"
)

// cluster is the API server that all tests of this package share.
type cluster struct {
	namespace  string // Ballast's own
	config     *rest.Config
	scheme     *runtime.Scheme
	kubectlBin string
	kubeconfig string
	admin      client.Client
}

var shared *cluster

func TestMain(m *testing.M) {
	code, err := runWithCluster(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runWithCluster starts an API server, applies the manifests in the order of a new
// install, runs the tests, and stops the server whatever they did.
func runWithCluster(m *testing.M) (code int, err error) {
	ctrl.SetLogger(logr.Discard())
	bin, err := assets.Dir()
	if err != nil {
		return 1, err
	}
	no := false
	env := &envtest.Environment{BinaryAssetsDirectory: bin, UseExistingCluster: &no}
	defer func() { err = errors.Join(err, env.Stop()) }()
	config, err := env.Start()
	if err != nil {
		return 1, fmt.Errorf("start API server: %w", err)
	}
	dir, err := os.MkdirTemp("", "ballast-api-")
	if err != nil {
		return 1, fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	shared, err = newCluster(config, env.KubeConfig, bin, dir)
	if err != nil {
		return 1, err
	}
	for _, manifests := range []string{"crd", "default"} {
		if out, err := shared.kubectl("apply", "-k", filepath.Join("..", "..", "config", manifests)); err != nil {
			return 1, fmt.Errorf("apply config/%s: %w\n%s", manifests, err, out)
		}
	}
	return m.Run(), nil
}

func newCluster(config *rest.Config, kubeconfig []byte, bin, dir string) (*cluster, error) {
	c := &cluster{
		namespace:  namespace,
		config:     config,
		scheme:     runtime.NewScheme(),
		kubectlBin: filepath.Join(bin, "kubectl"),
		kubeconfig: filepath.Join(dir, "kubeconfig"),
	}
	if err := errors.Join(clientgoscheme.AddToScheme(c.scheme), v1alpha1.AddToScheme(c.scheme)); err != nil {
		return nil, fmt.Errorf("build scheme: %w", err)
	}
	if err := os.WriteFile(c.kubeconfig, kubeconfig, 0o600); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	var err error
	c.admin, err = c.client(config)
	return c, err
}

// client returns an uncached client. kubectl has created the kinds by the time of its
// first use, so that discovery finds them.
func (c *cluster) client(config *rest.Config) (client.Client, error) {
	out, err := client.New(config, client.Options{Scheme: c.scheme})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return out, nil
}

// kubectl runs kubectl as an administrator and returns what it printed.
func (c *cluster) kubectl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.kubectlBin, append([]string{"--kubeconfig", c.kubeconfig}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// daemon returns a client that acts as one of Ballast's service accounts; node, unless
// empty, is the node that its token is bound to.
func (c *cluster) daemon(t *testing.T, account, node string) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + c.namespace + ":" + account, Groups: groups(c.namespace)}
	if node != "" {
		config.Impersonate.Extra = map[string][]string{nodeExtra: {node}}
	}
	out, err := c.client(config)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func user(account string) string { return "system:serviceaccount:" + namespace + ":" + account }

func groups(ns string) []string {
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"}
}

func gvk(kind string) schema.GroupVersionKind { return v1alpha1.GroupVersion.WithKind(kind) }

// eventually polls until check returns nil, and fails with its last error after 30 s.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited 30 s: %v", err)
		case <-tick.C:
		}
	}
}
