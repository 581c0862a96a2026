package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace is Ballast's.
const Namespace = "ballast-system"

// install applies the shipped CRDs, RBAC and admission policies.
func (l *Lab) install(ctx context.Context) error {
	if l.opts.NoBallast {
		return nil
	}
	l.opts.Progress("installing the CRDs and RBAC of " + l.opts.ConfigDir)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	_, err := l.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace: %w", err)
	}
	if out, err := l.Kubectl(ctx, "apply", "-k", filepath.Join(l.opts.ConfigDir, "crd")); err != nil {
		return fmt.Errorf("install CRDs: %w: %s", err, out)
	}
	for _, part := range []string{"rbac", "policy"} {
		if out, err := l.Kubectl(ctx, "apply", "-k", filepath.Join(l.opts.ConfigDir, part)); err != nil {
			return fmt.Errorf("install %s: %w: %s", part, err, out)
		}
	}
	out, err := l.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
	if err != nil {
		return fmt.Errorf("wait for CRDs: %w: %s", err, out)
	}
	return nil
}

// daemon is one controller or speaker to run.
type daemon struct {
	name    string // of the process and its Pod
	account string // and program
	host    *Host
	args    []string
}

func (l *Lab) daemons() []daemon {
	var out []daemon
	for i := range l.opts.Controllers {
		args := l.opts.ControllerArgs
		if i > 0 { // they share the control-plane host
			args = append([]string{
				fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", 7472+10*i),
				fmt.Sprintf("--health-probe-bind-address=:%d", 7473+10*i),
			}, args...)
		}
		out = append(out, daemon{name: fmt.Sprintf("controller-%d", i+1), account: "controller", host: l.hosts["cp"], args: args})
	}
	for _, n := range l.nodes {
		out = append(out, daemon{
			name: "speaker-" + n.Name, account: "speaker", host: n.Host,
			args: append([]string{"--node-name=" + n.Name}, l.opts.SpeakerArgs...),
		})
	}
	return out
}

// startBallast starts the controllers and the speakers, each with a token of its own Pod.
func (l *Lab) startBallast(ctx context.Context) error {
	if l.opts.NoBallast {
		return nil
	}
	l.opts.Progress("starting Ballast's controller and speakers")
	system, err := l.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("tell the cluster from others: %w", err)
	}
	if err := l.state.recordCluster(string(system.UID)); err != nil {
		return fmt.Errorf("record the cluster's uid: %w", err)
	}
	starts := []func(context.Context) error{}
	for _, d := range l.daemons() {
		kubeconfig := l.state.path(d.name + ".kubeconfig")
		argv := append([]string{filepath.Join(l.opts.BinDir, d.account), "--kubeconfig=" + kubeconfig}, d.args...)
		process := l.newProcess(d.name, d.host, argv...)
		starts = append(starts, func(ctx context.Context) error {
			if err := l.giveToken(ctx, d, kubeconfig); err != nil {
				return fmt.Errorf("prepare %s: %w", d.name, err)
			}
			return process.Start()
		})
	}
	return parallel(ctx, starts...)
}

// tokenLife is longer than any lab, because nothing renews the tokens.
const tokenLife = 30 * 24 * 3600

// giveToken makes the daemon's Pod and a kubeconfig with a token bound to it, which is
// how the API server comes to know the node of whoever uses it.
func (l *Lab) giveToken(ctx context.Context, d daemon, kubeconfig string) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: d.name, Namespace: Namespace, Labels: map[string]string{
			"app.kubernetes.io/name": "ballast", "app.kubernetes.io/component": d.account,
		}},
		Spec: podSpec(d.host.Name, d.account),
	}
	if err := l.createPod(ctx, pod); err != nil {
		return err
	}
	err := publishPod(ctx, l.client, podState{
		namespace: Namespace, name: d.name, ready: true, host: d.host,
		addresses: []netip.Addr{d.host.IPv4, d.host.IPv6},
	})
	if err != nil {
		return fmt.Errorf("publish pod: %w", err)
	}
	pod, err = l.client.CoreV1().Pods(Namespace).Get(ctx, d.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get pod: %w", err)
	}
	seconds := int64(tokenLife)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := l.client.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, d.account, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("request token: %w", err)
	}
	tokenFile := l.state.path(d.name + ".token")
	if err := os.WriteFile(tokenFile, []byte(answer.Status.Token), 0o600); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	return l.writeKubeconfig(kubeconfig, pair{}, tokenFile)
}
