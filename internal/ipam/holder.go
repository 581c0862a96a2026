package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/name"
)

// Kind is what holds an address. The zero value is a Service.
type Kind uint8

// The kinds of holder.
const (
	KindService Kind = iota
	KindClaim
)

// Key names a holder of addresses: a Service, or an AddressClaim.
type Key struct {
	Kind Kind
	name.ServiceKey
}

// ServiceKey is the Key of a Service.
func ServiceKey(k name.ServiceKey) Key { return Key{KindService, k} }

// ClaimKey is the Key of an AddressClaim.
func ClaimKey(namespace, claim string) Key {
	return Key{KindClaim, name.ServiceKey{Namespace: namespace, Name: claim}}
}

// String returns kind, namespace and name, as messages say them.
func (k Key) String() string {
	if k.Kind == KindClaim {
		return "AddressClaim " + k.ServiceKey.String()
	}
	return "Service " + k.ServiceKey.String()
}

// Holder is a Service or an AddressClaim as a holder of addresses.
type Holder struct {
	Key
	// UID tells an object from an earlier one of the same name; empty: not known.
	UID string
	// Foreign says that another implementation serves the Service.
	Foreign bool
	// Created orders holders: of two that hold one address and may not share it, the older
	// has it, but one of Ballast's before a foreign one.
	Created time.Time
	// Sharing is on which terms a Service shares its addresses.
	Sharing Sharing
	// Claim is the AddressClaim of its namespace whose addresses a Service wants; empty: none.
	Claim string
}

// Sharing is on which terms a Service shares its addresses with others. The zero value: with nobody.
type Sharing struct {
	// Key is what sharers have in common; empty: the Service does not share.
	Key string
	// From are the other namespaces with whose Services it shares.
	From []string
	// Ports are those of the Service: no two sharers may have one in common.
	Ports []Port
	// Local is externalTrafficPolicy: Local. Sharers are all Local or none.
	Local bool
	// Selector is the Service's selector in canonical form: sharers that are Local have the
	// same, so that the same nodes have endpoints.
	Selector string
}

func (s Sharing) equal(o Sharing) bool {
	return s.Key == o.Key && s.Local == o.Local && s.Selector == o.Selector && slices.Equal(s.From, o.From) && slices.Equal(s.Ports, o.Ports)
}

// Port is a port of a Service.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   int32
}

// compare orders holders: those of Ballast before foreign ones, the older first.
func (h *Holder) compare(o *Holder) int {
	if h.Foreign != o.Foreign {
		if o.Foreign {
			return -1
		}
		return 1
	}
	return cmp.Or(h.Created.Compare(o.Created), cmp.Compare(o.Kind, h.Kind),
		cmp.Compare(h.Namespace, o.Namespace), cmp.Compare(h.Name, o.Name))
}

// names says whether h is a Service that wants the addresses of the claim o.
func (h *Holder) names(o *Holder) bool {
	return h.Kind == KindService && o.Kind == KindClaim && h.Claim == o.Name && h.Namespace == o.Namespace
}

// conflict says why h may not hold an address that o holds. The rules, in order:
//
//  1. What another implementation serves is shared with nobody.
//  2. A claim's address is for the Services that name the claim.
//  3. Sharers have equal keys, which are not empty.
//  4. Of two sharers in different namespaces each names the other's.
//  5. Either all are externalTrafficPolicy Cluster, or all Local in one namespace with one selector.
//  6. No two use the same port.
func (h *Holder) conflict(o *Holder, addr netip.Addr) refusal {
	no := func(reason v1alpha1.Reason, format string, args ...any) refusal {
		return refuse(reason, "%s belongs to %s%s", addr, o.Key, fmt.Sprintf(format, args...))
	}
	switch x, y := h.Sharing, o.Sharing; {
	case h.Key == o.Key:
		return refusal{}
	case o.Foreign:
		return no(v1alpha1.ReasonAddressInUse, ", which another implementation serves.")
	case !h.Foreign && (h.names(o) || o.names(h)):
		return refusal{}
	case h.Foreign || h.Kind == KindClaim || o.Kind == KindClaim || x.Key == "":
		return no(v1alpha1.ReasonAddressInUse, ".")
	case y.Key == "":
		return no(v1alpha1.ReasonAddressInUse, ", which does not share it (annotation %s).", v1alpha1.AnnotationAllowSharedIP)
	case x.Key != y.Key:
		return no(v1alpha1.ReasonSharingConflict, ", which shares it under another key (annotation %s).", v1alpha1.AnnotationAllowSharedIP)
	case h.Namespace != o.Namespace && !slices.Contains(y.From, h.Namespace):
		return no(v1alpha1.ReasonSharingConflict, ", which does not share with namespace %s: it must name it in annotation %s.", h.Namespace, v1alpha1.AnnotationAllowSharedIPFrom)
	case h.Namespace != o.Namespace && !slices.Contains(x.From, o.Namespace):
		return no(v1alpha1.ReasonSharingConflict, "; to share with it, name namespace %s in annotation %s of this Service.", o.Namespace, v1alpha1.AnnotationAllowSharedIPFrom)
	case x.Local != y.Local:
		return no(v1alpha1.ReasonSharingConflict, "; Services that share an address need the same externalTrafficPolicy.")
	case x.Local && (h.Namespace != o.Namespace || x.Selector == "" || x.Selector != y.Selector):
		return no(v1alpha1.ReasonSharingConflict, "; with externalTrafficPolicy Local, Services that share an address need the same namespace and the same selector.")
	default:
		for _, p := range x.Ports {
			if slices.Contains(y.Ports, p) {
				return no(v1alpha1.ReasonSharingConflict, ", which uses port %d of %s too.", p.Number, p.Protocol)
			}
		}
	}
	return refusal{}
}
