package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// L2AdvertisementSpec says which addresses are announced by ARP (IPv4) and neighbor discovery
// (IPv6), and from where.
type L2AdvertisementSpec struct {
	// IPAddressPools names the pools whose addresses are announced. Together with
	// ipAddressPoolSelectors (either suffices); both absent: all pools.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// IPAddressPoolSelectors choose pools by their labels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// NamespaceSelectors choose the namespaces of the Services that are announced. Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// ServiceSelectors choose the Services that are announced. Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// NodeSelectors choose the nodes that may announce. Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// PreferredNodeSelectors rank the nodes that may announce, by the sum of the weights of
	// what selects them. The first in rank becomes the owner. It takes an address over from
	// an owner of lower rank only once it has been fit to announce for 60 s, so that a node
	// that comes and goes moves nothing. Without preferences an owner keeps what it owns.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// Interfaces to announce on: names or globs (eth0, bond*). Absent: the interfaces with
	// an on-link prefix that contains the address; if there is none, those that hold one
	// of the Node's addresses.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^([^][ \\t\\n/:\\\\\\\\]|\\\\[[^][ \\t\\n/:\\\\\\\\]+\\\\])+$')",message="must be an interface name (eth0) or a glob with *, ? or [a-z] (bond*), without blanks, / or :"
	// +kubebuilder:validation:items:XValidation:rule="self.contains('*') || self.contains('?') || self.contains('[') || self.size() <= 15",message="is longer than the 15 characters of an interface name"
	Interfaces []string `json:"interfaces,omitempty"`
}

// PreferredNodeSelector adds weight to the nodes that it selects.
type PreferredNodeSelector struct {
	// Weight that a selected node gets, 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// Preference chooses nodes by their labels.
	// +required
	Preference metav1.LabelSelector `json:"preference"`
}

// AdvertisementStatus is the status of an L2Advertisement or a BGPAdvertisement.
type AdvertisementStatus struct {
	// Conditions: Ready says whether the advertisement is in use as written; its reason is
	// Ready, Invalid, PoolMissing, PeerMissing, AggregateTooWide,
	// AttributeConflict.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2Advertisement announces addresses of pools on the local network: one node, the
// owner, answers ARP and neighbor solicitations for an address.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bl2adv
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitzero"`
	// +optional
	Status AdvertisementStatus `json:"status,omitzero"`
}

// L2AdvertisementList is a list of L2Advertisements.
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []L2Advertisement `json:"items"`
}
