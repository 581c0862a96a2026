package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// requestTimeout bounds one request of Wait.
const requestTimeout = 5 * time.Second

// cacheSyncTimeout is how long a controller may wait for its first list. An API server
// that goes away right after the start is waited for; it is no reason to end.
const cacheSyncTimeout = 24 * time.Hour

// kinds are the resources that Ballast cannot work without.
func kinds() []string {
	return []string{
		"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities", "settings", "speakers", "addressclaims",
	}
}

// backoff is how daemons wait at start: 0.25 s, doubled up to 10 s, with jitter, without end.
func backoff() wait.Backoff {
	return wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 1 << 30, Cap: 10 * time.Second}
}

// Wait returns when the API server answers and serves Ballast's kinds, or with ctx's
// error. It logs why it waits whenever that changes.
func Wait(ctx context.Context, cfg *rest.Config, health *Health, log logr.Logger) error {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = requestTimeout
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make discovery client: %w", err)
	}
	return Until(ctx, log, health.following(func() error { return served(client) }))
}

// Until repeats try with back-off until it succeeds and logs each new reason to wait.
func Until(ctx context.Context, log logr.Logger, try func() error) error {
	b, said := backoff(), ""
	for {
		err := try()
		if err == nil {
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			log.Info("waiting", "for", said)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(b.Step()):
		}
	}
}

func served(client discovery.DiscoveryInterface) error {
	list, err := client.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("the API server to serve %s (kubectl apply -k config/crd)", v1alpha1.GroupVersion)
	}
	if err != nil {
		return fmt.Errorf("the API server: %w", err)
	}
	var missing []string
	for _, kind := range kinds() {
		found := false
		for _, r := range list.APIResources {
			found = found || r.Name == kind
		}
		if !found {
			missing = append(missing, kind)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("the API server to serve %s of %s (kubectl apply -k config/crd)", strings.Join(missing, ", "), v1alpha1.GroupVersion)
	}
	return nil
}

// WaitForPorts returns when the given TCP addresses can be listened on: a predecessor
// may still hold them. "0" and "" are skipped.
func WaitForPorts(ctx context.Context, health *Health, log logr.Logger, addresses ...string) error {
	return Until(ctx, log, health.following(func() error {
		for _, a := range addresses {
			if a == "0" || a == "" {
				continue
			}
			l, err := net.Listen("tcp", a)
			if err != nil {
				return fmt.Errorf("the port to be free: %w", err)
			}
			if err := l.Close(); err != nil {
				return fmt.Errorf("close listener: %w", err)
			}
		}
		return nil
	}))
}
