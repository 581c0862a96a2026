//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ballast-lb/ballast/test/assets"
	"github.com/ballast-lb/ballast/test/lab"
)

const (
	ingressClass = "skipper"
	ingressName  = "ladder-ingress"
	ingressPort  = 9999
	// ingressHost is the last octet of the controller's pod address; those of backends are below 202.
	ingressHost = 250
	// ingressToken is how long the controller's token lasts.
	ingressToken = time.Hour
)

// ingressManifests are what skipper's own documentation has a cluster give it, but the right to write the status of
// Ingresses, which it needs to copy the address of its Service there.
const ingressManifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ladder-ingress, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ladder-ingress}
rules:
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list]}
- {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [patch]}
- {apiGroups: [""], resources: [services], verbs: [get, list]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ladder-ingress}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ladder-ingress}
subjects:
- {kind: ServiceAccount, name: ladder-ingress, namespace: default}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: skipper}
spec: {controller: zalando.org/skipper}
`

// ingressController is skipper as a pod: a real process on a node, with an address and an account of its own.
type ingressController struct {
	c       *cluster
	node    *lab.Node
	address netip.Addr
	ended   chan struct{}
	err     error // once ended is closed
}

// deployIngressController starts the controller on a node, for the time of the test, and returns when it is ready.
func (c *cluster) deployIngressController(on string) *ingressController {
	c.Helper()
	node, err := c.lab.NodeNamed(on)
	c.must(err)
	program, err := assets.Ingress()
	c.must(err)
	c.must(c.lab.Apply(c.Context(), ingressManifests))
	c.Cleanup(func() {
		if err := c.lab.Delete(context.Background(), ingressManifests); err != nil {
			c.Error(err)
		}
	})
	i := &ingressController{c: c, node: node, ended: make(chan struct{})}
	pod := i.createPod()
	i.start(program)
	c.eventually("the Ingress controller is ready", func(ctx context.Context) error {
		i.alive()
		_, err := c.lab.HTTP(ctx, on, web(i.address, ingressPort)+"kube-system/healthz")
		return err
	})
	i.publish(pod)
	return i
}

// createPod makes the pod's address and object. The rest of the cluster hears of it with publish.
func (i *ingressController) createPod() *corev1.Pod {
	c, name := i.c, i.node.Name
	c.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.must(c.get(c.Context(), node))
	b := netip.MustParsePrefix(node.Spec.PodCIDR).Addr().As4()
	b[3] = ingressHost
	i.address = netip.AddrFrom4(b)
	address := netip.PrefixFrom(i.address, 32).String()
	_, err := c.lab.Exec(c.Context(), name, "ip", "address", "add", address, "dev", "lo")
	c.must(err)
	c.Cleanup(func() {
		if _, err := c.lab.Exec(context.Background(), name, "ip", "address", "delete", address, "dev", "lo"); err != nil {
			c.Error(err)
		}
	})
	no, zero := false, int64(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: ingressName, Namespace: "default", Labels: map[string]string{"app": ingressName}},
		Spec: corev1.PodSpec{
			NodeName: name, ServiceAccountName: ingressName, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &zero,
			Containers:  []corev1.Container{{Name: "skipper", Image: "ballast.dev/lab", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: ingressPort}}}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
	c.create(pod)
	return pod
}

// start starts the process; the end of the test stops it.
func (i *ingressController) start(program string) {
	c := i.c
	c.Helper()
	api := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}}
	c.must(c.get(c.Context(), api))
	seconds := int64(ingressToken.Seconds())
	token, err := c.lab.Client().CoreV1().ServiceAccounts("default").CreateToken(c.Context(), ingressName,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	c.must(err)
	tokenFile := filepath.Join(c.TempDir(), "token")
	c.must(os.WriteFile(tokenFile, []byte(token.Status.Token), 0o600))

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(i.ended)
		_, i.err = c.lab.Exec(ctx, i.node.Name, "env", "SSL_CERT_FILE="+filepath.Join(filepath.Dir(c.lab.Kubeconfig()), "ca.crt"),
			program, "-kubernetes", "-kubernetes-url=https://"+api.Spec.ClusterIP, "-kubernetes-token-file="+tokenFile,
			"-enable-kubernetes-endpointslices", "-kubernetes-ingress-class=^"+ingressClass+"$", "-kubernetes-https-redirect=false",
			"-kubernetes-status-from-service=default/"+ingressName, "-source-poll-timeout=500", "-access-log-disabled",
			fmt.Sprintf("-address=%s:%d", i.address, ingressPort), fmt.Sprintf("-support-listener=%s:9911", i.address))
	}()
	c.Cleanup(func() {
		cancel()
		<-i.ended
		if c.Failed() {
			c.Log("Ingress controller: ", i.err) // which carries all that it has said
		}
	})
}

// alive ends the test if the process has ended.
func (i *ingressController) alive() {
	i.c.Helper()
	select {
	case <-i.ended:
		i.c.Fatalf("the Ingress controller has ended: %v", i.err)
	default:
	}
}

// publish says what a kubelet would say of the pod once its readiness probe succeeds.
func (i *ingressController) publish(pod *corev1.Pod) {
	c := i.c
	c.Helper()
	now, host := metav1.Now(), i.node.IPv4.String()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, HostIP: host, HostIPs: []corev1.HostIP{{IP: host}},
		PodIP: i.address.String(), PodIPs: []corev1.PodIP{{IP: i.address.String()}},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	c.must(c.client.Status().Update(c.Context(), pod))
}

// service is the one that all Ingresses share: its address is the one of the pool lan that people give to DNS.
func (i *ingressController) service() *corev1.Service {
	s := service(ingressName, "lan")
	s.Spec.Ports[0].TargetPort = intstr.FromString("http")
	return s
}

// askHost sends one request for a host name that DNS would say is at the address.
func (c *cluster) askHost(ctx context.Context, from, host string, at netip.Addr) (answer, error) {
	body, err := c.lab.Exec(ctx, from, "curl", "--silent", "--show-error", "--fail", "--max-time", "3",
		"--resolve", fmt.Sprintf("%s:80:%s", host, at), "http://"+host+"/")
	if err != nil {
		return answer{}, err
	}
	var a answer
	if _, err := fmt.Sscanf(body, "pod=%s node=%s client=%s", &a.pod, &a.node, &a.client); err != nil {
		return answer{}, errors.Join(fmt.Errorf("read answer %q", body), err)
	}
	return a, nil
}
