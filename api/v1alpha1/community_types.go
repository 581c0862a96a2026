package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CommunitySpec is a list of aliases.
type CommunitySpec struct {
	// Communities are names for community values, for use in BGPAdvertisements. A name that
	// several Community objects define belongs to the oldest of them.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is a name for a community value.
type CommunityAlias struct {
	// Name to use in BGPAdvertisements. It has no ":" and is no well-known community's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$')",message="must begin with a letter and contain only letters, digits, '-', '_' and '.'; ':' is for values"
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['no-export','no-advertise','no-export-subconfed','no-peer','graceful-shutdown','blackhole','accept-own','llgr-stale','no-llgr'])",message="is the name of a well-known community, which needs no alias: choose another name"
	Name string `json:"name"`

	// Value is a standard community (64512:100, RFC 1997) or a large one
	// (large:64512:1:2, RFC 8092).
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})$') || self.matches('^large(:(0|[1-9][0-9]{0,9})){3}$')",message="must be a standard community (64512:100) or a large one (large:64512:1:2), without leading zeros"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)",message="each part of a standard community is at most 65535; larger numbers need a large community (large:64512:1:2)"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^large(:[0-9]{1,10}){3}$') || self.split(':').all(n, n == 'large' || int(n) <= 4294967295)",message="each part of a large community is at most 4294967295"
	Value string `json:"value"`
}

// CommunityStatus is written by the controller.
type CommunityStatus struct {
	// Conditions: Ready says whether all aliases can be used.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Community gives BGP communities names.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bcommunity,path=communities
// +kubebuilder:printcolumn:name="Names",type=string,JSONPath=`.spec.communities[*].name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec CommunitySpec `json:"spec,omitzero"`
	// +optional
	Status CommunityStatus `json:"status,omitzero"`
}

// CommunityList is a list of Communities.
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Community `json:"items"`
}
