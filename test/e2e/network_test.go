//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// nextHops returns the nodes that r1 sends an address's traffic to, sorted by name.
func (c *cluster) nextHops(ctx context.Context, a netip.Addr) ([]string, error) {
	family := "ipv4"
	if a.Is6() {
		family = "ipv6"
	}
	prefix := netip.PrefixFrom(a, a.BitLen())
	out, err := c.lab.Vtysh(ctx, "r1", fmt.Sprintf("show bgp %s unicast %s json", family, prefix))
	if err != nil {
		return nil, err
	}
	var table struct {
		Paths []struct {
			Valid    bool
			Nexthops []struct {
				IP   netip.Addr
				Used bool
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return nil, fmt.Errorf("decode routes: %w: %s", err, out)
	}
	var nodes []string
	for _, p := range table.Paths {
		for _, h := range p.Nexthops {
			if p.Valid && h.Used {
				nodes = append(nodes, c.nodeAt(h.IP))
			}
		}
	}
	slices.Sort(nodes)
	return nodes, nil
}

// nodeAt names the node with this address.
func (c *cluster) nodeAt(a netip.Addr) string {
	for _, n := range c.lab.Nodes() {
		if n.IPv4 == a || n.IPv6 == a {
			return n.Name
		}
	}
	return a.String()
}

// awaitNextHops waits until r1 sends the address's traffic to exactly these nodes.
func (c *cluster) awaitNextHops(a netip.Addr, nodes ...string) {
	c.Helper()
	c.eventually(fmt.Sprintf("r1 routes %s to %v", a, nodes), func(ctx context.Context) error {
		got, err := c.nextHops(ctx, a)
		if err == nil && !slices.Equal(got, nodes) {
			err = fmt.Errorf("it routes to %v", got)
		}
		return err
	})
}

// owners asks the LAN for an address by ARP, twice, and returns the nodes that answered.
func (c *cluster) owners(ctx context.Context, a netip.Addr) ([]string, error) {
	out, err := c.lab.Exec(ctx, "lan", "arping", "-r", "-c", "2", "-W", "0.2", "-i", "eth0", a.String())
	var nodes []string
	for _, mac := range strings.Fields(out) {
		name := mac
		for _, n := range c.lab.Nodes() {
			if n.MAC() == mac {
				name = n.Name
			}
		}
		nodes = append(nodes, name)
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if len(nodes) == 0 && err != nil && !strings.Contains(err.Error(), "exit status 1") {
		return nil, err
	}
	return nodes, nil
}

// awaitOwner waits until one node answers ARP for the address, and returns it.
func (c *cluster) awaitOwner(a netip.Addr, among ...string) string {
	c.Helper()
	var owner string
	c.eventually(fmt.Sprintf("one node of %v answers for %s", among, a), func(ctx context.Context) error {
		got, err := c.owners(ctx, a)
		if err != nil {
			return err
		}
		if len(got) != 1 || (len(among) > 0 && !slices.Contains(among, got[0])) {
			return fmt.Errorf("answers from %v", got)
		}
		owner = got[0]
		return nil
	})
	return owner
}

// awaitSilence waits until nobody answers ARP for the address.
func (c *cluster) awaitSilence(a netip.Addr) {
	c.Helper()
	c.eventually("nobody answers for "+a.String(), func(ctx context.Context) error {
		got, err := c.owners(ctx, a)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("answers from %v", got)
		}
		return err
	})
}
