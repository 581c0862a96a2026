package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Badness is what is wrong with a host that a BGPPeer names.
type Badness string

// The kinds of bad peers.
const (
	// BlackHole answers ARP and neighbor solicitations and drops all else: connecting takes until it times out.
	BlackHole Badness = "black-hole"
	// Silent accepts connections and says nothing.
	Silent Badness = "silent"
	// Closing closes each connection when it has read the OPEN.
	Closing Badness = "closing"
	// Garbage answers the OPEN with bytes that are no BGP message.
	Garbage Badness = "garbage"
)

// bgpPort is BGP's (RFC 4271 section 8.2.1).
const bgpPort = 179

// AddBadPeer plugs a host into the LAN that is no use as a BGP peer. RemoveHost removes it.
func (l *Lab) AddBadPeer(ctx context.Context, name string, bad Badness) (*Host, error) {
	if !slices.Contains([]Badness{BlackHole, Silent, Closing, Garbage}, bad) {
		return nil, fmt.Errorf("add bad peer %s: %q is none of %s, %s, %s, %s", name, bad, BlackHole, Silent, Closing, Garbage)
	}
	h, err := l.AddHost(ctx, name)
	if err != nil {
		return nil, err
	}
	if bad == BlackHole {
		err = h.dropAll(ctx)
	} else {
		err = l.serveBadly(h, bad)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add bad peer %s: %w", name, err), l.RemoveHost(ctx, name))
	}
	return h, nil
}

// dropAll drops whatever IP brings but neighbor discovery; ARP is none.
func (h *Host) dropAll(ctx context.Context) error {
	return h.ns.nft(ctx, `table inet hole {
	chain in {
		type filter hook input priority 0; policy drop;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
	}
}
`)
}

// serveBadly listens until the host is removed or the lab ends.
func (l *Lab) serveBadly(h *Host, bad Badness) error {
	err := h.ns.do(func() (err error) {
		h.listener, err = net.Listen("tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), bgpPort).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	listener := h.listener
	l.wg.Go(func() {
		defer context.AfterFunc(l.background, func() { _ = listener.Close() })()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { bad.serve(l.background, conn) })
		}
	})
	return nil
}

// badPatience is how long a bad peer keeps a connection.
const badPatience = 5 * time.Minute

// serve treats one connection badly.
func (b Badness) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(badPatience))
	if b == Silent {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	open := make([]byte, 4096)
	if _, err := conn.Read(open); err != nil || b == Closing {
		return
	}
	// Neither the marker of all ones nor a length that makes sense (RFC 4271 section 4.1).
	_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: router\r\nUser-Agent: not a router\r\n\r\n"))
	_, _ = io.Copy(io.Discard, conn)
}
