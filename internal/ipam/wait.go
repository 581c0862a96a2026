package ipam

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// news is what has happened since the last Retry that could help somebody who waits.
type news struct {
	pools      bool
	freed      []freed
	claims     []Key    // came, went or changed
	namespaces []string // have other labels
}

// freed is an address, or a place beside others at one, and the pool that it was taken from.
type freed struct {
	addr   netip.Addr
	origin name.PoolName
}

func (n news) none() bool { return !n.pools && len(n.freed)+len(n.claims)+len(n.namespaces) == 0 }

// Retry decides anew, the oldest first, for those whom what has happened since the last
// Retry could help, and takes back what pools with Reassign no longer hand out. It
// returns those for whom something changed.
func (a *Allocator) Retry(now time.Time) []Key {
	a.thaw(now)
	var changed []Key
	listed := map[Key]bool{}
	for !a.news.none() {
		due := a.due(a.news)
		a.news = news{}
		for _, m := range due {
			before := m.decision
			if d := a.decide(m, &m.Holder); !d.Equal(before) && !listed[m.Key] {
				listed[m.Key] = true
				changed = append(changed, m.Key)
			}
		}
	}
	return changed
}

// wait says whether a member waits from now on.
func (a *Allocator) wait(m *member, waits bool) {
	switch {
	case waits:
		a.waiting[m.Key] = m
	case m.waits:
		delete(a.waiting, m.Key)
	}
	m.waits = waits
}

// due returns whom news concerns, the oldest first.
func (a *Allocator) due(n news) []*member {
	due := map[Key]*member{}
	for k, m := range a.waiting {
		if n.pools || slices.Contains(n.namespaces, m.Namespace) || slices.ContainsFunc(n.freed, func(f freed) bool { return a.helps(f, m) }) {
			due[k] = m
		}
	}
	for _, claim := range n.claims {
		maps.Copy(due, a.naming[claim])
	}
	if n.pools {
		a.displaced(due)
	}
	maps.DeleteFunc(due, func(_ Key, m *member) bool { return !m.asked })
	return inAge(maps.Values(due))
}

// displaced adds those whose pool takes their address back.
func (a *Allocator) displaced(due map[Key]*member) {
	for _, p := range a.pools {
		if !p.Reassign {
			continue
		}
		for addr, h := range a.held {
			if h.pool != p || !a.reclaimed(addr) {
				continue
			}
			for _, m := range h.holders {
				due[m.Key] = m
			}
		}
	}
}

// helps says whether a freed address, or what a namespace no longer uses of its pool,
// could help one who waits.
func (a *Allocator) helps(f freed, m *member) bool {
	if m.Claim != "" || slices.Contains(m.Addresses, f.addr) || slices.Contains(m.addresses, f.addr) {
		return true
	}
	if p := a.poolOf(f.addr); p != nil && a.wants(m, p) {
		return true
	}
	p := a.byName[f.origin]
	return p != nil && a.wants(m, p)
}

// wants says whether one who waits could get what it lacks from a pool.
func (a *Allocator) wants(m *member, p *pool) bool {
	for _, service := range a.naming[m.Key] { // m is a claim, and may take over what that holds
		if slices.ContainsFunc(service.addresses, func(addr netip.Addr) bool { return a.Pool(addr) == p.Name }) {
			return true
		}
	}
	switch {
	case len(m.addresses) > 0 && a.Pool(m.addresses[0]) == p.Name:
		return true
	case m.decision.Reason == "":
		return false // only the pool of its address can add to it
	case len(m.Addresses) > 0:
		return a.poolOf(m.Addresses[0]) == p
	case m.Pool != "":
		return m.Pool == p.Name
	}
	return p.AutoAssign
}

// inAge sorts members, the oldest first.
func inAge(members iter.Seq[*member]) []*member {
	return slices.SortedFunc(members, func(x, y *member) int { return x.compare(&y.Holder) })
}
