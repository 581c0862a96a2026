package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/test/assets"
)

// patience bounds each wait for something that should come soon.
const patience = 30 * time.Second

// api is a real API server with a controller that can be stopped and started.
type api struct {
	client.Client
	t    *testing.T
	cfg  *rest.Config
	stop func()
}

// startAPI starts etcd and an API server with Ballast's kinds, and the controller.
func startAPI(t *testing.T) *api {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	bin, err := assets.Dir()
	if err != nil {
		t.Fatal(err)
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "config", "crd", "bases")}, ErrorIfCRDPathMissing: true, BinaryAssetsDirectory: bin}
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112")
	cfg, err := env.Start()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	a := &api{t: t, cfg: cfg}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if a.Client, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	a.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.options().Namespace}})
	a.start()
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *api) options() *kube.Options {
	return &kube.Options{Namespace: "ballast-system", Metrics: "0", Health: "0"}
}

// start runs the controller until a.stop is called.
func (a *api) start() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := newManager(a.cfg, a.options(), true)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := wire(ctx, mgr, a.options(), testr.New(a.t)); err != nil {
		a.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	a.stop = func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Errorf("controller: %v", err)
		}
		a.stop = func() {}
	}
}

func (a *api) create(o client.Object) {
	a.t.Helper()
	if err := a.Create(a.t.Context(), o); err != nil {
		a.t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

// eventually waits until check says "" about a fresh copy of an object.
func (a *api) eventually(o client.Object, check func() string) {
	a.t.Helper()
	deadline, said := time.Now().Add(patience), ""
	for time.Now().Before(deadline) {
		if err := a.Get(a.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			said = err.Error()
		} else if said = check(); said == "" {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	a.t.Fatalf("%T %s: %s", o, o.GetName(), said)
}

// foreignIngress writes a Service's ingress as another implementation does.
func (a *api) foreignIngress(s *corev1.Service, address string) {
	a.t.Helper()
	a.eventually(s, func() string {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		if err := a.Status().Update(a.t.Context(), s); err != nil {
			return err.Error()
		}
		return ""
	})
}

// remove deletes an object and waits until it is gone.
func (a *api) remove(o client.Object) {
	a.t.Helper()
	if err := a.Delete(a.t.Context(), o); err != nil {
		a.t.Fatal(err)
	}
	a.gone(o)
}

// gone waits until an object is not there any more.
func (a *api) gone(o client.Object) {
	a.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if err := a.Get(a.t.Context(), client.ObjectKeyFromObject(o), o); apierrors.IsNotFound(err) {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	a.t.Fatalf("%T %s is still there: %v", o, o.GetName(), o.GetFinalizers())
}

// service makes a Service of type LoadBalancer.
func service(name string, edit func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func pool(name string, addresses ...string) *v1alpha1.IPAddressPool {
	return &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
}

// holds waits until a Service holds exactly an address, or none for "", with a reason of Allocated.
func (a *api) holds(s *corev1.Service, address string, reason v1alpha1.Reason) {
	a.t.Helper()
	a.eventually(s, func() string {
		c := config.Condition(s, v1alpha1.ConditionAllocated)
		if c == nil {
			return "has no condition Allocated"
		}
		var got []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			got = append(got, i.IP)
		}
		if strings.Join(got, ",") != address || c.Reason != string(reason) {
			return fmt.Sprintf("holds %v with reason %s (%s), want %q and %s", got, c.Reason, c.Message, address, reason)
		}
		return ""
	})
}

// notReady waits until an object is not ready for a reason, with a message that says something.
func (a *api) notReady(o object, reason v1alpha1.Reason, says string) {
	a.t.Helper()
	a.eventually(o, func() string {
		c := meta.FindStatusCondition(*o.Conditions(), v1alpha1.ConditionReady)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != string(reason) || !strings.Contains(c.Message, says) {
			return fmt.Sprintf("Ready is %+v, want False, %s, and a message with %q", c, reason, says)
		}
		return ""
	})
	a.event(o, reason)
}

// event waits for an event about an object.
func (a *api) event(o client.Object, reason v1alpha1.Reason) {
	a.t.Helper()
	a.eventually(o, func() string {
		var list eventsv1.EventList
		if err := a.List(a.t.Context(), &list); err != nil {
			return err.Error()
		}
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Regarding.UID == o.GetUID() && e.Reason == string(reason) && e.Note != ""
		}) {
			return fmt.Sprintf("has no event %s", reason)
		}
		return ""
	})
}

// edit changes an object and writes it, again if somebody else did at the same time.
func (a *api) edit(o client.Object, change func()) {
	a.t.Helper()
	a.eventually(o, func() string {
		change()
		if err := a.Update(a.t.Context(), o); err != nil {
			return err.Error()
		}
		return ""
	})
}

// annotate sets an annotation of a Service; "" removes it.
func (a *api) annotate(s *corev1.Service, key, value string) {
	a.t.Helper()
	a.edit(s, func() {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
		if value == "" {
			delete(s.Annotations, key)
		}
	})
}

// says waits until the condition Allocated of a Service has a message that says something.
func (a *api) says(s *corev1.Service, text string) {
	a.t.Helper()
	a.eventually(s, func() string {
		if c := config.Condition(s, v1alpha1.ConditionAllocated); c == nil || !strings.Contains(c.Message, text) {
			return fmt.Sprintf("Allocated is %+v, want a message with %q", c, text)
		}
		return ""
	})
}

// annotated makes a Service with annotations, given as key, value, key, value.
func annotated(name string, pairs ...string) *corev1.Service {
	return service(name, func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for pair := range slices.Chunk(pairs, 2) {
			s.Annotations[pair[0]] = pair[1]
		}
	})
}
