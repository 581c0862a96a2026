package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/membership"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// heldTimeout bounds how long the engine is asked for an address that a node owns.
	heldTimeout = 50 * time.Millisecond
	// othersMax is how many other hosts are asked, to know whether anybody hears us.
	othersMax = 8
)

// neighbors asks the LAN for other nodes, on all interfaces that they share with this one.
type neighbors struct {
	self       name.NodeName
	asker      *lan.Asker
	interfaces func() link.Snapshot
	// nodes are all nodes as last planned with.
	nodes atomic.Pointer[[]announce.Node]
	query func(context.Context, func(*announce.State)) error
	log   logr.Logger
}

// ask asks for a node and, if it owns anything, for its speaker; it is membership.Config.Ask.
func (n *neighbors) ask(ctx context.Context, node name.NodeName) membership.Answer {
	var held netip.Addr
	soon, cancel := context.WithTimeout(ctx, heldTimeout)
	_ = n.query(soon, func(s *announce.State) { held = s.Held(node) }) // without, the node alone is asked for
	cancel()
	questions, askable := n.questions(node, held)
	answers := make([]lan.Answer, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		asking.Go(func() {
			a, err := n.asker.Ask(ctx, q)
			if err != nil {
				n.log.V(1).Info("cannot ask the LAN", "node", node, "interface", q.From.Name, "error", err.Error())
			}
			answers[i] = a
		})
	}
	asking.Wait()
	sum := membership.Answer{Possible: askable}
	for _, a := range answers {
		sum.Neighbor, sum.Speaker, sum.Others = sum.Neighbor || a.Neighbor, sum.Speaker || a.Speaker, sum.Others || a.Others
	}
	return sum
}

// questions are those to ask for a node: one for each pair of interfaces in one network. A node
// is askable if it has an address to ask for, even if no own interface is up to ask on: then it
// is this node that may be cut off.
func (n *neighbors) questions(node name.NodeName, held netip.Addr) (list []lan.Question, askable bool) {
	nodes := n.nodes.Load()
	if nodes == nil {
		return nil, false
	}
	i := slices.IndexFunc(*nodes, func(x announce.Node) bool { return x.Name == node })
	if i < 0 {
		return nil, false
	}
	for _, theirs := range (*nodes)[i].Interfaces {
		if theirs.MAC == (announce.MAC{}) || len(theirs.Prefixes) == 0 {
			continue
		}
		askable = true
		for _, ours := range n.interfaces() {
			for _, p := range theirs.Prefixes {
				if !shares(ours, p) {
					continue
				}
				list = append(list, lan.Question{
					From: ours, Neighbor: lan.Neighbor{Address: p.Addr(), MAC: link.MAC(theirs.MAC)}, Speaker: held,
					Others: n.others(*nodes, node, ours),
				})
				break
			}
		}
	}
	return list, askable
}

// shares says whether an interface is in the network of an address that can be asked for.
func shares(i link.Interface, p netip.Prefix) bool {
	if p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() {
		return false
	}
	return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return a.Prefix.Masked() == p.Masked() && a.Prefix.Addr() != p.Addr()
	})
}

// others are hosts other than a node that may answer on an interface: the gateways and nodes.
func (n *neighbors) others(nodes []announce.Node, but name.NodeName, i link.Interface) []netip.Addr {
	list, err := link.Gateways(i.Index)
	if err != nil {
		n.log.V(1).Info("cannot list gateways", "interface", i.Name, "error", err.Error())
	}
	for _, node := range nodes {
		if node.Name == but || node.Name == n.self || len(list) >= othersMax {
			continue
		}
		for _, theirs := range node.Interfaces {
			if j := slices.IndexFunc(theirs.Prefixes, func(p netip.Prefix) bool { return shares(i, p) }); j >= 0 {
				list = append(list, theirs.Prefixes[j].Addr())
				break
			}
		}
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return a.Zone() != "" })
}
