package announce

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// Delivery is whether the own node is known to deliver what comes for a Service that it is to announce.
type Delivery uint8

// What is known of delivery.
const (
	// Delivers: it does, or that is no question (any more).
	Delivers Delivery = iota
	// Awaited: it is to be found out, and the node announces nothing of the Service before.
	Awaited
	// Doubted: it did not within the time that there is for that; announced, with a warning.
	Doubted
	// unasked: it will have to be found out should the node be the first to announce the Service.
	unasked
)

// DeliveryChecked is the fact that Delivered is told of each Service whose Decision says Awaited. Without it,
// nothing waits.
type DeliveryChecked struct{}

// Delivered is the fact that the own node delivers what comes for a Service or, with Doubted, that it did not so far.
type Delivered struct {
	Service name.ServiceKey
	Doubted bool
}

func (DeliveryChecked) tell(s *State, _ time.Time, _ *touched) { s.checks = true }

func (f Delivered) tell(s *State, _ time.Time, t *touched) {
	if before := s.delivery[f.Service]; before != Awaited && before != Doubted {
		return // nobody asks any more
	}
	delete(s.delivery, f.Service)
	if f.Doubted {
		s.delivery[f.Service] = Doubted
	}
	if u := s.unitOf[f.Service]; u != nil {
		t.units[u] = true
	}
}

// expect notes that a Service has addresses that it had not before. Those of the first step that some node has
// announced already are known from before: neither a restart nor a failover waits.
func (s *State) expect(before, now Service) {
	gained := slices.ContainsFunc(now.Addresses, func(a netip.Addr) bool { return !slices.Contains(before.Addresses, a) })
	if s.view.Self != "" && gained && (!now.Announced || !s.stepped.IsZero()) {
		s.delivery[now.Key] = unasked
	}
}

// withhold takes out of a decision what the own node does not announce yet. A node that waits does so to the end, even if
// another has announced the Service meanwhile; for one that has not begun to wait, that ends the matter.
func (s *State) withhold(service *Service, d *Decision) {
	known, asked := s.delivery[service.Key]
	if !asked || !s.checks {
		return
	}
	owner := d.Owner == s.view.Self && len(d.Layer2) > 0
	switch {
	case !owner && len(d.Routes) == 0:
		delete(s.delivery, service.Key)
		if !service.Announced {
			s.delivery[service.Key] = unasked
		}
		return
	case known == Doubted:
		if d.Delivery = Doubted; d.Verdict.Reason == v1alpha1.ReasonAnnounced {
			d.Verdict.Reason = v1alpha1.ReasonNotDelivered
			d.Verdict.Message += " Connections to it did not get through this node's own service proxy within 3s."
		}
		return
	}
	s.delivery[service.Key], d.Delivery, d.Routes = Awaited, Awaited, nil
	if owner {
		d.Layer2 = nil
	}
}
