package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SpeakerStatus is what one node's speaker knows. That speaker alone writes it, at once on
// a transition and otherwise every 30 s; the controller only sets Alive to Unknown.
type SpeakerStatus struct {
	// Version of the speaker.
	// +optional
	Version string `json:"version,omitempty"`

	// Peers are the node's BGP sessions.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []SpeakerPeer `json:"peers,omitempty"`

	// Layer2 is what concerns announcements by ARP and NDP.
	// +optional
	Layer2 *SpeakerLayer2 `json:"layer2,omitempty"`

	// Conditions: Ready, ServiceProxyReady and Alive.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpeakerPeer is one BGP session of a node.
type SpeakerPeer struct {
	// Name of the BGPPeer.
	// +required
	Name string `json:"name"`

	// Address of the router; for an unnumbered session the one that was found, with its zone.
	// +optional
	Address string `json:"address,omitempty"`

	// State of the session (RFC 4271 section 8.2.2): Idle, Connect, Active, OpenSent,
	// OpenConfirm or Established.
	// +optional
	State string `json:"state,omitempty"`

	// Since is when the session entered its state.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// LastError is why the session last ended or could not be opened.
	// +optional
	LastError string `json:"lastError,omitempty"`

	// BFD is the state of the session's BFD (RFC 5880 section 6.2): AdminDown, Down, Init or
	// Up. Empty: no BFD.
	// +optional
	BFD string `json:"bfd,omitempty"`

	// BFDSession has more about the session's BFD. Absent: no BFD.
	// +optional
	BFDSession *SpeakerBFDSession `json:"bfdSession,omitempty"`

	// PeerASN is the router's AS number, as it last said.
	// +optional
	PeerASN int64 `json:"peerASN,omitempty"`

	// IPFamilies are those whose routes go over the session, while it is established.
	// +optional
	// +listType=atomic
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// NoNextHop are the families that the session is for, but for which the node has no next hop.
	// +optional
	// +listType=atomic
	NoNextHop []corev1.IPFamily `json:"noNextHop,omitempty"`

	// Flaps is how often the session left Established since the speaker started.
	// +optional
	Flaps int64 `json:"flaps,omitempty"`

	// AdvertisedIPv4 and AdvertisedIPv6 are how many prefixes the router gets.
	// +optional
	AdvertisedIPv4 int32 `json:"advertisedIPv4,omitempty"`
	// +optional
	AdvertisedIPv6 int32 `json:"advertisedIPv6,omitempty"`
}

// SpeakerBFDSession is one BFD session of a node (RFC 5880).
type SpeakerBFDSession struct {
	// Since is when the session entered its state.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// RemoteState is the router's state.
	// +optional
	RemoteState string `json:"remoteState,omitempty"`

	// Diagnostic says why the session is down (RFC 5880 section 4.1); empty: it is up, or never was.
	// +optional
	Diagnostic string `json:"diagnostic,omitempty"`

	// TransmitInterval and ReceiveInterval are the negotiated ones, in milliseconds.
	// +optional
	TransmitInterval int32 `json:"transmitInterval,omitempty"`
	// +optional
	ReceiveInterval int32 `json:"receiveInterval,omitempty"`

	// DetectionTime is how long the router may be silent, in milliseconds; 0 before it was heard.
	// +optional
	DetectionTime int32 `json:"detectionTime,omitempty"`

	// LastError says why no packets can be sent or received; empty: they can.
	// +optional
	LastError string `json:"lastError,omitempty"`
}

// SpeakerLayer2 is what concerns announcements by ARP and NDP.
type SpeakerLayer2 struct {
	// Interfaces on which the node can announce.
	// +optional
	// +listType=map
	// +listMapKey=name
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`
}

// SpeakerInterface is one network interface of a node.
type SpeakerInterface struct {
	// Name of the interface.
	// +required
	Name string `json:"name"`

	// MAC is the interface's hardware address, in the form 02:00:5e:10:00:01.
	// +optional
	MAC string `json:"mac,omitempty"`

	// Addresses of the interface, as prefixes: the stable global ones or, if there is none,
	// the stable link-local ones. Before other speakers take over from this node, each asks
	// for the first that is IPv4 or link-local and in a network of its own.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`

	// Up says whether the interface is up and has a carrier.
	// +optional
	Up bool `json:"up"`
}

// Speaker is what the speaker of one node publishes. It has the name of its Node and is
// owned by it. Users only read it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ballast,shortName=bspeaker
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Proxy",type=string,JSONPath=`.status.conditions[?(@.type=="ServiceProxyReady")].status`
// +kubebuilder:printcolumn:name="Alive",type=string,JSONPath=`.status.conditions[?(@.type=="Alive")].status`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Speaker struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Status SpeakerStatus `json:"status,omitzero"`
}

// SpeakerList is a list of Speakers.
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Speaker `json:"items"`
}
