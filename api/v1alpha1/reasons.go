package v1alpha1

// Reason says in one word why something is as it is. It is used, unchanged, as a
// condition's reason, an event's reason and a log value. Reasons are part of the API:
// more may be added, none changes its meaning.
type Reason string

// Condition types on Services.
const (
	// ConditionAllocated says whether the Service holds the addresses that it asked for.
	// The controller writes it.
	ConditionAllocated = "ballast.dev/Allocated"
	// ConditionAnnounced says whether some node announces the Service's addresses, and
	// which. The layer-2 owner's speaker writes it, or else the controller.
	ConditionAnnounced = "ballast.dev/Announced"
)

// Condition types on Ballast's own kinds.
const (
	// ConditionReady says that an object is valid and in use as written.
	ConditionReady = "Ready"
	// ConditionServiceProxyReady, on a Speaker, says that the node's service proxy
	// reports that it can deliver.
	ConditionServiceProxyReady = "ServiceProxyReady"
	// ConditionAlive, on a Speaker, is True while it refreshes its status; the
	// controller sets it to Unknown after 90 s without.
	ConditionAlive = "Alive"
)

// Reasons of a condition that is True.
const (
	// ReasonAllocated: the Service holds all addresses that it asked for.
	ReasonAllocated Reason = "Allocated"
	// ReasonAnnounced: at least one node announces every address.
	ReasonAnnounced Reason = "Announced"
	// ReasonReady: the object is valid and in use.
	ReasonReady Reason = "Ready"
)

// Reasons of Allocated=False.
const (
	// ReasonNoPool: no pool exists that the Service may use automatically.
	ReasonNoPool Reason = "NoPool"
	// ReasonPoolExhausted: every pool that the Service may use is full.
	ReasonPoolExhausted Reason = "PoolExhausted"
	// ReasonQuotaExceeded: the namespace holds maxPerNamespace addresses of the pool.
	ReasonQuotaExceeded Reason = "QuotaExceeded"
	// ReasonAddressInUse: the requested address belongs to another Service.
	ReasonAddressInUse Reason = "AddressInUse"
	// ReasonAddressNotInPool: the requested address lies in no pool, or not in the requested one.
	ReasonAddressNotInPool Reason = "AddressNotInPool"
	// ReasonAddressExcluded: the pool never hands the requested address out.
	ReasonAddressExcluded Reason = "AddressExcluded"
	// ReasonAddressReserved: the address is a node's, or lies in a Service or pod CIDR.
	ReasonAddressReserved Reason = "AddressReserved"
	// ReasonPoolNotAllowed: the pool's serviceAllocation does not admit the Service.
	ReasonPoolNotAllowed Reason = "PoolNotAllowed"
	// ReasonFamilyUnavailable: no usable pool has addresses of a family that the Service needs.
	ReasonFamilyUnavailable Reason = "FamilyUnavailable"
	// ReasonSharingConflict: the address is shared, but not on these terms.
	ReasonSharingConflict Reason = "SharingConflict"
	// ReasonInvalidRequest: an annotation or field of the Service makes no sense.
	ReasonInvalidRequest Reason = "InvalidRequest"
	// ReasonDraining: the pool takes no new assignment (drain: true).
	ReasonDraining Reason = "Draining"
	// ReasonDuplicate: another Service held the same address first.
	ReasonDuplicate Reason = "Duplicate"
	// ReasonClaimMissing: the AddressClaim that the Service names does not exist, or has no address yet.
	ReasonClaimMissing Reason = "ClaimMissing"
	// ReasonStatusConflict: something else keeps changing the Service's ingress.
	ReasonStatusConflict Reason = "StatusConflict"
)

