package announce

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// Delivering is what a node's speaker tells the others of Services whose addresses it has not announced before: that
// the node delivers what comes for them.
type Delivering struct {
	Node name.NodeName `json:"n"`
	// Services are their prints.
	Services []uint64 `json:"s"`
}

const (
	// togetherLimit is for how long a node that delivers waits for others, from the first that does.
	togetherLimit = time.Second
	// earlyMax is of how many Services is remembered what was said of them before the own node has seen them, or after
	// it has announced them.
	earlyMax = 1 << 16
)

// printOf is a number that tells a Service with its addresses from all others, the same on every node.
func printOf(s *Service) uint64 {
	h := fnv.New64a()
	for _, part := range []string{s.Key.Namespace, s.Key.Name, s.UID} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) // a Hash never returns an error
		_, _ = h.Write([]byte(part))
	}
	for _, a := range slices.SortedFunc(slices.Values(s.Addresses), netip.Addr.Compare) {
		b := a.As16()
		_, _ = h.Write(b[:])
	}
	return h.Sum64()
}

// said is who has said, of a Service, that it delivers. The zero value: nobody.
type said struct {
	first time.Time // when the own node learned that of the first
	by    map[name.NodeName]bool
}

// note notes that a node has said so.
func (s *said) note(n name.NodeName, now time.Time) {
	if s.first.IsZero() {
		s.first, s.by = now, map[name.NodeName]bool{}
	}
	if now.Sub(s.first) < togetherLimit {
		s.by[n] = true
	} else {
		s.by = nil // does not matter any more
	}
}

// until is for how long a node that delivers waits for these others before it announces; zero: not at all.
func (s *said) until(others []name.NodeName, now time.Time) time.Time {
	end := s.first.Add(togetherLimit)
	if !now.Before(end) || !slices.ContainsFunc(others, func(n name.NodeName) bool { return !s.by[n] }) {
		return time.Time{}
	}
	return end
}

// early is what was said of Services that are no arrivals: for at least strayTime, and at most twice as long.
type early struct {
	recent, before map[uint64]*said
	turned         time.Time
}

// note notes that a node delivers a Service.
func (e *early) note(service uint64, n name.NodeName, now time.Time) {
	if now.Sub(e.turned) > strayTime {
		if e.before = e.recent; now.Sub(e.turned) > 2*strayTime {
			e.before = nil
		}
		e.recent, e.turned = map[uint64]*said{}, now
	}
	known := cmp.Or(e.recent[service], e.before[service])
	if known == nil {
		if len(e.recent) >= earlyMax {
			return
		}
		known = &said{}
		e.recent[service] = known
	}
	known.note(n, now)
}

// take returns what was said of a Service, and forgets it.
func (e *early) take(service uint64) said {
	known := cmp.Or(e.recent[service], e.before[service])
	delete(e.recent, service)
	delete(e.before, service)
	if known == nil {
		return said{}
	}
	return *known
}

// listen notes what another node says of Services that it delivers.
func (s *State) listen(d Delivering, now time.Time, t *touched) {
	if d.Node == s.view.Self {
		return
	}
	for _, service := range d.Services {
		a := s.awaited[service]
		if a == nil {
			s.early.note(service, d.Node, now)
			continue
		}
		a.said.note(d.Node, now)
		if u := s.unitOf[a.service]; u != nil && a.known == agreeing {
			t.units[u] = true
		}
	}
}

// agree says until when the own node, which delivers a Service, holds its new routes back so that the others announce
// them at the same time; zero: no longer. Each node that comes later makes routers spread their flows anew, which breaks
// connections that have just begun.
func (s *State) agree(service *Service, a *arrival, now time.Time) time.Time {
	if !a.told {
		a.told = true
		a.said.note(s.view.Self, now)
		s.outbox.deliver(s.view.Self, a.print)
	}
	return a.said.until(s.view.announcers(service, a.fresh, now), now)
}

// deliver adds that a node delivers a Service.
func (n *News) deliver(node name.NodeName, service uint64) {
	if len(n.Delivering) == 0 {
		n.Delivering = []Delivering{{Node: node}}
	}
	n.Delivering[0].Services = append(n.Delivering[0].Services, service)
}

// announcers returns the other nodes with a live speaker that are to announce any of some addresses by BGP.
func (v *View) announcers(s *Service, addresses []netip.Addr, now time.Time) []name.NodeName {
	plan, _ := v.planBGP(s, s.endpointNodes(), now)
	var found []name.NodeName
	for _, o := range plan {
		for _, n := range o.nodes {
			if n.Name == v.Self || n.Health != Alive || !slices.Contains(addresses, o.address) {
				continue
			}
			v.to(o, n, func(*NodePeer, []*BGPAdvertisement) { found = append(found, n.Name) })
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
