// Command speaker announces the addresses that Services hold, from the node that it runs
// on: by ARP and NDP on the local network, and by BGP to routers. It never assigns an
// address and never touches the data path.
package main

// What the speaker may do, from which controller-gen makes config/rbac/speaker_role.yaml.
// The ValidatingAdmissionPolicies in config/policy narrow its writes further: to one
// condition of a Service, and to the Speaker of its own node.
//
// It reads what decides over announcement:
// +kubebuilder:rbac:groups="",resources=services;nodes;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=ballast.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;bfdprofiles;communities;settings;speakers,verbs=get;list;watch
//
// It writes the condition ballast.dev/Announced of Services whose owner it is:
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
//
// It makes its own Speaker object, owned by its Node, and writes its status:
// +kubebuilder:rbac:groups=ballast.dev,resources=speakers,verbs=create;update;patch
// +kubebuilder:rbac:groups=ballast.dev,resources=speakers/status,verbs=update;patch
//
// Events:
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
//
// In Ballast's namespace alone: BGP passwords and the gossip key, and whether its pod and
// DaemonSet live on when it is told to stop:
// +kubebuilder:rbac:groups="",namespace=ballast-system,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",namespace=ballast-system,resources=pods,verbs=get
// +kubebuilder:rbac:groups=apps,namespace=ballast-system,resources=daemonsets,verbs=get
