package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

const (
	// firstLook and lastLook bound the pause between two looks at all Services; it doubles.
	firstLook = 250 * time.Millisecond
	lastLook  = 2 * time.Second
)

// answer says of a Service which node answers for it in layer 2.
type answer struct {
	service   string // namespace/name
	addresses []netip.Addr
	node      string // empty: none
	// why is the reason and message of a Service that is not announced in full.
	why string
}

// answersOf reads who answers for Services, as their condition Announced says it, sorted by
// Service. Those without one are left out.
func answersOf(services []corev1.Service) []answer {
	var list []answer
	for i := range services {
		s := &services[i]
		c := config.Condition(s, v1alpha1.ConditionAnnounced)
		if c == nil {
			continue
		}
		a := answer{service: s.Namespace + "/" + s.Name, addresses: config.Ingress(s), node: v1alpha1.Answering(c.Message)}
		if c.Status != "True" {
			a.why = c.Reason + ": " + c.Message
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(x, y answer) int { return strings.Compare(x.service, y.service) })
	return list
}

// owners returns which node answers for each address.
func owners(list []answer) map[netip.Addr]string {
	found := map[netip.Addr]string{}
	for _, a := range list {
		for _, address := range a.addresses {
			if a.node != "" {
				found[address] = a.node
			}
		}
	}
	return found
}

// counts returns for how many addresses each node answers.
func counts(of map[netip.Addr]string) map[string]int {
	all := map[string]int{}
	for _, node := range of {
		all[node]++
	}
	return all
}

// answers reads who answers for Services now.
func (c *cluster) answers(ctx context.Context) ([]answer, error) {
	var services corev1.ServiceList
	if err := c.client.List(ctx, &services); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	return answersOf(services.Items), nil
}

// watch looks at who answers again and again, until done says that this is enough or time is
// up, and returns what it saw last and whether it was enough.
func (c *cluster) watch(ctx context.Context, timeout time.Duration, done func([]answer) bool) ([]answer, bool, error) {
	deadline := time.Now().Add(timeout)
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		seen, err := c.answers(ctx)
		if err != nil || done(seen) {
			return seen, err == nil, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return seen, false, nil
		}
		select {
		case <-ctx.Done():
			return seen, false, fmt.Errorf("wait for speakers: %w", ctx.Err())
		case <-time.After(min(pause, left)):
		}
	}
}
