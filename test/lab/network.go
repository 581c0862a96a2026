package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Host is a machine of the lab: a network namespace with links to one or both networks.
type Host struct {
	// Name is n1, r1, cp, lan, wan.
	Name string
	// IPv4 and IPv6 are its addresses on the LAN (the WAN client's: on the WAN).
	IPv4, IPv6 netip.Addr
	ns         *netns
	ports      []port
	listener   net.Listener // of AddBadPeer, else nil
}

// port is one network card of a host: iface in its namespace, and the switch's end of the cable.
type port struct {
	iface, bridge, peer string
	v4, v6              netip.Prefix
}

// namespace is nil for a nil host.
func (h *Host) namespace() *netns {
	if h == nil {
		return nil
	}
	return h.ns
}

// Netns is the name of the host's network namespace, for `ip netns exec`.
func (h *Host) Netns() string { return h.ns.name }

// MAC is the hardware address of eth0, as the kernel prints it.
func (h *Host) MAC() string { return h.ports[0].mac() }

// MACOf is the hardware address of an interface; empty if there is no such one.
func (h *Host) MACOf(iface string) string {
	p, err := h.port(iface)
	if err != nil {
		return ""
	}
	return p.mac()
}

// otherClient is the client on the second network of Options.OtherLAN.
const otherClient = "lan2"

// Fixed last octets on the LAN (and on the WAN where it applies).
const (
	controlPlaneOctet = 2
	firstNodeOctet    = 11
	clientOctet       = 50
	secondCardOctet   = 61 // of the first node, with Options.SecondLAN; below 91
	// Hosts of AddHost.
	firstStrangerOctet = 91
	lastStrangerOctet  = 99
	router1Octet       = 254 // fe in IPv6
	router2Octet       = 253 // fd in IPv6
)

// at returns the address of the network with this last octet: .17 is ::17 in IPv6, so
// that people recognize it, except for the routers' .254 and .253, which are ::fe and ::fd.
func at(network netip.Prefix, octet int) netip.Prefix {
	b := network.Addr().AsSlice()
	switch {
	case network.Addr().Is4(), octet >= router2Octet:
		b[len(b)-1] = byte(octet)
	default:
		b[len(b)-2], b[len(b)-1] = byte(octet/100), byte(octet/10%10<<4|octet%10)
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, network.Bits())
}

// The switch's bridges. The island is what Partition splits off the LAN.
const (
	lanBridge    = "lan0"
	islandBridge = "lan1"
	wanBridge    = "wan0"
	otherBridge  = "lan2"
)

// plannedHost is a host before it exists.
type plannedHost struct {
	name     string
	octet    int
	onLAN    bool
	onWAN    bool
	forwards bool
	second   int // octet of a second card's address; 0: none
	onOther  bool
}

func (o Options) plan() []plannedHost {
	hosts := []plannedHost{
		{name: "cp", octet: controlPlaneOctet, onLAN: true},
		{name: "lan", octet: clientOctet, onLAN: true},
		{name: "wan", octet: clientOctet, onWAN: true},
	}
	if o.OtherLAN {
		hosts = append(hosts, plannedHost{name: otherClient, octet: clientOctet, onOther: true})
	}
	for i := range o.Nodes {
		node := plannedHost{
			name: fmt.Sprintf("n%d", i+1), octet: firstNodeOctet + i, onLAN: true, forwards: true, onOther: o.OtherLAN,
		}
		if o.SecondLAN {
			node.second = secondCardOctet + i
		}
		hosts = append(hosts, node)
	}
	for i := range o.Routers {
		hosts = append(hosts, plannedHost{name: fmt.Sprintf("r%d", i+1), octet: router1Octet - i, onLAN: true, onWAN: true, forwards: true})
	}
	return hosts
}

// build makes the namespaces, the two switches, all links and all routes.
func (l *Lab) build(ctx context.Context) error {
	hosts := l.opts.plan()
	if err := l.makeSwitch(ctx); err != nil {
		return err
	}
	for _, plan := range hosts {
		h, err := l.makeHost(ctx, plan)
		if err != nil {
			return fmt.Errorf("make host %s: %w", plan.name, err)
		}
		l.hosts[plan.name] = h
	}
	return nil
}

