package main

import (
	"context"
	"maps"
	"math/rand/v2"
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
	// companyTimeout bounds how long the engine is asked for what others are said to answer for.
	companyTimeout = time.Second
	// wantedMax is for how many addresses it is asked who answers for them.
	wantedMax = 32
	// othersMax is how many other nodes are asked, beside the gateways, to know whether anybody
	// hears us.
	othersMax = 2
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
	questions := n.questions(node, held)
	sum := membership.Answer{}
	if len(questions) == 0 {
		questions = n.anybody(node)
	}
	answers, asked := n.askAll(ctx, node, questions)
	for i, a := range answers {
		sum.Neighbor, sum.Speaker, sum.Others = sum.Neighbor || a.Neighbor, sum.Speaker || a.Speaker, sum.Others || a.Others
		sum.Asked = sum.Asked || asked[i] && questions[i].Neighbor != (lan.Neighbor{})
	}
	return sum
}

// company asks the LAN whether another speaker answers for one of the addresses that others are said
// to answer for; it is membership.Config.Company.
func (n *neighbors) company(ctx context.Context) bool {
	var wanted []netip.Addr
	soon, cancel := context.WithTimeout(ctx, companyTimeout)
	defer cancel()
	err := n.query(soon, func(s *announce.State) {
		wanted = slices.Collect(maps.Values(s.Announcers())) // in random order
		wanted = wanted[:min(len(wanted), wantedMax)]
	})
	if err != nil {
		return true // it is not known whom to ask for
	}
	fellows := map[link.MAC]bool{}
	if nodes := n.nodes.Load(); nodes != nil {
		for _, node := range *nodes {
			for _, i := range node.Interfaces {
				fellows[link.MAC(i.MAC)] = node.Name != n.self && i.MAC != announce.MAC{}
			}
		}
	}
	for _, i := range n.interfaces() {
		if !i.Up || len(wanted) == 0 {
			continue
		}
		heard, err := n.asker.Poll(ctx, lan.Poll{From: i, Wanted: wanted})
		if err != nil {
			n.log.V(1).Info("cannot ask the LAN for other speakers", "interface", i.Name, "error", err.Error())
		}
		if slices.ContainsFunc(heard.Holders, func(m link.MAC) bool { return fellows[m] }) {
			return true
		}
	}
	return false
}

// askAll asks some questions about a node at the same time. It returns the answer to each, and
// which of them could be asked to their end.
func (n *neighbors) askAll(ctx context.Context, node name.NodeName, questions []lan.Question) ([]lan.Answer, []bool) {
	answers, asked := make([]lan.Answer, len(questions)), make([]bool, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		asking.Go(func() {
			a, err := n.asker.Ask(ctx, q)
			if err != nil {
				n.log.V(1).Info("cannot ask the LAN", "node", node, "interface", q.From.Name, "error", err.Error())
			}
			answers[i], asked[i] = a, err == nil
		})
	}
	asking.Wait()
	return answers, asked
}

// questions are those to ask for a node: one for each pair of interfaces in one network. There are
// none if no own interface that is up shares a network with the node, to this node's knowledge.
func (n *neighbors) questions(node name.NodeName, held netip.Addr) (list []lan.Question) {
	nodes := n.nodes.Load()
	if nodes == nil {
		return nil
	}
	i := slices.IndexFunc(*nodes, func(x announce.Node) bool { return x.Name == node })
	if i < 0 {
		return nil
	}
	for _, theirs := range (*nodes)[i].Interfaces {
		for _, ours := range n.interfaces() {
			if at, there := beside(ours, theirs); there {
				list = append(list, lan.Question{From: ours, Neighbor: at, Speaker: held, Others: n.others(*nodes, node, ours)})
			}
		}
	}
	return list
}

// anybody are the questions whether anybody but a node is there, on each own interface that is up.
func (n *neighbors) anybody(but name.NodeName) (list []lan.Question) {
	var nodes []announce.Node
	if known := n.nodes.Load(); known != nil {
		nodes = *known
	}
	for _, ours := range n.interfaces() {
		if ours.Up {
			list = append(list, lan.Question{From: ours, Others: n.others(nodes, but, ours)})
		}
	}
	return list
}

// shares says whether an interface is in the network of an address that can be asked for. Their
// masks may differ, by mistake: both can be on one wire all the same. Of a prefix of one address
// that cannot be known.
func shares(i link.Interface, p netip.Prefix) bool {
	if p.IsSingleIP() || p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() {
		return false
	}
	return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return !a.Prefix.IsSingleIP() && a.Prefix.Overlaps(p) && a.Prefix.Addr() != p.Addr()
	})
}

// others are hosts other than a node that may answer on an interface: the gateways, and some nodes
// at random.
func (n *neighbors) others(nodes []announce.Node, but name.NodeName, i link.Interface) []netip.Addr {
	list := gatewaysOn(i, n.log)
	var fellows []netip.Addr
	for _, node := range nodes {
		if node.Name == but || node.Name == n.self {
			continue
		}
		if at, there := on(i, node); there {
			fellows = append(fellows, at.Address)
		}
	}
	rand.Shuffle(len(fellows), func(x, y int) { fellows[x], fellows[y] = fellows[y], fellows[x] })
	return append(list, fellows[:min(len(fellows), othersMax)]...)
}

// gatewaysOn returns the default gateways on an interface that can be asked for: those without a zone.
func gatewaysOn(i link.Interface, log logr.Logger) []netip.Addr {
	list, err := link.Gateways(i.Index)
	if err != nil {
		log.V(1).Info("cannot list gateways", "interface", i.Name, "error", err.Error())
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return a.Zone() != "" })
}

// on returns where a node is to be asked on the network of an interface, if it is there.
func on(from link.Interface, n announce.Node) (lan.Neighbor, bool) {
	for _, theirs := range n.Interfaces {
		if at, there := beside(from, theirs); there {
			return at, true
		}
	}
	return lan.Neighbor{}, false
}

// beside returns where an interface of a node is to be asked, if it is on the network of our own.
func beside(from link.Interface, theirs announce.Interface) (lan.Neighbor, bool) {
	p := slices.IndexFunc(theirs.Prefixes, func(p netip.Prefix) bool { return shares(from, p) })
	if p < 0 || theirs.MAC == (announce.MAC{}) || link.MAC(theirs.MAC) == from.MAC {
		return lan.Neighbor{}, false
	}
	return lan.Neighbor{Address: theirs.Prefixes[p].Addr(), MAC: link.MAC(theirs.MAC)}, true
}
