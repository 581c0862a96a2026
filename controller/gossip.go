package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/membership"
)

// gossip makes the Secret that encrypts what speakers tell each other, unless it is
// there. It never replaces one: the speakers that hold the old key would be cut off.
type gossip struct {
	client    client.Client
	reader    client.Reader // live, not the cache
	namespace string
	log       logr.Logger
}

// gossipInterval is how often it is looked whether the Secret is there.
const gossipInterval = 10 * time.Second

// Start makes the Secret, and another one whenever it is gone, until ctx ends; it is a manager.Runnable that needs
// leadership.
func (g *gossip) Start(ctx context.Context) error {
	for {
		if err := kube.Until(ctx, g.log, func() error { return g.ensure(ctx) }); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gossipInterval):
		}
	}
}

func (g *gossip) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	var existing corev1.Secret
	err := g.reader.Get(ctx, client.ObjectKey{Namespace: g.namespace, Name: membership.SecretName}, &existing)
	if err == nil || !apierrors.IsNotFound(err) {
		return err
	}
	key, err := membership.NewKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make gossip key: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: g.namespace, Name: membership.SecretName},
		Data:       map[string][]byte{membership.SecretKey: membership.Keys{key}.Format()},
	}
	if err := g.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s/%s: %w", g.namespace, membership.SecretName, err)
	}
	g.log.Info("made the key that encrypts gossip", "secret", membership.SecretName, "namespace", g.namespace)
	return nil
}