// newNetns makes and opens a namespace, with the kernel parameters of every host.
func (l *Lab) newNetns(ctx context.Context, host string) (*netns, error) {
	name := l.opts.Prefix + "-" + host
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add network namespace: %w: %s", err, strings.TrimSpace(string(out)))
	}
	ns, err := openNetns(name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.namespaces = append(l.namespaces, ns)
	l.mu.Unlock()
	return ns, ns.sysctl(map[string]string{
		"net.ipv4.conf.all.rp_filter":          "0",
		"net.ipv4.conf.default.rp_filter":      "0",
		"net.ipv4.conf.all.send_redirects":     "0",
		"net.ipv4.conf.default.send_redirects": "0",
		"net.ipv6.conf.all.accept_dad":         "0", // link-local addresses are usable at once
		"net.ipv6.conf.default.accept_dad":     "0",
		"net.ipv6.conf.all.accept_ra":          "0",
		"net.ipv6.conf.default.accept_ra":      "0",
	})
}

func (l *Lab) makeSwitch(ctx context.Context) error {
	ns, err := l.newNetns(ctx, "sw")
	if err != nil {
		return fmt.Errorf("make switch: %w", err)
	}
	l.sw = ns
	err = ns.ip(ctx,
		"link add name lan0 type bridge stp_state 0 forward_delay 0",
		"link add name lan1 type bridge stp_state 0 forward_delay 0",
		"link add name wan0 type bridge stp_state 0 forward_delay 0",
		"link add name lan2 type bridge stp_state 0 forward_delay 0",
		"link set lan0 up", "link set lan1 up", "link set wan0 up", "link set lan2 up")
	if err != nil {
		return fmt.Errorf("make switch: %w", err)
	}
	// Bridged frames must not pass through this namespace's iptables; absent without br_netfilter.
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		err := ns.sysctl(map[string]string{"net.bridge.bridge-nf-call-" + key: "0"})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make switch: %w", err)
		}
	}
	return nil
}

// makeHost makes a host with its cables; the caller keeps it.
func (l *Lab) makeHost(ctx context.Context, plan plannedHost) (*Host, error) {
	ns, err := l.newNetns(ctx, plan.name)
	if err != nil {
		return nil, err
	}
	h := &Host{Name: plan.name, ns: ns}
	if err := spreadFlows(ns, plan.octet); err != nil {
		return nil, err
	}
	if plan.onLAN {
		h.addPort(lanBridge, at(lanV4, plan.octet), at(lanV6, plan.octet))
	}
	if plan.onWAN {
		h.addPort(wanBridge, at(wanV4, plan.octet), at(wanV6, plan.octet))
	}
	if plan.second > 0 {
		h.addPort(lanBridge, at(lanV4, plan.second), at(lanV6, plan.second))
	}
	if plan.onOther {
		h.addPort(otherBridge, at(otherV4, plan.octet), at(otherV6, plan.octet))
	}
	h.IPv4, h.IPv6 = h.ports[0].v4.Addr(), h.ports[0].v6.Addr()
	if plan.forwards {
		err = ns.sysctl(map[string]string{
			"net.ipv4.ip_forward":              "1",
			"net.ipv6.conf.all.forwarding":     "1",
			"net.ipv6.conf.default.forwarding": "1",
		})
		if err != nil {
			return nil, err
		}
	}
	if err := h.plugIn(ctx, l.sw); err != nil {
		return nil, err
	}
	for _, p := range h.ports {
		if plan.forwards {
			if err := ns.sysctl(l.arpParameters(p.iface)); err != nil {
				return nil, err
			}
		}
	}
	return h, ns.ip(ctx, l.routes(h)...)
}

// spreadFlows makes a host choose among several next hops by flow, as routers do, and each host in
// a way of its own: else the flows that one has sent to the second would all go the same way there.
func spreadFlows(ns *netns, seed int) error {
	err := ns.sysctl(map[string]string{
		"net.ipv4.fib_multipath_hash_policy": "1",
		"net.ipv6.fib_multipath_hash_policy": "1",
	})
	if err != nil {
		return err
	}
	err = ns.sysctl(map[string]string{"net.ipv4.fib_multipath_hash_seed": strconv.Itoa(1000 + seed)}) // both families
	if errors.Is(err, os.ErrNotExist) {
		return nil // before Linux 6.11
	}
	return err
}

