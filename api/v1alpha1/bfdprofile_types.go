package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BFDProfileSpec holds the timers of BFD sessions (RFC 5880). A failure is noticed after
// about the negotiated interval times the router's multiplier.
type BFDProfileSpec struct {
	// ReceiveInterval is the shortest interval, in milliseconds, at which we are willing to
	// receive packets (RFC 5880 section 6.8.1, RequiredMinRxInterval).
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	ReceiveInterval *int32 `json:"receiveInterval,omitempty"`

	// TransmitInterval is the shortest interval, in milliseconds, at which we send packets
	// (RFC 5880 section 6.8.1, DesiredMinTxInterval). Below 100 ms times 3 a busy node
	// causes false alarms.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	TransmitInterval *int32 `json:"transmitInterval,omitempty"`

	// DetectMultiplier is how many packets in a row may be lost before the router takes us
	// for dead (RFC 5880 section 6.8.1, DetectMult). With 1 a single lost packet ends the session.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`

	// PassiveMode true sends nothing until the router has sent something (RFC 5880 section 6.1).
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`

	// MinimumTTL is, for multihop sessions (RFC 5883), the least TTL of packets that are
	// accepted: 254 allows one hop between. Single hop sessions demand 255 (RFC 5881 section 5).
	// +optional
	// +kubebuilder:default=254
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// BFDProfileStatus is written by the controller.
type BFDProfileStatus struct {
	// Conditions: Ready says whether the profile can be used.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BFDProfile is a set of BFD timers that BGPPeers refer to by name.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bbfd
// +kubebuilder:printcolumn:name="Receive",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Transmit",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Passive",type=boolean,JSONPath=`.spec.passiveMode`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	// +kubebuilder:default={}
	Spec BFDProfileSpec `json:"spec,omitzero"`
	// +optional
	Status BFDProfileStatus `json:"status,omitzero"`
}

// BFDProfileList is a list of BFDProfiles.
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []BFDProfile `json:"items"`
}
