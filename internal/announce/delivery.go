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
	// agreeing: it does, and routes may have to wait for those of other nodes.
	agreeing
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
	fresh   []netip.Addr
	service name.ServiceKey
	print   uint64
	// said is which nodes deliver it, told that the own node has said so.
	said said
	told bool
}

func (DeliveryChecked) tell(s *State, _ time.Time, _ *touched) { s.checks = true }

func (f Delivered) tell(s *State, _ time.Time, t *touched) {
	a := s.arrivals[f.Service]
	if a == nil || a.known != Awaited && a.known != Doubted {
		return // nobody asks any more
	}
	switch {
	case f.Doubted:
		a.known = Doubted
	case a.known == Doubted:
		s.arrived(a)
	default:
		a.known = agreeing
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
	fresh := slices.DeleteFunc(slices.Clone(now.Addresses), func(a netip.Addr) bool { return slices.Contains(before.Addresses, a) })
	gained := len(fresh) > 0
	old := s.arrivals[now.Key]
	if old != nil {
		fresh = append(fresh, slices.DeleteFunc(old.fresh, func(a netip.Addr) bool { return !slices.Contains(now.Addresses, a) })...)
		if !gained && len(fresh) == len(old.fresh) && printOf(&now) == old.print {
			return
		}
		s.arrived(old)
	}
	if len(fresh) == 0 || now.Announced && s.stepped.IsZero() {
		return
	}
	a := &arrival{known: unasked, fresh: fresh, service: now.Key, print: printOf(&now)}
	if old != nil && !gained {
		a.known = old.known
	}
	a.said = s.early.take(a.print)
	s.arrivals[now.Key], s.awaited[a.print] = a, a
}

// arrived ends the matter of a Service that has arrived.
func (s *State) arrived(a *arrival) {
	delete(s.arrivals, a.service)
	delete(s.awaited, a.print)
}

// withhold takes out of a decision what the own node does not announce yet, and returns when to look again though nothing
// changed; zero: never. A node that waits does so to the end, even if another has announced the Service meanwhile; for one
// that has not begun to wait, that ends the matter.
func (s *State) withhold(service *Service, d *Decision, now time.Time) time.Time {
	a := s.arrivals[service.Key]
	if a == nil || !s.checks {
		return time.Time{}
	}
	owner := d.Owner == s.view.Self && len(d.Layer2) > 0
	brought := func(r Route) bool { return a.brings(service, r.Prefix) }
	switch {
	case !owner && len(d.Routes) == 0:
		if a.known = unasked; service.Announced {
			s.arrived(a)
		}
		return time.Time{}
	case a.known == Doubted:
		if d.Delivery = Doubted; d.Verdict.Reason == v1alpha1.ReasonAnnounced {
			d.Verdict.Reason = v1alpha1.ReasonNotDelivered
			d.Verdict.Message += " Connections to it did not get through this node's own service proxy within 3s."
		}
		return time.Time{}
	case a.known == agreeing:
		var until time.Time
		if slices.ContainsFunc(d.Routes, brought) {
			until = s.agree(service, a, now)
		}
		if until.IsZero() {
			s.arrived(a)
		} else {
			d.Routes = slices.DeleteFunc(d.Routes, brought)
		}
		return until
	}
	a.known, d.Delivery = Awaited, Awaited
	d.Routes = slices.DeleteFunc(d.Routes, brought)
	if owner {
		d.Layer2 = slices.DeleteFunc(d.Layer2, func(l Layer2) bool { return slices.Contains(a.fresh, l.Address) })
	}
	return time.Time{}
}

// brings says whether a Service has a prefix for the sake of fresh addresses only.
func (a *arrival) brings(service *Service, p netip.Prefix) bool {
	return !slices.ContainsFunc(service.Addresses, func(x netip.Addr) bool { return p.Contains(x) && !slices.Contains(a.fresh, x) })
}
