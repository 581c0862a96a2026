package v1alpha1

// Annotations on Services that Ballast reads.
const (
	// AnnotationAddressPool names the IPAddressPool to take addresses from.
	AnnotationAddressPool = "ballast.dev/address-pool"
	// AnnotationLoadBalancerIPs is a comma list of the addresses wanted, at most one a family.
	AnnotationLoadBalancerIPs = "ballast.dev/loadBalancerIPs"
	// AnnotationAllowSharedIP is a sharing key: Services with the same one may have one address.
	AnnotationAllowSharedIP = "ballast.dev/allow-shared-ip"
	// AnnotationAllowSharedIPFrom is a comma list of other namespaces with whose Services
	// this one shares its address; each side must name the other.
	AnnotationAllowSharedIPFrom = "ballast.dev/allow-shared-ip-from"
	// AnnotationAddressClaim names the AddressClaim, of the same namespace, whose addresses
	// the Service wants.
	AnnotationAddressClaim = "ballast.dev/address-claim"
	// AnnotationAdopt, set to "true", gives Ballast a Service whose ingress another
	// implementation wrote.
	AnnotationAdopt = "ballast.dev/adopt"
)

// Annotations on Services that Ballast writes.
const (
	// AnnotationPool names the pool that the addresses are from. It is for people:
	// Ballast never reads it.
	AnnotationPool = "ballast.dev/ip-allocated-from-pool"
)

// Annotations on other objects that Ballast reads, and that kubectl ballast sets.
const (
	// AnnotationDrain, set to "true" on a Node, has it hand over all that it announces.
	AnnotationDrain = "ballast.dev/drain"
	// AnnotationRebalance, on a Speaker, is when its node was last asked to take its share of
	// the layer-2 addresses (RFC 3339). Another value than before asks anew; the value itself
	// means nothing.
	AnnotationRebalance = "ballast.dev/rebalance"
)

// FinalizerHeld holds an IPAddressPool while Services hold addresses of it.
const FinalizerHeld = "ballast.dev/held"

// PeerEstablished is the state of a BGP session that is up (RFC 4271 section 8.2.2).
const PeerEstablished = "Established"
