package main

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/lan"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// fellowsMax is how many nodes an interface asks, one after the other: other nodes ask other ones.
	fellowsMax = 5
	// wideMax is how many nodes more are asked when one does not answer.
	wideMax = 2
	// meetEvery is how often an interface asks that is new, so that it knows some hosts soon.
	meetEvery = 100 * time.Millisecond
	// deafLook is how often it is looked for interfaces and for what others say at least.
	deafLook = time.Second
	// roundMax is the longest time for which a round may last: of a longer one it is not known whether
	// this process stood still.
	roundMax = time.Second
	// gatewaysEvery is how often the kernel is asked for its gateways in calm.
	gatewaysEvery = 30 * time.Second
)

// lanAsker asks the LAN; *lan.Asker is one.
type lanAsker interface {
	Ask(context.Context, lan.Question) (lan.Answer, error)
	Poll(context.Context, lan.Poll) (lan.Tally, error)
}

// hearing watches the interfaces that may announce: each asks fellow nodes and gateways on its network
// whether they are there.
type hearing struct {
	self       name.NodeName
	asker      lanAsker
	interfaces func() link.Snapshot
	gateways   func(index int) ([]netip.Addr, error)
	nodes      *atomic.Pointer[[]announce.Node]
	// changed is called when an interface is deaf, or no more; it must not block.
	changed func()
	log     logr.Logger

	now atomic.Pointer[map[string]bool] // the deaf interfaces, by name
}

// deaf are the names of the interfaces that are deaf, sorted.
func (h *hearing) deaf() []string {
	if known := h.now.Load(); known != nil {
		return slices.Sorted(maps.Keys(*known))
	}
	return nil
}

// watched is an interface and what is known of it. Run's goroutine owns it.
type watched struct {
	ear
	index int
	mac   link.MAC
	// answered are those that have answered here; a gateway is a host without an address.
	answered map[lan.Neighbor]bool
	gateways []netip.Addr
	read     time.Time // when the gateways were
	turn     int
	last     time.Time // when the last round ended, or later
	asking   bool
	warned   map[name.NodeName]bool // fellows that said that their interface is deaf
}

// asked is a round that is under way.
type asked struct {
	from     link.Interface
	first    *fellow // nil: there is none
	wide     []fellow
	gateways []netip.Addr
	fellows  []fellow
}

// heard is what became of it.
type heard struct {
	asked
	began, ended time.Time
	failed       bool // so that silence says nothing
	answered     map[lan.Neighbor]bool
	any          bool
}

// run asks until ctx ends.
func (h *hearing) run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	known, ended := map[string]*watched{}, make(chan heard)
	for {
		next := deafLook
		interfaces := h.interfaces()
		maps.DeleteFunc(known, func(n string, w *watched) bool {
			return !slices.ContainsFunc(interfaces, func(i link.Interface) bool { return i.Name == n && i.Index == w.index && i.MAC == w.mac })
		})
		for _, i := range interfaces {
			w := known[i.Name]
			if w == nil {
				w = &watched{index: i.Index, mac: i.MAC, answered: map[lan.Neighbor]bool{}, warned: map[name.NodeName]bool{}}
				known[i.Name] = w
			}
			if !i.Up || w.asking {
				continue
			}
			round, wait := h.due(i, w)
			if wait > 0 {
				next = min(next, wait)
				continue
			}
			w.asking = true
			asking.Go(func() {
				found := h.ask(ctx, round)
				select {
				case ended <- found:
				case <-ctx.Done():
				}
			})
		}
		h.publish(known)
		look := time.NewTimer(next)
		select {
		case <-ctx.Done():
			look.Stop()
			return nil
		case <-look.C:
		case found := <-ended:
			look.Stop()
			if w := known[found.from.Name]; w != nil && w.index == found.from.Index {
				h.learn(w, found)
			}
		}
	}
}

// due returns the next round of an interface, and how long it is until then.
func (h *hearing) due(i link.Interface, w *watched) (asked, time.Duration) {
	fellows := h.fellows(i)
	circle := fellows[:min(len(fellows), fellowsMax)]
	wait, wide := w.next(len(fellows) + 1)
	if !w.met(circle) {
		wait = min(wait, meetEvery)
	}
	wait -= time.Since(w.last)
	for _, f := range fellows {
		if f.deaf && !w.warned[f.node] {
			wait = 0 // what has made it deaf may have made this one deaf too
		}
		w.warned[f.node] = f.deaf
	}
	if wait > 0 {
		return asked{}, wait
	}
	round := asked{from: i, fellows: fellows}
	for n := range min(len(circle), 1+wideMax) {
		f := circle[(w.turn+n)%len(circle)]
		switch {
		case n == 0:
			round.first = &f
		case wide:
			round.wide = append(round.wide, f)
		}
	}
	w.turn++
	if wide || len(circle) == 0 {
		round.gateways = h.gatewaysOf(i, w)
	}
	return round, 0
}

// met says whether enough have answered for their silence to tell something, or all were asked twice.
func (w *watched) met(circle []fellow) bool {
	return w.turn >= 2*len(circle) || len(w.answered) >= min(len(circle), 1+wideMax)
}

// gatewaysOf are the gateways of an interface as last read.
func (h *hearing) gatewaysOf(i link.Interface, w *watched) []netip.Addr {
	if !w.read.IsZero() && time.Since(w.read) < gatewaysEvery {
		return w.gateways
	}
	list, err := h.gateways(i.Index)
	if err != nil {
		h.log.V(1).Info("cannot list gateways", "interface", i.Name, "error", err.Error())
		return w.gateways
	}
	w.gateways, w.read = slices.DeleteFunc(list, func(a netip.Addr) bool { return a.Zone() != "" }), time.Now()
	return w.gateways
}

