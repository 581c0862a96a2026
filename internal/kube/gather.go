// Package kube is what controller and speaker share in talking to the API server: it
// waits until it can be talked to, turns the objects in the caches into the facts that
// package announce plans on, and writes the Announced condition. It decides nothing.
package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/name"
)

// Gatherer turns API objects into facts. Set its fields, then call SetUp once before the
// manager starts. Its reconcilers call Facts and Compiled, from several goroutines.
type Gatherer struct {
	Client client.Reader
	// Class is the load balancer class whose Services are Ballast's; "": those without one.
	Class string
	// Namespace is Ballast's own, the only one whose Secrets are read.
	Namespace string
	// Reserve gathers what pools must not contain; it is for the controller alone.
	Reserve bool
	// Facts takes facts in the order in which they were gathered. It may block.
	Facts func(context.Context, ...announce.Fact) error
	// Compiled takes the configuration whenever something that it is made from changed;
	// nil: nobody wants it.
	Compiled func(context.Context, config.Objects, config.Compiled) error
}

// serviceIndex finds the EndpointSlices of a Service.
const serviceIndex = "service"

// singleton is the request of reconcilers that gather all objects of their kinds at once.
func singleton(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "all"}}}
}

// SetUp adds the reconcilers to a manager.
func (g *Gatherer) SetUp(ctx context.Context, mgr manager.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &discoveryv1.EndpointSlice{}, serviceIndex, func(o client.Object) []string {
		return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	all := handler.EnqueueRequestsFromMapFunc(singleton)
	relevant := builder.WithPredicates(changed())
	services := ctrl.NewControllerManagedBy(mgr).Named("facts-services").
		For(&corev1.Service{}).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(serviceOf))
	configuration := ctrl.NewControllerManagedBy(mgr).Named("facts-config")
	kinds := []client.Object{
		&v1alpha1.IPAddressPool{}, &v1alpha1.L2Advertisement{}, &v1alpha1.BGPAdvertisement{}, &v1alpha1.BGPPeer{},
		&v1alpha1.BFDProfile{}, &v1alpha1.Community{}, &v1alpha1.Settings{}, &corev1.Secret{},
	}
	if g.Reserve {
		kinds = append(kinds, &networkingv1.ServiceCIDR{})
		configuration = configuration.Watches(&corev1.Node{}, all, builder.WithPredicates(reserving()))
	}
	for _, kind := range kinds {
		configuration = configuration.Watches(kind, all, relevant)
	}
	namespaces := ctrl.NewControllerManagedBy(mgr).Named("facts-namespaces").Watches(&corev1.Namespace{}, all, relevant)
	nodes := ctrl.NewControllerManagedBy(mgr).Named("facts-nodes").
		Watches(&corev1.Node{}, all, relevant).Watches(&v1alpha1.Speaker{}, all, relevant).Watches(&v1alpha1.Settings{}, all, relevant)
	for _, c := range []struct {
		with   *ctrl.Builder
		gather func(context.Context, types.NamespacedName) error
	}{
		{services, g.service},
		{configuration, g.config},
		{namespaces, g.facts(g.namespaces)},
		{nodes, g.facts(g.nodes)},
	} {
		err := c.with.WithOptions(options()).Complete(reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, c.gather(ctx, r.NamespacedName)
		}))
		if err != nil {
			return fmt.Errorf("set up controller: %w", err)
		}
	}
	return nil
}

// options retries what failed from 50 ms to 30 s.
func options() controller.Options {
	return controller.Options{
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
	}
}

func serviceOf(_ context.Context, o client.Object) []reconcile.Request {
	service := o.GetLabels()[discoveryv1.LabelServiceName]
	if service == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: service}}}
}

// Initial gathers all facts at once, from caches that have synced.
func (g *Gatherer) Initial(ctx context.Context) ([]announce.Fact, error) {
	objects, err := g.Objects(ctx)
	if err != nil {
		return nil, err
	}
	compiled := config.Compile(objects)
	facts := []announce.Fact{announce.Configured{Config: compiled.Announce}, announce.GraceKnown{Grace: compiled.Settings.GracePeriod, Shutdown: compiled.Settings.Drain.GracefulShutdownTime}}
	for _, gather := range []func(context.Context) (announce.Fact, error){g.namespaces, g.nodes} {
		f, err := gather(ctx)
		if err != nil {
			return nil, err
		}
		facts = append(facts, f)
	}
	var services corev1.ServiceList
	if err := g.Client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil { // facts are never changed
		return nil, fmt.Errorf("list Services: %w", err)
	}
	for i := range services.Items {
		f, err := g.known(ctx, &services.Items[i])
		if err != nil {
			return nil, err
		}
		facts = append(facts, f)
	}
	return facts, nil
}

