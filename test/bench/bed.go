package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/ballast-lb/ballast/test/lab"
)

// namespace holds all Services of the benchmarks.
const namespace = "bench"

// manifests are the pool, the benchmarking network of RFC 2544, and the rights of the
// reference client, which are the controller's.
const manifests = `
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: ballast.dev/v1alpha1
kind: IPAddressPool
metadata: {name: bench}
spec: {addresses: [198.18.0.0/15]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench-reference}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ballast-controller}
subjects: [{kind: ServiceAccount, namespace: bench, name: reference}]
`

// advertisement is for a lab with a node.
const advertisement = `
apiVersion: ballast.dev/v1alpha1
kind: L2Advertisement
metadata: {name: bench}
spec: {ipAddressPools: [bench]}
`

// app is the label of the pod that a lab with a node has, and the Services' selector there.
const app = "bench"

// upLimit bounds the start of the lab.
const upLimit = 3 * time.Minute

// bed is a lab in which Ballast serves Services, and what measures it.
type bed struct {
	settings
	lab    *lab.Lab
	nodes  int
	client kubernetes.Interface
	seen   *observer
	stop   context.CancelFunc
	done   chan struct{} // of the observer
}

// newBed brings the lab up and returns when Ballast serves.
func newBed(ctx context.Context, nodes int, o settings) (*bed, error) {
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	l, err := lab.Up(up, lab.Options{
		Prefix: o.prefix, Nodes: nodes, LogDir: o.logs, BinDir: o.bin, DownOnSignal: true,
		Progress: func(message string) { progress("%s", message) },
	})
	if err != nil {
		return nil, err
	}
	b := &bed{settings: o, lab: l, nodes: nodes, stop: func() {}}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(b.explain(ctx, fmt.Errorf("prepare the lab: %w", err)), b.close())
	}
	return b, nil
}

// prepare makes what the sections need, and waits for a first address.
func (b *bed) prepare(ctx context.Context) error {
	text := manifests
	if b.nodes > 0 {
		text += "---" + advertisement
	}
	if err := b.lab.Apply(ctx, text); err != nil {
		return err
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	if b.nodes > 0 {
		if _, err := b.lab.AddBackend(ctx, lab.Backend{Namespace: namespace, App: app, Node: "n1"}); err != nil {
			return err
		}
	}
	if err := b.create(ctx, b.service("warm-0")); err != nil {
		return err
	}
	if err := b.served(ctx, "warm-", 1); err != nil {
		return err
	}
	return b.remove(ctx, "warm-")
}

// connect makes the client and the observer.
func (b *bed) connect(ctx context.Context) error {
	cfg := b.lab.RESTConfig()
	cfg.QPS = -1 // the API server's own fairness limits, as it does for Ballast
	cfg.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	watching, stop := context.WithCancel(ctx)
	seen, done, err := watchServices(watching, client)
	if err != nil {
		stop()
		return err
	}
	b.client, b.seen, b.done, b.stop = client, seen, done, stop
	return nil
}

// reconnect makes them anew: a watch does not outlive the API server.
func (b *bed) reconnect(ctx context.Context) error {
	b.stop()
	<-b.done
	return b.connect(ctx)
}

func (b *bed) close() error {
	b.stop()
	if b.done != nil {
		<-b.done
	}
	return b.lab.Down()
}

// explain saves the lab's diagnostics, which are long, and says where; after an interrupt
// there is nothing to explain.
func (b *bed) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	text := b.lab.Diagnostics()
	f, ferr := os.CreateTemp("", "ballast-bench-*.txt")
	if ferr != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	defer f.Close()
	if _, werr := f.WriteString(text); werr != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	tail := ""
	if p, perr := b.lab.Process(controller); perr == nil {
		tail = p.LogTail(10)
	}
	return fmt.Errorf("%w\nthe lab's diagnostics: %s; the controller's last lines:\n%s", err, f.Name(), tail)
}
