package pathcheck

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// firstPort is the first source port of tries: above what Linux gives connections (32768 to 60999 by
// default, ip-sysctl ip_local_port_range) and what Kubernetes gives Services (30000 to 32767).
const firstPort = 61000

// Prober sends half-open tries through the node's own stack and hears their answers. Each try has a port of
// its own: connection tracking remembers for minutes that an earlier one was not translated. Open
// makes one. It is safe for concurrent use.
type Prober struct {
	answered func(Try)
	families []*family
	reading  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	sent  map[uint16]sent
	port  uint16
	space []byte // for frames
}

// sent is a try that is under way.
type sent struct {
	try Try
	syn SYN
}

// family is the sockets of IPv4 or IPv6.
type family struct {
	is6  bool
	raw  *socket // sends tries, and gets what is delivered to this node, after the rules of the service proxy
	left *socket // gets what leaves this node, after these rules
}

// Open opens the sockets, in the network namespace of the calling thread; it needs CAP_NET_RAW. A family
// that the kernel does not have is left out. answered is called for each try whose answer counts, from
// goroutines that end with Close; it may call Send, but not Close.
func Open(answered func(Try)) (*Prober, error) {
	p := &Prober{answered: answered, sent: map[uint16]sent{}, space: make([]byte, 128)}
	p.port = uint16(firstPort + rand.IntN(1<<16-firstPort))
	var errs []error
	for _, is6 := range []bool{false, true} {
		f, err := openFamily(is6)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.families = append(p.families, f)
	}
	if len(p.families) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, f := range p.families {
		p.reading.Go(func() { p.read(f) })
	}
	return p, nil
}

// Close closes the sockets and waits until answered is not called any more.
func (p *Prober) Close() error {
	var errs []error
	for _, f := range p.families {
		errs = append(errs, f.close())
	}
	p.reading.Wait()
	return errors.Join(errs...)
}

// Send sends a try. An error means that this one is not answered.
func (p *Prober) Send(t Try) error {
	to := netip.AddrPortFrom(t.Address, t.Port)
	source, err := sourceTo(to)
	if err != nil {
		return err
	}
	for _, f := range p.families {
		if f.is6 != t.Address.Is6() {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drain(f)
		if p.port++; p.port < firstPort {
			p.port = firstPort
		}
		syn := SYN{Source: netip.AddrPortFrom(source, p.port), Destination: to, Number: rand.Uint32()}
		p.sent[p.port] = sent{t, syn}
		if err := f.raw.sendTo(syn.Marshal(), source, t.Address); err != nil {
			delete(p.sent, p.port)
			return fmt.Errorf("send SYN to %s: %w", to, err)
		}
		return nil
	}
	return fmt.Errorf("send SYN to %s: no socket of its family", to)
}

// sourceTo is the address that the kernel gives a connection.
func sourceTo(to netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // sends nothing
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find source address: %w", err)
	}
	defer func() { _ = conn.Close() }()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find source address: %w", err)
	}
	return local.Addr().Unmap().WithZone(""), nil
}

// read takes answers until the socket is closed.
func (p *Prober) read(f *family) {
	b := make([]byte, 256)
	for {
		n, from, err := f.raw.read(b)
		if errors.Is(err, errClosed) {
			return
		}
		if err != nil {
			continue // what ICMP said of some try: that one has no answer
		}
		segment := b[:n]
		if !f.is6 {
			_, _, segment, _ = parseIP(segment)
		}
		if a, ok := ParseAnswer(from, segment); ok {
			if t, counts := p.take(f, a); counts {
				p.answered(t)
			}
		}
	}
}

// take finds the try that an answer is to. It counts unless its SYN left this node as it was: then another
// node or host has answered.
func (p *Prober) take(f *family, a Answer) (Try, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drain(f)
	s, known := p.sent[a.To]
	if !known || s.syn.Destination != a.From || s.syn.Number != a.Number {
		return Try{}, false
	}
	delete(p.sent, a.To)
	return s.try, true
}

// drain looks at the SYNs that have left the node, and forgets the tries whose were not translated.
func (p *Prober) drain(f *family) {
	for {
		n, err := f.left.readNow(p.space)
		if err != nil {
			return
		}
		if s, ok := ParseSYN(p.space[:n]); ok && p.sent[s.Source.Port()].syn == s {
			delete(p.sent, s.Source.Port())
		}
	}
}

// openFamily opens the sockets of a family.
func openFamily(is6 bool) (*family, error) {
	domain, protocol, answers, leaving := unix.AF_INET, uint16(unix.ETH_P_IP), answers4, leaving4
	if is6 {
		domain, protocol, answers, leaving = unix.AF_INET6, unix.ETH_P_IPV6, answers6, leaving6
	}
	filter, err := answers()
	if err != nil {
		return nil, err
	}
	raw, err := openSocket(domain, unix.SOCK_RAW, unix.IPPROTO_TCP, filter)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	if filter, err = assemble(append(onlyOf(protocol), leaving()...)...); err != nil {
		return nil, errors.Join(err, raw.close())
	}
	left, err := openSocket(unix.AF_PACKET, unix.SOCK_DGRAM, 0, filter)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), raw.close())
	}
	if err := left.bindAll(); err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket: %w", err), raw.close(), left.close())
	}
	return &family{is6: is6, raw: raw, left: left}, nil
}

func (f *family) close() error { return errors.Join(f.raw.close(), f.left.close()) }
