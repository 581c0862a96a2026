package main

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
	"github.com/ballast-lb/ballast/internal/name"
)

// ledger is an allocator that is led as the controller's ledger leads its own, at one
// moment, and with writes that take no time and never fail. It is pure.
type ledger struct {
	situation
	allocator *ipam.Allocator
	keys      []ipam.Key // of all that Ballast decides about, sorted as they were listed
	pools     []v1alpha1.IPAddressPool
	gaveUp    map[ipam.Key][]netip.Addr // what each holder was without for a while, at least
}

func newLedger(s situation) *ledger {
	l := &ledger{situation: s, allocator: ipam.New(), gaveUp: map[ipam.Key][]netip.Addr{}}
	s.holders.Import(l.allocator, s.class, s.now)
	for i := range s.holders.Claims {
		l.keys = append(l.keys, config.ClaimHolder(&s.holders.Claims[i]).Key)
	}
	for i := range s.holders.Services {
		if service := &s.holders.Services[i]; !config.Held(service, s.class).Foreign {
			l.keys = append(l.keys, ipam.ServiceKey(config.Key(service)))
		}
	}
	return l
}

// apply makes these the pools, and lets everybody have what they then get. Pools that are
// being deleted go when nobody holds an address of them, which may help others.
func (l *ledger) apply(pools []v1alpha1.IPAddressPool) {
	for {
		l.pools = pools
		compiled := l.compile()
		l.allocator.SetPools(compiled.Pools)
		l.allocator.LimitClaims(compiled.Settings.ClaimsPerNamespace)
		l.decide()
		left := slices.DeleteFunc(slices.Clone(pools), l.goes)
		if len(left) == len(pools) {
			return
		}
		pools = left
	}
}

func (l *ledger) compile() config.Compiled {
	return config.Compile(config.Objects{Pools: l.pools, Reserved: l.reserved, Settings: l.settings})
}

// decide retries and settles until nobody gives anything up any more. Each round serves
// somebody, so there are not more rounds than holders, but for a quarrel without end.
func (l *ledger) decide() {
	for range len(l.keys) + 1 {
		l.allocator.Retry(l.now)
		settled := true
		for _, key := range l.keys {
			if leaving := l.allocator.Leaving(key); len(leaving) > 0 {
				settled = false
				l.gaveUp[key] = append(l.gaveUp[key], leaving...)
				l.allocator.Settle(key, l.allocator.Held(key), l.now)
			}
		}
		if settled {
			return
		}
	}
}

// goes says whether nothing keeps a pool that is being deleted: the controller's finalizer
// does while an address of it is held.
func (l *ledger) goes(p v1alpha1.IPAddressPool) bool {
	pool := name.PoolName(p.Name)
	others := slices.ContainsFunc(p.Finalizers, func(f string) bool { return f != v1alpha1.FinalizerHeld })
	return !p.DeletionTimestamp.IsZero() && !others && l.allocator.Taken(pool) == 0
}

// snapshot is what everybody has at one time.
type snapshot struct {
	holders map[ipam.Key]standing
	pools   map[string]poolStanding
}

func (l *ledger) snapshot() snapshot {
	s := snapshot{map[ipam.Key]standing{}, map[string]poolStanding{}}
	retained := map[string][]netipx.IPRange{}
	for i := range l.pools {
		p := &l.pools[i]
		retained[p.Name] = l.allocator.Retained(name.PoolName(p.Name))
		s.pools[p.Name] = poolStanding{
			IPv4: l.counts(p, ipam.IPv4), IPv6: l.counts(p, ipam.IPv6), Retained: config.FormatRanges(retained[p.Name]),
		}
	}
	for name, problems := range l.problems(s.pools) {
		p := s.pools[name]
		p.Problems = problems
		s.pools[name] = p
	}
	for _, key := range l.keys {
		s.holders[key] = l.standing(key, retained)
	}
	return s
}

func (l *ledger) counts(p *v1alpha1.IPAddressPool, f ipam.Family) v1alpha1.AddressCounts {
	u := l.allocator.Usage(name.PoolName(p.Name), f)
	return v1alpha1.AddressCounts{Total: u.Total.String(), Assigned: u.Assigned.String(), Available: u.Available.String()}
}

// problems are what the controller would write into the condition Ready of each pool: what
// is retained stands in their status by then.
func (l *ledger) problems(pools map[string]poolStanding) map[string][]problem {
	written := slices.Clone(l.pools)
	for i := range written {
		written[i].Status.Retained = pools[written[i].Name].Retained
	}
	list := map[string][]problem{}
	for _, p := range config.Compile(config.Objects{Pools: written, Reserved: l.reserved}).Problems {
		list[p.Name] = append(list[p.Name], problem{p.Reason, p.Message})
	}
	for i := range l.pools {
		p := &l.pools[i]
		held := config.HeldBy(l.allocator.Holders(name.PoolName(p.Name), config.Named))
		if !p.DeletionTimestamp.IsZero() && held != "" {
			list[p.Name] = append(list[p.Name], problem{v1alpha1.ReasonDraining, held})
		}
	}
	return list
}

// standing is what a holder has, given what each pool retains.
func (l *ledger) standing(key ipam.Key, retained map[string][]netipx.IPRange) standing {
	d := l.allocator.Decided(key)
	s := standing{Addresses: slices.Clone(l.allocator.Held(key)), Reason: d.Reason, Message: d.Message}
	for _, addr := range s.Addresses {
		p := find(l.pools, string(l.allocator.Pool(addr)))
		if p == nil {
			continue
		}
		s.Pool = p.Name
		switch {
		case s.Message != "":
		case !p.DeletionTimestamp.IsZero():
			s.Message = "IPAddressPool " + p.Name + " is being deleted, and waits until nobody holds an address of it."
		case slices.ContainsFunc(retained[p.Name], func(r netipx.IPRange) bool { return r.Contains(addr) }):
			s.Message = "IPAddressPool " + p.Name + " no longer hands " + addr.String() + " out; it stays with its holder."
		}
	}
	return s
}

// unsettled counts holders whose status does not hold what they have in the snapshot.
func (s snapshot) unsettled(h config.Holders) (n int) {
	differs := func(key ipam.Key, status []netip.Addr) bool {
		has, ours := s.holders[key]
		return ours && len(without(has.Addresses, status))+len(without(status, has.Addresses)) > 0
	}
	for i := range h.Claims {
		if c := &h.Claims[i]; differs(config.ClaimHolder(c).Key, config.Claimed(c)) {
			n++
		}
	}
	for i := range h.Services {
		if service := &h.Services[i]; differs(ipam.ServiceKey(config.Key(service)), config.Ingress(service)) {
			n++
		}
	}
	return n
}
