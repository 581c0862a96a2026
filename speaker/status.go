package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bfd"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/internal/version"
)

const (
	// refreshInterval is how often the status is written though nothing changed.
	refreshInterval = 30 * time.Second
	// settleTime gathers changes that come together into one write.
	settleTime = 100 * time.Millisecond
	// firstRetry and lastRetry bound the pause after a write that failed; it doubles.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// status writes the Speaker object of this node.
type status struct {
	client client.Client
	self   identity
	peers  func() []bgp.PeerState
	bfd    func() []bfd.Status
	// problem says what is wrong with the router of an unnumbered peer; "": nothing.
	problem    func(name.PeerName) string
	interfaces func() link.Snapshot
	// deaf are the names of interfaces whose link is up, but through which nothing gets.
	deaf func() []string
	// notJoined says why the speaker does not know who else lives; "": it does.
	notJoined func() string
	// proxy says how the node's service proxy is.
	proxy func() (announce.ProxyState, v1alpha1.Reason, string)
	log   logr.Logger
	poke  chan struct{}
}

// changed says that the status is to be written soon. It never blocks.
func (s *status) changed() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Start writes until ctx ends; it is a manager.Runnable.
func (s *status) Start(ctx context.Context) error {
	retry := firstRetry
	for next := time.Duration(0); ; {
		if !s.wait(ctx, next) {
			return nil
		}
		if err := s.write(ctx); err != nil {
			s.log.Error(err, "cannot write the status of this speaker; trying again", "in", retry)
			next, retry = retry, min(2*retry, lastRetry)
			continue
		}
		next, retry = refreshInterval, firstRetry
	}
}

// wait returns true when it is time to write, at the latest after a while, and false when ctx has ended.
func (s *status) wait(ctx context.Context, atMost time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(atMost):
		return true
	case <-s.poke:
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(settleTime):
		return true
	}
}

func (s *status) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	var existing v1alpha1.Speaker
	err := s.client.Get(ctx, client.ObjectKey{Name: string(s.self.node)}, &existing)
	if apierrors.IsNotFound(err) {
		var node corev1.Node
		if err := s.client.Get(ctx, client.ObjectKey{Name: string(s.self.node)}, &node); err != nil {
			return fmt.Errorf("get Node that owns the Speaker: %w", err)
		}
		existing = v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{
			Name: string(s.self.node),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID,
			}},
		}}
		if err = s.client.Create(ctx, &existing); apierrors.IsAlreadyExists(err) {
			err = nil // the cache lags behind; the patch below finds it
		}
	}
	if err != nil {
		return fmt.Errorf("get or create Speaker: %w", err)
	}
	after := existing.DeepCopy()
	s.fill(&after.Status)
	if reflect.DeepEqual(existing.Status, after.Status) {
		return nil
	}
	if err := s.client.Status().Patch(ctx, after, client.MergeFrom(&existing)); err != nil {
		return fmt.Errorf("write status of Speaker: %w", err)
	}
	return nil
}

// fill writes what is known now.
func (s *status) fill(to *v1alpha1.SpeakerStatus) {
	to.Version = version.Version
	to.Peers = speakerPeers(s.peers(), s.bfd())
	for i := range to.Peers {
		if why := s.problem(name.PeerName(to.Peers[i].Name)); why != "" {
			to.Peers[i].LastError = why
		}
	}
	to.Layer2 = &v1alpha1.SpeakerLayer2{}
	for _, i := range s.interfaces() {
		one := v1alpha1.SpeakerInterface{Name: i.Name, MAC: i.MAC.String(), Up: i.Up}
		for _, p := range prefixes(i) {
			one.Addresses = append(one.Addresses, p.String())
		}
		to.Layer2.Interfaces = append(to.Layer2.Interfaces, one)
	}
	// The time in the message makes a refresh of a status that did not change.
	meta.SetStatusCondition(&to.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionAlive, Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonRefreshed),
		Message: "Refreshed at " + time.Now().UTC().Format(time.RFC3339) + ".",
	})
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: string(v1alpha1.ReasonReady), Message: "The speaker is in touch with the others.",
	}
	if deaf := s.deaf(); len(deaf) > 0 {
		ready.Message += fmt.Sprintf(" Nobody answers it any more on %s, though the link is up (%s): other nodes announce there in its place.",
			strings.Join(deaf, ", "), v1alpha1.ReasonInterfaceDeaf)
	}
	if why := s.notJoined(); why != "" {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, string(v1alpha1.ReasonNotJoined), why
	}
	meta.SetStatusCondition(&to.Conditions, ready)
	state, reason, message := s.proxy()
	proxied := metav1.Condition{Type: v1alpha1.ConditionServiceProxyReady, Status: metav1.ConditionTrue, Reason: string(reason), Message: message}
	if state == announce.ProxyNotReady {
		proxied.Status = metav1.ConditionFalse
	}
	meta.SetStatusCondition(&to.Conditions, proxied)
}
