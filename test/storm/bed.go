package storm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// Options are those of a lab for a storm; its user may add to them.
func Options(prefix string) lab.Options {
	return lab.Options{Prefix: prefix, Nodes: 1 + len(announcers()), Routers: 2, OtherLAN: true}
}

// The hosts that look: of each network, one that asks and one that connects, so that asking tells the client nothing.
const (
	askFirst, askOther         = "ask1", "ask2"
	connectFirst, connectOther = "lan", "lan2"
)

// namespace holds the Services.
const namespace = "storm"

// manifests are a pool on each network, and Services of both families in each.
const manifests = `
apiVersion: v1
kind: Namespace
metadata: {name: storm}
---
apiVersion: ballast.dev/v1alpha1
kind: IPAddressPool
metadata: {name: first}
spec: {addresses: [10.10.0.100-10.10.0.119, "fd00:10::1:0-fd00:10::1:ff"]}
---
apiVersion: ballast.dev/v1alpha1
kind: IPAddressPool
metadata: {name: other}
spec: {addresses: [10.30.0.100-10.30.0.119, "fd00:30::1:0-fd00:30::1:ff"]}
---
apiVersion: ballast.dev/v1alpha1
kind: L2Advertisement
metadata: {name: storm}
spec: {ipAddressPools: [first, other]}
`

const serviceManifest = `---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: storm, annotations: {ballast.dev/address-pool: %s}}
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: false
  ipFamilyPolicy: RequireDualStack
  selector: {app: storm}
  ports: [{port: 80, targetPort: http}]
`

// How many Services there are on each network.
const (
	onFirst = 6
	onOther = 4
)

// Bed is a lab in which everything is set up for storms.
type Bed struct {
	lab     *lab.Lab
	targets []Target
	faults  int // so far
}

// Prepare sets everything up in a lab of Options, and returns when all is well for the first time.
func Prepare(ctx context.Context, l *lab.Lab) (*Bed, error) {
	text := manifests
	for i := range onFirst {
		text += fmt.Sprintf(serviceManifest, fmt.Sprintf("first-%d", i), "first")
	}
	for i := range onOther {
		text += fmt.Sprintf(serviceManifest, fmt.Sprintf("other-%d", i), "other")
	}
	if err := l.Apply(ctx, text); err != nil {
		return nil, err
	}
	const exclude = "node.kubernetes.io/exclude-from-external-load-balancers="
	if _, err := l.Kubectl(ctx, "label", "node", "n1", exclude); err != nil {
		return nil, err
	}
	if _, err := l.AddBackend(ctx, lab.Backend{Namespace: namespace, App: "storm", Node: "n1"}); err != nil {
		return nil, err
	}
	if _, err := l.AddHost(ctx, askFirst); err != nil {
		return nil, err
	}
	if _, err := l.AddHostOnOtherLAN(ctx, askOther); err != nil {
		return nil, err
	}
	b := &Bed{lab: l}
	if err := lab.Poll(ctx, time.Minute, "all Services have addresses", b.findTargets); err != nil {
		return nil, err
	}
	return b, lab.Poll(ctx, time.Minute, "each address has one owner, whom its Service names", b.Well)
}

// findTargets reads the Services' addresses.
func (b *Bed) findTargets(ctx context.Context) error {
	list, err := b.lab.Client().CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	b.targets = nil
	for _, s := range list.Items {
		t := Target{Service: s.Name}
		if strings.HasPrefix(s.Name, "other") {
			t.LAN = lab.OtherLAN
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			if t.Address, err = netip.ParseAddr(in.IP); err != nil {
				return fmt.Errorf("read ingress of %s: %w", s.Name, err)
			}
			b.targets = append(b.targets, t)
		}
	}
	if want := 2 * (onFirst + onOther); len(b.targets) != want {
		return fmt.Errorf("%d addresses of %d", len(b.targets), want)
	}
	return nil
}

// on are the addresses of a network.
func (b *Bed) on(lan lab.LAN) []netip.Addr {
	var out []netip.Addr
	for _, t := range b.targets {
		if t.LAN == lan {
			out = append(out, t.Address)
		}
	}
	return out
}

// Well says what is wrong now: an address without exactly one owner, a condition that names another or none, a node or
// speaker that is not Ready, an address that does not answer a client.
func (b *Bed) Well(ctx context.Context) error {
	owners := map[netip.Addr][]string{}
	for lan, host := range map[lab.LAN]string{lab.FirstLAN: askFirst, lab.OtherLAN: askOther} {
		answers, err := b.lab.Ask(ctx, host, noise, b.on(lan)...)
		if err != nil {
			return err
		}
		for _, a := range b.on(lan) {
			for _, mac := range answers.Owners(a) {
				owners[a] = append(owners[a], b.lab.NameOf(mac))
			}
		}
	}
	readings, err := b.read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range b.targets {
		r := readings[t.Service]
		if len(owners[t.Address]) != 1 || !r.True || r.Node != owners[t.Address][0] {
			errs = append(errs, fmt.Errorf("%s of %s is answered for by %v, and the Service says %t %s %q",
				t.Address, t.Service, owners[t.Address], r.True, r.Reason, r.Node))
			continue
		}
		host := connectFirst
		if t.LAN == lab.OtherLAN {
			host = connectOther
		}
		if _, err := b.lab.HTTP(ctx, host, "http://"+netip.AddrPortFrom(t.Address, 80).String()+"/"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, b.ready(ctx))...)
}

// ready fails unless all nodes and speakers say that they are Ready.
func (b *Bed) ready(ctx context.Context) error {
	for _, what := range []string{"nodes", "speakers"} {
		out, err := b.lab.Kubectl(ctx, "get", what, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if err != nil {
			return err
		}
		if n := strings.Count(out, "True"); n != len(b.lab.Nodes()) {
			return fmt.Errorf("%d %s of %d are ready", n, what, len(b.lab.Nodes()))
		}
	}
	return nil
}

// readLimit bounds one reading of the conditions.
const readLimit = 900 * time.Millisecond

// read reads what the Services say.
func (b *Bed) read(ctx context.Context) (map[string]Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	list, err := b.lab.Client().CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("read conditions: %w", err)
	}
	out := map[string]Reading{}
	for i := range list.Items {
		out[list.Items[i].Name] = readingOf(&list.Items[i])
	}
	return out, nil
}

// readingOf is what the Service says. A True condition begins "Node n2 answers on eth0.".
func readingOf(s *corev1.Service) Reading {
	c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAnnounced)
	if c == nil {
		return Reading{Reason: "absent"}
	}
	r := Reading{True: c.Status == metav1.ConditionTrue, Reason: c.Reason}
	if words := strings.Fields(c.Message); len(words) > 2 && words[0] == "Node" && words[2] == "answers" {
		r.Node = words[1]
	}
	return r
}
