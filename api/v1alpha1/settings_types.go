package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SettingsName is the name of the one Settings object that is used.
const SettingsName = "default"

// ConflictDetection says how thoroughly the network is asked whether some other host has
// an address, before that address is announced for the first time; and, unless it is Off,
// that an owner asks again with each refresh.
// +kubebuilder:validation:Enum=Fast;Full;Off
type ConflictDetection string

const (
	// ConflictDetectionFast sends three probes within 300 ms.
	ConflictDetectionFast ConflictDetection = "Fast"
	// ConflictDetectionFull keeps the timing of RFC 5227 section 2.1.1, 4 to 7 s.
	ConflictDetectionFull ConflictDetection = "Full"
	// ConflictDetectionOff asks nobody.
	ConflictDetectionOff ConflictDetection = "Off"
)

// ServiceProxyMode says what a speaker makes of a node's service proxy (kube-proxy or
// what replaces it).
// +kubebuilder:validation:Enum=Auto;Required;Off
type ServiceProxyMode string

const (
	// ServiceProxyAuto announces, with a warning, if nobody has listened for 60 s where the
	// proxy should.
	ServiceProxyAuto ServiceProxyMode = "Auto"
	// ServiceProxyRequired announces nothing before the proxy says that it can deliver.
	ServiceProxyRequired ServiceProxyMode = "Required"
	// ServiceProxyOff does not ask.
	ServiceProxyOff ServiceProxyMode = "Off"
)

// SettingsSpec holds what concerns the whole cluster.
type SettingsSpec struct {
	// Layer2 concerns announcements by ARP and NDP.
	// +optional
	// +kubebuilder:default={}
	Layer2 *Layer2Settings `json:"layer2,omitempty"`

	// Membership concerns how speakers notice that a node died.
	// +optional
	// +kubebuilder:default={}
	Membership *MembershipSettings `json:"membership,omitempty"`

	// ServiceProxy concerns the check that a node can deliver before it announces.
	// +optional
	// +kubebuilder:default={}
	ServiceProxy *ServiceProxySettings `json:"serviceProxy,omitempty"`

	// Drain concerns nodes that hand over what they announce.
	// +optional
	// +kubebuilder:default={}
	Drain *DrainSettings `json:"drain,omitempty"`

	// AddressClaims concerns the claims of tenants.
	// +optional
	// +kubebuilder:default={}
	AddressClaims *AddressClaimSettings `json:"addressClaims,omitempty"`

	// IgnoreExcludeLabel true lets nodes announce that carry the label
	// node.kubernetes.io/exclude-from-external-load-balancers: for clusters whose only nodes
	// are control-plane nodes, which kubeadm and Talos label so.
	// +optional
	IgnoreExcludeLabel bool `json:"ignoreExcludeLabel,omitempty"`
}

// Layer2Settings concerns announcements by ARP and NDP.
type Layer2Settings struct {
	// GracePeriod is how long a node whose speaker is away, but which itself still answers
	// on the network, keeps its addresses; another node, its deputy, answers for it
	// meanwhile. 0s moves them at once.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || (duration(self) >= duration('0s') && duration(self) <= duration('1h'))",message="must be between 0s and 1h"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`

	// RefreshInterval is the time between repeated announcements of an address, so that
	// switches do not forget where it is. 0s turns them off.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || duration(self) == duration('0s') || (duration(self) >= duration('1s') && duration(self) <= duration('1h'))",message="must be 0s (off) or between 1s and 1h"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`

	// ConflictDetection says how the network is asked for other holders of an address
	// before its very first announcement. Unless it is Off, an owner asks again with each
	// refresh, and goes on answering whatever it hears.
	// +optional
	// +kubebuilder:default=Fast
	ConflictDetection ConflictDetection `json:"conflictDetection,omitempty"`
}

// MembershipSettings concerns how speakers notice that a node died.
type MembershipSettings struct {
	// HeartbeatInterval is the time between two heartbeats.
	// +optional
	// +kubebuilder:default="100ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || (duration(self) >= duration('20ms') && duration(self) <= duration('10s'))",message="must be between 20ms and 10s"
	HeartbeatInterval *metav1.Duration `json:"heartbeatInterval,omitempty"`

	// Missed is how many heartbeats in a row must be missing before the network is asked
	// whether the node is there.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=100
	Missed *int32 `json:"missed,omitempty"`
}

