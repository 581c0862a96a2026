package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
	"github.com/ballast-lb/ballast/internal/ipam"
)

// situation is what a forecast follows from.
type situation struct {
	holders  config.Holders
	reserved []netip.Prefix
	settings *v1alpha1.Settings // nil: there are none
	class    string             // the controller's --load-balancer-class
	now      time.Time
	// live are the pools that there are, planned those that the user wants.
	live, planned []v1alpha1.IPAddressPool
	// named are pools to tell of though nothing becomes of them.
	named []string
}

// change is what becomes of a holder's addresses.
type change string

// The changes of a holder.
const (
	loses   change = "loses"   // an address, without another in its place; or it is no longer announced
	changes change = "changes" // an address for another; or it is without its own for a while
	gets    change = "gets"    // an address, or a second one; or its own is announced again
	waits   change = "waits"   // has none, before and after
	keeps   change = "keeps"   // what it has
)

// severity lists the changes, the worst first.
func severity() []change { return []change{loses, changes, gets, waits, keeps} }

// forecast is what becomes of all.
type forecast struct {
	// Holders are Ballast's Services and the AddressClaims, those to whom the worst happens first.
	Holders []holderForecast `json:"holders"`
	// Pools are by name.
	Pools []poolForecast `json:"pools"`
	// Summary counts holders, those that are left out of Holders too.
	Summary map[change]int `json:"summary"`
	// Unsettled counts holders whose status is not what the controller would decide now.
	Unsettled int `json:"unsettled"`
}

// holderForecast is what becomes of one holder.
type holderForecast struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Change    change   `json:"change"`
	Now       standing `json:"now"`
	Then      standing `json:"then"`
	// Message says in a sentence why.
	Message string `json:"message,omitempty"`
}

// standing is what one holder has at one time.
type standing struct {
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Pool is where they are from; empty if that is gone.
	Pool string `json:"pool,omitempty"`
	// Reason is why it has not got what it asks for; empty: it has. Message belongs to it.
	Reason  v1alpha1.Reason `json:"reason,omitempty"`
	Message string          `json:"message,omitempty"`
}

func (s standing) equal(o standing) bool {
	return slices.Equal(s.Addresses, o.Addresses) && s.Reason == o.Reason && s.Message == o.Message
}

// foretell lets an allocator decide as the controller's does: what there is, then what is planned.
func foretell(s situation) forecast {
	l := newLedger(s)
	l.apply(s.live)
	now := l.snapshot()
	l.gaveUp = map[ipam.Key][]netip.Addr{}
	l.apply(s.planned)
	then := l.snapshot()
	f := forecast{Pools: comparePools(s, now, then), Summary: map[change]int{}, Unsettled: now.unsettled(s.holders)}
	for _, what := range severity() {
		f.Summary[what] = 0
	}
	for _, key := range l.keys {
		h := l.compareHolder(key, now.holders[key], then.holders[key])
		f.Holders = append(f.Holders, h)
		f.Summary[h.Change]++
	}
	slices.SortFunc(f.Holders, func(x, y holderForecast) int {
		return cmp.Or(slices.Index(severity(), x.Change)-slices.Index(severity(), y.Change),
			cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Kind, y.Kind))
	})
	return f
}

// changed returns the forecast without those for whom nothing changes.
func (f forecast) changed() forecast {
	f.Holders = slices.DeleteFunc(slices.Clone(f.Holders), func(h holderForecast) bool {
		return (h.Change == keeps || h.Change == waits) && h.Now.equal(h.Then)
	})
	return f
}

// compareHolder says what becomes of one holder. The ledger is in the state of then.
func (l *ledger) compareHolder(key ipam.Key, now, then standing) holderForecast {
	h := holderForecast{
		Kind: "Service", Namespace: key.Namespace, Name: key.Name,
		Change: compare(now, then), Now: now, Then: then, Message: then.Message,
	}
	if key.Kind == ipam.KindClaim {
		h.Kind = "AddressClaim"
	}
	if h.Message == "" && h.Change != keeps {
		h.Message = l.why(without(now.Addresses, then.Addresses), now, then)
	}
	for _, addr := range l.gaveUp[key] {
		if h.Change == keeps && slices.Contains(now.Addresses, addr) {
			h.Change, h.Message = changes, fmt.Sprintf("%s Until IPAddressPool %s gives %s out again, it is without.", l.why([]netip.Addr{addr}, now, then), then.Pool, addr)
		}
	}
	return h
}

// compare names the difference. The rules, in order:
//
//  1. Who has nothing before and after waits.
//  2. Who has the same keeps it; but what is not announced without its reason (Allocated
//     False) is lost and got like an address.
//  3. Who has nothing more, but less, loses.
//  4. Who has nothing less, but more, gets.
//  5. Everybody else changes.
func compare(now, then standing) change {
	lost := without(now.Addresses, then.Addresses)
	got := without(then.Addresses, now.Addresses)
	switch {
	case len(now.Addresses)+len(then.Addresses) == 0:
		return waits
	case len(lost)+len(got) == 0 && (now.Reason == "") == (then.Reason == ""):
		return keeps
	case len(lost)+len(got) == 0 && then.Reason == "":
		return gets
	case len(got) == 0:
		return loses
	case len(lost) == 0:
		return gets
	}
	return changes
}

// why says why a holder that has all it asks for has something else than before; lost is
// what it has given up.
func (l *ledger) why(lost []netip.Addr, now, then standing) string {
	for _, addr := range lost {
		p := find(l.pools, now.Pool)
		switch {
		case now.Pool != "" && (p == nil || !p.DeletionTimestamp.IsZero()):
			return "IPAddressPool " + now.Pool + " is removed."
		case now.Pool != "" && string(l.allocator.Pool(addr)) != now.Pool:
			return "IPAddressPool " + now.Pool + " no longer hands " + addr.String() + " out."
		}
	}
	if then.Pool == "" {
		return ""
	}
	return "From IPAddressPool " + then.Pool + "."
}

func without(all, these []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return slices.Contains(these, a) })
}