// facts makes a reconciler of a function that gathers one fact.
func (g *Gatherer) facts(gather func(context.Context) (announce.Fact, error)) func(context.Context, types.NamespacedName) error {
	return func(ctx context.Context, _ types.NamespacedName) error {
		f, err := gather(ctx)
		if err != nil {
			return err
		}
		return g.Facts(ctx, f)
	}
}

func (g *Gatherer) service(ctx context.Context, key types.NamespacedName) error {
	var s corev1.Service
	err := g.Client.Get(ctx, key, &s)
	if apierrors.IsNotFound(err) {
		return g.Facts(ctx, announce.Gone{Service: name.ServiceKey{Namespace: key.Namespace, Name: key.Name}})
	}
	if err != nil {
		return fmt.Errorf("get Service: %w", err)
	}
	f, err := g.known(ctx, &s)
	if err != nil {
		return err
	}
	return g.Facts(ctx, f)
}

// known is the fact about a Service: to Ballast, one that is not its own does not exist.
func (g *Gatherer) known(ctx context.Context, s *corev1.Service) (announce.Fact, error) {
	if !config.Ours(s, g.Class) || config.Foreign(s) {
		return announce.Gone{Service: config.Key(s)}, nil
	}
	var slices discoveryv1.EndpointSliceList
	if err := g.Client.List(ctx, &slices, client.InNamespace(s.Namespace), client.MatchingFields{serviceIndex: s.Name}); err != nil {
		return nil, fmt.Errorf("list EndpointSlices: %w", err)
	}
	return announce.Known{Service: config.Service(s, slices.Items)}, nil
}

func (g *Gatherer) namespaces(ctx context.Context) (announce.Fact, error) {
	var list corev1.NamespaceList
	if err := g.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Namespaces: %w", err)
	}
	known := announce.NamespacesKnown{Labels: map[string]labels.Set{}}
	for _, n := range list.Items {
		known.Labels[n.Name] = n.Labels
	}
	return known, nil
}

func (g *Gatherer) nodes(ctx context.Context) (announce.Fact, error) {
	var nodes corev1.NodeList
	if err := g.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil { // facts are never changed
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	var speakers v1alpha1.SpeakerList
	if err := g.Client.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Speakers: %w", err)
	}
	settings, err := g.settings(ctx)
	if err != nil {
		return nil, err
	}
	compiled := config.Compile(config.Objects{Settings: settings}).Settings
	return announce.NodesKnown{Nodes: config.Nodes(nodes.Items, speakers.Items, compiled)}, nil
}

func (g *Gatherer) config(ctx context.Context, _ types.NamespacedName) error {
	objects, err := g.Objects(ctx)
	if err != nil {
		return err
	}
	compiled := config.Compile(objects)
	if err := g.Facts(ctx, announce.Configured{Config: compiled.Announce}); err != nil {
		return err
	}
	if g.Compiled == nil {
		return nil
	}
	return g.Compiled(ctx, objects, compiled)
}

func (g *Gatherer) settings(ctx context.Context) (*v1alpha1.Settings, error) {
	var s v1alpha1.Settings
	err := g.Client.Get(ctx, types.NamespacedName{Name: v1alpha1.SettingsName}, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get Settings: %w", err)
	}
	return &s, nil
}

// Objects reads all that configuration is compiled from.
func (g *Gatherer) Objects(ctx context.Context) (config.Objects, error) {
	var (
		pools       v1alpha1.IPAddressPoolList
		l2          v1alpha1.L2AdvertisementList
		bgp         v1alpha1.BGPAdvertisementList
		peers       v1alpha1.BGPPeerList
		profiles    v1alpha1.BFDProfileList
		communities v1alpha1.CommunityList
		secrets     corev1.SecretList
		nodes       corev1.NodeList
		cidrs       networkingv1.ServiceCIDRList
	)
	lists := []client.ObjectList{&pools, &l2, &bgp, &peers, &profiles, &communities}
	if g.Reserve {
		lists = append(lists, &nodes, &cidrs)
	}
	for _, list := range lists {
		if err := g.Client.List(ctx, list); err != nil {
			return config.Objects{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	if err := g.Client.List(ctx, &secrets, client.InNamespace(g.Namespace)); err != nil {
		return config.Objects{}, fmt.Errorf("list Secrets: %w", err)
	}
	settings, err := g.settings(ctx)
	return config.Objects{
		Pools: pools.Items, L2: l2.Items, BGP: bgp.Items, Peers: peers.Items, BFDProfiles: profiles.Items,
		Communities: communities.Items, Settings: settings, Secrets: secrets.Items,
		Reserved: config.Reserved(nodes.Items, cidrs.Items),
	}, err
}
