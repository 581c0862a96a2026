package layer2

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/ballast-lb/ballast/internal/arp"
	"github.com/ballast-lb/ballast/internal/link"
	"github.com/ballast-lb/ballast/internal/ndp"
)

// conn carries whole Ethernet frames of one interface; it is what arp.Conn and ndp.Conn are.
type conn interface {
	Read(b []byte) (int, error)
	Write(frame []byte) (int, error)
	Close() error
}

// responder is what ARP and NDP differ in, on one interface while its socket is open.
type responder interface {
	// update changes what is said of some addresses. After an error it has done what it could
	// and tries the rest again when it is called again, also without changes. Only the
	// goroutine of Run calls it.
	update(changes []change) error
	// frames returns a message about address, as one frame or several, to send from an interface.
	frames(m message, address netip.Addr, from link.Interface) [][]byte
	// serve answers what arrives until the socket is closed or fails. It tells conflict of each
	// sign of another host that uses an address; that must not block.
	serve(conflict func(netip.Addr, sign)) error
}

// change is what is said of an address from now on.
type change struct {
	address netip.Addr
	answer  answer
}

// Groups are the multicast groups of IPv6 addresses on one interface; see ndp.Groups.
type Groups interface {
	Join(address netip.Addr) error
	Leave(address netip.Addr) error
	Close() error
}

// set is the type of a set of addresses of one family, and said that of its entries.
type set[S any, E said] interface {
	With(entries ...E) S
	Without(addresses ...netip.Addr) S
	Len() int
}

// said is an entry of a set; those of arp and ndp are alike.
type said interface {
	~struct {
		Address netip.Addr
		MAC     arp.MAC
	}
}

// book holds what is answered, and what is watched, which is all that is answered and more. One
// goroutine changes it, others read it.
type book[S set[S, E], E said] struct {
	answers, watched atomic.Pointer[S]
}

func newBook[S set[S, E], E said]() *book[S, E] {
	b := &book[S, E]{}
	b.answers.Store(new(S))
	b.watched.Store(b.answers.Load())
	return b
}

func (b *book[S, E]) update(changes []change) {
	var answered, watched []E
	var unanswered, unwatched []netip.Addr
	for _, c := range changes {
		e := E{Address: c.address, MAC: c.answer.mac}
		if c.answer.answered {
			answered = append(answered, e)
		} else {
			unanswered = append(unanswered, c.address)
		}
		if c.answer.watched {
			watched = append(watched, e)
		} else {
			unwatched = append(unwatched, c.address)
		}
	}
	same := b.answers.Load() == b.watched.Load() && len(answered) == len(watched)
	apply(&b.answers, answered, unanswered)
	if !same {
		apply(&b.watched, watched, unwatched)
		same = (*b.answers.Load()).Len() == (*b.watched.Load()).Len()
	}
	if same { // as it is nearly always; that halves the cost
		b.watched.Store(b.answers.Load())
	}
}

func apply[S set[S, E], E said](to *atomic.Pointer[S], added []E, removed []netip.Addr) {
	changed := *to.Load()
	if len(removed) > 0 {
		changed = changed.Without(removed...)
	}
	if len(added) > 0 {
		changed = changed.With(added...)
	}
	to.Store(&changed)
}

// overARP answers for IPv4 addresses.
type overARP struct {
	*book[arp.Addresses, arp.Entry]
	conn     arp.Conn
	mac      link.MAC
	counters *arp.Counters
}

func (c Config) openARP(i link.Interface, counters *counters) (conn, responder, error) {
	socket, err := c.Open(i.Index)
	if err != nil {
		return nil, nil, err
	}
	return socket, &overARP{newBook[arp.Addresses, arp.Entry](), socket, i.MAC, &counters.arp}, nil
}

func (r *overARP) update(changes []change) error {
	r.book.update(changes)
	return nil
}

