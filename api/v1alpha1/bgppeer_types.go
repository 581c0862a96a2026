package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DynamicASN accepts a peer's AS number by kind instead of by value.
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

const (
	// DynamicASNInternal says that the peer has our AS number (iBGP).
	DynamicASNInternal DynamicASN = "internal"
	// DynamicASNExternal says that the peer has any other AS number (eBGP).
	DynamicASNExternal DynamicASN = "external"
)

// BGPPeerSpec describes one router and the sessions of our nodes with it.
// +kubebuilder:validation:XValidation:rule="has(self.peerASN) != has(self.dynamicASN)",message="set exactly one of peerASN and dynamicASN"
// +kubebuilder:validation:XValidation:rule="has(self.peerAddress) != has(self.interface)",message="set exactly one of peerAddress and interface"
// +kubebuilder:validation:XValidation:rule="!has(self.ttlSecurity) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop",message="ttlSecurity and ebgpMultiHop exclude each other: ttlSecurity.hops alone says how far away the router may be"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !has(self.holdTime) || !self.keepaliveTime.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || !self.holdTime.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || duration(self.keepaliveTime) < duration(self.holdTime)",message="keepaliveTime must be shorter than holdTime; a third of it is usual, and with holdTime 0s there is none"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",message="sourceAddress and peerAddress must be of one family"
// +kubebuilder:validation:XValidation:rule="!has(self.localASN) || self.localASN != self.myASN",message="localASN equals myASN: leave it out"
type BGPPeerSpec struct {
	// MyASN is our AS number in this session. The oldest BGPPeer's is the nodes' own; a
	// peer with another sees it as a local AS.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN int64 `json:"myASN"`

	// LocalASN, if set, is our AS number in this session in place of myASN, which the peer does
	// not see (what routers call local-as with no-prepend and replace-as).
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN *int64 `json:"localASN,omitempty"`

	// PeerASN is the router's AS number. Exactly one of peerASN and dynamicASN is set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN *int64 `json:"peerASN,omitempty"`

	// DynamicASN accepts whatever AS number the router says, if it is ours (internal) or
	// is not (external).
	// +optional
	DynamicASN *DynamicASN `json:"dynamicASN,omitempty"`

	// PeerAddress is the router's address. Exactly one of peerAddress and interface is set.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address such as 192.0.2.1, without prefix length, zone or leading zeros"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || !(ip(self).isUnspecified() || ip(self).isLinkLocalMulticast())",message="must be the address of one router"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).family() == 4 || !ip(self).isLinkLocalUnicast()",message="is link-local and says nothing about the interface: use interface instead of peerAddress"
	PeerAddress string `json:"peerAddress,omitempty"`

	// Interface on which the router is the only neighbor (BGP unnumbered): it is found by
	// its router advertisements, and the session runs between link-local addresses.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ \\t\\n/:*?]+$') && self != '.' && self != '..'",message="must be the name of a network interface, such as eth0"
	Interface string `json:"interface,omitempty"`

	// PeerPort is the router's TCP port.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort *int32 `json:"peerPort,omitempty"`

	// SourceAddress is the local address of the session. As nodes have different addresses
	// it is only of use with nodeSelectors. Absent: the node's own address.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address such as 192.0.2.1, without prefix length, zone or leading zeros"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// RouterID is the node's BGP identifier, in the form of an IPv4 address. A node has one:
	// if its peers name different ones, the oldest BGPPeer's is used and the others are not
	// Ready (RouterIDConflict). Absent: the node's IPv4 address, else a hash of its name.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified()",message="must have the form of an IPv4 address other than 0.0.0.0"
	RouterID string `json:"routerID,omitempty"`

	// HoldTime is the proposed hold time (RFC 4271 section 4.2): a router that is silent for
	// this long is taken for dead. Whole seconds, 0s (never) or 3s to 65535s.
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$')",message="must be a duration in whole seconds, such as 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || duration(self) == duration('0s') || (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))",message="must be 0s (never expires) or between 3s and 65535s (RFC 4271)"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// KeepaliveTime is the time between our KEEPALIVEs, in whole seconds. Absent: a third of
	// the negotiated hold time.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$')",message="must be a duration in whole seconds, such as 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || (duration(self) >= duration('1s') && duration(self) <= duration('21845s'))",message="must be between 1s and 21845s"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// ConnectTime is the time between attempts to connect, in whole seconds. Absent: 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$')",message="must be a duration in whole seconds, such as 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || (duration(self) >= duration('1s') && duration(self) <= duration('65535s'))",message="must be between 1s and 65535s"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// EBGPMultiHop allows an eBGP peer that is not on a connected network.
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// TTLSecurity accepts only packets that came from a router at most so many hops away
	// (GTSM, RFC 5082). Both sides must have it. It excludes ebgpMultiHop. Absent: off.
	// +optional
	TTLSecurity *TTLSecurity `json:"ttlSecurity,omitempty"`

	// PasswordSecret names the Secret with the session's TCP MD5 password (RFC 2385). Absent: none.
	// +optional
	PasswordSecret *PasswordSecret `json:"passwordSecret,omitempty"`

	// BFDProfile names the BFDProfile with which BFD watches the session. Absent: no BFD.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:MinLength=1
	BFDProfile string `json:"bfdProfile,omitempty"`

	// GracefulRestart (RFC 4724) asks the router to keep our routes while a speaker
	// restarts. Without BFD it also keeps those of a dead node for the restart time. Absent: off.
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// IPFamilies are the address families of the session. Absent: that of peerAddress; with
	// interface, both.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// NodeSelectors choose the nodes that have this session. Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Disabled true closes the sessions and keeps the object.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// TTLSecurity is the Generalized TTL Security Mechanism (RFC 5082).
type TTLSecurity struct {
	// Hops is the greatest distance of the router, 1 if it is directly connected.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	Hops int32 `json:"hops"`
}

// PasswordSecret names a Secret in Ballast's namespace.
type PasswordSecret struct {
	// Name of a Secret in Ballast's namespace, of type kubernetes.io/basic-auth; its key
	// password is used.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// GracefulRestart says how long a router keeps our routes.
type GracefulRestart struct {
	// RestartTime is how long the router keeps our routes after the session ended
	// (RFC 4724 section 3), in whole seconds, 1s to 4095s.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$')",message="must be a duration in whole seconds, such as 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$') || (duration(self) >= duration('1s') && duration(self) <= duration('4095s'))",message="must be between 1s and 4095s (RFC 4724)"
	RestartTime *metav1.Duration `json:"restartTime,omitempty"`
}

// BGPPeerStatus is written by the controller; the state of the sessions stands in the Speakers.
type BGPPeerStatus struct {
	// Conditions: Ready says whether the peer is in use as written; its reason is Ready,
	// NoBFD (a warning), Invalid, SecretMissing, ProfileMissing or RouterIDConflict.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeer is a router that the selected nodes have a BGP session with. No route is ever
// imported from it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bpeer
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`,priority=1
// +kubebuilder:printcolumn:name="MyASN",type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="PeerASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.spec.bfdProfile`,priority=1
// +kubebuilder:printcolumn:name="Disabled",type=boolean,JSONPath=`.spec.disabled`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// BGPPeerList is a list of BGPPeers.
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []BGPPeer `json:"items"`
}
