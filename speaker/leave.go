package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// leaveTimeout bounds the question whether the speaker comes back; no answer means that
	// it does.
	leaveTimeout = time.Second
	// nologin is there while the host goes down (systemd-user-sessions.service(8), nologin(8)).
	// In a pod it shows only if the host's /run is mounted there.
	nologin = "/run/nologin"
	// shutdownReason and shutdownMessage are those of a Node's condition Ready during kubelet's
	// graceful node shutdown (pkg/kubelet/nodestatus and nodeshutdown of Kubernetes); the
	// message may have other errors beside.
	shutdownReason  = "KubeletNotReady"
	shutdownMessage = "node is shutting down"
)

// signals returns a context that ends with the first SIGINT or SIGTERM, or with parent, and
// what tells which signal that was: nil before there is one. A second signal ends the process
// at once, with status 1. Call it once.
func signals(parent context.Context) (context.Context, func() os.Signal) {
	ctx, cancel := context.WithCancel(parent)
	came := make(chan os.Signal, 2)
	signal.Notify(came, os.Interrupt, syscall.SIGTERM)
	var mu sync.Mutex // guards first
	var first os.Signal
	go func() { // ends with parent or with the process
		defer cancel()
		defer signal.Stop(came)
		select {
		case <-parent.Done():
			return
		case s := <-came:
			mu.Lock()
			first = s
			mu.Unlock()
			cancel()
		}
		select {
		case <-parent.Done():
		case <-came:
			os.Exit(1)
		}
	}()
	return ctx, func() os.Signal {
		mu.Lock()
		defer mu.Unlock()
		return first
	}
}

// departure tells whether a signal to stop means a restart, which leaves the addresses where
// they are, or that the speaker leaves and hands them over.
type departure struct {
	reader client.Reader // live, not a cache: its watch may be over
	node   name.NodeName
	// pod and namespace are those of the speaker; without a pod it runs outside the cluster.
	pod, namespace string
	nologin        string // the file that exists while the host goes down
	signal         func() os.Signal
}

// evidence is what tells a leave from a restart. What could not be found out is nil or false.
type evidence struct {
	signal                  os.Signal
	nologin                 bool
	node                    *corev1.Node
	nodeGone, daemonSetGone bool
	namespace               *corev1.Namespace
	daemonSet               *appsv1.DaemonSet
}

// leaving says whether a speaker leaves, and why; else it is about to be started again.
func (e evidence) leaving() (bool, string) {
	switch {
	case e.signal == os.Interrupt:
		return true, "it was interrupted (SIGINT)"
	case e.nologin:
		return true, "the host goes down (" + nologin + " exists)"
	case e.nodeGone:
		return true, "its Node was deleted"
	case e.node != nil && ending(e.node) != "":
		return true, ending(e.node)
	case e.namespace != nil && e.namespace.DeletionTimestamp != nil:
		return true, "its namespace is being deleted"
	case e.daemonSetGone:
		return true, "its DaemonSet was deleted"
	case e.daemonSet != nil && e.daemonSet.DeletionTimestamp != nil:
		return true, "its DaemonSet is being deleted"
	}
	return false, "nothing says that it is not started again"
}

// ending says why a Node goes down, "" if it does not.
func ending(n *corev1.Node) string {
	if n.DeletionTimestamp != nil {
		return "its Node is being deleted"
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			return "its Node has the taint " + t.Key
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse && c.Reason == shutdownReason && strings.Contains(c.Message, shutdownMessage) {
			return "its Node shuts down"
		}
	}
	return ""
}

// leaving says whether the speaker leaves, and why or why not. It answers within leaveTimeout.
func (d *departure) leaving(ctx context.Context) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	e := evidence{signal: d.signal()}
	if _, err := os.Stat(d.nologin); err == nil {
		e.nologin = true
	}
	if leaves, why := e.leaving(); leaves {
		return true, why
	}
	errs := make([]error, 3)
	var asking sync.WaitGroup
	asking.Go(func() { errs[0] = d.askNode(ctx, &e) })
	if d.pod != "" {
		asking.Go(func() { errs[1] = d.askNamespace(ctx, &e) })
		asking.Go(func() { errs[2] = d.askDaemonSet(ctx, &e) })
	}
	asking.Wait()
	leaves, why := e.leaving()
	if lost := slices.IndexFunc(errs, func(err error) bool { return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) }); lost >= 0 && !leaves {
		return true, fmt.Sprintf("its rights are gone, so Ballast is being removed: %v", errs[lost])
	}
	if err := errors.Join(errs...); err != nil && !leaves {
		return false, fmt.Sprintf("it cannot be told, so a restart is assumed: %v", err)
	}
	return leaves, why
}

func (d *departure) askNode(ctx context.Context, e *evidence) error {
	var n corev1.Node
	err := d.reader.Get(ctx, client.ObjectKey{Name: string(d.node)}, &n)
	switch {
	case apierrors.IsNotFound(err):
		e.nodeGone = true
	case err != nil:
		return fmt.Errorf("get Node: %w", err)
	default:
		e.node = &n
	}
	return nil
}

func (d *departure) askNamespace(ctx context.Context, e *evidence) error {
	var n corev1.Namespace
	if err := d.reader.Get(ctx, client.ObjectKey{Name: d.namespace}, &n); err != nil {
		return fmt.Errorf("get Namespace: %w", err)
	}
	e.namespace = &n
	return nil
}

// askDaemonSet finds out whether there is still a DaemonSet of the name that owns the pod. One
// that was replaced starts the speaker again.
func (d *departure) askDaemonSet(ctx context.Context, e *evidence) error {
	var pod corev1.Pod
	if err := d.reader.Get(ctx, client.ObjectKey{Namespace: d.namespace, Name: d.pod}, &pod); err != nil {
		return fmt.Errorf("get Pod: %w", err)
	}
	owner := metav1.GetControllerOf(&pod)
	if owner == nil || owner.Kind != "DaemonSet" {
		return nil
	}
	var set appsv1.DaemonSet
	err := d.reader.Get(ctx, client.ObjectKey{Namespace: d.namespace, Name: owner.Name}, &set)
	switch {
	case apierrors.IsNotFound(err):
		e.daemonSetGone = true
	case err != nil:
		return fmt.Errorf("get DaemonSet: %w", err)
	default:
		e.daemonSet = &set
	}
	return nil
}
