package layer2

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/ndp"
)

// port is one interface by its name, whether or not it is there at the moment. The goroutine
// of Run owns it.
type port struct {
	name string
	// link is the interface as it is now, or the zero value while it cannot be used.
	link     link.Interface
	v4, v6   *side
	counters *counters
}

// counters outlive sockets; they are written by the goroutine of Run and the answering ones,
// and read by anybody.
type counters struct {
	arp                                           arp.Counters
	ndp                                           ndp.Counters
	announcements, failures, conflicts, takeovers atomic.Uint64
}

func newPort(name string, config Config) *port {
	p := &port{name: name, counters: &counters{}}
	p.v4 = &side{port: p, family: "IPv4", open: config.openARP, entries: map[netip.Addr]*entry{}}
	p.v6 = &side{port: p, family: "IPv6", open: config.openNDP, entries: map[netip.Addr]*entry{}}
	return p
}

func (p *port) sides() []*side { return []*side{p.v4, p.v6} }

func (p *port) side(address netip.Addr) *side {
	if address.Is4() {
		return p.v4
	}
	return p.v6
}

func (p *port) isEmpty() bool { return len(p.v4.entries)+len(p.v6.entries) == 0 }

// Stats tells about one interface that addresses are, or were, announced on. The counters only
// grow, for as long as the interface exists.
type Stats struct {
	Interface string
	// MAC is zero while the interface cannot be used.
	MAC link.MAC
	// Open says that questions are answered at the moment, of both families if there are
	// addresses of both; Problem why they are not, or not all.
	Open    bool
	Problem string
	// Addresses is the number of addresses to answer for; Deputized that of those among them
	// that are answered for on behalf of another node at the moment.
	Addresses, Deputized int
	// Requests counts ARP requests and neighbor solicitations for these addresses, Replies the
	// answers, Announcements the gratuitous ARP packets and unsolicited neighbor
	// advertisements sent, Errors what could not be opened, joined, read or sent.
	Requests, Replies, Announcements, Errors uint64
	// Conflicts counts how often another host was newly found to use an address, Takeovers
	// how often this node began to announce one as its owner.
	Conflicts, Takeovers uint64
}

// published is Stats without the counters, which are read when asked for.
type published struct {
	Stats
	counters *counters
}

// Stats returns what is known of each interface, sorted by name.
func (a *Announcer) Stats() []Stats {
	list := a.published.Load()
	if list == nil {
		return nil
	}
	stats := make([]Stats, 0, len(*list))
	for _, x := range *list {
		c := x.counters
		x.Requests = c.arp.Requests.Load() + c.ndp.Requests.Load()
		x.Replies = c.arp.Replies.Load() + c.ndp.Replies.Load()
		x.Announcements = c.announcements.Load()
		x.Errors = c.arp.Errors.Load() + c.ndp.Errors.Load() + c.failures.Load()
		x.Conflicts, x.Takeovers = c.conflicts.Load(), c.takeovers.Load()
		stats = append(stats, x.Stats)
	}
	return stats
}

func (s *state) publish() *[]published {
	list := make([]published, 0, len(s.ports))
	for _, p := range s.ports {
		x := published{Stats{
			Interface: p.name, MAC: p.link.MAC, Open: !p.isEmpty(),
			Addresses: len(p.v4.entries) + len(p.v6.entries),
		}, p.counters}
		var problems []string
		for _, side := range p.sides() {
			if len(side.entries) == 0 {
				continue
			}
			if side.conn != nil {
				x.Deputized += side.deputized
			} else {
				x.Open = false
			}
			switch {
			case p.link.Index == 0:
				problems = append(problems, "interface is absent or down")
			case side.problem != "":
				problems = append(problems, side.problem)
			}
		}
		x.Problem = strings.Join(slices.Compact(problems), "; ")
		list = append(list, x)
	}
	slices.SortFunc(list, func(x, y published) int { return strings.Compare(x.Interface, y.Interface) })
	return &list
}
