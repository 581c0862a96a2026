package config

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// passwordKey is the key of a kubernetes.io/basic-auth Secret that holds the password.
const passwordKey = corev1.BasicAuthPasswordKey

// peers compiles BGPPeers, the oldest first. One that lacks what it needs is left out.
func (c *compiler) peers(o Objects) []announce.NodePeer {
	var list []announce.NodePeer
	for _, obj := range byAge(o.Peers) {
		if p, ok := c.peer(obj, o); ok && !obj.Spec.Disabled {
			c.routerID(p, list)
			c.sameRouter(p, list)
			list = append(list, p)
		}
	}
	return list
}

// routerID reports a peer that asks for another router ID than an older one, where both
// are for the same nodes as written.
func (c *compiler) routerID(p announce.NodePeer, older []announce.NodePeer) {
	if !p.RouterID.IsValid() {
		return
	}
	for _, other := range older {
		if !other.RouterID.IsValid() || !meetAsWritten(p, other) {
			continue
		}
		if p.RouterID != other.RouterID {
			c.problem(KindPeer, string(p.Name), v1alpha1.ReasonRouterIDConflict, "The older BGPPeer %s asks for the router ID %s on the same nodes; a node has one. There is no session where both apply.", other.Name, other.RouterID)
			return
		}
		if len(other.Nodes) == 0 || len(p.Nodes) > 0 {
			return // on all of the peer's nodes, this one is right
		}
	}
}

// sameRouter reports a peer with the address, or the interface, of an older one, where both are for the same nodes as written.
func (c *compiler) sameRouter(p announce.NodePeer, older []announce.NodePeer) {
	i := slices.IndexFunc(older, func(o announce.NodePeer) bool {
		return o.Address == p.Address && o.Interface == p.Interface && meetAsWritten(p, o)
	})
	if i >= 0 {
		c.problem(KindPeer, string(p.Name), v1alpha1.ReasonInvalid, "The older BGPPeer %s is for the same router on the same nodes; a node has one session with a router. There is no session where both apply.", older[i].Name)
	}
}

// meetAsWritten says whether two peers are for the same nodes, as far as their selectors alone tell.
func meetAsWritten(a, b announce.NodePeer) bool {
	return len(a.Nodes) == 0 || len(b.Nodes) == 0 || reflect.DeepEqual(a.Nodes, b.Nodes)
}

func (c *compiler) peer(obj v1alpha1.BGPPeer, o Objects) (announce.NodePeer, bool) {
	spec := obj.Spec
	address, ok := c.optionalAddr(obj.Name, "peerAddress", spec.PeerAddress)
	if !ok {
		return announce.NodePeer{}, false
	}
	p := announce.NodePeer{Nodes: c.selectors(KindPeer, obj.Name, spec.NodeSelectors), Peer: announce.Peer{
		Name: name.PeerName(obj.Name), MyASN: uint32(spec.MyASN), Address: address, Interface: spec.Interface, Port: 179, MultiHop: spec.EBGPMultiHop,
		IPv4: families(spec, address, corev1.IPv4Protocol), IPv6: families(spec, address, corev1.IPv6Protocol),
	}}
	if spec.LocalASN != nil {
		p.LocalASN = uint32(*spec.LocalASN)
	}
	switch {
	case spec.PeerASN != nil:
		p.PeerASN = uint32(*spec.PeerASN)
	case spec.DynamicASN != nil && *spec.DynamicASN == v1alpha1.DynamicASNInternal:
		p.Dynamic = announce.Internal
	case spec.DynamicASN != nil:
		p.Dynamic = announce.External
	}
	if spec.PeerPort != nil {
		p.Port = uint16(*spec.PeerPort)
	}
	if spec.TTLSecurity != nil {
		p.TTLSecurity = int(spec.TTLSecurity.Hops)
	}
	if p.Source, ok = c.optionalAddr(obj.Name, "sourceAddress", spec.SourceAddress); !ok {
		return p, false
	}
	if p.RouterID, ok = c.optionalAddr(obj.Name, "routerID", spec.RouterID); !ok {
		return p, false
	}
	p.Hold, p.Keepalive, p.Connect = duration(spec.HoldTime), duration(spec.KeepaliveTime), duration(spec.ConnectTime)
	if spec.HoldTime != nil && p.Hold == 0 {
		p.Hold = announce.HoldForever
	}
	if g := spec.GracefulRestart; g != nil {
		p.GracefulRestart = cmp.Or(duration(g.RestartTime), defaultRestartTime)
	}
	if p.Password, ok = c.password(obj, o.Secrets); !ok {
		return p, false
	}
	p.BFD = c.profile(obj, o.BFDProfiles)
	if p.GracefulRestart > 0 && spec.BFDProfile == "" {
		c.warning(KindPeer, obj.Name, v1alpha1.ReasonNoBFD, "Graceful restart without bfdProfile: routers keep the routes of a node that is dead for %s after its session ended, and traffic to it is lost. The peer is in use as written.", p.GracefulRestart)
	}
	return p, true
}

