package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// referenceVerb is how bench calls itself to be the reference client.
	referenceVerb = "reference"
	// referenceClass is the spec.loadBalancerClass that it serves and Ballast does not.
	referenceClass = "example.com/reference"
	// referenceUser has the controller's rights, and like it is subject to the API server's fairness.
	referenceUser = "system:serviceaccount:bench:reference"
)

// fixedStatus is what it writes: as much as Ballast's controller, but always the same.
const fixedStatus = `{"metadata":{"annotations":{"example.com/pool":"bench"}},"status":{` +
	`"conditions":[{"type":"example.com/Allocated","status":"True","reason":"Allocated","message":"From IPAddressPool bench.","lastTransitionTime":"2026-01-01T00:00:00Z"}],` +
	`"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"}]}}}`

// reference is the least that a load balancer can do: it watches Services and patches a
// fixed status into each new one of its class. It returns only on failure.
func reference(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("find API server: %w", err)
	}
	cfg.QPS, cfg.ContentType, cfg.Impersonate.UserName = -1, runtime.ContentTypeProtobuf, referenceUser
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	// Without a version a watch begins with all that is there.
	w, err := client.CoreV1().Services("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch Services: %w", err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			return fmt.Errorf("watch Services: %w", apierrors.FromObject(e.Object))
		}
		s, ok := e.Object.(*corev1.Service)
		if !ok || e.Type != watch.Added || s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass != referenceClass || len(s.Status.LoadBalancer.Ingress) > 0 {
			continue
		}
		_, err := client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, []byte(fixedStatus), metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("patch status: %w", err)
		}
	}
	return errors.New("watch Services: it ended")
}