// frames announces in both forms, since there are hosts that heed only one; nearly all heed the first.
// A check is a probe: who has the address answers it to us alone.
func (r *overARP) frames(m message, address netip.Addr, from link.Interface) [][]byte {
	if m == probe || m == inquiry || m == check {
		f := arp.Probe(address, from.MAC)
		return [][]byte{f[:]}
	}
	request, reply := arp.AnnounceRequest(address, from.MAC), arp.AnnounceReply(address, from.MAC)
	return [][]byte{request[:], reply[:]}
}

func (r *overARP) serve(conflict func(netip.Addr, sign)) error {
	return arp.Serve(r.conn, arp.Config{
		MAC:     r.mac,
		Answers: func() arp.Addresses { return *r.answers.Load() },
		Watched: func() arp.Addresses { return *r.watched.Load() },
		Conflict: func(c arp.Claim) {
			conflict(c.Address, sign{mac: c.MAC, probe: c.Use == arp.Probed, answer: c.Use == arp.Answered})
		},
		Counters: r.counters,
	})
}

// overNDP answers for IPv6 addresses.
type overNDP struct {
	*book[ndp.Addresses, ndp.Entry]
	conn   ndp.Conn
	self   ndp.Self
	groups Groups
	// unjoined are the addresses whose group could not be joined.
	unjoined map[netip.Addr]struct{}
	counters *ndp.Counters
}

// grouped is a socket that leaves the groups when it is closed.
type grouped struct {
	ndp.Conn
	groups Groups
}

// Close closes the socket, then leaves the groups.
func (g grouped) Close() error { return errors.Join(g.Conn.Close(), g.groups.Close()) }

func (c Config) openNDP(i link.Interface, counters *counters) (conn, responder, error) {
	socket, err := c.OpenNDP(i.Index)
	if err != nil {
		return nil, nil, err
	}
	r := &overNDP{
		book: newBook[ndp.Addresses, ndp.Entry](),
		conn: socket, self: ndp.Self{MAC: i.MAC}, groups: c.Groups(i.Index),
		unjoined: map[netip.Addr]struct{}{}, counters: &counters.ndp,
	}
	_, _ = rand.Read(r.self.Nonce[:]) // never fails
	return grouped{socket, r.groups}, r, nil
}

// update joins groups before it answers, so that no question is missed.
func (r *overNDP) update(changes []change) error {
	for _, c := range changes {
		delete(r.unjoined, c.address)
		if c.answer.watched {
			r.unjoined[c.address] = struct{}{}
			continue
		}
		_ = r.groups.Leave(c.address) // it is left whatever the error
	}
	var failed error
	for address := range r.unjoined {
		if err := r.groups.Join(address); err != nil {
			failed = err // one of them says it all
			continue
		}
		delete(r.unjoined, address)
	}
	r.book.update(changes)
	return failed
}

// frames checks and inquires by a solicitation, not a probe: the answer to a probe goes to all nodes, and would
// lead them to the other host.
func (r *overNDP) frames(m message, address netip.Addr, from link.Interface) [][]byte {
	var f ndp.Frame
	switch m {
	case probe:
		f = ndp.Probe(address, from.MAC, r.self.Nonce)
	case check, inquiry:
		f = ndp.Solicit(address, linkLocal(from), from.MAC)
	default:
		f = ndp.Announce(address, from.MAC)
	}
	return [][]byte{f[:]}
}

// linkLocal returns the IPv6 link-local address of an interface, or, if there is none that may be
// used, the one that follows from the MAC (RFC 4291 appendix A).
func linkLocal(i link.Interface) netip.Addr {
	for _, a := range i.Addresses {
		if own := a.Prefix.Addr().WithZone(""); own.Is6() && own.IsLinkLocalUnicast() && a.Stable {
			return own
		}
	}
	m := i.MAC
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func (r *overNDP) serve(conflict func(netip.Addr, sign)) error {
	return ndp.Serve(r.conn, ndp.Config{
		Self:    r.self,
		Answers: func() ndp.Addresses { return *r.answers.Load() },
		Watched: func() ndp.Addresses { return *r.watched.Load() },
		Conflict: func(c ndp.Claim) {
			conflict(c.Address, sign{mac: c.MAC, probe: c.Use == ndp.Probed, answer: c.Use == ndp.Answered})
		},
		Counters: r.counters,
	})
}