// defaultRestartTime is what the schema gives, for objects that have not passed it.
const defaultRestartTime = 30 * time.Second

// duration returns 0 for an absent duration.
func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

// families says whether a session carries a family: those that spec names, else that of the peer's address, else both.
func families(spec v1alpha1.BGPPeerSpec, address netip.Addr, f corev1.IPFamily) bool {
	if len(spec.IPFamilies) > 0 {
		return slices.Contains(spec.IPFamilies, f)
	}
	return !address.IsValid() || address.Is4() == (f == corev1.IPv4Protocol)
}

func (c *compiler) optionalAddr(peer, field, s string) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, true
	}
	a, err := ParseAddr(s)
	if err != nil {
		c.problem(KindPeer, peer, v1alpha1.ReasonInvalid, "%s: %v. There is no session.", field, err)
	}
	return a, err == nil
}

func (c *compiler) password(obj v1alpha1.BGPPeer, secrets []corev1.Secret) (string, bool) {
	ref := obj.Spec.PasswordSecret
	if ref == nil {
		return "", true
	}
	i := slices.IndexFunc(secrets, func(s corev1.Secret) bool { return s.Name == ref.Name })
	switch {
	case i < 0:
		c.problem(KindPeer, obj.Name, v1alpha1.ReasonSecretMissing, "The Secret %s does not exist in Ballast's namespace. There is no session until it does.", ref.Name)
	case secrets[i].Type != corev1.SecretTypeBasicAuth:
		c.problem(KindPeer, obj.Name, v1alpha1.ReasonSecretMissing, "The Secret %s is of type %s, not %s. There is no session until it is.", ref.Name, secrets[i].Type, corev1.SecretTypeBasicAuth)
	case len(secrets[i].Data[passwordKey]) == 0:
		c.problem(KindPeer, obj.Name, v1alpha1.ReasonSecretMissing, "The Secret %s has no key %s. There is no session until it has.", ref.Name, passwordKey)
	default:
		return string(secrets[i].Data[passwordKey]), true
	}
	return "", false
}

// profile compiles the BFD profile of a peer. Of one that does not exist there is no BFD; the session does without.
func (c *compiler) profile(obj v1alpha1.BGPPeer, profiles []v1alpha1.BFDProfile) announce.BFD {
	want := obj.Spec.BFDProfile
	if want == "" {
		return announce.BFD{}
	}
	i := slices.IndexFunc(profiles, func(p v1alpha1.BFDProfile) bool { return p.Name == want })
	if i < 0 {
		c.problem(KindPeer, obj.Name, v1alpha1.ReasonProfileMissing, "The BFDProfile %s does not exist. The session does without BFD until it does.", want)
		return announce.BFD{}
	}
	spec := profiles[i].Spec
	return announce.BFD{
		Receive: milliseconds(spec.ReceiveInterval), Transmit: milliseconds(spec.TransmitInterval),
		Multiplier: uint8(numberOr(spec.DetectMultiplier, 3)), Passive: spec.PassiveMode, MinimumTTL: uint8(numberOr(spec.MinimumTTL, 254)),
	}
}

// milliseconds converts an interval, whose default is that of the schema.
func milliseconds(n *int32) time.Duration { return time.Duration(numberOr(n, 300)) * time.Millisecond }

func numberOr(n *int32, fallback int32) int32 {
	if n == nil {
		return fallback
	}
	return *n
}
