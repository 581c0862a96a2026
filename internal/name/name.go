// Package name gives the things that Ballast talks about names of distinct types, so
// that a pool's name cannot be passed where a peer's is meant. Values are comparable
// and serve as map keys. It does no I/O and holds no state.
package name

// ServiceKey names a Service. The zero value names none.
type ServiceKey struct {
	Namespace, Name string
}

// String returns namespace/name.
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Less orders keys by namespace, then name.
func (k ServiceKey) Less(o ServiceKey) bool {
	if k.Namespace != o.Namespace {
		return k.Namespace < o.Namespace
	}
	return k.Name < o.Name
}

// NodeName is the metadata.name of a Node, and of the Speaker that runs on it.
type NodeName string

// PoolName is the metadata.name of an IPAddressPool.
type PoolName string

// PeerName is the metadata.name of a BGPPeer.
type PeerName string

// AdvertisementName is the metadata.name of an L2Advertisement or a BGPAdvertisement.
type AdvertisementName string
