package membership

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// looks is how many times an interval is looked for what is overdue.
	looks = 4
	// aloneAfter is how long a speaker whose peers all have none waits for one to start before
	// it takes all addresses: after a power failure nodes come up one after the other.
	aloneAfter = 2 * time.Second
	// blockedAfter is how long speakers that have all started, and have met each other, wait for
	// a node that lives and from whose port nothing comes back.
	blockedAfter = 30 * time.Second
	// farewells is how often the end of this speaker is told: datagrams may get lost.
	farewells = 2
	// deafAfter is how long a node that hears nobody goes on answering for what it owns.
	deafAfter = time.Second
	// ringEvery is how often it is looked whether all have a new key.
	ringEvery = time.Second
)

// ways are the sockets to the others.
type ways struct {
	transport memberlist.Transport
	// datagrams carry heartbeats; port is the others' port for them.
	datagrams net.PacketConn
	port      uint16
}

// run is the state of Run, owned by its goroutine.
type run struct {
	*Membership
	ctx   context.Context
	began time.Time
	// alone is since when this node may have been alone: its start, or when it was cut off.
	// deafSince is since when it hears nobody; ever says that it has joined before.
	alone, deafSince time.Time
	ever             bool
	list             *memberlist.Memberlist
	roster           *roster
	conn             net.PacketConn
	port             uint16
	watch            *watch
	absent           *attempts
	boot             uint64
	seq              uint64
	// told are the nodes that believe to get heartbeats from this one.
	told    map[name.NodeName]int
	last    View
	shown   uint64
	tasks   sync.WaitGroup
	results chan func(time.Time)
	rung    time.Time
}

// Run takes part until ctx ends, then tells the others that this node restarts, or leaves if
// Leave was called, stops, and returns nil. While the port is held by somebody else, or the
// address is not there yet, it tries again with a backoff. Call it once.
func (m *Membership) Run(ctx context.Context) error {
	r := &run{
		Membership: m, ctx: ctx, began: time.Now(), alone: time.Now(), watch: newWatch(m.config.NodeName), absent: newAttempts(),
		roster: newRoster(), boot: rand.Uint64() | 1, told: map[name.NodeName]int{}, results: make(chan func(time.Time), 64),
	}
	r.watch.warn = func(message string, n name.NodeName) { m.config.Log.Info(message, "node", n) }
	if !r.bind() {
		return nil
	}
	m.config.Log.Info("gossip is ready", "address", m.config.BindAddr.String(), "port", m.config.Port)
	packets := make(chan packet, 256)
	var reader sync.WaitGroup
	reader.Go(func() { r.read(packets) })
	r.loop(packets)
	r.stop()
	reader.Wait()
	return nil
}

func (r *run) loop(packets <-chan packet) {
	beat := time.NewTicker(r.watch.interval)
	defer func() { beat.Stop() }()
	look := time.NewTicker(r.watch.interval / looks)
	defer func() { look.Stop() }()
	interval := r.watch.interval
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.changed:
			for _, news := range r.take() {
				r.tell(news)
			}
			r.joinAbsent()
			if r.watch.interval != interval {
				interval = r.watch.interval
				beat.Reset(interval)
				look.Reset(interval / looks)
			}
		case <-r.roster.changed:
			for _, e := range r.roster.take() {
				r.act(r.watch.gossip(e.node, e.alive, e.left, time.Now()))
			}
		case p := <-packets:
			r.receive(p)
		case <-beat.C:
			r.beat()
		case now := <-look.C:
			r.act(r.watch.look(time.Now()))
			r.joinAbsent()
			r.turnRing(now)
		case done := <-r.results:
			done(time.Now())
		}
		r.show()
	}
}

// take takes what was set from outside, and returns what is to be told to others.
func (r *run) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch.interval, r.watch.missed = r.interval, r.missed
	var names []name.NodeName
	for _, p := range r.peers {
		names = append(names, p.Name)
	}
	r.watch.setPeers(names, time.Now())
	r.watch.deputized = map[name.NodeName]bool{}
	for _, n := range r.deputized {
		r.watch.deputized[n] = true
	}
	news := r.outbox
	r.outbox = nil
	return news
}

// show delivers the view, if what it is made of may have changed.
func (r *run) show() {
	cutOff := r.cutOff(time.Now())
	joined := !cutOff && (r.last.Joined || r.hasJoined())
	r.ever = r.ever || joined
	if len(r.last.Members) > 0 && r.last.Joined == joined && r.shown == r.watch.changes && r.last.Deaf == r.watch.deaf {
		return
	}
	r.shown = r.watch.changes
	r.deliver(View{Members: r.watch.members(r.began), Joined: joined, Deaf: r.watch.deaf}, &r.last)
	r.roster.setOwn(r.ever)
}

// cutOff says whether this node has heard nobody for so long that others may own by now what
// it did. Once it hears somebody, it exchanges news with all before it answers for anything.
func (r *run) cutOff(now time.Time) bool {
	if !r.watch.deaf {
		if !r.deafSince.IsZero() && now.Sub(r.deafSince) >= deafAfter {
			r.absent.again()
		}
		r.deafSince = time.Time{}
		return false
	}
	if r.deafSince.IsZero() {
		r.deafSince = now
	}
	if now.Sub(r.deafSince) < deafAfter {
		return false
	}
	r.alone = now
	r.roster.forget()
	return true
}

// hasJoined says whether this node knows what the others own.
func (r *run) hasJoined() bool {
	r.mu.Lock()
	known, alone := r.known, len(r.peers) == 0
	r.mu.Unlock()
	waited := time.Since(r.alone)
	return r.roster.met() || known && (alone || waited >= aloneAfter && r.absent.allTried() || waited >= blockedAfter && r.roster.merges() > 0)
}

