package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Right is something that a daemon must be allowed to do. It is comparable.
type Right struct {
	Verb, Group string
	// Resource may have a subresource: services/status.
	Resource string
	// Namespace is the only one in which it is needed; empty: all.
	Namespace string
	// Name is the only object for which it is needed; empty: all.
	Name string
}

// String says what is allowed: patch services/status.
func (r Right) String() string {
	said := r.Verb + " " + r.Resource
	if r.Group != "" {
		said += "." + r.Group
	}
	if r.Name != "" {
		said += " " + r.Name
	}
	if r.Namespace != "" {
		said += " in " + r.Namespace
	}
	return said
}

// Rights combines verbs with resources of a group.
func Rights(group string, resources, verbs []string) []Right {
	var all []Right
	for _, resource := range resources {
		for _, verb := range verbs {
			all = append(all, Right{Verb: verb, Group: group, Resource: resource})
		}
	}
	return all
}

// In returns the same rights, for one namespace only.
func In(namespace string, rights []Right) []Right {
	var all []Right
	for _, r := range rights {
		r.Namespace = namespace
		all = append(all, r)
	}
	return all
}

// rightsPause is how often rights are asked for while some are missing, rightsRefresh otherwise.
const (
	rightsPause   = 2 * time.Second
	rightsRefresh = 10 * time.Minute
)

// Readiness finds out whether a daemon may do what it has to, and has read what it watches. It runs beside the manager, which
// starts nothing before it could read all.
type Readiness struct {
	reviews authorizationclient.SelfSubjectAccessReviewInterface
	cache   cache.Cache
	rights  []Right // what the daemon needs
	log     logr.Logger

	missing atomic.Pointer[string] // what is not allowed, in words; nil: not known yet
	synced  atomic.Bool
}

// NewReadiness returns a Readiness to be run.
func NewReadiness(cfg *rest.Config, c cache.Cache, rights []Right, log logr.Logger) (*Readiness, error) {
	reviews, err := authorizationclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of access reviews: %w", err)
	}
	return &Readiness{reviews: reviews.SelfSubjectAccessReviews(), cache: c, rights: rights, log: log}, nil
}

// Why says why the daemon is not ready; it is a check of Health.
func (r *Readiness) Why() error {
	missing := r.missing.Load()
	switch {
	case missing == nil:
		return errors.New("it is not known yet what it is allowed to do")
	case *missing != "":
		return errors.New(*missing)
	case !r.synced.Load():
		return errors.New("not synced with the API server yet")
	}
	return nil
}

// Run looks until ctx ends.
func (r *Readiness) Run(ctx context.Context) {
	var syncing sync.WaitGroup
	defer syncing.Wait()
	syncing.Go(func() { r.synced.Store(r.cache.WaitForCacheSync(ctx)) })
	for {
		pause := rightsRefresh
		if r.look(ctx) != "" {
			pause = rightsPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Manage runs a manager until ctx ends. One that still waits for its first lists when it is told to stop does not return
// (controller-runtime v0.25 then waits for them without end), so it is left behind: the process is about to end.
func (r *Readiness) Manage(ctx context.Context, mgr manager.Manager) error {
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if !r.synced.Load() {
		return ctx.Err()
	}
	return <-done
}

// look finds out what is missing. While the API server is away, what was known stays.
func (r *Readiness) look(ctx context.Context) string {
	before := r.missing.Load()
	said, err := lackOf(ctx, r.reviews, r.rights)
	switch {
	case err != nil && before != nil && !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err):
		return *before
	case err != nil:
		said = "it cannot be told what it is allowed to do: " + err.Error()
	}
	if said != "" && (before == nil || *before != said) {
		r.log.Info("not ready", "why", said)
	}
	r.missing.Store(&said)
	return said
}

// lackOf asks the API server for rights and says, in words, which are missing; "": none.
func lackOf(ctx context.Context, reviews authorizationclient.SelfSubjectAccessReviewInterface, rights []Right) (string, error) {
	var missing []string
	for _, r := range rights {
		resource, sub, _ := strings.Cut(r.Resource, "/")
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: r.Verb, Group: r.Group, Resource: resource, Subresource: sub, Namespace: r.Namespace, Name: r.Name,
		}}}
		asking, cancel := context.WithTimeout(ctx, requestTimeout)
		answer, err := reviews.Create(asking, review, metav1.CreateOptions{})
		cancel()
		if err != nil {
			return "", fmt.Errorf("ask for the right to %s: %w", r, err)
		}
		if !answer.Status.Allowed {
			missing = append(missing, r.String())
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	named := missing[:min(len(missing), 5)]
	if more := len(missing) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	return "it is not allowed to " + strings.Join(named, ", ") + " (config/rbac says what it needs; is its ClusterRoleBinding there?)", nil
}
