package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReclaimPolicy says what an edit or deletion of a pool does to addresses that Services hold.
// +kubebuilder:validation:Enum=Retain;Reassign
type ReclaimPolicy string

const (
	// ReclaimRetain never moves a held address; the pool lists it in status.retained.
	ReclaimRetain ReclaimPolicy = "Retain"
	// ReclaimReassign gives a Service another address when its own left the pool.
	ReclaimReassign ReclaimPolicy = "Reassign"
)

// IPAddressPoolSpec says which addresses may be handed out, and to whom.
type IPAddressPoolSpec struct {
	// Addresses that may be handed out to Services. Each item is a CIDR whose host bits
	// are zero (192.0.2.0/24, 2001:db8::/64), a range of one family
	// (198.51.100.10-198.51.100.50) or a single address (203.0.113.7), without blanks.
	// Items are used in this order, the lowest free address first. A pool with both
	// families serves dual-stack Services.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=80
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self) || (self.contains('-') && self.split('-').size() == 2 && self.split('-').all(x, isIP(x)))",message="must be a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or an address (192.0.2.7), without blanks, zones, leading zeros or IPv4-mapped IPv6"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="has host bits set: write the network as 192.0.2.0/24, not as 192.0.2.1/24, or write a range"
	// +kubebuilder:validation:items:XValidation:rule="self.split('-').size() != 2 || !self.split('-').all(x, isIP(x)) || ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",message="mixes IPv4 and IPv6: both ends of a range must be of one family"
	// +listType=atomic
	Addresses []string `json:"addresses"`

	// Exclude lists addresses that are never handed out, in the same forms as addresses.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=80
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self) || (self.contains('-') && self.split('-').size() == 2 && self.split('-').all(x, isIP(x)))",message="must be a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or an address (192.0.2.7), without blanks, zones, leading zeros or IPv4-mapped IPv6"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="has host bits set: write the network as 192.0.2.0/24, not as 192.0.2.1/24, or write a range"
	// +kubebuilder:validation:items:XValidation:rule="self.split('-').size() != 2 || !self.split('-').all(x, isIP(x)) || ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",message="mixes IPv4 and IPv6: both ends of a range must be of one family"
	// +listType=atomic
	Exclude []string `json:"exclude,omitempty"`

	// AvoidBuggyIPs makes the automatic choice skip IPv4 addresses that end in .0 or .255,
	// which some old clients and routers take for broadcasts. They can still be asked for.
	// +optional
	// +kubebuilder:default=true
	AvoidBuggyIPs *bool `json:"avoidBuggyIPs,omitempty"`

	// AutoAssign false keeps the pool for Services that name it (annotation
	// ballast.dev/address-pool) or ask for one of its addresses.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// Drain true stops new assignments; Services that hold an address of this pool keep it.
	// +optional
	Drain bool `json:"drain,omitempty"`

	// ReclaimPolicy says what becomes of an address that a Service or AddressClaim holds when
	// this pool no longer hands it out, or is being deleted. Retain: the holder keeps it until
	// it goes or asks for another. Reassign: the holder gets another address from what is
	// left, or waits with a reason.
	// +optional
	// +kubebuilder:default=Retain
	ReclaimPolicy ReclaimPolicy `json:"reclaimPolicy,omitempty"`

	// ReuseDelay is how long a freed address is only for the namespace that had it last, so
	// that stale clients do not reach another tenant. The Service or AddressClaim that had it
	// gets it back at once; others of its namespace by name, or when nothing else is free.
	// 0s turns this off.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$')",message="must be a duration such as 500ms, 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^(0|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$') || (duration(self) >= duration('0s') && duration(self) <= duration('24h'))",message="must be between 0s and 24h"
	ReuseDelay *metav1.Duration `json:"reuseDelay,omitempty"`

	// ServiceAllocation says who may use this pool. Absent: every Service.
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// ServiceAllocation restricts a pool to some Services. Namespaces and namespaceSelectors
// are ORed and are the only security boundary: labels on Services are the tenant's own.
type ServiceAllocation struct {
	// Priority orders the pools that a Service may use: lower first. Absent or 0: last.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority *int32 `json:"priority,omitempty"`

	// Namespaces whose Services may use this pool.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// NamespaceSelectors choose, by their labels, namespaces whose Services may use this pool.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// ServiceSelectors choose, by their labels, the Services that may use this pool.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// MaxPerNamespace is how many addresses of this pool the Services and AddressClaims of
	// one namespace may hold together. A shared address counts once in each namespace, and
	// so does that of a claim and the Service bound to it. Lowering it takes no address
	// away. Absent: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxPerNamespace *int32 `json:"maxPerNamespace,omitempty"`
}

// AddressCounts are decimal strings, because an IPv6 pool outgrows 64 bits.
type AddressCounts struct {
	// Total is how many addresses may be handed out.
	// +optional
	Total string `json:"total,omitempty"`

	// Assigned is how many addresses Services hold of what spec contains; retained ones do not count.
	// +optional
	Assigned string `json:"assigned,omitempty"`

	// Available is total less those assigned addresses that spec still covers.
	// +optional
	Available string `json:"available,omitempty"`
}

// IPAddressPoolStatus is written by the controller, at most once a second.
type IPAddressPoolStatus struct {
	// IPv4 counts the pool's IPv4 addresses.
	// +optional
	IPv4 *AddressCounts `json:"ipv4,omitempty"`

	// IPv6 counts the pool's IPv6 addresses.
	// +optional
	IPv6 *AddressCounts `json:"ipv6,omitempty"`

	// HeldOnlyHere is how many addresses are held that this pool covers and no other, as a decimal string. While it is
	// neither absent nor "0", an admission policy refuses the deletion of the pool. It is written at once when it becomes "0". This version does not write it yet.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[0-9]+$`
	HeldOnlyHere string `json:"heldOnlyHere,omitempty"`

	// Retained lists, as merged ranges, the addresses that Services still hold though spec
	// no longer covers them. Who holds each stands in that Service's status.
	// +optional
	// +listType=atomic
	Retained []string `json:"retained,omitempty"`

	// ObservedAddresses are the entries of spec.addresses that the controller last took into
	// account. What Services hold of them belongs to this pool even after an edit.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	ObservedAddresses []string `json:"observedAddresses,omitempty"`

	// Conditions: Ready says whether the pool is in use as written; its reason is Ready,
	// Overlap, InvalidAddress, ReservedOverlap, Draining or Retained.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressPool is a set of addresses that the controller hands out to Services of type
// LoadBalancer. Assigning an address does not announce it: an L2Advertisement or a
// BGPAdvertisement that selects the pool does.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bpool
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Free4",type=string,JSONPath=`.status.ipv4.available`
// +kubebuilder:printcolumn:name="Free6",type=string,JSONPath=`.status.ipv6.available`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +required
	Spec IPAddressPoolSpec `json:"spec"`
	// +optional
	Status IPAddressPoolStatus `json:"status,omitzero"`
}

// IPAddressPoolList is a list of IPAddressPools.
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []IPAddressPool `json:"items"`
}
