package link

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func address(prefix string) Address {
	p := netip.MustParsePrefix(prefix)
	return Address{Prefix: p, Global: p.Addr().IsGlobalUnicast(), Stable: true}
}

func TestUnfit(t *testing.T) {
	t.Parallel()
	uplink := Interface{
		Name: "eth0", Index: 2, MAC: MAC{2, 0, 0, 0, 0, 1}, Kind: "device", Up: true,
		Addresses: []Address{address("192.0.2.1/24")},
	}
	with := func(change func(*Interface)) Interface {
		i := uplink
		change(&i)
		return i
	}
	named := func(name, kind string, prefixes ...string) Interface {
		return with(func(i *Interface) {
			i.Name, i.Kind, i.Addresses = name, kind, nil
			for _, p := range prefixes {
				i.Addresses = append(i.Addresses, address(p))
			}
		})
	}
	tests := []struct {
		name string
		in   Interface
		want string
	}{
		{"hardware with an address is fit", uplink, ""},
		{"hardware without an address is fit", named("eth1", "device"), ""},
		{"a VLAN is fit", named("eth0.7", "vlan", "192.0.2.1/24"), ""},
		{"a bond is fit", named("bond0", "bond"), ""},
		{"the bridge that an operator put the uplink into is fit", named("br0", "bridge", "192.0.2.1/24"), ""},
		{"OVN's external bridge is fit", named("br-ex", "openvswitch", "192.0.2.1/24"), ""},
		{"a port of a VRF is fit", with(func(i *Interface) { i.Master = "vrf" }), ""},
		{"a veth with an on-link prefix is a node's uplink in a container", named("eth0", "veth", "192.0.2.1/24"), ""},
		{"a veth with an IPv6 prefix alone is one too", named("eth0", "veth", "fe80::1/64", "2001:db8::1/64"), ""},
		{"loopback is unfit", with(func(i *Interface) { i.Loopback = true }), "is the loopback interface"},
		{"an interface that is down is unfit", with(func(i *Interface) { i.Up = false }), "is down"},
		{"WireGuard has no Ethernet address", with(func(i *Interface) { i.MAC = MAC{} }), "has no Ethernet address"},
		{"kube-ipvs0 does not resolve neighbors", with(func(i *Interface) { i.NoARP = true }), "does not resolve neighbors"},
		{"a VXLAN tunnel is unfit", named("flannel.1", "vxlan", "10.244.0.0/32"), "is a tunnel"},
		{"a tap is unfit", named("tap0", "tuntap", "192.0.2.1/24"), "is a tunnel"},
		{"a port of a bridge is unfit", with(func(i *Interface) { i.Master = "bridge" }), "is a port of a bridge"},
		{"a port of a bond is unfit", with(func(i *Interface) { i.Master = "bond" }), "is a port of a bond"},
		{"Docker's bridge is unfit", named("docker0", "bridge", "172.17.0.1/16"), "belongs to a container engine or CNI plugin"},
		{"a bridge of a Docker network is unfit", named("br-0123456789ab", "bridge", "172.18.0.1/16"), "belongs to a container engine or CNI plugin"},
		{"the bridge plugin's bridge is unfit", named("cni0", "bridge", "10.244.0.1/24"), "belongs to a container engine or CNI plugin"},
		{"Cilium's host device is unfit", named("cilium_host", "veth", "10.0.0.1/24"), "belongs to a container engine or CNI plugin"},
		{"a pod's veth without an address is unfit", named("veth12ab", "veth"), "leads to a pod"},
		{"a pod's veth with a link-local address is unfit", named("veth12ab", "veth", "fe80::1/64", "169.254.1.1/16"), "leads to a pod"},
		{"a pod's veth with a gateway's host prefix is unfit", named("veth12ab", "veth", "10.244.0.1/32", "fd00::1/128"), "leads to a pod"},
		{"a pod's netkit device is unfit", named("nk0", "netkit"), "leads to a pod"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.in.Unfit(); got != tt.want {
				t.Errorf("Unfit() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSnapshotHoldsWhatNetlinkSays(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	attributes := func(index int, name string, flags uint32, mac net.HardwareAddr, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Index: index, Name: name, RawFlags: flags, HardwareAddr: mac, MasterIndex: master}
	}
	cidr := func(s string) *net.IPNet {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	got := snapshot([]netlink.Link{
		&netlink.Veth{LinkAttrs: attributes(3, "port", up, mac, 2)},
		&netlink.Bridge{LinkAttrs: attributes(2, "br0", unix.IFF_UP, mac, 0)},
		&netlink.Device{LinkAttrs: attributes(1, "lo", up|unix.IFF_LOOPBACK, make(net.HardwareAddr, 6), 0)},
		&netlink.Wireguard{LinkAttrs: attributes(4, "wg0", up|unix.IFF_NOARP, nil, 0)},
	}, []netlink.Addr{
		{IPNet: cidr("2001:db8::1/64"), LinkIndex: 2, Flags: unix.IFA_F_TENTATIVE},
		{IPNet: cidr("2001:db8::2/64"), LinkIndex: 2, Flags: unix.IFA_F_TEMPORARY},
		{IPNet: cidr("192.0.2.2/24"), LinkIndex: 2, Flags: unix.IFA_F_SECONDARY},
		{IPNet: cidr("192.0.2.1/24"), LinkIndex: 2, Flags: unix.IFA_F_PERMANENT},
		{IPNet: cidr("fe80::1/64"), LinkIndex: 2, Scope: unix.RT_SCOPE_LINK},
		{IPNet: nil, LinkIndex: 2},
	})
	prefix := netip.MustParsePrefix
	want := Snapshot{
		{Name: "br0", Index: 2, MAC: MAC(mac), Kind: "bridge", Addresses: []Address{
			{prefix("192.0.2.1/24"), true, true},
			{prefix("192.0.2.2/24"), true, true},
			{prefix("2001:db8::1/64"), true, false},
			{prefix("2001:db8::2/64"), true, false},
			{prefix("fe80::1/64"), false, true},
		}},
		{Name: "lo", Index: 1, Kind: "device", Up: true, Loopback: true},
		{Name: "port", Index: 3, MAC: MAC(mac), Kind: "veth", Master: "bridge", Up: true},
		{Name: "wg0", Index: 4, Kind: "wireguard", Up: true, NoARP: true},
	}
	if !got.Equal(want) {
		t.Errorf("snapshot() =\n%+v, want\n%+v", got, want)
	}
	if i, ok := got.Find("port"); !ok || i.Index != 3 {
		t.Errorf("Find(port) = %+v, %v", i, ok)
	}
	if _, ok := got.Find("eth9"); ok {
		t.Error("Find(eth9) found something")
	}
	want[0].Addresses = want[0].Addresses[1:]
	if got.Equal(want) {
		t.Error("snapshots with other addresses are equal")
	}
}

func TestMACIsWrittenInTheUsualForm(t *testing.T) {
	t.Parallel()
	if got := (MAC{0x02, 0xab, 0, 0x0f, 0xf0, 1}).String(); got != "02:ab:00:0f:f0:01" {
		t.Errorf("String() = %s", got)
	}
}
