package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// AddHost plugs a further host into the LAN: no part of the cluster, as a printer or somebody's
// laptop. It has an address of its own and, on eth0, the addresses given, for which its
// kernel answers.
func (l *Lab) AddHost(ctx context.Context, name string, addresses ...netip.Addr) (*Host, error) {
	return l.addHost(ctx, plannedHost{name: name, onLAN: true}, addresses...)
}

// AddHostOnOtherLAN is AddHost on the network of Options.OtherLAN.
func (l *Lab) AddHostOnOtherLAN(ctx context.Context, name string, addresses ...netip.Addr) (*Host, error) {
	return l.addHost(ctx, plannedHost{name: name, onOther: true}, addresses...)
}

func (l *Lab) addHost(ctx context.Context, plan plannedHost, addresses ...netip.Addr) (*Host, error) {
	name := plan.name
	if _, err := l.Host(name); err == nil {
		return nil, fmt.Errorf("add host %s: the lab has one", name)
	}
	octet, err := l.freeOctet()
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	plan.octet = octet
	h, err := l.makeHost(ctx, plan)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add host %s: %w", name, err), l.deleteNetns(ctx, name))
	}
	l.mu.Lock()
	l.strangers = append(l.strangers, h)
	l.mu.Unlock()
	for _, a := range addresses {
		if err := h.Take(ctx, a); err != nil {
			return nil, errors.Join(err, l.RemoveHost(ctx, name))
		}
	}
	return h, nil
}

// freeOctet is the last octet for a further host's address.
func (l *Lab) freeOctet() (int, error) {
	for octet := firstStrangerOctet; octet <= lastStrangerOctet; octet++ {
		taken := func(h *Host) bool { return int(h.IPv4.As4()[3]) == octet }
		if !slices.ContainsFunc(l.allHosts(), taken) {
			return octet, nil
		}
	}
	return 0, errors.New("all addresses for further hosts are taken")
}

// Take gives the host an address, as if it had always been its own.
func (h *Host) Take(ctx context.Context, a netip.Addr) error {
	line := fmt.Sprintf("addr add %s dev eth0", netip.PrefixFrom(a, a.BitLen()))
	if a.Is6() {
		line += " nodad"
	}
	return h.ns.ip(ctx, line)
}

// Announce says once to the whole LAN, by an ARP announcement (RFC 5227 section 2.3), that the
// host has an IPv4 address.
func (h *Host) Announce(a netip.Addr) error {
	s, err := h.packetSocket(etherTypeARP)
	if err != nil {
		return fmt.Errorf("announce %s from %s: %w", a, h.Name, err)
	}
	defer s.file.Close()
	us := h.asker()
	us.v4 = a
	return s.send(us.arpRequest(a))
}

// GiveUp takes the address away from the host.
func (h *Host) GiveUp(ctx context.Context, a netip.Addr) error {
	return h.ns.ip(ctx, fmt.Sprintf("addr del %s dev eth0", netip.PrefixFrom(a, a.BitLen())))
}

// RemoveHost unplugs what AddHost plugged in.
func (l *Lab) RemoveHost(ctx context.Context, name string) error {
	l.mu.Lock()
	i := slices.IndexFunc(l.strangers, func(h *Host) bool { return h.Name == name })
	if i < 0 {
		l.mu.Unlock()
		return fmt.Errorf("remove host %s: it is none that was added", name)
	}
	h := l.strangers[i]
	l.strangers = slices.Delete(slices.Clone(l.strangers), i, i+1)
	l.namespaces = slices.DeleteFunc(slices.Clone(l.namespaces), func(n *netns) bool { return n == h.ns })
	l.mu.Unlock()
	if h.listener != nil {
		_ = h.listener.Close()
	}
	// The cable goes at once; its other end would with the namespace, but only some time later.
	err := l.sw.ip(ctx, "link del "+h.ports[0].peer)
	h.ns.close()
	return errors.Join(err, l.deleteNetns(ctx, name))
}

func (l *Lab) deleteNetns(ctx context.Context, host string) error {
	name := l.opts.Prefix + "-" + host
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", name).CombinedOutput(); err != nil {
		return fmt.Errorf("delete network namespace %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// allHosts are the planned ones, in no order, and those that were added.
func (l *Lab) allHosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	hosts := slices.Clone(l.strangers)
	for _, h := range l.hosts {
		hosts = append(hosts, h)
	}
	return hosts
}
