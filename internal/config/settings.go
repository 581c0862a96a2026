package config

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// Settings are those of the Settings object, or the defaults. The zero value is not in
// effect anywhere: Compile returns what is.
type Settings struct {
	// GracePeriod is how long a node whose speaker is away, but which itself still answers,
	// keeps its addresses; 0: it loses them at once.
	GracePeriod time.Duration
	// RefreshInterval is how often an owner repeats its announcement; 0: never.
	RefreshInterval time.Duration
	// ConflictDetection is how the network is asked before an address is announced first.
	ConflictDetection v1alpha1.ConflictDetection
	// HeartbeatInterval is the time between two heartbeats of a speaker.
	HeartbeatInterval time.Duration
	// Missed is how many heartbeats in a row must be missing before the network is asked.
	Missed int
	// ProxyMode says what a speaker makes of its node's service proxy.
	ProxyMode v1alpha1.ServiceProxyMode
	// ProxyHealthURL is asked instead of kube-proxy; empty: kube-proxy is asked.
	ProxyHealthURL string
	Drain          Drain
	// ClaimsPerNamespace is how many AddressClaims of one namespace may have addresses.
	ClaimsPerNamespace int
	// IgnoreExcludeLabel takes nodes that are labeled exclude-from-external-load-balancers.
	IgnoreExcludeLabel bool
}

// Drain are the settings that concern nodes that hand over what they announce.
type Drain struct {
	// OnCordon makes spec.unschedulable of a Node a drain signal.
	OnCordon bool
	// GracefulShutdownTime is how long routes carry the community GRACEFUL_SHUTDOWN (RFC
	// 8326) before they are withdrawn, WithdrawTime how long the sessions stay after that.
	GracefulShutdownTime, WithdrawTime time.Duration
}

// settings compiles the Settings object. What it does not say is as in an absent one.
func settings(s *v1alpha1.Settings) Settings {
	spec := v1alpha1.SettingsSpec{}
	if s != nil {
		spec = s.Spec
	}
	d := v1alpha1.DefaultSettingsSpec()
	layer2, members := orDefault(spec.Layer2, d.Layer2), orDefault(spec.Membership, d.Membership)
	proxy, drain := orDefault(spec.ServiceProxy, d.ServiceProxy), orDefault(spec.Drain, d.Drain)
	return Settings{
		GracePeriod:       durationOr(layer2.GracePeriod, d.Layer2.GracePeriod),
		RefreshInterval:   durationOr(layer2.RefreshInterval, d.Layer2.RefreshInterval),
		ConflictDetection: cmp.Or(layer2.ConflictDetection, d.Layer2.ConflictDetection),
		HeartbeatInterval: durationOr(members.HeartbeatInterval, d.Membership.HeartbeatInterval),
		Missed:            int(*orDefault(members.Missed, d.Membership.Missed)),
		ProxyMode:         cmp.Or(proxy.Mode, d.ServiceProxy.Mode),
		ProxyHealthURL:    proxy.HealthURL,
		Drain: Drain{
			OnCordon:             drain.OnCordon,
			GracefulShutdownTime: durationOr(drain.GracefulShutdownTime, d.Drain.GracefulShutdownTime),
			WithdrawTime:         durationOr(drain.WithdrawTime, d.Drain.WithdrawTime),
		},
		ClaimsPerNamespace: int(*orDefault(orDefault(spec.AddressClaims, d.AddressClaims).MaxPerNamespace, d.AddressClaims.MaxPerNamespace)),
		IgnoreExcludeLabel: spec.IgnoreExcludeLabel,
	}
}

func orDefault[T any](set, byDefault *T) *T {
	if set == nil {
		return byDefault
	}
	return set
}

func durationOr(set, byDefault *metav1.Duration) time.Duration {
	return orDefault(set, byDefault).Duration
}
