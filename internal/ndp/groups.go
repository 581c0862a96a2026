package ndp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Groups are the solicited-node multicast groups (RFC 4291 section 2.7.1) of addresses, joined
// on one interface: without that, neither its hardware nor switches that snoop on multicast
// (RFC 4541) let solicitations through. The kernel reports the groups (RFC 3810), again after
// the interface was down, and not before IPv6 is enabled on it. It forgets them when the
// interface goes away and, without a word, when its MTU falls below the 1280 bytes of IPv6:
// then close the set and join anew.
//
// Make it with NewGroups, and close it. It is not safe for use by several goroutines at once.
// Its methods make system calls that do not wait for the network.
type Groups struct {
	open      func() (member, error)
	addresses map[netip.Addr]struct{}
	joined    map[key]*membership
	sockets   []*groupSocket
}

// member is a socket that can be in multicast groups.
type member interface {
	join(group key) error
	leave(group key) error
	close() error
}

// membership is a group that is joined.
type membership struct {
	addresses int // that have this group
	socket    *groupSocket
}

// groupSocket is one of the sockets of Groups: the kernel bounds the memory that one socket may
// use for its groups (net.core.optmem_max), which is enough for 365 to 2,340 of them.
type groupSocket struct {
	member
	groups int
	full   bool // the last join failed for lack of memory, and no group was left since
}

// NewGroups returns an empty set of groups on the interface with this index.
func NewGroups(index int) *Groups {
	return newGroups(func() (member, error) { return openMember(index) })
}

func newGroups(open func() (member, error)) *Groups {
	return &Groups{open: open, addresses: map[netip.Addr]struct{}{}, joined: map[key]*membership{}}
}

// Join makes sure that the group of address is joined; several addresses may have the same.
// Joining an address again changes nothing. After an error, which names the address, it is as
// if Join had not been called. It panics if address is not IPv6.
func (g *Groups) Join(address netip.Addr) error {
	if _, found := g.addresses[address]; found {
		return nil
	}
	group := solicitedNode(value(address))
	m := g.joined[group]
	if m == nil {
		s, err := g.join(group)
		if err != nil {
			return fmt.Errorf("join group of %v: %w", address, err)
		}
		m = &membership{socket: s}
		g.joined[group] = m
	}
	m.addresses++
	g.addresses[address] = struct{}{}
	return nil
}

// join joins group on the first socket that has room for it, or on a new one.
func (g *Groups) join(group key) (*groupSocket, error) {
	for _, s := range g.sockets {
		if s.full {
			continue
		}
		err := s.join(group)
		switch {
		case err == nil:
			s.groups++
			return s, nil
		case !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS):
			return nil, err
		}
		s.full = true
	}
	m, err := g.open()
	if err != nil {
		return nil, err
	}
	if err := m.join(group); err != nil {
		return nil, errors.Join(err, m.close())
	}
	s := &groupSocket{member: m, groups: 1}
	g.sockets = append(g.sockets, s)
	return s, nil
}

// Leave ends the membership in the group of address, unless another address has the same
// group. Leaving what was not joined changes nothing. Whatever the error, address is no longer
// in the set.
func (g *Groups) Leave(address netip.Addr) error {
	if _, found := g.addresses[address]; !found {
		return nil
	}
	delete(g.addresses, address)
	group := solicitedNode(value(address))
	m := g.joined[group]
	if m.addresses--; m.addresses > 0 {
		return nil
	}
	delete(g.joined, group)
	s := m.socket
	s.full = false
	if s.groups--; s.groups > 0 {
		if err := s.leave(group); err != nil {
			return fmt.Errorf("leave group of %v: %w", address, err)
		}
		return nil
	}
	// The last group of a socket is left by closing it.
	for i, x := range g.sockets {
		if x == s {
			g.sockets = append(g.sockets[:i], g.sockets[i+1:]...)
			break
		}
	}
	if err := s.close(); err != nil {
		return fmt.Errorf("leave group of %v: %w", address, err)
	}
	return nil
}

// Len returns the number of groups that are joined.
func (g *Groups) Len() int { return len(g.joined) }

// Close leaves all groups. The set is then empty and may be used again.
func (g *Groups) Close() error {
	var failed []error
	for _, s := range g.sockets {
		failed = append(failed, s.close())
	}
	clear(g.addresses)
	clear(g.joined)
	g.sockets = nil
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("close groups: %w", err)
	}
	return nil
}

// datagram is a UDP socket that is bound to nothing, so that it receives nothing.
type datagram struct {
	fd    int
	index int
}

func openMember(index int) (member, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &datagram{fd, index}, nil
}

func (d *datagram) join(group key) error  { return d.set(unix.IPV6_JOIN_GROUP, group) }
func (d *datagram) leave(group key) error { return d.set(unix.IPV6_LEAVE_GROUP, group) }

func (d *datagram) set(option int, group key) error {
	request := unix.IPv6Mreq{Multiaddr: group.addr().As16(), Interface: uint32(d.index)}
	return os.NewSyscallError("setsockopt", unix.SetsockoptIPv6Mreq(d.fd, unix.IPPROTO_IPV6, option, &request))
}

func (d *datagram) close() error { return os.NewSyscallError("close", unix.Close(d.fd)) }
