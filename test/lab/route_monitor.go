package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RouteEvent is one change of a router's forwarding table, as `ip monitor route` shows them.
type RouteEvent struct {
	// At is when the change was read, at most some milliseconds after it.
	At time.Time
	// Deleted is that the route is gone; else it is new or has other next hops.
	Deleted  bool
	Prefix   netip.Prefix
	NextHops []netip.Addr // of which the kernel tells, sorted
}

// String is one line.
func (e RouteEvent) String() string {
	what := "is"
	if e.Deleted {
		what = "was deleted,"
	}
	return fmt.Sprintf("%s %s %s via %v", e.At.Format("15:04:05.000"), e.Prefix, what, e.NextHops)
}

// RouteMonitor records the changes of a router's forwarding table. It is safe for use by many goroutines.
type RouteMonitor struct {
	file *os.File
	done chan struct{}

	mu   sync.Mutex
	seen []RouteEvent
	err  error
}

// MonitorRoutes records every change of the routes with next hops in a host's kernel, until Stop.
func (l *Lab) MonitorRoutes(host string) (*RouteMonitor, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	m := &RouteMonitor{done: make(chan struct{})}
	err = h.ns.do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		m.file = os.NewFile(uintptr(fd), "netlink")
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
			return fmt.Errorf("size netlink socket: %w", err)
		}
		const groups = unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	})
	if err != nil {
		if m.file != nil {
			_ = m.file.Close()
		}
		return nil, fmt.Errorf("monitor routes of %s: %w", host, err)
	}
	go m.record()
	return m, nil
}

// record runs until the socket is closed.
func (m *RouteMonitor) record() {
	defer close(m.done)
	buffer := make([]byte, 1<<16)
	for {
		n, err := m.file.Read(buffer)
		if err != nil {
			m.mu.Lock()
			m.err = err
			m.mu.Unlock()
			return
		}
		events := parseRouteEvents(buffer[:n])
		now := time.Now()
		m.mu.Lock()
		for _, e := range events {
			e.At = now
			m.seen = append(m.seen, e)
		}
		m.mu.Unlock()
	}
}

// Seen returns what was recorded so far.
func (m *RouteMonitor) Seen() []RouteEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

// Deleted returns the deletions recorded so far.
func (m *RouteMonitor) Deleted() []RouteEvent {
	return slices.DeleteFunc(m.Seen(), func(e RouteEvent) bool { return !e.Deleted })
}

// Stop ends the recording and returns all of it. It may be called more than once.
func (m *RouteMonitor) Stop() []RouteEvent {
	_ = m.file.Close()
	<-m.done
	return m.Seen()
}

// parseRouteEvents reads netlink messages (rtnetlink(7)): unicast routes of the main table that
// have next hops.
func parseRouteEvents(data []byte) []RouteEvent {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil
	}
	var out []RouteEvent
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		family, bits, table, kind := m.Data[0], m.Data[1], m.Data[4], m.Data[7]
		if table != unix.RT_TABLE_MAIN || kind != unix.RTN_UNICAST {
			continue
		}
		e := RouteEvent{Deleted: m.Header.Type == unix.RTM_DELROUTE}
		destination := netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			destination = netip.IPv6Unspecified()
		}
		for kind, value := range attributes(m.Data[unix.SizeofRtMsg:]) {
			switch kind {
			case unix.RTA_DST:
				if a, ok := netip.AddrFromSlice(value); ok {
					destination = a
				}
			case unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH:
				e.NextHops = append(e.NextHops, nextHops(kind, value)...)
			}
		}
		e.Prefix = netip.PrefixFrom(destination, int(bits))
		slices.SortFunc(e.NextHops, netip.Addr.Compare)
		if len(e.NextHops) > 0 && e.Prefix.IsValid() {
			out = append(out, e)
		}
	}
	return out
}

// attributes yields the attributes of a netlink message: type and value.
func attributes(data []byte) func(yield func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(data))
			if length < unix.SizeofRtAttr || length > len(data) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(data[2:])&^unix.NLA_F_NESTED, data[unix.SizeofRtAttr:length]) {
				return
			}
			data = data[min((length+3)&^3, len(data)):]
		}
	}
}

// nextHops reads the addresses of one attribute.
func nextHops(kind uint16, value []byte) []netip.Addr {
	switch kind {
	case unix.RTA_VIA: // an address family before the address
		if len(value) < 2 {
			return nil
		}
		value = value[2:]
	case unix.RTA_MULTIPATH:
		return multipath(value)
	}
	if a, ok := netip.AddrFromSlice(value); ok {
		return []netip.Addr{a}
	}
	return nil
}

// multipath reads a list of struct rtnexthop, each followed by attributes.
func multipath(data []byte) []netip.Addr {
	var out []netip.Addr
	for len(data) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.SizeofRtNexthop || length > len(data) {
			break
		}
		for kind, value := range attributes(data[unix.SizeofRtNexthop:length]) {
			if kind == unix.RTA_GATEWAY || kind == unix.RTA_VIA {
				out = append(out, nextHops(kind, value)...)
			}
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return out
}

// describeEvents is one line an event.
func describeEvents(events []RouteEvent) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