// act does what the watch says.
func (r *run) act(do todo) {
	for _, n := range do.ping {
		if p := r.watch.peers[n]; p != nil {
			r.send(n, packet{kind: ping, nonce: p.challenge(rand.Uint64()|1, time.Now())})
		}
	}
	for _, n := range do.suspect {
		r.config.Log.Info("heartbeats are missed, asking the LAN", "node", n)
		for other, p := range r.watch.peers {
			if p.gossiped && other != n {
				r.send(other, packet{kind: suspect, about: n})
			}
		}
	}
	for _, n := range do.inquire {
		r.inquire(n)
	}
	for _, v := range do.veto {
		r.send(v.to, packet{kind: veto, about: v.about})
	}
	for _, n := range do.ask {
		r.asked.Add(1)
		r.task(func(ctx context.Context) func(time.Time) {
			answer := r.config.Ask(ctx, n)
			return func(now time.Time) { r.watch.answered(n, answer, now) }
		})
	}
	for _, n := range do.verify {
		r.task(func(context.Context) func(time.Time) {
			reached := r.pingGossip(n)
			return func(now time.Time) { r.watch.verified(n, reached, now) }
		})
	}
	for _, n := range do.join {
		if a, ok := r.address(n); ok {
			r.absent.hurry(a)
		}
	}
}

// inquire asks some members, drawn at random, whether they hear a node.
func (r *run) inquire(about name.NodeName) {
	asked := 0
	for other, p := range r.watch.peers { // in random order
		if p.gossiped && other != about && asked < inquiries {
			r.send(other, packet{kind: inquiry, about: about})
			asked++
		}
	}
}

// task runs something that takes time, and then what it returns in the goroutine of Run.
func (r *run) task(work func(context.Context) func(time.Time)) {
	r.tasks.Go(func() {
		done := work(r.ctx)
		select {
		case r.results <- done:
		case <-r.ctx.Done():
		}
	})
}

// address is where a node's speaker is.
func (r *run) address(n name.NodeName) (netip.Addr, bool) {
	if a, ok := r.roster.address(n); ok {
		return a, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.peers, func(p Peer) bool { return p.Name == n })
	if i < 0 {
		return netip.Addr{}, false
	}
	return r.peers[i].Address, true
}

// send sends a packet to a node. What is lost is not missed: more follow.
func (r *run) send(n name.NodeName, p packet) {
	a, ok := r.address(n)
	if !ok {
		return
	}
	r.seq++
	p.boot, p.seq, p.from = r.boot, r.seq, r.config.NodeName
	if r.last.Joined {
		p.flags |= joined
	}
	if r.watch.deaf {
		p.flags |= deaf
	}
	if r.told[n] > 0 && p.kind != farewell {
		p.flags |= watched
	}
	_, _ = r.conn.WriteTo(p.encode(clusterOf(r.config.Label), Key(r.ring.GetPrimaryKey())), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, r.port)))
}

// beat sends heartbeats to those that watch this node, and tells others that they need not.
func (r *run) beat() {
	now := r.watch.watchers()
	for n := range r.told {
		if !slices.Contains(now, n) {
			delete(r.told, n)
			r.send(n, packet{kind: heartbeat})
		}
	}
	for _, n := range now {
		r.told[n]++
		r.sent.Add(1)
		r.send(n, packet{kind: heartbeat})
	}
}

// receive takes one authentic packet.
func (r *run) receive(p packet) {
	if p.kind == heartbeat {
		r.received.Add(1)
	}
	if p.kind == ping {
		r.send(p.from, packet{kind: pong, nonce: p.nonce})
	}
	r.act(r.watch.hear(p, time.Now()))
}

// read reads packets until the socket is closed.
func (r *run) read(packets chan<- packet) {
	cluster, b := clusterOf(r.config.Label), make([]byte, packetMax+1)
	for {
		n, _, err := r.conn.ReadFrom(b)
		if err != nil {
			if r.ctx.Err() != nil {
				return
			}
			select { // an ICMP error that a datagram brought back, or the interface is away
			case <-r.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		p, err := decode(b[:n], cluster, ringKeys(r.ring))
		if err != nil {
			r.rejected.Add(1)
			continue
		}
		select {
		case packets <- p:
		case <-r.ctx.Done():
			return
		}
	}
}

// joinAbsent starts to join those peers whose turn it is.
func (r *run) joinAbsent() {
	r.mu.Lock()
	peers := slices.Clone(r.peers)
	r.mu.Unlock()
	alive := r.roster.addresses()
	if !r.last.Joined {
		for _, p := range peers {
			if w := r.watch.peers[p.Name]; w == nil || w.boot == 0 || w.flags&joined != 0 {
				delete(alive, p.Address) // it may own something, and is to be met itself
			}
		}
	}
	for _, peer := range r.absent.start(peers, alive, time.Now()) {
		r.task(func(ctx context.Context) func(time.Time) {
			outcome := r.join(ctx, peer)
			return func(now time.Time) { r.absent.done(peer.Address, outcome, now, rand.Float64()) }
		})
	}
}

// stop tells the others, and ends all that Run started.
func (r *run) stop() {
	bye := packet{kind: farewell}
	if r.leaving.Load() {
		bye.flags = left
	}
	for range farewells {
		for n, p := range r.watch.peers {
			if p.gossiped || p.health != Dead {
				r.send(n, bye)
			}
		}
	}
	if r.leaving.Load() {
		_ = r.list.Leave(leaveTimeout) // who does not hear of it finds out by itself
	}
	_ = r.conn.Close()
	_ = r.list.Shutdown()
	r.tasks.Wait()
}
