// Command controller assigns addresses from IPAddressPools to Services of type
// LoadBalancer and writes the conditions of Ballast's objects. It never writes a
// Service's spec, and of Services that are not Ballast's it writes nothing.
package main

// What the controller may do, from which controller-gen makes config/rbac/controller_role.yaml.
//
// It reads what decides over allocation and announcement:
// +kubebuilder:rbac:groups="",resources=services;nodes;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=ballast.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;bfdprofiles;communities;settings;speakers;addressclaims,verbs=get;list;watch
//
// It writes status, and nowhere a Service itself:
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups=ballast.dev,resources=ipaddresspools/status;l2advertisements/status;bgpadvertisements/status;bgppeers/status;bfdprofiles/status;communities/status;settings/status;speakers/status;addressclaims/status,verbs=update;patch
//
// A finalizer holds a pool while Services hold its addresses:
// +kubebuilder:rbac:groups=ballast.dev,resources=ipaddresspools;ipaddresspools/finalizers,verbs=update;patch
//
// Events, the recorder's and leader election's:
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
//
// In Ballast's namespace alone: the lease, BGP passwords (whether they are there), and
// the gossip key, the one Secret that it makes and rotates:
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=ballast-system,resources=leases,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups="",namespace=ballast-system,resources=secrets,verbs=get;list;watch;create
// +kubebuilder:rbac:groups="",namespace=ballast-system,resources=secrets,resourceNames=ballast-gossip,verbs=update
