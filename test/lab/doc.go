// Package lab is a whole Kubernetes cluster in a box: real control plane, real
// kube-proxy, real routers and real packets, on one machine and without containers.
//
// A lab has N nodes (0 is allowed), each a network namespace on a switched LAN with a
// kube-proxy and a heartbeat that stands in for the kubelet; up to two routers (FRR, BIRD,
// OpenBGPD or GoBGP) between the LAN and a WAN; a client on either side; etcd, kube-apiserver and
// kube-controller-manager on a host of their own; and, unless Options.NoBallast, the
// controller and one speaker a node, with the shipped RBAC and tokens of their own.
//
//	          wan (10.20.0.50)
//	              |
//	     r1 (.254)   r2 (.253)        AS 64513, accept any neighbor from the LAN
//	              |
//	--+-------+---+---+-------+----   LAN 10.10.0.0/24, fd00:10::/64
//	  |       |       |       |
//	  cp     n1      n2      lan      (.2, .11, .12, .50)
//
// The names in the picture are the names that Exec, HTTP and the command bin/lab take.
//
//	l, err := lab.Up(ctx, lab.Options{Prefix: "e2e", Nodes: 3, Routers: 1})
//	if err != nil { ... }           // Up has removed what it made
//	defer l.Down()
//	b, err := l.AddBackend(ctx, lab.Backend{App: "web", Node: "n1"})
//	err = l.Apply(ctx, manifest)
//	err = l.WaitFor(ctx, "the client reaches web", func(ctx context.Context) error {
//		_, err := l.HTTP(ctx, "lan", "http://10.10.0.100/")
//		return err
//	})
//
// Nodes lose power, cables or single kinds of packets (Node.PowerOff, Cut, Lose), the LAN is
// split (Lab.Partition), processes are ended, frozen or slowed down (Process), strangers
// come with addresses (Lab.AddHost). What clients notice of it is measured from their
// namespaces: new connections (Lab.StartProber), kept ones (Lab.Hold), and who says to have an
// address (Lab.Watch, Lab.Ask, Lab.Flood).
//
// Routers of every kind are asked in the same words (Lab.RouterRoutes, RouterSessions), their
// kernels' routes are read and watched (RouterFIB, MonitorRoutes), they restart (RestartRouter),
// and hosts pose as peers that are no use (AddBadPeer).
//
// Everything is named after Options.Prefix, so that several labs can be up at once: the
// namespaces PREFIX-n1 and so on, and files under /run/ballast-lab/PREFIX (logs,
// kubeconfigs, pids). No process outlives the one that called Up. What a crashed lab
// left behind is removed by the next Up, or Clean, of its prefix; processes are then known
// by pid and start time, so that no stranger is ever hit.
//
// The lab needs root, the Debian packages that tools/deps.sh installs, and the
// Kubernetes binaries of `make kube`. It puts nothing into the host's own network
// namespace and sends no traffic there.
package lab
