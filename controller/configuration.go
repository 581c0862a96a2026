package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/kube"
	"github.com/ballast-lb/ballast/internal/name"
)

// configuration puts compiled configuration into effect and writes the Ready condition of
// each object that it was made from.
type configuration struct {
	client client.Client
	ledger *ledger
	events events
	// pools is told that pools may count anew; it must not block.
	pools func()

	mu       sync.Mutex // guards problems
	problems map[identity][]config.Problem
}

// object is any of Ballast's kinds.
type object interface {
	client.Object
	Conditions() *[]metav1.Condition
}

// identity names an object among all kinds.
type identity struct {
	kind config.Kind
	name string
}

// apply takes what was compiled; it is Gatherer.Compiled.
func (c *configuration) apply(ctx context.Context, o config.Objects, compiled config.Compiled) error {
	set := poolSet{compiled.Pools, map[name.PoolName][]string{}, compiled.Settings.ClaimsPerNamespace}
	for _, p := range o.Pools {
		set.observed[name.PoolName(p.Name)] = p.Spec.Addresses
	}
	if err := c.ledger.setPools(ctx, set); err != nil {
		return err
	}
	c.pools()
	problems := map[identity][]config.Problem{}
	for _, p := range compiled.Problems {
		id := identity{p.Kind, p.Name}
		problems[id] = append(problems[id], p)
	}
	c.mu.Lock()
	c.problems = problems
	c.mu.Unlock()
	var errs []error
	for kind, objects := range all(o) {
		for _, one := range objects {
			if p, isPool := one.(*v1alpha1.IPAddressPool); isPool && !p.DeletionTimestamp.IsZero() {
				continue // written with its holders, when pools count
			}
			errs = append(errs, c.ready(ctx, one, problems[identity{kind, one.GetName()}]))
		}
	}
	return errors.Join(errs...)
}

// all lists the objects by kind.
func all(o config.Objects) map[config.Kind][]object {
	m := map[config.Kind][]object{}
	for i := range o.Pools {
		m[config.KindPool] = append(m[config.KindPool], &o.Pools[i])
	}
	for i := range o.L2 {
		m[config.KindL2] = append(m[config.KindL2], &o.L2[i])
	}
	for i := range o.BGP {
		m[config.KindBGP] = append(m[config.KindBGP], &o.BGP[i])
	}
	for i := range o.Peers {
		m[config.KindPeer] = append(m[config.KindPeer], &o.Peers[i])
	}
	for i := range o.BFDProfiles {
		m[config.KindBFDProfile] = append(m[config.KindBFDProfile], &o.BFDProfiles[i])
	}
	for i := range o.Communities {
		m[config.KindCommunity] = append(m[config.KindCommunity], &o.Communities[i])
	}
	if o.Settings != nil {
		m[config.KindSettings] = []object{o.Settings}
	}
	return m
}

// ready writes the Ready condition of an object, if it is not what it should be.
func (c *configuration) ready(ctx context.Context, o object, problems []config.Problem) error {
	before := meta.FindStatusCondition(*o.Conditions(), v1alpha1.ConditionReady)
	reason, message := v1alpha1.ReasonReady, "It is valid and in use."
	inUse := !slices.ContainsFunc(problems, func(p config.Problem) bool { return !p.Warning })
	if len(problems) > 0 {
		worst := slices.IndexFunc(problems, func(p config.Problem) bool { return p.Warning == inUse })
		reason, message = problems[worst].Reason, sentences(problems)
	}
	want := kube.NewCondition(before, v1alpha1.ConditionReady, inUse, reason, message)
	want.ObservedGeneration = o.GetGeneration()
	if kube.Same(before, want) && before.ObservedGeneration == want.ObservedGeneration {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
	defer cancel()
	after, ok := o.DeepCopyObject().(object)
	if !ok {
		return fmt.Errorf("copy %T: unexpected type", o)
	}
	meta.SetStatusCondition(after.Conditions(), want)
	if err := c.client.Status().Patch(ctx, after, client.MergeFrom(o)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("write Ready of %T %s: %w", o, o.GetName(), err)
	}
	if len(problems) > 0 && (before == nil || before.Status != want.Status || before.Reason != want.Reason) {
		c.events.problem(o, want)
	}
	return nil
}

// poolReady writes the Ready condition of a pool that is being deleted: it says who still
// holds its addresses.
func (c *configuration) poolReady(ctx context.Context, p *v1alpha1.IPAddressPool) error {
	oldest, all, err := c.ledger.holders(ctx, name.PoolName(p.Name), config.Named)
	if err != nil {
		return err
	}
	holders := config.HeldBy(oldest, all)
	c.mu.Lock()
	problems := slices.Clone(c.problems[identity{config.KindPool, p.Name}])
	c.mu.Unlock()
	if len(problems) == 0 || holders == "" {
		return nil // not compiled yet, or about to go
	}
	problems = append(problems, config.Problem{Message: holders})
	return c.ready(ctx, p, problems)
}

func sentences(problems []config.Problem) string {
	var said []string
	for _, p := range problems {
		said = append(said, p.Message)
	}
	return strings.Join(said, " ")
}
