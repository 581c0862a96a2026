package api

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Kubernetes checks policies against the types of what they match, in its controller
// manager, and says in their status what could fail once it is too late.
func TestThePoliciesPassKubernetesTypeCheck(t *testing.T) {
	t.Parallel()
	runPolicyChecker(t)
	for _, name := range []string{"ballast-speaker-services", "ballast-speaker-speakers", "ballast-controller-services", "ballast-held-pools"} {
		var policy admissionv1.ValidatingAdmissionPolicy
		eventually(t, func() error {
			if err := shared.admin.Get(t.Context(), client.ObjectKey{Name: name}, &policy); err != nil {
				return err
			}
			if policy.Status.ObservedGeneration != policy.Generation || policy.Status.TypeChecking == nil {
				return fmt.Errorf("policy %s is not checked yet", name)
			}
			return nil
		})
		for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("policy %s, %s: %s", name, warning.FieldRef, warning.Warning)
		}
	}
}

// runPolicyChecker runs the one controller of kube-controller-manager that checks
// policies, until the test ends.
func runPolicyChecker(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(shared.kubectlBin), "kube-controller-manager"),
		"--kubeconfig", shared.kubeconfig, "--authentication-kubeconfig", shared.kubeconfig, "--authorization-kubeconfig", shared.kubeconfig,
		"--controllers", "validatingadmissionpolicy-status-controller", "--leader-elect=false", "--secure-port=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(output.String())
		}
	})
}
