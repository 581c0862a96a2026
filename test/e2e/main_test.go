//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// fixture is a lab that tests share, brought up by the first that asks.
type fixture struct {
	options lab.Options
	once    sync.Once
	lab     *lab.Lab
	client  client.Client
	err     error
}

// The topologies. Their prefixes differ so that they can be up at the same time.
var (
	wide   = &fixture{options: lab.Options{Prefix: "e2e", Nodes: 3, Routers: 1}}
	legacy = &fixture{options: lab.Options{Prefix: "e2eipt", Nodes: 2, Routers: 1, ProxyMode: lab.IPTables}}
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // of controller-runtime's client
	code := m.Run()
	for _, f := range []*fixture{wide, legacy, duo} {
		if f.lab == nil {
			continue
		}
		if err := f.lab.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// up brings the lab up once and applies config/samples.
func (f *fixture) up() error {
	f.once.Do(func() {
		o := f.options
		o.DownOnSignal = true
		if dir := os.Getenv("BALLAST_LAB_LOGS"); dir != "" {
			o.LogDir = filepath.Join(dir, o.Prefix)
		}
		if f.lab, f.err = lab.Up(context.Background(), o); f.err != nil {
			return
		}
		f.err = f.prepare(context.Background())
	})
	return f.err
}

func (f *fixture) prepare(ctx context.Context) error {
	root, err := lab.RepositoryRoot()
	if err != nil {
		return err
	}
	if out, err := f.lab.Kubectl(ctx, "apply", "-f", filepath.Join(root, "config", "samples")); err != nil {
		return fmt.Errorf("apply samples: %w: %s", err, out)
	}
	// The samples' own Service would take the first address of a pool.
	if _, err := f.lab.Kubectl(ctx, "delete", "service/demo", "deployment/demo", "addressclaim/shop"); err != nil {
		return err
	}
	// A speaker that comes late may take an address over: the tests begin when all have met.
	err = f.lab.WaitFor(ctx, "all speakers are in touch with each other", func(ctx context.Context) error {
		out, err := f.lab.Kubectl(ctx, "get", "speakers", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if ready := strings.Count(out, "True"); err == nil && ready != len(f.lab.Nodes()) {
			err = fmt.Errorf("%d of %d speakers are ready", ready, len(f.lab.Nodes()))
		}
		return err
	})
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	f.client, err = client.New(f.lab.RESTConfig(), client.Options{Scheme: scheme})
	return err
}
