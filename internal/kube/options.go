package kube

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// Options are the flags that both daemons have. --kubeconfig is controller-runtime's.
type Options struct {
	Namespace, Class, Metrics, Health string
	Version                           bool
}

// Defaults are those that differ between the daemons.
type Defaults struct{ Metrics, Health string }

// Flags defines the flags; the result is filled in when they are parsed.
func Flags(fs *flag.FlagSet, d Defaults) *Options {
	o := &Options{}
	config.RegisterFlags(fs)
	fs.StringVar(&o.Namespace, "namespace", "ballast-system", "Namespace of Ballast's own objects.")
	fs.StringVar(&o.Class, "load-balancer-class", "", "Serve the Services with this spec.loadBalancerClass; empty: those without one.")
	fs.StringVar(&o.Metrics, "metrics-bind-address", d.Metrics, `Address of the metrics; "0" is off. Beyond loopback it is HTTPS with authentication.`)
	fs.StringVar(&o.Health, "health-probe-bind-address", d.Health, `Address of /healthz and /readyz; "0" is off.`)
	fs.BoolVar(&o.Version, "version", false, "Print the version and exit.")
	return o
}

// RESTConfig finds the API server: by --kubeconfig, $KUBECONFIG or the pod's service
// account. The API server's own fairness limits requests, not the client. See Dial.
func (o *Options) RESTConfig() (*rest.Config, error) {
	cfg, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find API server (--kubeconfig, $KUBECONFIG or a pod's service account): %w", err)
	}
	cfg.QPS, cfg.Dial = -1, Dial
	return cfg, nil
}

// Await waits until the API server serves Ballast's kinds and the port of the metrics is free, and
// returns how to reach it. Health says what it waits for.
func (o *Options) Await(ctx context.Context, health *Health, log logr.Logger) (*rest.Config, error) {
	cfg, err := o.RESTConfig()
	if err != nil {
		return nil, err
	}
	return cfg, errors.Join(Wait(ctx, cfg, health, log), WaitForPorts(ctx, health, log, o.Metrics))
}

// Manager makes a daemon's manager. The caller gives what concerns leader election; the
// rest is set here. Controllers' names may repeat: tests start a daemon anew in one process.
func (o *Options) Manager(cfg *rest.Config, options ctrl.Options) (manager.Manager, error) {
	repeat := true
	options.Scheme = runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(options.Scheme); err != nil {
			return nil, fmt.Errorf("build scheme: %w", err)
		}
	}
	options.Controller = ctrlconfig.Controller{SkipNameValidation: &repeat, CacheSyncTimeout: cacheSyncTimeout}
	options.Cache = cacheOptions(o.Namespace)
	options.Metrics = o.metricsServer()
	options.HealthProbeBindAddress = "0" // Health serves, from an earlier moment
	mgr, err := ctrl.NewManager(cfg, options)
	if err != nil {
		return nil, fmt.Errorf("make manager: %w", err)
	}
	return mgr, nil
}

// metricsServer serves metrics in the clear on loopback, and beyond it over TLS to those
// alone who may get the path /metrics (Kubernetes SubjectAccessReview).
func (o *Options) metricsServer() metricsserver.Options {
	m := metricsserver.Options{BindAddress: o.Metrics}
	if !o.loopbackMetrics() {
		m.SecureServing, m.FilterProvider = true, filters.WithAuthenticationAndAuthorization
	}
	return m
}

func (o *Options) loopbackMetrics() bool {
	if o.Metrics == "0" || strings.HasPrefix(o.Metrics, "localhost:") {
		return true
	}
	a, err := netip.ParseAddrPort(o.Metrics)
	return err == nil && a.Addr().IsLoopback()
}