// ask asks a round. Where there is no fellow, it only hears who is there.
func (h *hearing) ask(ctx context.Context, round asked) heard {
	found := heard{asked: round, began: time.Now(), answered: map[lan.Neighbor]bool{}}
	var tally lan.Tally
	var polled error
	var asking sync.WaitGroup
	if len(round.wide)+len(round.gateways) > 0 {
		poll := lan.Poll{From: round.from, Gateways: round.gateways}
		for _, f := range round.wide {
			poll.Hosts = append(poll.Hosts, f.at)
		}
		asking.Go(func() { tally, polled = h.asker.Poll(ctx, poll) })
	}
	question := lan.Question{From: round.from}
	if round.first != nil {
		question.Neighbor = round.first.at
	}
	answer, err := h.asker.Ask(ctx, question)
	asking.Wait()
	found.ended, found.any = time.Now(), answer.Others
	if answer.Neighbor {
		found.answered[question.Neighbor] = true
	}
	for n, f := range round.wide {
		if n < len(tally.Answered) && tally.Answered[n] {
			found.answered[f.at] = true
		}
	}
	if tally.Gateway {
		found.answered[lan.Neighbor{}] = true
	}
	found.failed = err != nil || polled != nil || found.ended.Sub(found.began) > roundMax
	return found
}

// learn takes what became of a round.
func (h *hearing) learn(w *watched, found heard) {
	w.asking, w.last = false, found.ended
	r := round{began: found.began, ended: found.ended, answered: len(found.answered) > 0, heard: found.any}
	if found.failed && !r.answered {
		w.last = found.ended.Add(askLeast)
		return
	}
	hosts := found.wide
	if found.first != nil {
		hosts = append(slices.Clone(hosts), *found.first)
	}
	gossips := h.gossips(found.from)
	for _, f := range hosts {
		if w.answered[f.at] && !found.answered[f.at] {
			r.missed = true
			if f.well && !gossips {
				r.silent = append(r.silent, f.at)
			}
		}
	}
	gateway := lan.Neighbor{}
	if len(found.gateways) > 0 && w.answered[gateway] && !found.answered[gateway] {
		r.missed = true
		if !gossips {
			r.silent = append(r.silent, gateway)
		}
	}
	for _, f := range found.fellows {
		if f.deaf {
			r.excused = append(r.excused, f.at)
		}
	}
	maps.Copy(w.answered, found.answered)
	if w.hear(r) {
		if w.deaf {
			h.log.Info("an interface is deaf though its link is up: nobody answers there, so other nodes are to announce in its place",
				"interface", found.from.Name, "others heard", found.any)
		} else {
			h.log.Info("an interface is not deaf any more", "interface", found.from.Name)
		}
	}
}

// publish tells which interfaces are deaf, if that has changed.
func (h *hearing) publish(known map[string]*watched) {
	deaf := map[string]bool{}
	for n, w := range known {
		if w.deaf {
			deaf[n] = true
		}
	}
	if before := h.now.Swap(&deaf); before == nil && len(deaf) > 0 || before != nil && !maps.Equal(*before, deaf) {
		h.changed()
	}
}

// gossips says whether an interface has an address of the own Node, so that the gossip may go over it:
// who is heard by gossip then says nothing of what this node sends.
func (h *hearing) gossips(i link.Interface) bool {
	nodes := h.nodes.Load()
	if nodes == nil {
		return true
	}
	at := slices.IndexFunc(*nodes, func(n announce.Node) bool { return n.Name == h.self })
	return at < 0 || slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return slices.Contains((*nodes)[at].Addresses, a.Prefix.Addr())
	})
}

// fellow is another node on the network of an interface.
type fellow struct {
	node name.NodeName
	at   lan.Neighbor
	// well says that its speaker lives, deaf that it says that its interface there is deaf or down.
	well, deaf bool
	rank       uint64
}

// fellows returns the nodes that an interface can ask, first those that it should: not such as are
// deaf themselves, and each node others. Dead ones are left out.
func (h *hearing) fellows(from link.Interface) []fellow {
	nodes := h.nodes.Load()
	if nodes == nil {
		return nil
	}
	var list []fellow
	for _, n := range *nodes {
		if n.Name == h.self || n.Health == announce.Dead {
			continue
		}
		f, there := fellow{}, false
		for _, theirs := range n.Interfaces {
			at, beside := beside(from, theirs)
			if !beside || there && !theirs.Hears() {
				continue
			}
			f, there = fellow{at: at, deaf: !theirs.Hears()}, true
			if theirs.Hears() {
				break
			}
		}
		if !there {
			continue
		}
		f.node, f.rank, f.well = n.Name, h.rank(n.Name), n.Health == announce.Alive && !f.deaf
		list = append(list, f)
	}
	slices.SortFunc(list, func(x, y fellow) int {
		return cmp.Or(order(!x.deaf, !y.deaf), order(x.well, y.well), cmp.Compare(x.rank, y.rank), cmp.Compare(x.node, y.node))
	})
	return list
}

// rank is by whom a node is asked rather than another.
func (h *hearing) rank(of name.NodeName) uint64 {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(string(h.self) + "\x00" + string(of)))
	return sum.Sum64()
}
