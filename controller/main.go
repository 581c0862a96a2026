package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/version"
)

// The lease: a leader that cannot renew exits well before another may follow it.
const (
	leaseDuration = 6 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = time.Second
)

// gcPercent is how much garbage there may be beside what is in use (GOGC). The controller
// is mostly at rest: memory is worth more to a cluster than the collector's time.
const gcPercent = 20

const leaseName = "ballast-controller"

func main() {
	o := kube.Flags(flag.CommandLine, kube.Defaults{Metrics: "127.0.0.1:7472", Health: ":7473"})
	leaderElect := flag.Bool("leader-elect", true, "Take turns with other replicas: only the holder of the lease assigns addresses.")
	var zapOptions zap.Options
	zapOptions.BindFlags(flag.CommandLine)
	flag.Parse()
	if o.Version {
		fmt.Println(version.String("controller"))
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log := zap.New(zap.UseFlagOptions(&zapOptions))
	ctrl.SetLogger(log)
	if err := run(ctrl.SetupSignalHandler(), o, *leaderElect, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error(err, "controller ended")
		os.Exit(1)
	}
}

func run(ctx context.Context, o *kube.Options, leaderElect bool, log logr.Logger) error {
	log.Info("starting", "version", version.Version, "loadBalancerClass", o.Class)
	health := kube.NewHealth(log.WithName("health"))
	ctx, stop := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stop()
	serving.Go(func() { health.Serve(ctx, o.Health) })
	cfg, err := o.Await(ctx, health, log)
	if err != nil {
		return err
	}
	mgr, err := newManager(cfg, o, leaderElect)
	if err != nil {
		return err
	}
	metric, err := wire(ctx, mgr, o, log)
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(metric); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	readiness, err := kube.NewReadiness(cfg, mgr.GetCache(), rights(o.Namespace), log.WithName("health"))
	if err != nil {
		return err
	}
	serving.Go(func() { readiness.Run(ctx) })
	health.Check("controller", readiness.Why)
	health.Started()
	return readiness.Manage(ctx, mgr)
}

func newManager(cfg *rest.Config, o *kube.Options, leaderElect bool) (manager.Manager, error) {
	options := ctrl.Options{LeaderElection: leaderElect}
	if leaderElect {
		if err := elect(&options, cfg, o.Namespace); err != nil {
			return nil, fmt.Errorf("prepare leader election: %w", err)
		}
	}
	mgr, err := o.Manager(cfg, options)
	if err != nil {
		return nil, err
	}
	return mgr, nil
}

// elect makes replicas take turns, and fences the writes of one that may have lost its turn.
func elect(options *ctrl.Options, cfg *rest.Config, namespace string) error {
	lease, renew, retry := leaseDuration, renewDeadline, retryPeriod
	options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = &lease, &renew, &retry
	options.LeaderElectionReleaseOnCancel = true
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find host name: %w", err)
	}
	identity := fmt.Sprintf("%s_%d_%s", host, os.Getpid(), uuid.NewUUID())
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, leaseName,
		resourcelock.ResourceLockConfig{Identity: identity}, cfg, renewDeadline)
	if err != nil {
		return fmt.Errorf("make lock: %w", err)
	}
	fence := kube.NewFence(leaseDuration)
	options.LeaderElectionResourceLockInterface = fence.Lock(lock)
	options.Client.HTTPClient, err = rest.HTTPClientFor(fence.Config(cfg))
	return err
}

// wire puts the parts together and returns their metrics; nothing runs until the manager starts.
func wire(ctx context.Context, mgr manager.Manager, o *kube.Options, log logr.Logger) (prometheus.Collector, error) {
	recorder := mgr.GetEventRecorder("ballast-controller")
	say := events{recorder}
	ledger := newLedger(mgr.GetAPIReader(), mgr.GetClient(), o.Class, log.WithName("ledger"))
	status := newPools(mgr.GetClient(), ledger)
	claimed := &claims{client: mgr.GetClient(), ledger: ledger, events: say, log: log.WithName("claims"), hold: status.hold}
	conf := &configuration{client: mgr.GetClient(), ledger: ledger, events: say, pools: status.changed}
	served := &services{client: mgr.GetClient(), class: o.Class, ledger: ledger, events: say, log: log.WithName("services"), brake: newBrake(time.Now), reader: mgr.GetAPIReader(), hold: status.hold}
	status.ready = conf.poolReady
	ledger.used = status.changed
	ledger.wake = func(ctx context.Context, key ipam.Key) {
		if key.Kind == ipam.KindClaim {
			claimed.wake(ctx, key)
			return
		}
		served.wake(ctx, key)
	}

	engine := kube.NewEngine()
	gatherer := &kube.Gatherer{
		Client: mgr.GetClient(), Class: o.Class, Namespace: o.Namespace, Reserve: true,
		Facts: engine.Tell, Compiled: conf.apply,
	}
	announced := kube.NewAnnounced(kube.AnnouncedConfig{
		Client: mgr.GetClient(), Class: o.Class, Log: log.WithName("announced"), Recorder: recorder,
		Writes: func(d announce.Decision) bool { return d.Owner == "" }, // else the owner's speaker does
	})
	engine.Gatherer, engine.Cache, engine.Log = gatherer, mgr.GetCache(), log.WithName("engine")
	engine.Apply = func(_ *announce.State, changes []announce.Change) { announced.Put(changes) }

	secret := &gossip{client: mgr.GetClient(), reader: mgr.GetAPIReader(), namespace: o.Namespace, log: log.WithName("gossip")}
	for _, runnable := range []manager.Runnable{ledger, engine, announced, secret} {
		if err := mgr.Add(runnable); err != nil {
			return nil, fmt.Errorf("add runnable: %w", err)
		}
	}
	return status.addresses, errors.Join(gatherer.SetUp(ctx, mgr), announced.SetUp(mgr), served.setUp(mgr), claimed.setUp(mgr), (&namespaces{mgr.GetClient(), ledger}).setUp(mgr), status.setUp(mgr), newAlive(mgr.GetClient()).setUp(mgr))
}
