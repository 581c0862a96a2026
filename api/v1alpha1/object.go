package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Conditions returns where the conditions of the object's status stand.
func (o *IPAddressPool) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *L2Advertisement) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *BGPAdvertisement) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *BGPPeer) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *BFDProfile) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *Community) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *Settings) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *Speaker) Conditions() *[]metav1.Condition { return &o.Status.Conditions }

// Conditions returns where the conditions of the object's status stand.
func (o *AddressClaim) Conditions() *[]metav1.Condition { return &o.Status.Conditions }
