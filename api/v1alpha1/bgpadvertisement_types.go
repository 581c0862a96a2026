package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WeightByEndpoints says how a node tells its routers how many endpoints it has.
// +kubebuilder:validation:Enum=Off;NonTransitive;Transitive
type WeightByEndpoints string

const (
	// WeightOff sends no weight: routers treat all announcing nodes alike.
	WeightOff WeightByEndpoints = "Off"
	// WeightNonTransitive sends the link bandwidth extended community in its
	// non-transitive form (draft-ietf-idr-link-bandwidth).
	WeightNonTransitive WeightByEndpoints = "NonTransitive"
	// WeightTransitive sends the link bandwidth extended community in its transitive form.
	WeightTransitive WeightByEndpoints = "Transitive"
)

// BGPAdvertisementSpec says which addresses are announced to which BGP peers, and how.
type BGPAdvertisementSpec struct {
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

	// NodeSelectors choose the nodes that announce. Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Peers names the BGPPeers that are told. Absent: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`

	// AggregationLength is the prefix length of what is announced for an IPv4 address: 32
	// announces the address itself, 24 the /24 that contains it. An aggregate that does not
	// lie wholly in the pool, or that contains an excluded address, is not announced: the
	// address itself is, and the Ready condition says AggregateTooWide.
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is the same for IPv6.
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LocalPref is LOCAL_PREF (RFC 4271 section 5.1.5), sent to iBGP peers alone. Absent: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`

	// MED is MULTI_EXIT_DISC (RFC 4271 section 5.1.4); routers prefer the lower. Absent: not sent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// ASPathPrepend is how many additional times our AS number stands in the AS path; a
	// longer path is preferred less.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	ASPathPrepend *int32 `json:"asPathPrepend,omitempty"`

	// Communities to attach: standard (64512:100, RFC 1997), large (large:64512:1:2,
	// RFC 8092), a well-known name (no-export, no-advertise, no-export-subconfed, no-peer,
	// graceful-shutdown, blackhole, accept-own, llgr-stale, no-llgr), or the name of an alias
	// in a Community object.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})$') || self.matches('^large(:(0|[1-9][0-9]{0,9})){3}$') || self.matches('^[a-zA-Z]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$')",message="must be a standard community (64512:100), a large one (large:64512:1:2), a well-known name (no-export) or the name of an alias in a Community object"
	// +kubebuilder:validation:items:XValidation:rule="!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)",message="each part of a standard community is at most 65535; larger numbers need a large community (large:64512:1:2)"
	// +kubebuilder:validation:items:XValidation:rule="!self.matches('^large(:[0-9]{1,10}){3}$') || self.split(':').all(n, n == 'large' || int(n) <= 4294967295)",message="each part of a large community is at most 4294967295"
	Communities []string `json:"communities,omitempty"`

	// WeightByEndpoints attaches the node's number of local endpoints as link bandwidth, so
	// that routers with weighted ECMP send each node its share. It concerns Services with
	// externalTrafficPolicy Local.
	// +optional
	// +kubebuilder:default=Off
	WeightByEndpoints WeightByEndpoints `json:"weightByEndpoints,omitempty"`
}

// BGPAdvertisement announces addresses of pools to BGP peers: every eligible node
// announces, and the routers spread the traffic.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bbgpadv
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Spec BGPAdvertisementSpec `json:"spec,omitzero"`
	// +optional
	Status AdvertisementStatus `json:"status,omitzero"`
}

// BGPAdvertisementList is a list of BGPAdvertisements.
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []BGPAdvertisement `json:"items"`
}
