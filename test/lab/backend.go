package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Backend says what pod to run. Node is needed, and App or Labels.
type Backend struct {
	Namespace string // default "default"; it must exist
	App       string // the label "app"
	Node      string // n1, n2, ...
	Labels    map[string]string
	Port      uint16 // TCP (HTTP) and UDP (echo); default BackendPort
	PortName  string // of the container port; default "http"
}

// RunningBackend is a pod that serves: over HTTP it answers any request with one line,
//
//	pod=web-n1-1 node=n1 client=10.10.0.50
//
// and over UDP it sends the same line back. The servers are goroutines of the lab with sockets on
// the pod's addresses, which lie on the node's loopback interface.
type RunningBackend struct {
	Backend
	// Pod is the Pod's name.
	Pod        string
	IPv4, IPv6 netip.Addr

	lab     *Lab
	mu      sync.Mutex
	ready   bool
	servers []*http.Server
	packets []net.PacketConn
	wg      sync.WaitGroup
}

// Pod addresses of a node are used in turn, .2 to .201, so that a new pod seldom has an old one's.
const (
	firstPodOctet = 2
	podsPerNode   = 200
)

// AddBackend runs a pod and returns when its Pod object says Ready. Endpoints and service
// rules follow soon after; wait for the outcome.
func (l *Lab) AddBackend(ctx context.Context, spec Backend) (*RunningBackend, error) {
	n, err := l.NodeNamed(spec.Node)
	if err != nil {
		return nil, err
	}
	b := l.newBackend(n, spec)
	if err := b.start(ctx, n); err != nil {
		return nil, errors.Join(fmt.Errorf("add backend %s: %w", b.Pod, err), b.Remove(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (l *Lab) newBackend(n *Node, spec Backend) *RunningBackend {
	labels := map[string]string{}
	for k, v := range spec.Labels {
		labels[k] = v
	}
	if spec.App != "" {
		labels["app"] = spec.App
	}
	spec.Labels = labels
	spec.Namespace = orDefault(spec.Namespace, "default")
	spec.PortName = orDefault(spec.PortName, "http")
	if spec.Port == 0 {
		spec.Port = BackendPort
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.numbered[n.Name]++
	number := l.numbered[n.Name]
	v4, v6 := podCIDRs(n.number)
	b := &RunningBackend{
		Backend: spec, lab: l, ready: true,
		Pod:  fmt.Sprintf("%s-%s-%d", orDefault(spec.App, "pod"), n.Name, number),
		IPv4: at(v4, firstPodOctet+(number-1)%podsPerNode).Addr(), IPv6: at(v6, firstPodOctet+(number-1)%podsPerNode).Addr(),
	}
	l.backends = append(l.backends, b)
	return b
}

func (b *RunningBackend) start(ctx context.Context, n *Node) error {
	err := n.ns.ip(ctx, fmt.Sprintf("addr add %s/32 dev lo", b.IPv4), fmt.Sprintf("addr add %s/128 dev lo nodad", b.IPv6))
	if err != nil {
		return err
	}
	if err := b.listen(); err != nil {
		return err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: b.Pod, Namespace: b.Namespace, Labels: b.Labels},
		Spec:       podSpec(b.Node, "", corev1.ContainerPort{Name: b.PortName, ContainerPort: int32(b.Port)}),
	}
	if err := b.lab.createPod(ctx, pod); err != nil {
		return err
	}
	return b.publish(ctx, b.lab.client)
}

// podSpec is that of a pod bound to a node. Its image is never pulled.
func podSpec(node, account string, ports ...corev1.ContainerPort) corev1.PodSpec {
	no, zero := false, int64(0)
	return corev1.PodSpec{
		NodeName: node, ServiceAccountName: account, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &zero,
		Containers:  []corev1.Container{{Name: "main", Image: "ballast.dev/lab", Ports: ports}},
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}
}

// createPod waits for the namespace's service account, which its controller makes.
func (l *Lab) createPod(ctx context.Context, pod *corev1.Pod) error {
	return Poll(ctx, waitLimit, "pod "+pod.Name+" is created", func(ctx context.Context) error {
		_, err := l.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
}

// publish makes the Pod's status say what a kubelet would, if it does not.
func (b *RunningBackend) publish(ctx context.Context, client kubernetes.Interface) error {
	b.mu.Lock()
	ready := b.ready
	b.mu.Unlock()
	return publishPod(ctx, client, podState{
		namespace: b.Namespace, name: b.Pod, ready: ready, host: b.lab.hosts[b.Node],
		addresses: []netip.Addr{b.IPv4, b.IPv6},
	})
}

// podState is what a Pod's status should say.
type podState struct {
	namespace, name string
	ready           bool
	host            *Host
	addresses       []netip.Addr
}

// publishPod writes a Pod's status, again if somebody else has written it meanwhile, as the control
// plane does to the Pods of a node that is lost.
func publishPod(ctx context.Context, client kubernetes.Interface, s podState) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error { return publishPodOnce(ctx, client, s) })
}

func publishPodOnce(ctx context.Context, client kubernetes.Interface, s podState) error {
	pods := client.CoreV1().Pods(s.namespace)
	pod, err := pods.Get(ctx, s.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	status := corev1.ConditionFalse
	if s.ready {
		status = corev1.ConditionTrue
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == status {
			return nil
		}
	}
	now := metav1.Now()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now,
		HostIP: s.host.IPv4.String(), HostIPs: []corev1.HostIP{{IP: s.host.IPv4.String()}, {IP: s.host.IPv6.String()}},
	}
	for _, a := range s.addresses {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	pod.Status.PodIP = pod.Status.PodIPs[0].IP
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now})
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", Image: "ballast.dev/lab", Ready: s.ready,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
	}}
	_, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}

// SetReady changes the Pod's readiness; it serves either way.
func (b *RunningBackend) SetReady(ctx context.Context, ready bool) error {
	b.mu.Lock()
	b.ready = ready
	b.mu.Unlock()
	return b.publish(ctx, b.lab.client)
}

// Terminate gives the Pod a deletion timestamp, as eviction does; it serves until Remove.
func (b *RunningBackend) Terminate(ctx context.Context, grace time.Duration) error {
	seconds := max(1, int64(grace.Seconds()))
	return b.lab.client.CoreV1().Pods(b.Namespace).Delete(ctx, b.Pod, metav1.DeleteOptions{GracePeriodSeconds: &seconds})
}

// Remove deletes the Pod at once and stops serving.
func (b *RunningBackend) Remove(ctx context.Context) error {
	b.lab.mu.Lock()
	b.lab.backends = slices.DeleteFunc(b.lab.backends, func(o *RunningBackend) bool { return o == b })
	b.lab.mu.Unlock()
	zero := int64(0)
	err := b.lab.client.CoreV1().Pods(b.Namespace).Delete(ctx, b.Pod, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	b.close()
	// The addresses may not be there if the start failed half-way.
	_ = b.lab.hosts[b.Node].ns.ip(ctx, fmt.Sprintf("addr del %s/32 dev lo", b.IPv4))
	_ = b.lab.hosts[b.Node].ns.ip(ctx, fmt.Sprintf("addr del %s/128 dev lo", b.IPv6))
	if err != nil {
		return fmt.Errorf("remove backend %s: %w", b.Pod, err)
	}
	return nil
}

func (l *Lab) backendsOn(node string) []*RunningBackend {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*RunningBackend
	for _, b := range l.backends {
		if b.Node == node {
			out = append(out, b)
		}
	}
	return out
}

// answer is the line that a client gets.
func (b *RunningBackend) answer(client string) string {
	host, _, _ := net.SplitHostPort(client)
	return fmt.Sprintf("pod=%s node=%s client=%s\n", b.Pod, b.Node, host)
}

// listen opens the pod's sockets on its node and serves them.
func (b *RunningBackend) listen() error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(b.answer(r.RemoteAddr)))
	})
	return b.lab.hosts[b.Node].ns.do(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, a := range []netip.Addr{b.IPv4, b.IPv6} {
			at := netip.AddrPortFrom(a, b.Port).String()
			stream, err := net.Listen("tcp", at)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
			b.servers = append(b.servers, server)
			b.wg.Go(func() { _ = server.Serve(stream) })
			packets, err := net.ListenPacket("udp", at)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			b.packets = append(b.packets, packets)
			b.wg.Go(func() { b.echo(packets) })
		}
		return nil
	})
}

func (b *RunningBackend) echo(conn net.PacketConn) {
	buffer := make([]byte, 2048)
	for {
		_, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo([]byte(b.answer(from.String())), from)
		}
	}
}

// close stops serving and joins the servers' goroutines.
func (b *RunningBackend) close() {
	b.mu.Lock()
	for _, s := range b.servers {
		_ = s.Close()
	}
	for _, p := range b.packets {
		_ = p.Close()
	}
	b.servers, b.packets = nil, nil
	b.mu.Unlock()
	b.wg.Wait()
}
