package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/internal/keep"
	"github.com/ballast-lb/ballast/internal/name"
)

// Node is a host that is a node of the cluster.
type Node struct {
	*Host
	lab    *Lab
	number int // from 0

	mu         sync.Mutex
	heartbeat  *heartbeat // nil while it is stopped
	off        []*Process // what PowerOff stopped, for PowerOn
	isOff      bool
	pulled     map[string]bool // interfaces that Cut cut
	renumbered netip.Addr      // of Renumber; invalid: the node has the address that it had at first
}

// Node returns node number i, counted from 1 as in its name. It panics if there is none.
func (l *Lab) Node(i int) *Node { return l.nodes[i-1] }

// Nodes returns all nodes in order.
func (l *Lab) Nodes() []*Node { return l.nodes }

// NodeNamed finds a node by name.
func (l *Lab) NodeNamed(name string) (*Node, error) {
	for _, n := range l.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("find node %q: the lab has n1 to n%d", name, len(l.nodes))
}

// startNodes brings all nodes to Ready with their kube-proxies synced.
func (l *Lab) startNodes(ctx context.Context) error {
	starts := []func(context.Context) error{}
	for i := range l.opts.Nodes {
		n := &Node{Host: l.hosts[fmt.Sprintf("n%d", i+1)], lab: l, number: i}
		l.nodes = append(l.nodes, n)
		starts = append(starts, n.start)
	}
	return parallel(ctx, starts...)
}

func (n *Node) start(ctx context.Context) error {
	if err := n.register(ctx); err != nil {
		return fmt.Errorf("register node %s: %w", n.Name, err)
	}
	if err := n.StartHeartbeat(); err != nil {
		return err
	}
	proxy := n.lab.newProcess("proxy-"+n.Name, n.Host, n.lab.kube("kube-proxy"),
		"--kubeconfig="+n.lab.state.path("proxy.kubeconfig"), "--hostname-override="+n.Name,
		"--proxy-mode="+string(n.lab.opts.ProxyMode), "--cluster-cidr="+clusterCIDRs,
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	if err := proxy.Start(); err != nil {
		return err
	}
	if err := n.awaitReady(ctx); err != nil {
		return err
	}
	return Poll(ctx, waitLimit, "kube-proxy has synced on "+n.Name, func(ctx context.Context) error {
		if err := n.proxySynced(ctx); err != nil {
			return fmt.Errorf("%w; %s: %s", err, proxy.name, proxy.Status())
		}
		return nil
	})
}

func (n *Node) awaitReady(ctx context.Context) error {
	return Poll(ctx, waitLimit, "node "+n.Name+" is Ready", func(ctx context.Context) error {
		node, err := n.lab.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not")
	})
}

// proxySynced asks kube-proxy on its default health port.
func (n *Node) proxySynced(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10256/livez", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	answer, err := n.httpClient().Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("livez says %s", answer.Status)
	}
	return nil
}

// register makes the Node object that a kubelet would make.
func (n *Node) register(ctx context.Context) error {
	v4, v6 := podCIDRs(n.number)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
			"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux",
		}},
		Spec: corev1.NodeSpec{PodCIDR: v4.String(), PodCIDRs: []string{v4.String(), v6.String()}},
	}
	_, err := n.lab.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	return err
}

// PowerOff is a power failure: every process of the node is killed, its backends and its
// heartbeat stop without a word, its cables go dead. PowerOn undoes it.
func (n *Node) PowerOff(ctx context.Context) error {
	processes, began := n.goOff()
	if !began {
		return nil
	}
	// First the links: what a process says when it ends, or its kernel for it, does not get out of a node without power.
	errs := []error{n.setPorts(ctx, "down", nil)}
	var stops []func(context.Context) error
	for _, p := range processes {
		stops = append(stops, func(ctx context.Context) error { return p.Stop(ctx, syscall.SIGKILL) })
	}
	errs = append(errs, parallel(ctx, stops...), n.goDark(ctx))
	return errors.Join(errs...)
}

// goOff notes which processes run, for PowerOn; false if the node is off.
func (n *Node) goOff() ([]*Process, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isOff {
		return nil, false
	}
	n.isOff, n.off = true, nil
	for _, p := range n.lab.Processes() {
		if p.host == n.Host && p.supervised() {
			n.off = append(n.off, p)
		}
	}
	return n.off, true
}

