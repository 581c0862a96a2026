package layer2

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/name"
)

// Conflict says that another host was found to use an address that this node answers for, or
// is to answer for.
type Conflict struct {
	Address   netip.Addr
	Interface string
	// MAC is the other host's. If several quarrel, it is one of them.
	MAC link.MAC
	// Node is the fellow node whose MAC it is (SetNeighbors), or empty.
	Node name.NodeName
	// Probe says that the host was found before the address was answered: it is not answered,
	// and probed again every 10 s, until it is free. A fellow node is asked again every 200 ms, or
	// more rarely if it has more than 20 addresses, and is told of after 2 s: it may be the owner of
	// before. Without Probe, the address is answered all the same.
	Probe bool
	// Over says that the conflict has ended: the host did not show itself for 60 s, or for two
	// and a half refresh intervals if that is longer, or, with Probe, did not answer again, so
	// that the address is answered now; or it is a fellow node that only announced the address and
	// was silent when it was asked 1 s after this node had announced it too. The conflict stays in
	// the list for another 60 s.
	Over bool
}

// compare orders conflicts by address, then interface; there is one of each at most.
func (c Conflict) compare(o Conflict) int {
	return cmp.Or(c.Address.Compare(o.Address), strings.Compare(c.Interface, o.Interface), bytes.Compare(c.MAC[:], o.MAC[:]))
}

// Conflicts returns the channel that carries all conflicts there are, sorted by address and
// interface, each time that they have changed. An unread list is replaced by the next. The
// receiver owns the list.
func (a *Announcer) Conflicts() <-chan []Conflict { return a.conflicts }

// SetNeighbors tells which hardware addresses are those of other nodes of the cluster, so that a
// conflict can name the node, and is left to be settled between the nodes: an owner has the last
// word against a fellow node for as long as it is told that it owns, whereas other hosts are answered
// with a defense per 10 s at most. Initially there are none. The map is not kept.
func (a *Announcer) SetNeighbors(neighbors map[link.MAC]name.NodeName) {
	known := make(map[link.MAC]name.NodeName, len(neighbors))
	for mac, node := range neighbors {
		known[mac] = node
	}
	a.post(func(s *state, now time.Time) {
		s.neighbors = known
		s.news = s.news || len(s.rivals) > 0
		for e := range s.rivals {
			if _, fellow := known[e.duty.rival.mac]; fellow && !e.duty.rival.fellow {
				s.change(e, now, (*duty).meet)
			}
		}
	})
}

// see tells the duties of x which other hosts have been seen to use their addresses. Other interfaces of this
// node are no other hosts, though they may be on the same network.
func (s *state) see(x *side, now time.Time) {
	seen := x.signs.take()
	x.look = time.Time{}
	if len(seen) > 0 {
		x.look = now.Add(lookPause)
	}
	for address, other := range seen {
		e := x.entries[address]
		if _, own := s.own[other.mac]; own || e == nil {
			continue
		}
		node, fellow := s.neighbors[other.mac]
		other.fellow, other.unheard = fellow, s.unheard[node]
		s.change(e, now, func(d *duty, m moment) { d.see(other, m) })
	}
}

// compareRivals notes what is new about other hosts that use the address of e.
func (s *state) compareRivals(e *entry, before rival) {
	before, after := before.told(), e.duty.rival.told()
	if before == after {
		return
	}
	s.news = true
	active := func(r rival) bool { return r != rival{} && !r.over }
	if after == (rival{}) {
		delete(s.rivals, e)
		return
	}
	s.rivals[e] = struct{}{}
	switch p := e.side.port; {
	case active(after) && !active(before):
		p.counters.conflicts.Add(1)
		s.log.Info("another host uses an address", "address", e.address.String(), "interface", p.name,
			"mac", after.mac.String(), "node", s.neighbors[after.mac], "answered", !after.probe)
	case active(before) && !active(after):
		s.log.Info("no other host uses an address any more", "address", e.address.String(), "interface", p.name)
	}
}

// tell delivers the conflicts if there are news.
func (s *state) tell() {
	if !s.news {
		return
	}
	s.news = false
	list := make([]Conflict, 0, len(s.rivals))
	for e := range s.rivals {
		r := e.duty.rival
		list = append(list, Conflict{
			Address: e.address, Interface: e.side.port.name,
			MAC: r.mac, Node: s.neighbors[r.mac], Probe: r.probe, Over: r.over,
		})
	}
	slices.SortFunc(list, Conflict.compare)
	select {
	case <-s.conflicts: // unread; nobody else sends
	default:
	}
	s.conflicts <- list
}
