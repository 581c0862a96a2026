package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/membership"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/version"
)

// options are the speaker's flags.
type options struct {
	*kube.Options
	node       string
	gossipPort int
}

func main() {
	o := options{Options: kube.Flags(flag.CommandLine, kube.Defaults{Metrics: "127.0.0.1:7474", Health: ":7475"})}
	flag.StringVar(&o.node, "node-name", os.Getenv("NODE_NAME"), "Name of the Node that this speaker runs on; default $NODE_NAME.")
	flag.IntVar(&o.gossipPort, "gossip-bind-port", membership.DefaultPort, "UDP and TCP port of the speakers' gossip, the same on all nodes; their heartbeats use the UDP port above it.")
	var zapOptions zap.Options
	zapOptions.BindFlags(flag.CommandLine)
	flag.Parse()
	if o.Version {
		fmt.Println(version.String("speaker"))
		return
	}
	log := zap.New(zap.UseFlagOptions(&zapOptions))
	ctrl.SetLogger(log)
	ctx, cause := signals(context.Background())
	if err := run(ctx, cause, o, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error(err, "speaker ended")
		os.Exit(1)
	}
}

// run speaks until ctx ends; cause is then the signal that ended it.
func run(ctx context.Context, cause func() os.Signal, o options, log logr.Logger) error {
	log.Info("starting", "version", version.Version, "node", o.node, "loadBalancerClass", o.Class)
	if o.node == "" {
		return errors.New("read flags: --node-name or $NODE_NAME must name the Node that this speaker runs on")
	}
	if o.gossipPort < 1 || o.gossipPort > 65534 {
		return fmt.Errorf("read flags: --gossip-bind-port %d is no port, or none is above it", o.gossipPort)
	}
	health := kube.NewHealth(log.WithName("health"))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var probed sync.WaitGroup
	defer probed.Wait()
	defer stop()
	probed.Go(func() { health.Serve(serving, o.Health) })
	cfg, err := o.Await(ctx, health, log)
	if err != nil {
		return err
	}
	mgr, err := o.Manager(cfg, ctrl.Options{})
	if err != nil {
		return err
	}
	self, err := identify(ctx, mgr.GetAPIReader(), name.NodeName(o.node), log)
	if err != nil {
		return err
	}
	s := newSpeaker(self, o, mgr, log)
	if err := s.setUp(ctx, mgr); err != nil {
		return err
	}
	if err := metrics.Registry.Register(s.metrics()); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	readiness, err := kube.NewReadiness(cfg, mgr.GetCache(), rights(o.Namespace), log.WithName("health"))
	if err != nil {
		return err
	}
	probed.Go(func() { readiness.Run(serving) })
	health.Check("speaker", readiness.Why)
	health.Check("announcements", s.ready)
	health.Started()
	departure := &departure{reader: mgr.GetAPIReader(), node: self.node, pod: os.Getenv("POD_NAME"), namespace: o.Namespace, nologin: nologin, signal: cause}
	var departing sync.WaitGroup
	defer departing.Wait()
	departing.Go(func() {
		defer stop()
		select {
		case <-ctx.Done():
			s.depart(serving, departure)
		case <-serving.Done():
		}
	})
	defer stop()
	return readiness.Manage(serving, mgr)
}
