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

// arrival is a Service with addresses that the own node has not announced before.
type arrival struct {
	// known is what is known of its delivery.
	known Delivery
	// fresh are those addresses.
	fresh []netip.Addr
}

func (DeliveryChecked) tell(s *State, _ time.Time, _ *touched) { s.checks = true }

func (f Delivered) tell(s *State, _ time.Time, t *touched) {
	a := s.arrivals[f.Service]
	if a == nil || a.known != Awaited && a.known != Doubted {
		return // nobody asks any more
	}
	if a.known = Doubted; !f.Doubted {
		delete(s.arrivals, f.Service)
	}
	if u := s.unitOf[f.Service]; u != nil {
		t.units[u] = true
	}
}

// expect notes that a Service has addresses that it had not before. Those of the first step that some node has
// announced already are known from before: neither a restart nor a failover waits.
func (s *State) expect(before, now Service) {
	if s.view.Self == "" {
		return
	}
	old := func(a netip.Addr) bool { return slices.Contains(before.Addresses, a) }
	gained := slices.DeleteFunc(slices.Clone(now.Addresses), old)
	if a := s.arrivals[now.Key]; a != nil {
		a.fresh = slices.DeleteFunc(a.fresh, func(f netip.Addr) bool { return !slices.Contains(now.Addresses, f) })
		if gained = append(gained, a.fresh...); len(gained) == 0 {
			delete(s.arrivals, now.Key)
		} else if len(gained) == len(a.fresh) {
			return
		}
	}
	if len(gained) > 0 && (!now.Announced || !s.stepped.IsZero()) {
		s.arrivals[now.Key] = &arrival{known: unasked, fresh: gained}
	}
}

// withhold takes out of a decision what the own node does not announce yet. A node that waits does so to the end, even if
// another has announced the Service meanwhile; for one that has not begun to wait, that ends the matter.
func (s *State) withhold(service *Service, d *Decision) {
	a := s.arrivals[service.Key]
	if a == nil || !s.checks {
		return
	}
	owner := d.Owner == s.view.Self && len(d.Layer2) > 0
	switch {
	case !owner && len(d.Routes) == 0:
		if a.known = unasked; service.Announced {
			delete(s.arrivals, service.Key)
		}
		return
	case a.known == Doubted:
		if d.Delivery = Doubted; d.Verdict.Reason == v1alpha1.ReasonAnnounced {
			d.Verdict.Reason = v1alpha1.ReasonNotDelivered
			d.Verdict.Message += " Connections to it did not get through this node's own service proxy within 3s."
		}
		return
	}
	a.known, d.Delivery = Awaited, Awaited
	d.Routes = slices.DeleteFunc(d.Routes, func(r Route) bool { return a.brings(service, r.Prefix) })
	if owner {
		d.Layer2 = slices.DeleteFunc(d.Layer2, func(l Layer2) bool { return slices.Contains(a.fresh, l.Address) })
	}
}

// brings says whether a Service has a prefix for the sake of fresh addresses only.
func (a *arrival) brings(service *Service, p netip.Prefix) bool {
	return !slices.ContainsFunc(service.Addresses, func(x netip.Addr) bool { return p.Contains(x) && !slices.Contains(a.fresh, x) })
}
