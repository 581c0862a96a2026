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
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/membership"
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
	mgr, err := newManager(cfg, a.options(), false)
	if err != nil {
		t.Fatal(err)
	}
	if a.Client, err = client.New(cfg, client.Options{Scheme: mgr.GetScheme()}); err != nil {
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

func TestController(t *testing.T) {
	a := startAPI(t)
	lan := pool("lan", "192.0.2.0/29")
	a.create(lan)

	t.Run("a Service gets an address, and says where from", func(t *testing.T) {
		s := service("web", nil)
		a.create(s)
		a.holds(s, "192.0.2.1", v1alpha1.ReasonAllocated)
		if got := s.Annotations[v1alpha1.AnnotationPool]; got != "lan" {
			t.Errorf("annotation: got %q, want lan", got)
		}
		if mode := s.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeVIP {
			t.Errorf("ipMode: got %v, want VIP", mode)
		}
		a.event(s, v1alpha1.ReasonAllocated)
	})
	t.Run("without an advertisement it is not announced, and says so", func(*testing.T) {
		s := service("web", nil)
		a.eventually(s, func() string {
			if c := config.Condition(s, v1alpha1.ConditionAnnounced); c == nil || c.Reason != string(v1alpha1.ReasonNoAdvertisement) {
				return fmt.Sprintf("Announced is %+v, want NoAdvertisement", c)
			}
			return ""
		})
	})
	t.Run("the pool counts", func(*testing.T) {
		a.eventually(lan, func() string {
			if v4 := lan.Status.IPv4; v4 == nil || v4.Total != "7" || v4.Assigned != "1" || v4.Available != "6" {
				return fmt.Sprintf("counts %+v, want 7 in all, 1 assigned", v4)
			}
			return ""
		})
	})
	t.Run("an address outside every pool is refused, and nothing else is harmed", func(*testing.T) {
		s := service("outside", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "203.0.113.1"}
		})
		a.create(s)
		a.holds(s, "", v1alpha1.ReasonAddressNotInPool)
		a.event(s, v1alpha1.ReasonAddressNotInPool)
		other := service("unharmed", nil)
		a.create(other)
		a.holds(other, "192.0.2.2", v1alpha1.ReasonAllocated)
	})
	t.Run("a request that makes no sense is refused", func(*testing.T) {
		s := service("nonsense", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "not-an-address"}
		})
		a.create(s)
		a.holds(s, "", v1alpha1.ReasonInvalidRequest)
	})
	t.Run("Services of another class, and those that another implementation serves, are left alone", func(t *testing.T) {
		class := "example.com/other"
		others := service("other-class", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
		a.create(others)
		served := service("served", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
		a.create(served)
		served.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.3"}}
		if err := a.Status().Update(t.Context(), served); err != nil {
			t.Fatal(err)
		}
		versions := []string{others.ResourceVersion, served.ResourceVersion}
		next := service("after-them", nil)
		a.create(next)
		a.holds(next, "192.0.2.4", v1alpha1.ReasonAllocated) // not .3: somebody has it
		for i, s := range []*corev1.Service{others, served} {
			if err := a.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
				t.Fatal(err)
			}
			if s.ResourceVersion != versions[i] {
				t.Errorf("%s was written to: %+v", s.Name, s.Status)
			}
		}
	})
	t.Run("an address of another implementation is not inherited", func(t *testing.T) {
		s := service("foreign", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(bool) })
		a.stop()
		a.create(s)
		a.foreignIngress(s, "203.0.113.77")
		a.start()
		a.event(s, "ServedByAnother")
		s.Status.LoadBalancer.Ingress = nil
		if err := a.Status().Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		a.holds(s, "192.0.2.5", v1alpha1.ReasonAllocated)
		a.remove(s)
	})
	t.Run("what another implementation gives to a Service that waits is left alone", func(*testing.T) {
		s := service("rescued", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "203.0.113.1"}
		})
		a.create(s)
		a.holds(s, "", v1alpha1.ReasonAddressNotInPool)
		a.foreignIngress(s, "192.0.2.6")
		a.event(s, "ServedByAnother")
		a.holds(s, "192.0.2.6", v1alpha1.ReasonAddressNotInPool)
		s.Annotations = nil // it could have an address of ours now
		if err := a.Update(a.t.Context(), s); err != nil {
			a.t.Fatal(err)
		}
		last := service("last", nil)
		a.create(last)
		a.holds(last, "192.0.2.7", v1alpha1.ReasonAllocated) // by then the update has been seen
		a.holds(s, "192.0.2.6", v1alpha1.ReasonAddressNotInPool)
		a.remove(last)
		a.remove(s)
	})
	for request, reason := range map[string]v1alpha1.Reason{"not-an-address": v1alpha1.ReasonInvalidRequest, "203.0.113.1": v1alpha1.ReasonAddressNotInPool} {
		t.Run("a host name that another implementation gives to a Service that waits is left alone: "+string(reason), func(*testing.T) {
			s := service("named", func(s *corev1.Service) {
				s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: request}
			})
			a.create(s)
			a.holds(s, "", reason)
			a.eventually(s, func() string {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
				if err := a.Status().Update(a.t.Context(), s); err != nil {
					return err.Error()
				}
				return ""
			})
			a.event(s, "ServedByAnother")
			if got := s.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].Hostname != "lb.example.com" {
				a.t.Errorf("the ingress of another implementation was overwritten: %+v", got)
			}
			a.remove(s)
		})
	}
	t.Run("an ingress that somebody overwrites is restored, again and again", func(*testing.T) {
		s := service("unharmed", nil)
		for range 2 {
			a.foreignIngress(s, "203.0.113.99")
			a.holds(s, "192.0.2.2", v1alpha1.ReasonAllocated)
		}
	})
	t.Run("a Service that is deleted and created anew inherits nothing", func(*testing.T) {
		a.create(pool("manual", "198.51.100.0/24"))
		s := service("anew", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: "manual"}
		})
		a.create(s)
		a.holds(s, "198.51.100.1", v1alpha1.ReasonAllocated)
		if err := a.Delete(a.t.Context(), s); err != nil {
			a.t.Fatal(err)
		}
		s = service("anew", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: "lan"}
		})
		a.create(s)
		a.holds(s, "192.0.2.5", v1alpha1.ReasonAllocated) // all others were freed later
		a.remove(s)
		a.remove(pool("manual"))
	})
	t.Run("a type change frees the address and removes what is Ballast's", func(t *testing.T) {
		s := service("after-them", nil)
		a.eventually(s, func() string { return "" })
		s.Spec.Type = corev1.ServiceTypeClusterIP
		if err := a.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		a.eventually(s, func() string {
			if len(s.Status.Conditions) > 0 || s.Annotations[v1alpha1.AnnotationPool] != "" || len(s.Status.LoadBalancer.Ingress) > 0 {
				return fmt.Sprintf("still has %+v and %v", s.Status, s.Annotations)
			}
			return ""
		})
		again := service("again", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "192.0.2.4"}
		})
		a.create(again)
		a.holds(again, "192.0.2.4", v1alpha1.ReasonAllocated)
	})
	t.Run("one who waits gets the address that another gives up", func(t *testing.T) {
		s := service("waits", func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "192.0.2.4"}
		})
		a.create(s)
		a.holds(s, "", v1alpha1.ReasonAddressInUse)
		if err := a.Delete(t.Context(), service("again", nil)); err != nil {
			t.Fatal(err)
		}
		a.holds(s, "192.0.2.4", v1alpha1.ReasonAllocated)
	})
	t.Run("a restart keeps every address, though a lower one is free by then", func(t *testing.T) {
		a.stop()
		if err := a.Delete(t.Context(), service("web", nil)); err != nil {
			t.Fatal(err)
		}
		fresh := service("fresh", nil)
		a.create(fresh)
		var before corev1.Service
		if err := a.Get(t.Context(), client.ObjectKeyFromObject(service("unharmed", nil)), &before); err != nil {
			t.Fatal(err)
		}
		a.start()
		a.holds(fresh, "192.0.2.1", v1alpha1.ReasonAllocated)
		kept := service("unharmed", nil)
		a.holds(kept, "192.0.2.2", v1alpha1.ReasonAllocated)
		if kept.ResourceVersion != before.ResourceVersion {
			t.Errorf("a Service that was right was rewritten: %+v", kept.Status)
		}
	})
	t.Run("a deleted pool moves nothing and waits for its last address", func(t *testing.T) {
		a.eventually(lan, func() string {
			if !slices.Contains(lan.Finalizers, v1alpha1.FinalizerHeld) {
				return "has no finalizer though its addresses are held"
			}
			return ""
		})
		if err := a.Delete(t.Context(), pool("lan")); err != nil {
			t.Fatal(err)
		}
		a.notReady(lan, v1alpha1.ReasonDraining, "being deleted")
		s := service("new", nil)
		a.create(s)
		a.holds(s, "", v1alpha1.ReasonDraining)
		a.holds(service("unharmed", nil), "192.0.2.2", v1alpha1.ReasonAllocated)
		var list corev1.ServiceList
		if err := a.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if list.Items[i].Spec.Type == corev1.ServiceTypeLoadBalancer {
				if err := a.Delete(t.Context(), &list.Items[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.gone(lan)
	})
	t.Run("the key that encrypts gossip is made", func(*testing.T) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ballast-system", Name: membership.SecretName}}
		a.eventually(secret, func() string {
			if _, err := membership.ParseKeys(secret.Data[membership.SecretKey]); err != nil {
				return err.Error()
			}
			return ""
		})
	})
}

func TestBadConfiguration(t *testing.T) {
	a := startAPI(t)
	good := pool("good", "192.0.2.0/24")
	a.create(good)
	a.eventually(good, func() string {
		if !meta.IsStatusConditionTrue(good.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Sprintf("is not ready: %+v", good.Status.Conditions)
		}
		return ""
	})

	reversed := pool("reversed", "198.51.100.9-198.51.100.1")
	a.create(reversed)
	a.notReady(reversed, v1alpha1.ReasonInvalidAddress, "did you mean 198.51.100.1-198.51.100.9")

	overlapping := pool("overlapping", "192.0.2.128-192.0.3.10")
	a.create(overlapping)
	a.notReady(overlapping, v1alpha1.ReasonOverlap, "good at 192.0.2.128-192.0.2.255")

	asn := int64(64513)
	peer := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "router"}, Spec: v1alpha1.BGPPeerSpec{
		MyASN: 64512, PeerASN: &asn, PeerAddress: "192.0.2.254", PasswordSecret: &v1alpha1.PasswordSecret{Name: "nowhere"},
	}}
	a.create(peer)
	a.notReady(peer, v1alpha1.ReasonSecretMissing, "nowhere")

	adv := &v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "adv"}, Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []string{"typo"}}}
	a.create(adv)
	a.notReady(adv, v1alpha1.ReasonPoolMissing, "typo")

	s := service("unharmed", nil)
	a.create(s)
	a.holds(s, "192.0.2.1", v1alpha1.ReasonAllocated)
	beyond := service("beyond", func(s *corev1.Service) {
		s.Annotations = map[string]string{v1alpha1.AnnotationAddressPool: "overlapping"}
	})
	a.create(beyond)
	a.holds(beyond, "192.0.3.1", v1alpha1.ReasonAllocated)
	if err := a.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ballast-system", Name: "nowhere"},
		Type:       corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte("secret"), "username": []byte("-")},
	}); err != nil {
		t.Fatal(err)
	}
	a.eventually(peer, func() string {
		if !meta.IsStatusConditionTrue(peer.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Sprintf("the Secret came, and it is still not ready: %+v", peer.Status.Conditions)
		}
		return ""
	})
}
