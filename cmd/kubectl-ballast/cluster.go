package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

// requestTimeout bounds each request, unless --request-timeout does.
const requestTimeout = 30 * time.Second

// cluster reads what there is.
type cluster struct {
	client client.Client
	errOut io.Writer
}

// known is what a plan starts from.
type known struct {
	pools    []v1alpha1.IPAddressPool
	holders  config.Holders
	reserved []netip.Prefix
	settings []v1alpha1.Settings // the one that there is, or none
}

func connect(flags *genericclioptions.ConfigFlags, errOut io.Writer) (*cluster, error) {
	cfg, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = requestTimeout
	}
	cfg.QPS, cfg.Burst = 50, 300 // as kubectl
	cfg.WarningHandler = rest.NewWarningWriter(errOut, rest.WarningWriterOptions{Deduplicate: true})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return &cluster{c, errOut}, nil
}

// gather reads all that the controller decides on. Who may not read Settings, Nodes or
// ServiceCIDRs is warned.
func (c *cluster) gather(ctx context.Context) (known, error) {
	var (
		pools      v1alpha1.IPAddressPoolList
		services   corev1.ServiceList
		claims     v1alpha1.AddressClaimList
		namespaces corev1.NamespaceList
		nodes      corev1.NodeList
		cidrs      networkingv1.ServiceCIDRList
		settings   v1alpha1.SettingsList
	)
	for _, one := range []struct {
		kinds string
		list  client.ObjectList
		lost  string // what the plan does without, if it may
	}{
		{"IPAddressPools", &pools, ""},
		{"Services", &services, ""},
		{"AddressClaims", &claims, ""},
		{"Namespaces", &namespaces, ""},
		{"Settings", &settings, "how many addresses a namespace may claim"},
		{"Nodes", &nodes, "which addresses are reserved as addresses of nodes and pods"},
		{"ServiceCIDRs", &cidrs, "which addresses are reserved as cluster addresses of Services"},
	} {
		err := c.client.List(ctx, one.list)
		switch {
		case err != nil && one.lost != "" && (apierrors.IsForbidden(err) || meta.IsNoMatchError(err)):
			say(c.errOut, "warning: the plan does not know %s: %v", one.lost, err)
		case err != nil:
			return known{}, fmt.Errorf("list %s: %w", one.kinds, err)
		}
	}
	return known{
		pools:    pools.Items,
		holders:  config.Holders{Services: services.Items, Claims: claims.Items, Namespaces: namespaces.Items},
		reserved: config.Reserved(nodes.Items, cidrs.Items),
		settings: settings.Items,
	}, nil
}

// defaulted returns the pools of files as the API server would store them. Those that it
// rejects are an error. If the user may not write pools, the API server is not asked.
func (c *cluster) defaulted(ctx context.Context, live []v1alpha1.IPAddressPool, files []written) ([]v1alpha1.IPAddressPool, error) {
	var stored []v1alpha1.IPAddressPool
	for i := range files {
		w := &files[i]
		p, err := c.dryRun(ctx, find(live, w.Name), &w.IPAddressPool)
		switch {
		case apierrors.IsForbidden(err):
			say(c.errOut, "warning: the API server has not checked IPAddressPool %s of %s against the rules of its schema: %v", w.Name, w.file, err)
			p = &w.IPAddressPool
		case apierrors.IsInvalid(err):
			return nil, fmt.Errorf("the API server rejects %s: %w", w.file, err)
		case err != nil:
			return nil, fmt.Errorf("check IPAddressPool %s of %s: %w", w.Name, w.file, err)
		}
		stored = append(stored, *p)
	}
	return stored, nil
}

// dryRun returns what would be stored if a pool were created, or replaced a live one.
func (c *cluster) dryRun(ctx context.Context, live, w *v1alpha1.IPAddressPool) (*v1alpha1.IPAddressPool, error) {
	if live == nil {
		p := &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: w.Name}}
		rewrite(p, w)
		return p, c.client.Create(ctx, p, client.DryRunAll)
	}
	p := live.DeepCopy()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		rewrite(p, w)
		err := c.client.Update(ctx, p, client.DryRunAll)
		if apierrors.IsConflict(err) { // the controller has written its status meanwhile
			if err := c.client.Get(ctx, client.ObjectKeyFromObject(live), p); err != nil {
				return err
			}
		}
		return err
	})
	return p, err
}
