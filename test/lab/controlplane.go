package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// controllers are those of kube-controller-manager that a lab needs: there is no
// scheduler and no kubelet, so nothing that makes Pods from other objects would help.
const controllers = "endpointslice-controller,serviceaccount-controller,namespace-controller," +
	"garbage-collector-controller,node-lifecycle-controller,clusterrole-aggregation-controller,service-cidr-controller"

// makePKI makes keys, certificates and kubeconfigs.
func (l *Lab) makePKI() error {
	ca, err := newPKI()
	if err != nil {
		return err
	}
	l.pki = ca
	server, err := ca.server(at(lanV4, controlPlaneOctet).Addr(), at(lanV6, controlPlaneOctet).Addr(),
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.96.0.1"))
	if err != nil {
		return err
	}
	admin, err := ca.client("lab-admin", "system:masters")
	if err != nil {
		return err
	}
	proxy, err := ca.client("system:kube-proxy")
	if err != nil {
		return err
	}
	_, accounts, err := newKey()
	if err != nil {
		return err
	}
	err = l.state.writeFiles(map[string][]byte{
		"ca.crt": ca.ca, "apiserver.crt": server.cert, "apiserver.key": server.key, "accounts.key": accounts,
	})
	if err != nil {
		return err
	}
	l.admin = admin
	if err := l.writeKubeconfig(l.Kubeconfig(), admin, ""); err != nil {
		return err
	}
	return l.writeKubeconfig(l.state.path("proxy.kubeconfig"), proxy, "")
}

// startAPI starts etcd and the API server and returns when it is ready.
func (l *Lab) startAPI(ctx context.Context) error {
	cp := l.hosts["cp"]
	etcd := l.newProcess("etcd", cp, l.kube("etcd"),
		"--data-dir="+l.state.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380")
	apiserver := l.newProcess("apiserver", cp, l.kube("kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+cp.IPv4.String(), "--secure-port=6443",
		"--tls-cert-file="+l.state.path("apiserver.crt"), "--tls-private-key-file="+l.state.path("apiserver.key"),
		"--client-ca-file="+l.state.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+l.state.path("accounts.key"),
		"--service-account-signing-key-file="+l.state.path("accounts.key"),
		"--service-cluster-ip-range="+serviceCIDRs,
		"--authorization-mode=Node,RBAC", "--allow-privileged", "--profiling=false")
	for _, p := range []*Process{etcd, apiserver} {
		if err := p.Start(); err != nil {
			return err
		}
	}
	clients, err := kubernetes.NewForConfig(l.RESTConfig())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	l.client = clients
	return l.awaitAPI(ctx)
}

func (l *Lab) awaitAPI(ctx context.Context) error {
	return Poll(ctx, waitLimit, "the API server is ready", func(ctx context.Context) error {
		answer, err := l.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%w %s", err, firstLine(string(answer)))
		for _, name := range []string{"apiserver", "etcd"} {
			if p, found := l.Process(name); found == nil {
				err = fmt.Errorf("%w; %s: %s", err, name, p.Status())
			}
		}
		return err
	})
}

// startControllerManager does not wait: what needs it waits for what it does.
func (l *Lab) startControllerManager() error {
	return l.newProcess("controller-manager", l.hosts["cp"], l.kube("kube-controller-manager"),
		"--kubeconfig="+l.Kubeconfig(), "--authentication-kubeconfig="+l.Kubeconfig(), "--authorization-kubeconfig="+l.Kubeconfig(),
		"--leader-elect=false", "--controllers="+controllers, "--service-cluster-ip-range="+serviceCIDRs,
		"--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false").Start()
}

func (l *Lab) kube(name string) string { return filepath.Join(l.opts.KubeBin, name) }

// Kubeconfig is the path of a kubeconfig of a member of system:masters. It works in the
// namespaces of hosts on the LAN only.
func (l *Lab) Kubeconfig() string { return l.state.path("admin.kubeconfig") }

// RESTConfig is that kubeconfig for Go clients, whose connections start on the control-plane
// host. The caller owns the returned value.
func (l *Lab) RESTConfig() *rest.Config { return l.restConfigFrom(l.hosts["cp"]) }

func (l *Lab) restConfigFrom(h *Host) *rest.Config {
	return &rest.Config{
		Host:            l.apiURL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: l.pki.ca, CertData: l.admin.cert, KeyData: l.admin.key},
		Dial:            h.ns.dial,
		QPS:             200,
		Burst:           400,
	}
}

// Client is a client with all rights.
func (l *Lab) Client() kubernetes.Interface { return l.client }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