// ServiceProxySettings concerns the check that a node can deliver before it announces.
type ServiceProxySettings struct {
	// Mode: Auto announces with a warning if nobody has listened for 60 s where the proxy
	// should; Required announces nothing before the proxy is ready; Off does not ask.
	// +optional
	// +kubebuilder:default=Auto
	Mode ServiceProxyMode `json:"mode,omitempty"`

	// HealthURL is asked instead of kube-proxy's /livez and is ready if it answers 200, for
	// example http://127.0.0.1:9879/healthz. Empty: kube-proxy's.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self == '' || (isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != '')",message="must be a URL such as http://127.0.0.1:9879/healthz"
	HealthURL string `json:"healthURL,omitempty"`
}

// DrainSettings concerns nodes that hand over what they announce.
type DrainSettings struct {
	// OnCordon true makes cordoning a node (spec.unschedulable) a drain signal too. Off by
	// default, because people cordon nodes for other reasons.
	// +optional
	OnCordon bool `json:"onCordon,omitempty"`

	// GracefulShutdownTime is how long routes carry the GRACEFUL_SHUTDOWN community
	// (RFC 8326) before they are withdrawn.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || (duration(self) >= duration('0s') && duration(self) <= duration('60s'))",message="must be between 0s and 60s"
	GracefulShutdownTime *metav1.Duration `json:"gracefulShutdownTime,omitempty"`

	// WithdrawTime is how long the sessions stay after the withdrawal.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || (duration(self) >= duration('0s') && duration(self) <= duration('60s'))",message="must be between 0s and 60s"
	WithdrawTime *metav1.Duration `json:"withdrawTime,omitempty"`
}

// AddressClaimSettings concerns the claims of tenants.
type AddressClaimSettings struct {
	// MaxPerNamespace is how many AddressClaims of one namespace may have addresses; those that come later wait with the
	// reason QuotaExceeded. Lowering it takes no address away. 0 lets no claim have addresses.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=0
	MaxPerNamespace *int32 `json:"maxPerNamespace,omitempty"`
}

// SettingsStatus is written by the controller.
type SettingsStatus struct {
	// Conditions: Ready says whether the settings are in use as written.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Settings holds what concerns the whole cluster. One object, named default, is used; it
// may be absent, which means the defaults.
// +kubebuilder:object:root=true
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="must be named default: there is one Settings object in a cluster"
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bsettings,path=settings
// +kubebuilder:printcolumn:name="Grace",type=string,JSONPath=`.spec.layer2.gracePeriod`
// +kubebuilder:printcolumn:name="Conflicts",type=string,JSONPath=`.spec.layer2.conflictDetection`
// +kubebuilder:printcolumn:name="Proxy",type=string,JSONPath=`.spec.serviceProxy.mode`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Settings struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	// +kubebuilder:default={}
	Spec SettingsSpec `json:"spec,omitzero"`
	// +optional
	Status SettingsStatus `json:"status,omitzero"`
}

// SettingsList is a list of Settings.
// +kubebuilder:object:root=true
type SettingsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Settings `json:"items"`
}

// DefaultSettingsSpec returns what an absent Settings object means: every default of the
// schema, in a value of its own.
func DefaultSettingsSpec() SettingsSpec {
	missed, claims := int32(3), int32(5)
	return SettingsSpec{
		Layer2: &Layer2Settings{
			GracePeriod:       &metav1.Duration{Duration: 30 * time.Second},
			RefreshInterval:   &metav1.Duration{Duration: 60 * time.Second},
			ConflictDetection: ConflictDetectionFast,
		},
		Membership: &MembershipSettings{
			HeartbeatInterval: &metav1.Duration{Duration: 100 * time.Millisecond},
			Missed:            &missed,
		},
		ServiceProxy: &ServiceProxySettings{Mode: ServiceProxyAuto},
		Drain: &DrainSettings{
			GracefulShutdownTime: &metav1.Duration{Duration: 5 * time.Second},
			WithdrawTime:         &metav1.Duration{Duration: 5 * time.Second},
		},
		AddressClaims: &AddressClaimSettings{MaxPerNamespace: &claims},
	}
}
