package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// patience is for how long a Service keeps an address that it shares, after it has changed its
// key, policy, selector or consent so that the others may not share it with it: they may be
// about to be edited too.
const patience = 10 * time.Second

// clash says whether two use the same port.
func (h *Holder) clash(o *Holder) bool {
	return slices.ContainsFunc(h.Sharing.Ports, func(p Port) bool { return slices.Contains(o.Sharing.Ports, p) })
}

// loses says whether a member may not have one of its addresses any more beside those who have
// it too; old is the member with the terms under which it got the address. Of two who do not
// agree any more, the one leaves that has changed its terms: at once if it uses a port of the
// other now, and otherwise when it has not come to an agreement in time.
func (a *Allocator) loses(m *member, old *Holder, addr netip.Addr) bool {
	holds := slices.Contains(m.addresses, addr)
	open := false // there is one with whom it does not agree
	for _, o := range a.held[addr].holders {
		if o == m || !m.conflict(&o.Holder, addr).says() {
			continue
		}
		before := holds && old.conflict(&o.Holder, addr).says()
		negotiable := holds && m.Kind == KindService && o.Kind == KindService && !o.Foreign
		switch {
		case !before && !negotiable:
			return true
		case negotiable && m.clash(&o.Holder) && (!before || !old.clash(&o.Holder)):
			return true
		case !before:
			a.dispute(m, addr)
		}
		open = true
	}
	until, disputed := m.disputes[addr]
	switch {
	case !disputed:
		return false
	case !open:
		a.settled(m, addr)
		return false
	}
	return !a.now.Before(until)
}

// dispute begins, unless it has begun, the time within which a member must come to an agreement.
func (a *Allocator) dispute(m *member, addr netip.Addr) {
	if _, disputed := m.disputes[addr]; disputed {
		return
	}
	if m.disputes == nil {
		m.disputes = map[netip.Addr]time.Time{}
	}
	m.disputes[addr] = a.now.Add(patience)
	a.disputing[m.Key] = m
}

// settled ends it.
func (a *Allocator) settled(m *member, addr netip.Addr) {
	delete(m.disputes, addr)
	if len(m.disputes) == 0 {
		delete(a.disputing, m.Key)
	}
}

// disputed says why a member is about to lose an address that it has; the zero value: it is not.
func (a *Allocator) disputed(m *member, addresses []netip.Addr) refusal {
	for _, addr := range addresses {
		if _, disputed := m.disputes[addr]; !disputed {
			continue
		}
		for _, o := range a.held[addr].holders {
			if no := m.conflict(&o.Holder, addr); no.says() {
				return refusal{v1alpha1.ReasonSharingConflict, fmt.Sprintf("%s It leaves %s %s after its edit, unless both agree again by then.", no.message, addr, patience)}
			}
		}
	}
	return refusal{}
}

// overdue adds those whose time to come to an agreement is over.
func (a *Allocator) overdue(due map[Key]*member) {
	for k, m := range a.disputing {
		for _, until := range m.disputes {
			if !a.now.Before(until) {
				due[k] = m
			}
		}
	}
}
