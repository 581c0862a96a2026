// Package lan asks the local network whether a neighbor node is there (Asker.Ask).
//
// A speaker that has gone silent may have died alone or together with its node, or only the
// way by which speakers talk may be blocked. A unicast question for the node's own address,
// sent to its recorded MAC, tells: the node's kernel answers it even when the speaker is dead
// or hangs, and nobody does when the node is dead or cut off. The question is unicast at the
// Ethernet level, because fabrics with ARP suppression (RFC 9161) answer broadcasts for hosts
// that are dead, and only an answer from that MAC counts. Whoever asks may itself be the one
// who is cut off, so Ask also tells whether the interface hears anybody else.
//
// It follows RFC 826 (ARP), RFC 5227 (probes without a sender address) and RFC 4861 (neighbor
// discovery). It sends on packet sockets of its own, keeps no state between two questions,
// never touches the kernel's neighbor table, decides nothing from the answer, and never writes
// a log.
package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ballast-lb/ballast/internal/link"
)

const (
	// Probes is how often a question is sent while it has no answer. That one or two frames are
	// lost must not make a node look dead.
	Probes = 3
	// Interval is the time between two probes, and how long the answer to the last is waited
	// for. A kernel on the same Ethernet answers within 1 ms, a busy one within a few.
	Interval = 50 * time.Millisecond
	// ExtraWait is how long, at most, Ask waits beyond Probes times Interval to hear somebody
	// else, when the neighbor has not answered.
	ExtraWait = 50 * time.Millisecond
)

// Neighbor is a node on the same Ethernet.
type Neighbor struct {
	// Address is an own address of the node, one that its kernel answers for: IPv4, or IPv6
	// link-local without a zone.
	Address netip.Addr
	// MAC is that of the node's interface with the address.
	MAC link.MAC
}

// Question is what Ask asks.
type Question struct {
	// From is the own interface to ask on. Its Index, MAC and Addresses count.
	//
	// Who asks for an IPv4 address asks as the own address whose on-link prefix contains it.
	// Without one the question is a probe (RFC 5227 section 2.1.1), whose sender address is
	// 0.0.0.0: Linux answers that for its own addresses whatever the neighbor sets arp_ignore 0
	// to 2 and rp_filter to, while it may ignore (arp_ignore 2, rp_filter 1) a sender of another
	// prefix. Only Speaker is then asked for as any own IPv4 address, if there is one, since a
	// speaker that looks for conflicts takes a probe for one. Who asks for an IPv6 address asks
	// as the own link-local address, or, without one, as that which follows from the MAC (RFC
	// 4291 appendix A), so that IPv6 need not be enabled.
	From link.Interface
	// Neighbor is whom the question is about. The zero value asks for nobody in particular: the
	// question is then whether anybody else is there, and Speaker is not asked.
	Neighbor Neighbor
	// Speaker is an address that nobody but the neighbor's speaker answers for, one of a Service
	// that it owns: IPv4 or IPv6. The zero value asks nothing. A node that has the address on an
	// interface too (kube-ipvs0 without strict ARP) answers for it without its speaker.
	Speaker netip.Addr
	// Others are own addresses of hosts that may answer too, the gateway for one, IPv4 or IPv6
	// without a zone. They are asked by broadcast (IPv4) or multicast (IPv6), once, together with
	// the last probe, if nobody else has been heard by then: a few are enough.
	Others []netip.Addr
}

// Answer is what was heard. The zero value is silence.
type Answer struct {
	// Neighbor says that the node's kernel answered, from the node's MAC.
	Neighbor bool
	// Speaker says that the neighbor's speaker answered for the Service address, from the
	// node's MAC. An answer on behalf of the neighbor, from the MAC of its deputy, does not count.
	Speaker bool
	// Others says that a frame of any kind came in from a unicast MAC that is neither ours nor
	// the neighbor's. Frames of a VLAN on top of the interface do not count. When Neighbor is
	// true, Ask may have ended before anybody else was heard.
	Others bool
}

// and returns what was heard in one of the two.
func (a Answer) and(b Answer) Answer {
	return Answer{a.Neighbor || b.Neighbor, a.Speaker || b.Speaker, a.Others || b.Others}
}

// check returns an error if q cannot be asked.
func (q Question) check() error {
	switch {
	case q.From.Index <= 0:
		return errors.New("own interface has no index")
	case !isUnicast(q.From.MAC):
		return fmt.Errorf("own MAC %v is none of a host", q.From.MAC)
	case q.Neighbor == (Neighbor{}):
		return q.checkOthers()
	case !isUnicast(q.Neighbor.MAC):
		return fmt.Errorf("the neighbor's MAC %v is none of a host", q.Neighbor.MAC)
	case q.From.MAC == q.Neighbor.MAC:
		return fmt.Errorf("the neighbor has our own MAC %v", q.From.MAC)
	case !isHost(q.Neighbor.Address) || q.Neighbor.Address.Is6() && !q.Neighbor.Address.IsLinkLocalUnicast():
		return fmt.Errorf("the neighbor's address %v is neither IPv4 nor IPv6 link-local", q.Neighbor.Address)
	case q.Speaker.IsValid() && !isHost(q.Speaker):
		return fmt.Errorf("the speaker's address %v is none of a host", q.Speaker)
	case q.Speaker == q.Neighbor.Address:
		return fmt.Errorf("the node itself answers for the speaker's address %v", q.Speaker)
	}
	return q.checkOthers()
}

// checkOthers returns an error if one of the others cannot be asked.
func (q Question) checkOthers() error {
	for _, a := range q.Others {
		if !isHost(a) {
			return fmt.Errorf("the address %v of others is none of a host", a)
		}
	}
	return nil
}

// isHost says whether a can be asked for: an address of one host, without a zone.
func isHost(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isUnicast says whether m names one host: neither a group (the low bit of the first octet)
// nor nobody.
func isUnicast(m link.MAC) bool { return m[0]&1 == 0 && m != link.MAC{} }
