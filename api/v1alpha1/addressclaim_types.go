package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddressClaimSpec says which addresses to reserve.
// +kubebuilder:validation:XValidation:rule="!has(self.addresses) || !has(self.ipFamilies) || self.ipFamilies.size() == 0 || self.addresses.all(a, !isIP(a) || self.ipFamilies.exists(f, f == (ip(a).family() == 4 ? 'IPv4' : 'IPv6')))",message="addresses contains an address of a family that ipFamilies lacks"
type AddressClaimSpec struct {
	// Pool is the IPAddressPool to take addresses from. Absent: any that assigns automatically.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`

	// Addresses wanted, at most one a family. Absent: any that are free.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be one IP address, without a zone, leading zeros or an IPv4-mapped form"
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || !self.all(a, isIP(a)) || ip(self[0]).family() != ip(self[1]).family()",message="has two addresses of one family: there can be one a family"
	Addresses []string `json:"addresses,omitempty"`

	// IPFamilies are the families to reserve an address of; the claim gets all of them, from
	// one pool, or none. Absent: those of addresses, and IPv4 without any.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`
}

// AddressClaimStatus is written by the controller.
type AddressClaimStatus struct {
	// Addresses are reserved, at most one a family.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`

	// Pool is the IPAddressPool that the addresses are from.
	// +optional
	Pool string `json:"pool,omitempty"`

	// BoundTo is the name of the Service, in the claim's namespace, that holds the addresses;
	// of several that share them, the oldest. Empty: none.
	// +optional
	BoundTo string `json:"boundTo,omitempty"`

	// Conditions: Ready says whether the claim holds what it asks for; its reason is
	// Allocated, or one of those of a Service's condition ballast.dev/Allocated.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AddressClaim reserves addresses that outlive Services. A Service of its namespace that
// names it in the annotation ballast.dev/address-claim gets them; when the Service is
// deleted, the claim keeps them.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=ballast,shortName=bclaim
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addresses`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.status.pool`
// +kubebuilder:printcolumn:name="Bound to",type=string,JSONPath=`.status.boundTo`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AddressClaim struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec AddressClaimSpec `json:"spec,omitzero"`
	// +optional
	Status AddressClaimStatus `json:"status,omitzero"`
}

// AddressClaimList is a list of AddressClaims.
// +kubebuilder:object:root=true
type AddressClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []AddressClaim `json:"items"`
}
