// Package v1alpha1 holds the Go types of the API group ballast.dev, version v1alpha1,
// with their defaults and validation rules as markers, from which controller-gen makes
// the CustomResourceDefinitions, and the reasons that stand in conditions and events.
//
// It only describes: it never parses an address, selects a Service or talks to an API
// server. What the schema cannot check is checked by the controller and said in the
// Ready condition of the object.
//
// Lists of selectors are ORed; a list of names and a list of selectors over the same
// thing are ORed; different things are ANDed; absent or empty means all. Conditions of
// every kind but Speaker are written by the controller alone.
//
// +kubebuilder:object:generate=true
// +groupName=ballast.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "ballast.dev", Version: "v1alpha1"}

	// SchemeBuilder collects the functions that add this package's kinds to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds this package's kinds to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

// addKnownTypes registers every kind and its list.
func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&IPAddressPool{}, &IPAddressPoolList{},
		&L2Advertisement{}, &L2AdvertisementList{},
		&BGPAdvertisement{}, &BGPAdvertisementList{},
		&BGPPeer{}, &BGPPeerList{},
		&BFDProfile{}, &BFDProfileList{},
		&Community{}, &CommunityList{},
		&Settings{}, &SettingsList{},
		&AddressClaim{}, &AddressClaimList{},
		&Speaker{}, &SpeakerList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