// Reasons of Announced=False.
const (
	// ReasonNotAllocated: the Service no longer holds an address that could be announced.
	ReasonNotAllocated Reason = "NotAllocated"
	// ReasonNoAdvertisement: no L2Advertisement or BGPAdvertisement selects the Service and its pool.
	ReasonNoAdvertisement Reason = "NoAdvertisement"
	// ReasonNoEligibleNode: no node that an advertisement selects can announce.
	ReasonNoEligibleNode Reason = "NoEligibleNode"
	// ReasonAllNodesExcluded: every candidate carries node.kubernetes.io/exclude-from-external-load-balancers.
	ReasonAllNodesExcluded Reason = "AllNodesExcluded"
	// ReasonNoInterface: no candidate has an interface that is up and matches.
	ReasonNoInterface Reason = "NoInterface"
	// ReasonInterfaceDeaf: the owner's interface is up, but nobody answers it there, and no other node
	// can take its place.
	ReasonInterfaceDeaf Reason = "InterfaceDeaf"
	// ReasonNoEndpoints: no endpoint of the Service is ready or serving.
	ReasonNoEndpoints Reason = "NoEndpoints"
	// ReasonServiceProxyNotReady: no node that could announce has a service proxy that can
	// deliver. Also of a Speaker's ServiceProxyReady=False.
	ReasonServiceProxyNotReady Reason = "ServiceProxyNotReady"
	// ReasonSessionsDown: no selected BGP session is established.
	ReasonSessionsDown Reason = "SessionsDown"
	// ReasonNoNextHop: no node has a next hop of the address's family.
	ReasonNoNextHop Reason = "NoNextHop"
)

// Reasons of Announced that warn while it is True; the conflicts also of Announced=False.
const (
	// ReasonServiceProxyUnknown: nobody listens where the owner's service proxy should; the
	// address is announced all the same. Also of a Speaker's ServiceProxyReady=True.
	ReasonServiceProxyUnknown Reason = "ServiceProxyUnknown"
	// ReasonNotDelivered: connections to the address, tried by the owner itself before its first
	// announcement, did not get through its service proxy; the address is announced all the same.
	ReasonNotDelivered Reason = "NotDelivered"
	// ReasonAddressConflict: another host uses the address. False: it did before the address
	// was announced for the first time, which it therefore is not. True: it came later; the
	// owner goes on answering.
	ReasonAddressConflict Reason = "AddressConflict"
	// ReasonSplitOwner: another node answers for the address too. Either its speaker and the owner's do
	// not hear each other, and one of them is about to give way, or it has not yet heard who owns.
	ReasonSplitOwner Reason = "SplitOwner"
	// ReasonStrictARPMissing: as AddressConflict, but the other host is a node of the cluster,
	// which answers though it should not (arp_ignore is 0).
	ReasonStrictARPMissing Reason = "StrictARPMissing"
)

// Reasons on configuration objects.
const (
	// ReasonOverlap: a pool contains addresses that an older pool contains.
	ReasonOverlap Reason = "Overlap"
	// ReasonInvalidAddress: an entry is no address, range or CIDR, or its range is reversed.
	ReasonInvalidAddress Reason = "InvalidAddress"
	// ReasonReservedOverlap: a pool contains node addresses, Service or pod CIDRs.
	ReasonReservedOverlap Reason = "ReservedOverlap"
	// ReasonRetained: Services hold addresses that the pool's spec no longer covers.
	ReasonRetained Reason = "Retained"
	// ReasonAggregateTooWide: an aggregate does not lie wholly in the pool; host routes are announced.
	ReasonAggregateTooWide Reason = "AggregateTooWide"
	// ReasonAttributeConflict: two advertisements want different values of one attribute for one prefix.
	ReasonAttributeConflict Reason = "AttributeConflict"
	// ReasonRouterIDConflict: an older peer of the same node names another router ID.
	ReasonRouterIDConflict Reason = "RouterIDConflict"
	// ReasonSecretMissing: the peer's passwordSecret is absent or of the wrong form.
	ReasonSecretMissing Reason = "SecretMissing"
	// ReasonProfileMissing: the peer's bfdProfile does not exist.
	ReasonProfileMissing Reason = "ProfileMissing"
	// ReasonNoBFD: graceful restart without BFD, a warning while Ready is True: routers keep the routes of a dead node.
	ReasonNoBFD Reason = "NoBFD"
	// ReasonPoolMissing: a pool that an advertisement names does not exist.
	ReasonPoolMissing Reason = "PoolMissing"
	// ReasonPeerMissing: a peer that an advertisement names does not exist.
	ReasonPeerMissing Reason = "PeerMissing"
	// ReasonRefreshed: the speaker has refreshed its status in time (Alive=True).
	ReasonRefreshed Reason = "Refreshed"
	// ReasonNotJoined: the speaker is not in touch with the others yet (Ready=False).
	ReasonNotJoined Reason = "NotJoined"
	// ReasonSilent: the speaker has not refreshed its status for too long (Alive=Unknown).
	ReasonSilent Reason = "Silent"
	// ReasonInvalid: a field or selector of the object makes no sense.
	ReasonInvalid Reason = "Invalid"
)
