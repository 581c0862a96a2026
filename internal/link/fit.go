package link

import "strings"

// Unfit says why i is no place to announce addresses on, in a few words for people; an empty
// string means that it is fit. A fit interface leads to other hosts on an Ethernet link.
// These are not, in the order in which they are asked:
//
//   - the loopback interface, and one that is down or has no carrier;
//   - one without an Ethernet address, or that does not resolve neighbors: layer-3 tunnels,
//     WireGuard, tun, dummy interfaces such as kube-ipvs0 and nodelocaldns;
//   - the tunnels that do have an Ethernet address (VXLAN, Geneve, GRE taps) and taps;
//   - a port of a bridge, bond or team: the bridge or bond is the place. A port of a VRF is
//     fit, since a VRF is no layer-2 device;
//   - what container engines and CNI plugins name as theirs, see engineName;
//   - a veth or netkit pair's end that leads to a pod. An end leads to a pod unless it holds
//     a global address with neighbors in its prefix: the host's ends have no address, or a
//     link-local one, or one with a prefix of its whole length (Calico's 169.254.1.1/32,
//     the gateway's /32 of the ptp plugin), while a node that itself runs in a container or
//     a network namespace has a veth with a prefix as its uplink.
func (i Interface) Unfit() string {
	switch {
	case i.Loopback:
		return "is the loopback interface"
	case !i.Up:
		return "is down"
	case i.MAC == MAC{}:
		return "has no Ethernet address"
	case i.NoARP:
		return "does not resolve neighbors"
	case isTunnel(i.Kind):
		return "is a tunnel"
	case isAggregate(i.Master):
		return "is a port of a " + i.Master
	case engineName(i.Name):
		return "belongs to a container engine or CNI plugin"
	case isPair(i.Kind) && !i.hasNeighbors():
		return "leads to a pod"
	}
	return ""
}

// hasNeighbors says whether i has a global address whose prefix holds other hosts too.
func (i Interface) hasNeighbors() bool {
	for _, a := range i.Addresses {
		if a.Global && !a.Prefix.IsSingleIP() {
			return true
		}
	}
	return false
}

func isTunnel(kind string) bool {
	switch kind {
	case "vxlan", "geneve", "bareudp", "gretap", "ip6gretap", "erspan", "ip6erspan", "gre", "ip6gre",
		"ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm", "gtp", "wireguard", "tuntap", "l2tp":
		return true
	}
	return false
}

func isAggregate(master string) bool {
	switch master {
	case "bridge", "bond", "team", "openvswitch":
		return true
	}
	return false
}

func isPair(kind string) bool { return kind == "veth" || kind == "netkit" }

// engineName says whether a container engine or CNI plugin names its interfaces so. The
// names of bridges that people make for their uplinks (br0, br-ex, vmbr0) are not among them.
func engineName(name string) bool {
	for _, prefix := range []string{
		"docker", "podman", "nerdctl", "virbr", "lxcbr", "lxdbr", "incusbr", // engines
		"cni", "cbr0", "kube-", "nodelocaldns", "cali", "tunl", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali",
		"flannel", "cilium", "lxc", "antrea", "ovn-k8s-", "weave", "vethwe", "datapath",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return isDockerNetwork(name)
}

// isDockerNetwork recognizes the bridge of a user-defined Docker network: br- and the first
// twelve digits of its identifier.
func isDockerNetwork(name string) bool {
	id, found := strings.CutPrefix(name, "br-")
	return found && len(id) == 12 && strings.Trim(id, "0123456789abcdef") == ""
}
