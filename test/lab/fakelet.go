package lab

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// heartbeat stands in for a kubelet: it keeps a Node Ready, its Lease fresh and its
// backends' Pods Ready. Its connections start on the node, so that they share its fate.
type heartbeat struct {
	cancel context.CancelFunc
	done   chan struct{}
}

const (
	// heartbeatInterval is a kubelet's.
	heartbeatInterval = 10 * time.Second
	// heartbeatRetry is the pause after a failure.
	heartbeatRetry = time.Second
	// callLimit bounds one API call.
	callLimit = 5 * time.Second
)

// StartHeartbeat starts what stands in for the node's kubelet; it does nothing if it runs.
func (n *Node) StartHeartbeat() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heartbeat != nil || n.lab.background.Err() != nil {
		return nil
	}
	client, err := kubernetes.NewForConfig(n.lab.restConfigFrom(n.Host))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	ctx, cancel := context.WithCancel(n.lab.background)
	h := &heartbeat{cancel: cancel, done: make(chan struct{})}
	n.heartbeat = h
	n.lab.wg.Go(func() {
		defer close(h.done)
		n.beatUntil(ctx, client)
	})
	return nil
}

// StopHeartbeat stops it, as when a kubelet hangs; the node controller notices after its grace period.
func (n *Node) StopHeartbeat() {
	n.mu.Lock()
	h := n.heartbeat
	n.heartbeat = nil
	n.mu.Unlock()
	if h != nil {
		h.cancel()
		<-h.done
	}
}

func (n *Node) beatUntil(ctx context.Context, client kubernetes.Interface) {
	for {
		pause := heartbeatInterval
		if err := n.beat(ctx, client); err != nil {
			pause = heartbeatRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (n *Node) beat(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := n.renewLease(ctx, client); err != nil {
		return err
	}
	if err := n.refreshStatus(ctx, client); err != nil {
		return err
	}
	for _, b := range n.lab.backendsOn(n.Name) {
		if err := b.publish(ctx, client); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (n *Node) renewLease(ctx context.Context, client kubernetes.Interface) error {
	leases := client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	seconds := int32(40)
	lease, err := leases.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: n.Name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &now
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// refreshStatus writes the status only when it differs, as a kubelet does.
func (n *Node) refreshStatus(ctx context.Context, client kubernetes.Interface) error {
	node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "Lab", LastHeartbeatTime: now, LastTransitionTime: now}
	}
	node.Status.Conditions = []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse),
		condition(corev1.NodeReady, corev1.ConditionTrue),
	}
	node.Status.Addresses = n.statusAddresses()
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	node.Status.Allocatable = node.Status.Capacity
	node.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: "v0.0.0-lab", MachineID: n.Name}
	_, err = client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// statusAddresses are what the Node's status says.
func (n *Node) statusAddresses() []corev1.NodeAddress {
	return []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: n.address().String()},
		{Type: corev1.NodeInternalIP, Address: n.IPv6.String()},
		{Type: corev1.NodeHostName, Address: n.Name},
	}
}