// arpParameters make an interface of a node with two cards on one LAN answer for its own
// addresses alone.
func (l *Lab) arpParameters(iface string) map[string]string {
	ignore, announce := "0", "0"
	if l.opts.SecondLAN {
		ignore, announce = "1", "2"
	}
	return map[string]string{
		"net.ipv4.conf." + iface + ".arp_ignore":   ignore,
		"net.ipv4.conf." + iface + ".arp_announce": announce,
	}
}

func (h *Host) addPort(bridge string, v4, v6 netip.Prefix) {
	iface := fmt.Sprintf("eth%d", len(h.ports))
	h.ports = append(h.ports, port{iface: iface, bridge: bridge, peer: h.Name + "-" + iface, v4: v4, v6: v6})
}

// mac is a recognizable hardware address: its last octet is the IPv4 address's.
func (p port) mac() string {
	network := 10
	switch p.bridge {
	case wanBridge:
		network = 20
	case otherBridge:
		network = 30
	}
	return fmt.Sprintf("02:00:00:%02d:00:%02x", network, p.v4.Addr().As4()[3])
}

// plugIn makes the cables between the host and the switch.
func (h *Host) plugIn(ctx context.Context, sw *netns) error {
	cables, inside := []string{}, []string{"link set lo up"}
	for i, p := range h.ports {
		route := "" // a second card on a network is no way out, whether it is up or not
		if i > 0 && p.bridge == h.ports[0].bridge {
			route = " noprefixroute"
		}
		cables = append(cables,
			fmt.Sprintf("link add name %s type veth peer name %s address %s netns %s", p.peer, p.iface, p.mac(), h.ns.name),
			fmt.Sprintf("link set %s master %s up", p.peer, p.bridge))
		inside = append(inside,
			fmt.Sprintf("addr add %s dev %s%s", p.v4, p.iface, route),
			fmt.Sprintf("addr add %s dev %s nodad%s", p.v6, p.iface, route),
			fmt.Sprintf("link set %s up", p.iface))
	}
	if err := sw.ip(ctx, cables...); err != nil {
		return err
	}
	return h.ns.ip(ctx, inside...)
}

// routes returns the host's static routes as ip commands: to the other nodes' pods, and by default to the routers.
func (l *Lab) routes(h *Host) []string {
	lines := []string{}
	if l.opts.isNode(h.Name) || h.Name == "cp" {
		for i := range l.opts.Nodes {
			if h.Name == fmt.Sprintf("n%d", i+1) {
				continue
			}
			v4, v6 := podCIDRs(i)
			lines = append(lines,
				fmt.Sprintf("route replace %s via %s", v4, at(lanV4, firstNodeOctet+i).Addr()),
				fmt.Sprintf("route replace %s via %s", v6, at(lanV6, firstNodeOctet+i).Addr()))
		}
	}
	if l.opts.isRouter(h.Name) || l.opts.Routers == 0 || h.ports[0].bridge == otherBridge {
		return lines
	}
	v4, v6 := lanV4, lanV6
	if h.Name == "wan" {
		v4, v6 = wanV4, wanV6
	}
	hops4, hops6 := "", ""
	for i := range l.opts.Routers {
		hops4 += fmt.Sprintf(" nexthop via %s", at(v4, router1Octet-i).Addr())
		hops6 += fmt.Sprintf(" nexthop via %s", at(v6, router1Octet-i).Addr())
	}
	return append(lines, "route replace default"+hops4, "route replace ::/0"+hops6)
}

// isNode says whether a host of that name is planned as a node, isRouter as a router.
func (o Options) isNode(host string) bool { return o.plans(host, "n", o.Nodes) }

func (o Options) isRouter(host string) bool { return o.plans(host, "r", o.Routers) }

func (o Options) plans(host, letter string, count int) bool {
	for i := range count {
		if host == fmt.Sprintf("%s%d", letter, i+1) {
			return true
		}
	}
	return false
}

// podCIDRs are those of node number i, counted from 0.
func podCIDRs(i int) (v4, v6 netip.Prefix) {
	v4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i + 1), 0}), 24)
	return v4, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i+1))
}

// port finds a host's port by interface name.
func (h *Host) port(iface string) (port, error) {
	for _, p := range h.ports {
		if p.iface == iface {
			return p, nil
		}
	}
	return port{}, fmt.Errorf("find interface %s of %s: no such interface", iface, h.Name)
}
