package main

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/membership"
)

func TestController(t *testing.T) {
	t.Parallel()
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
		first := string(secret.Data[membership.SecretKey])
		if err := a.Delete(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		a.eventually(secret, func() string { // it is looked for every ten seconds
			if second := string(secret.Data[membership.SecretKey]); second == "" || second == first {
				return "there is no other key"
			}
			return ""
		})
	})
}

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
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