// goDark ends what is no process of the node but goroutines of the lab.
func (n *Node) goDark(ctx context.Context) error {
	n.StopHeartbeat()
	for _, b := range n.lab.backendsOn(n.Name) {
		b.close()
	}
	return n.forget(ctx)
}

// forget drops what a machine's memory would lose: service rules and connections, and what its speaker kept below /run.
func (n *Node) forget(ctx context.Context) error {
	_, err := n.lab.Exec(ctx, n.Name, "nft", "flush", "ruleset")
	if err != nil {
		return err
	}
	uid, err := n.lab.state.cluster()
	if err != nil || uid == "" {
		return err
	}
	if err := os.RemoveAll(keep.Directory(uid, name.NodeName(n.Name))); err != nil {
		return fmt.Errorf("forget the claims of %s: %w", n.Name, err)
	}
	return nil
}

// PowerOn boots the node after PowerOff or ShutDown: the cables that were in, heartbeat,
// backends, then the processes that ran before.
func (n *Node) PowerOn(ctx context.Context) error {
	n.mu.Lock()
	processes, wasOff := n.off, n.isOff
	n.isOff, n.off = false, nil
	n.mu.Unlock()
	if !wasOff {
		return nil
	}
	errs := []error{n.lightPorts(ctx), n.StartHeartbeat()}
	for _, b := range n.lab.backendsOn(n.Name) {
		errs = append(errs, b.listen())
	}
	for _, p := range processes {
		errs = append(errs, p.Start())
	}
	return errors.Join(errs...)
}

// Cut pulls cables out: of the named interfaces, or of all. The node sees the carrier go.
func (n *Node) Cut(ctx context.Context, ifaces ...string) error {
	n.notePulled(true, ifaces)
	return n.setPorts(ctx, "down", ifaces)
}

// Restore plugs the cables back in.
func (n *Node) Restore(ctx context.Context, ifaces ...string) error {
	n.notePulled(false, ifaces)
	return n.setPorts(ctx, "up", ifaces)
}

// notePulled notes which cables are out.
func (n *Node) notePulled(pulled bool, ifaces []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pulled == nil {
		n.pulled = map[string]bool{}
	}
	for _, p := range n.ports {
		if len(ifaces) == 0 || slices.Contains(ifaces, p.iface) {
			n.pulled[p.iface] = pulled
		}
	}
}

// lightPorts lights the links whose cables are in.
func (n *Node) lightPorts(ctx context.Context) error {
	var in []string
	n.mu.Lock()
	for _, p := range n.ports {
		if !n.pulled[p.iface] {
			in = append(in, p.iface)
		}
	}
	n.mu.Unlock()
	if len(in) == 0 {
		return nil
	}
	return n.setPorts(ctx, "up", in)
}

// setPorts changes the switch's end of the cables, which is what a node cannot undo.
func (n *Node) setPorts(ctx context.Context, state string, ifaces []string) error {
	return n.eachPort(ifaces, func(p port) error {
		return n.lab.sw.ip(ctx, "link set "+p.peer+" "+state)
	})
}

// Isolate loses all frames of the interfaces, or of all, silently: carrier stays. Rejoin undoes it.
func (n *Node) Isolate(ctx context.Context, ifaces ...string) error {
	return n.eachPort(ifaces, func(p port) error {
		return n.lab.sw.ip(ctx, "link set "+p.peer+" nomaster")
	})
}

// Rejoin undoes Isolate.
func (n *Node) Rejoin(ctx context.Context, ifaces ...string) error {
	return n.eachPort(ifaces, func(p port) error {
		return n.lab.sw.ip(ctx, "link set "+p.peer+" master "+p.bridge)
	})
}

func (n *Node) eachPort(ifaces []string, fn func(port) error) error {
	if len(ifaces) == 0 {
		for _, p := range n.ports {
			ifaces = append(ifaces, p.iface)
		}
	}
	var errs []error
	for _, iface := range ifaces {
		p, err := n.port(iface)
		if err == nil {
			err = fn(p)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
