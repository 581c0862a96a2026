package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// LAN is one of the lab's networks of nodes.
type LAN int

// The networks: the one that every lab has, and that of Options.OtherLAN.
const (
	FirstLAN LAN = iota
	OtherLAN
)

func (n LAN) bridge() string {
	if n == OtherLAN {
		return otherBridge
	}
	return lanBridge
}

// Cables are the switch's ends of the cables of these hosts on a network; of no host: of all.
func (l *Lab) Cables(lan LAN, hosts ...string) []string {
	var out []string
	for _, h := range l.allHosts() {
		if len(hosts) > 0 && !slices.Contains(hosts, h.Name) {
			continue
		}
		for _, p := range h.ports {
			if p.bridge == lan.bridge() {
				out = append(out, p.peer)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Interfaces are a host's interfaces on a network.
func (h *Host) Interfaces(lan LAN) []string {
	var out []string
	for _, p := range h.ports {
		if p.bridge == lan.bridge() {
			out = append(out, p.iface)
		}
	}
	return out
}

// Lane is a way through the switch: frames that come in by one of the cables From and leave by one of To (none: by
// any). Match narrows them down in the words of nftables, for example "tcp dport 80".
type Lane struct {
	From, To []string
	Match    string
}

// Block drops the frames of the lanes, until Unblock. Blocks of different names do not know of each other, so that
// they may overlap and end in any order; links stay up, and no host can notice but by what does not come.
func (l *Lab) Block(ctx context.Context, name string, lanes ...Lane) error {
	var text strings.Builder
	fmt.Fprintf(&text, "table bridge block_%s {\n chain forward {\n", name)
	text.WriteString(" type filter hook forward priority 0; policy accept;\n")
	for _, lane := range lanes {
		fmt.Fprintf(&text, " %s %s %s drop\n", ends("iifname", lane.From), ends("oifname", lane.To), lane.Match)
	}
	text.WriteString(" }\n}\n")
	return l.sw.nft(ctx, text.String())
}

// ends matches interfaces; none: all.
func ends(key string, cables []string) string {
	if len(cables) == 0 {
		return ""
	}
	return key + ` { "` + strings.Join(cables, `", "`) + `" }`
}

// Unblock ends a Block.
func (l *Lab) Unblock(ctx context.Context, name string) error {
	return l.sw.nft(ctx, fmt.Sprintf("add table bridge block_%s\ndelete table bridge block_%s\n", name, name))
}

// gossipPorts are the speakers': gossip over TCP and UDP, heartbeats over UDP.
const gossipPorts = "{ 7947, 7948 }"

// GossipMatches match the speakers' gossip and heartbeats, for Lane.
func GossipMatches() []string {
	const match = "meta l4proto { tcp, udp } th "
	return []string{match + "dport " + gossipPorts, match + "sport " + gossipPorts}
}

// RejectGossip has a firewall on the node refuse the speakers' gossip and heartbeats both ways, as one does that says
// so: TCP is reset, UDP is answered by ICMP. AcceptGossip ends it, and so does the loss of power.
func (n *Node) RejectGossip(ctx context.Context) error {
	chain := func(hook string) string {
		return fmt.Sprintf(" chain %s {\n type filter hook %s priority -10; policy accept;\n"+
			" tcp dport %s reject with tcp reset\n udp dport %s reject\n }\n", hook, hook, gossipPorts, gossipPorts)
	}
	return n.ns.nft(ctx, "table inet lab_reject {\n"+chain("input")+chain("output")+"}\n")
}

// AcceptGossip undoes RejectGossip.
func (n *Node) AcceptGossip(ctx context.Context) error {
	return n.ns.nft(ctx, "add table inet lab_reject\ndelete table inet lab_reject\n")
}

// SetMask gives eth0's IPv4 address another prefix length than its network's. ResetMask undoes it.
func (n *Node) SetMask(ctx context.Context, bits int) error {
	a := n.address()
	return n.changeAddress(ctx, netip.PrefixFrom(a, n.ports[0].v4.Bits()), netip.PrefixFrom(a, bits))
}

// ResetMask undoes SetMask with that prefix length.
func (n *Node) ResetMask(ctx context.Context, bits int) error {
	a := n.address()
	err := n.changeAddress(ctx, netip.PrefixFrom(a, bits), netip.PrefixFrom(a, n.ports[0].v4.Bits()))
	return errors.Join(err, n.ns.ip(ctx, n.lab.routes(n.Host)...))
}

// Renumber gives the node another IPv4 address in place of the one it has, on eth0 and in the Node's status. The
// address it had at first undoes it.
func (n *Node) Renumber(ctx context.Context, to netip.Addr) error {
	bits, from := n.ports[0].v4.Bits(), n.address()
	n.mu.Lock()
	n.renumbered = to
	n.mu.Unlock()
	if err := n.changeAddress(ctx, netip.PrefixFrom(from, bits), netip.PrefixFrom(to, bits)); err != nil {
		return err
	}
	pods, _ := podCIDRs(n.number)
	errs := []error{n.ns.ip(ctx, n.lab.routes(n.Host)...)}
	for _, h := range n.lab.allHosts() {
		if h != n.Host && (n.lab.opts.isNode(h.Name) || h.Name == "cp") {
			// Also if the mask of that host says that it is not on its network.
			errs = append(errs, h.ns.ip(ctx, fmt.Sprintf("route replace %s via %s dev eth0 onlink", pods, to)))
		}
	}
	errs = append(errs, n.publishAddresses(ctx))
	return errors.Join(errs...)
}

// StandApart has eth0 of the node on an IPv4 network of its own, as in a rack of its own: it shares none with anybody.
// Routes lead there and back. It keeps its IPv6 address, by which nobody is asked for. Renumber undoes it, as it does
// itself.
func (n *Node) StandApart(ctx context.Context) error {
	errs := []error{n.ns.ip(ctx, fmt.Sprintf("route replace %s dev eth0", lanV4))}
	for _, h := range n.lab.allHosts() {
		if h != n.Host && h.ports[0].bridge == lanBridge {
			errs = append(errs, h.ns.ip(ctx, fmt.Sprintf("route replace %s dev eth0", rackV4)))
		}
	}
	return errors.Join(append(errs, n.Renumber(ctx, at(rackV4, firstNodeOctet+n.number).Addr()))...)
}

// publishAddresses writes the Node's addresses, as a kubelet does at once.
func (n *Node) publishAddresses(ctx context.Context) error {
	nodes := n.lab.client.CoreV1().Nodes()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := nodes.Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Status.Addresses = n.statusAddresses()
		_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("publish addresses of %s: %w", n.Name, err)
	}
	return nil
}

// changeAddress adds the new address before it takes the old one away: an interface without any loses its routes.
func (n *Node) changeAddress(ctx context.Context, from, to netip.Prefix) error {
	// Otherwise the second address of a network goes with the first.
	if err := n.ns.sysctl(map[string]string{"net.ipv4.conf.eth0.promote_secondaries": "1"}); err != nil {
		return err
	}
	return n.ns.ip(ctx, fmt.Sprintf("addr replace %s dev eth0", to), fmt.Sprintf("addr del %s dev eth0", from))
}

// address is the node's IPv4 address at present.
func (n *Node) address() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.renumbered.IsValid() {
		return n.renumbered
	}
	return n.IPv4
}

// AddressAt is the address of the first LAN with that last octet.
func AddressAt(octet int) netip.Addr { return at(lanV4, octet).Addr() }
