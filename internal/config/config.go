// Package config turns API objects into the values that ipam and announce decide on. It
// is pure: it returns every problem that it finds, logs none and reads nothing. A bad
// object disables itself and what needs it; all else works on.
package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/ipam"
)

// Objects are what configuration is compiled from.
type Objects struct {
	Pools       []v1alpha1.IPAddressPool
	L2          []v1alpha1.L2Advertisement
	BGP         []v1alpha1.BGPAdvertisement
	Peers       []v1alpha1.BGPPeer
	BFDProfiles []v1alpha1.BFDProfile
	Communities []v1alpha1.Community
	// Settings is the object named default, nil if there is none.
	Settings *v1alpha1.Settings
	// Secrets are those of Ballast's namespace.
	Secrets []corev1.Secret
	// Reserved are node addresses, Service CIDRs and pod CIDRs, never to be assigned.
	Reserved []netip.Prefix
}

// Compiled is the configuration in effect.
type Compiled struct {
	// Pools are in the order in which they are tried.
	Pools    []ipam.Pool
	Announce announce.Config
	Settings Settings
	// Problems are in the order of the objects; an object may have several.
	Problems []Problem
}

// Kind is a kind of Ballast's API, as it is written in manifests.
type Kind string

// The kinds that are compiled.
const (
	KindPool       Kind = "IPAddressPool"
	KindL2         Kind = "L2Advertisement"
	KindBGP        Kind = "BGPAdvertisement"
	KindPeer       Kind = "BGPPeer"
	KindBFDProfile Kind = "BFDProfile"
	KindCommunity  Kind = "Community"
	KindSettings   Kind = "Settings"
)

// Problem is something wrong with one object.
type Problem struct {
	Kind    Kind
	Name    string
	Reason  v1alpha1.Reason
	Message string
	// Warning says that the object is in use as written all the same.
	Warning bool
}

// Compile turns objects into values. It never fails: what is wrong stands in Problems.
func Compile(o Objects) Compiled {
	c := compiler{named: map[identity]bool{}}
	for i := range o.Pools {
		c.named[identity{KindPool, o.Pools[i].Name}] = true
	}
	for i := range o.Peers {
		c.named[identity{KindPeer, o.Peers[i].Name}] = true
	}
	pools := c.pools(o)
	aliases := c.communities(o.Communities)
	peers := c.peers(o)
	return Compiled{
		Pools: allocationOrder(pools),
		Announce: announce.Config{
			Pools: announcePools(pools),
			L2:    c.l2Advertisements(o),
			BGP:   c.bgpAdvertisements(o, pools, aliases),
			Peers: peers,
		},
		Settings: settings(o.Settings),
		Problems: c.problems,
	}
}

// compiler collects problems.
type compiler struct {
	problems []Problem
	named    map[identity]bool // the objects that there are, of the kinds that others name
}

// identity names an object among all kinds.
type identity struct {
	kind Kind
	name string
}

func (c *compiler) problem(kind Kind, object string, reason v1alpha1.Reason, format string, args ...any) {
	c.problems = append(c.problems, Problem{Kind: kind, Name: object, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// warning is a problem of an object that is in use as written.
func (c *compiler) warning(kind Kind, object string, reason v1alpha1.Reason, format string, args ...any) {
	c.problem(kind, object, reason, format, args...)
	c.problems[len(c.problems)-1].Warning = true
}

// selectors compiles label selectors. One that is invalid selects nobody and is a problem.
func (c *compiler) selectors(kind Kind, object string, list []metav1.LabelSelector) []labels.Selector {
	var compiled []labels.Selector
	for i := range list {
		s, err := metav1.LabelSelectorAsSelector(&list[i])
		if err != nil {
			c.problem(kind, object, v1alpha1.ReasonInvalid, "A selector is invalid and selects nothing: %v.", err)
			s = labels.Nothing()
		}
		compiled = append(compiled, s)
	}
	return compiled
}

// byAge returns objects sorted by creation, then name: of two that disagree, the first is right.
func byAge[T any, P interface {
	*T
	metav1.Object
}](objects []T) []T {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(x, y T) int {
		px, py := P(&x), P(&y)
		return cmp.Or(px.GetCreationTimestamp().Compare(py.GetCreationTimestamp().Time), cmp.Compare(px.GetName(), py.GetName()))
	})
	return sorted
}
