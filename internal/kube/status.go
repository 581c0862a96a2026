package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// WriteTimeout bounds one write. It is shorter than the leader's lease.
const WriteTimeout = 3 * time.Second

// maxText is how long a condition's message and an event's note may be, in bytes; the
// API server refuses notes of more than 1024.
const maxText = 1024

// cut shortens a text to what may be written, and never within a character.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText-3], "") + "..."
}

// Event says on an object what happened to it. The action is what Ballast was doing.
func Event(recorder events.EventRecorder, o runtime.Object, kind string, reason v1alpha1.Reason, action, note string) {
	recorder.Eventf(o, nil, kind, string(reason), action, "%s", cut(note))
}

// NewCondition makes a condition that follows before: the time of transition stays if the status does.
func NewCondition(before *metav1.Condition, kind string, ok bool, reason v1alpha1.Reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: string(reason), Message: cut(message), LastTransitionTime: metav1.Now()}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	if before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return c
}

// Same says whether two conditions say the same.
func Same(x *metav1.Condition, y metav1.Condition) bool {
	return x != nil && x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
}

// PatchServiceStatus sends one strategic merge patch to a Service's status subresource,
// on condition that it still is the Service with this uid and, if resourceVersion is not
// empty, unchanged since. It returns the version that was written.
func PatchServiceStatus(ctx context.Context, c client.Client, s *corev1.Service, resourceVersion string, metadata, status map[string]any) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, WriteTimeout)
	defer cancel()
	meta := map[string]any{"uid": s.UID}
	if resourceVersion != "" {
		meta["resourceVersion"] = resourceVersion
	}
	for k, v := range metadata {
		meta[k] = v
	}
	body, err := json.Marshal(map[string]any{"metadata": meta, "status": status})
	if err != nil {
		return "", fmt.Errorf("encode patch: %w", err)
	}
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	if err := c.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body)); err != nil {
		return "", fmt.Errorf("patch status of Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	return target.ResourceVersion, nil
}
