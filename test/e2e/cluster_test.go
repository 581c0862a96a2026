//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/test/lab"
)

// cluster is one test's view of a shared lab.
type cluster struct {
	*testing.T
	lab    *lab.Lab
	client client.Client
}

func (f *fixture) cluster(t *testing.T) *cluster {
	t.Helper()
	if err := f.up(); err != nil {
		t.Fatal(err)
	}
	return &cluster{T: t, lab: f.lab, client: f.client}
}

// must ends the test, with diagnostics, if err is not nil.
func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%v\n%s", err, c.lab.Diagnostics())
	}
}

// eventually waits at most a minute for check to return nil.
func (c *cluster) eventually(what string, check func(context.Context) error) {
	c.Helper()
	c.must(c.lab.WaitFor(c.Context(), what, check))
}

// backend runs a pod with the label app=app on a node for the time of the test.
func (c *cluster) backend(app, node string) *lab.RunningBackend {
	c.Helper()
	b, err := c.lab.AddBackend(c.Context(), lab.Backend{App: app, Node: node})
	c.must(err)
	c.Cleanup(func() {
		if err := b.Remove(context.Background()); err != nil {
			c.Error(err)
		}
	})
	return b
}

// service is a Service of type LoadBalancer that takes addresses from a pool and sends port 80
// to the pods with the label app=name.
func service(name, pool string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	if pool != "" {
		s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: pool}
	}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.Selector = map[string]string{"app": name}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}
	return s
}

// dualStack makes the Service want both families.
func dualStack(s *corev1.Service) *corev1.Service {
	policy := corev1.IPFamilyPolicyRequireDualStack
	s.Spec.IPFamilyPolicy = &policy
	return s
}

// local makes the Service keep the client's address.
func local(s *corev1.Service) *corev1.Service {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	return s
}

// create makes an object for the time of the test.
func (c *cluster) create(o client.Object) {
	c.Helper()
	c.must(c.client.Create(c.Context(), o))
	c.Cleanup(func() {
		if err := c.delete(context.Background(), o); err != nil {
			c.Error(err)
		}
	})
}

// delete deletes an object and waits until it is gone, which takes finalizers into account.
func (c *cluster) delete(ctx context.Context, o client.Object) error {
	if err := c.client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
		return err
	}
	return c.lab.WaitFor(ctx, fmt.Sprintf("%T %s is gone", o, o.GetName()), func(ctx context.Context) error {
		err := c.client.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return cmp.Or(err, errors.New("it is still there"))
	})
}

// get reads an object anew.
func (c *cluster) get(ctx context.Context, o client.Object) error {
	return c.client.Get(ctx, client.ObjectKeyFromObject(o), o)
}

// expose creates the Service and returns its addresses, IPv4 first, once it has n.
func (c *cluster) expose(s *corev1.Service, n int) []netip.Addr {
	c.Helper()
	c.create(s)
	c.eventually(fmt.Sprintf("%s has %d addresses", s.Name, n), func(ctx context.Context) error {
		if err := c.get(ctx, s); err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) != n {
			return fmt.Errorf("ingress %v, conditions %v", s.Status.LoadBalancer.Ingress, s.Status.Conditions)
		}
		return nil
	})
	return addresses(s)
}

func addresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, i := range s.Status.LoadBalancer.Ingress {
		out = append(out, netip.MustParseAddr(i.IP))
	}
	slices.SortFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return out
}

// web is the URL of an address's port 80, or of another port.
func web(a netip.Addr, port ...int) string {
	if len(port) == 0 {
		port = []int{80}
	}
	return "http://" + netip.AddrPortFrom(a, uint16(port[0])).String() + "/"
}

// answer is what a backend says of a request.
type answer struct{ pod, node, client string }

// ask sends one request.
func (c *cluster) ask(ctx context.Context, from, url string) (answer, error) {
	body, err := c.lab.HTTP(ctx, from, url)
	if err != nil {
		return answer{}, err
	}
	var a answer
	_, err = fmt.Sscanf(body, "pod=%s node=%s client=%s", &a.pod, &a.node, &a.client)
	if err != nil {
		return answer{}, fmt.Errorf("read answer %q: %w", body, err)
	}
	return a, nil
}

// reach waits until a request is answered, and returns the answer.
func (c *cluster) reach(from, url string) answer {
	c.Helper()
	var got answer
	c.eventually(from+" reaches "+url, func(ctx context.Context) (err error) {
		got, err = c.ask(ctx, from, url)
		return err
	})
	return got
}

// row is how many answered requests in a row make a Service steady: enough to meet every node
// that a router may choose.
const row = 10

// inARow sends requests in a row, up to the first that is not answered.
func (c *cluster) inARow(ctx context.Context, from, url string) ([]answer, error) {
	var out []answer
	for range row {
		got, err := c.ask(ctx, from, url)
		if err != nil {
			return nil, fmt.Errorf("request %d in a row: %w", len(out)+1, err)
		}
		out = append(out, got)
	}
	return out, nil
}

// reachSteadily waits until requests in a row are all answered. A Service that is new is
// known to some nodes' kube-proxies before others.
func (c *cluster) reachSteadily(from, url string) []answer {
	c.Helper()
	var out []answer
	c.eventually(from+" reaches "+url+" time and again", func(ctx context.Context) (err error) {
		out, err = c.inARow(ctx, from, url)
		return err
	})
	return out
}

// stillReaches fails if one of some requests in a row is not answered: for Services that were steady before.
func (c *cluster) stillReaches(from, url string) {
	c.Helper()
	_, err := c.inARow(c.Context(), from, url)
	c.must(err)
}

// awaitCondition waits until a condition has this status and reason, and returns its message.
func (c *cluster) awaitCondition(o client.Object, kind string, status metav1.ConditionStatus, reason v1alpha1.Reason) string {
	c.Helper()
	var message string
	c.eventually(fmt.Sprintf("%T %s is %s=%s/%s", o, o.GetName(), kind, status, reason), func(ctx context.Context) error {
		if err := c.get(ctx, o); err != nil {
			return err
		}
		for _, have := range conditions(o) {
			if have.Type == kind && have.Status == status && have.Reason == string(reason) {
				message = have.Message
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v", conditions(o))
	})
	if message == "" {
		c.Errorf("%T %s: condition %s/%s has no message", o, o.GetName(), kind, reason)
	}
	return message
}

func conditions(o client.Object) []metav1.Condition {
	switch o := o.(type) {
	case *corev1.Service:
		return o.Status.Conditions
	case interface{ Conditions() *[]metav1.Condition }:
		return *o.Conditions()
	}
	return nil
}

// awaitEvent waits for an event of that reason on the object, and returns its note.
func (c *cluster) awaitEvent(o client.Object, reason v1alpha1.Reason) string {
	c.Helper()
	var note string
	c.eventually(fmt.Sprintf("%T %s has an event %s", o, o.GetName(), reason), func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := c.client.List(ctx, &list); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.UID != o.GetUID() {
				continue
			}
			if e.Reason == string(reason) {
				note = e.Note
				return nil
			}
			seen = append(seen, e.Reason)
		}
		return fmt.Errorf("it has %v", seen)
	})
	if note == "" {
		c.Errorf("%T %s: event %s has no note", o, o.GetName(), reason)
	}
	return note
}

// process finds a process of the lab. Whatever the test does to it, it runs afterwards.
func (c *cluster) process(name string) *lab.Process {
	c.Helper()
	p, err := c.lab.Process(name)
	c.must(err)
	c.Cleanup(func() {
		if err := p.Start(); err != nil {
			c.Error(err)
		}
	})
	return p
}
