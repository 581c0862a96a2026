package membership

import (
	"context"
	"errors"
	"math/rand/v2"
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
	// standstill is how long this process may have stood still before others may own by now what it
	// did.
	standstill = 3 * time.Second
	// touchEvery is how often a member is asked whether this node is in touch, inTouch how old its
	// answer may be, counted from the question.
	touchEvery, inTouch = 250 * time.Millisecond, time.Second
	// lonelyAfter is how long no other speaker must be alive for this node to be the only one: where
	// a cable is plugged in again, kernels answer before speakers are heard.
	lonelyAfter = 3 * time.Second
	// companyEvery is how often the LAN is asked for other speakers that the gossip does not find.
	companyEvery = time.Second
	// ringEvery is how often it is looked whether all have a new key.
	ringEvery = time.Second
)

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
	ways             *transport
	watch            *watch
	absent           *attempts
	boot             uint64
	seq              uint64
	// told are the nodes that believe to get heartbeats from this one.
	told map[name.NodeName]int
	// stoodAt is when it was last looked whether this process stands still; behind says that it did,
	// or that this node was deaf, and that it has not heard since what others own.
	stoodAt time.Time
	behind  bool
	// company is what the LAN said of other speakers.
	company company
	// lonely counts the looks since any other speaker was alive. Looks are counted and not time, which
	// passes also while this process stands still.
	lonely int
	// touched is when a member was last asked whether this node is in touch, touch the nonce.
	touched time.Time
	touch   uint64
	last    View
	shown   uint64
	journal *journal
	tasks   sync.WaitGroup
	results chan func(time.Time)
	rung    time.Time
}

// company is what the LAN said of other speakers, and when.
type company struct {
	asking, none, warned bool
	at                   time.Time
}

// Run takes part until ctx ends, then tells the others that this node restarts, or leaves if
// Leave was called, stops, and returns nil. It begins with the first address that it can listen
// on. While a port is held by somebody else, or an address is not there yet, it tries again with
// a backoff. Call it once.
func (m *Membership) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{
		Membership: m, ctx: ctx, began: time.Now(), alone: time.Now(), watch: newWatch(m.config.NodeName), absent: newAttempts(),
		roster: newRoster(), boot: rand.Uint64() | 1, told: map[name.NodeName]int{}, results: make(chan func(time.Time), 64),
		ways: newTransport(ctx, m), journal: newJournal(),
	}
	r.watch.warn = r.log
	opened := make(chan struct{}, 1)
	var others sync.WaitGroup
	others.Go(func() { r.ways.follow(func() { wake(opened) }) })
	select {
	case <-ctx.Done():
		others.Wait()
		return r.ways.Shutdown()
	case <-opened:
	}
	if err := r.begin(); err != nil {
		cancel()
		others.Wait()
		return errors.Join(err, r.ways.Shutdown())
	}
	m.config.Log.Info("gossip is ready", "port", m.config.Port)
	packets := make(chan packet, 256)
	others.Go(func() { r.read(packets) })
	r.loop(packets, opened)
	others.Wait()
	r.stop()
	return nil
}

func (r *run) loop(packets <-chan packet, opened <-chan struct{}) {
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
			for _, l := range r.take() {
				r.tell(l)
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
		case <-opened:
			r.absent.soon()
			r.joinAbsent()
		case <-beat.C:
			r.beat()
		case now := <-look.C:
			r.stand(time.Now())
			r.recount(time.Now())
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
func (r *run) take() []Letter {
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
	letters := r.outbox
	r.outbox = nil
	return letters
}

// show delivers the view, if what it is made of may have changed.
func (r *run) show() {
	for i, n := range r.watch.results {
		r.replies[i].Store(n)
	}
	r.vetoed.Store(r.watch.vetoed)
	cutOff := r.cutOff(time.Now())
	joined := !cutOff && (!r.behind && r.last.Joined || r.hasJoined())
	r.behind = r.behind && !joined
	r.ever = r.ever || joined
	if len(r.last.Members) > 0 && r.last.Joined == joined && r.shown == r.watch.changes && r.last.Deaf == r.watch.deaf {
		return
	}
	r.shown = r.watch.changes
	r.deliver(View{Members: r.watch.members(r.began), Joined: joined, Deaf: r.watch.deaf}, &r.last, time.Now())
	r.roster.setOwn(r.ever)
}

// cutOff says whether this node has heard nobody for so long that it is not to answer even who asks.
// Once it hears somebody, however soon, others may own what it did.
func (r *run) cutOff(now time.Time) bool {
	switch {
	case !r.watch.deaf && r.deafSince.IsZero():
		return false
	case !r.watch.deaf:
		r.deafSince = time.Time{}
		r.fallBehind(now)
		return false
	case r.deafSince.IsZero():
		r.deafSince = now
	}
	return now.Sub(r.deafSince) >= deafAfter
}

// fallBehind has this node exchange news with others before it answers for anything again.
func (r *run) fallBehind(now time.Time) {
	r.behind, r.alone = true, now
	r.roster.forget()
	r.absent.again()
}

// hasJoined says whether this node knows what the others own.
func (r *run) hasJoined() bool {
	r.mu.Lock()
	known, alone := r.known, len(r.peers) == 0
	r.mu.Unlock()
	waited := time.Since(r.alone)
	switch {
	case r.roster.met(), known && (alone || waited >= blockedAfter && r.roster.merges() > 0):
		return true
	case !known || waited < aloneAfter || !r.absent.allTried():
		return false
	}
	return r.isAlone()
}

// isAlone says whether the LAN says that there is no other speaker. A port that refuses does not: a
// firewall refuses too. It has the LAN asked, again and again for as long as it says otherwise.
func (r *run) isAlone() bool {
	if r.company.asking || time.Since(r.company.at) < companyEvery {
		return r.company.none
	}
	r.company.asking, r.company.none = true, false
	r.task(func(ctx context.Context) func(time.Time) {
		there := r.config.Company(ctx)
		return func(now time.Time) {
			if there && !r.company.warned {
				r.config.Log.Info("the gossip finds no other speaker, but one answers on the LAN: are the ports open?")
			}
			r.company = company{at: now, none: !there, warned: there}
		}
	})
	return false
}

// act does what the watch says.
func (r *run) act(do todo) {
	for _, n := range do.ping {
		if p := r.watch.peers[n]; p != nil {
			r.send(n, packet{kind: ping, nonce: p.challenge(rand.Uint64()|1, time.Now())})
		}
	}
	for _, n := range do.suspect {
		r.log("heartbeats are missed, asking the LAN", n)
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
		r.vetoes.Add(1)
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
		r.absent.hurry(n)
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

// send sends a packet to a node, a ping at all its addresses. What is lost is not missed: more
// follow.
func (r *run) send(n name.NodeName, p packet) {
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
	said, _ := r.roster.address(n)
	r.ways.beat(n, said, p.encode(clusterOf(r.config.Label), Key(r.ring.GetPrimaryKey())), p.kind == ping)
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

// stand looks whether this process has stood still, and asks somebody from time to time whether this
// node is in touch. Who stood still for long hears what others own before it answers for anything.
func (r *run) stand(now time.Time) {
	if !r.stoodAt.IsZero() && now.Sub(r.stoodAt) >= standstill && r.last.Joined {
		r.config.Log.Info("this process has stood still: hearing what others own by now", "for", now.Sub(r.stoodAt).String())
		r.fallBehind(now)
	}
	r.stoodAt = now
	if r.lonely++; r.watch.alive() {
		r.lonely = 0
	}
	r.fellows.Store(time.Duration(r.lonely)*r.watch.interval/looks < lonelyAfter)
	if now.Sub(r.touched) < touchEvery {
		return
	}
	r.touched, r.touch = now, rand.Uint64()|1
	for n, p := range r.watch.peers { // one at random
		if p.gossiped && p.health == Alive {
			r.send(n, packet{kind: ping, nonce: r.touch})
			break
		}
	}
}

// receive takes one authentic packet.
func (r *run) receive(p packet) {
	if p.kind == pong && p.nonce == r.touch {
		asked := r.touched
		r.inTouch.Store(&asked)
	}
	if p.kind == heartbeat {
		r.received.Add(1)
	}
	if p.kind == ping {
		r.send(p.from, packet{kind: pong, nonce: p.nonce})
	}
	r.act(r.watch.hear(p, time.Now()))
}

// read decodes the packets that arrive, until ctx ends.
func (r *run) read(packets chan<- packet) {
	cluster := clusterOf(r.config.Label)
	for {
		var d datagram
		select {
		case d = <-r.ways.beats:
		case <-r.ctx.Done():
			return
		}
		p, err := decode(d.octets, cluster, ringKeys(r.ring))
		if err != nil {
			r.rejected.Add(1)
			continue
		}
		r.routes.works(p.from, d.from)
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
	peers := related(r.own, r.peers)
	r.mu.Unlock()
	rand.Shuffle(len(peers), func(x, y int) { peers[x], peers[y] = peers[y], peers[x] }) // not all begin with the same
	alive := r.roster.names()
	if !r.last.Joined {
		for _, p := range peers {
			if w := r.watch.peers[p.Name]; w == nil || w.boot == 0 || w.flags&joined != 0 {
				delete(alive, p.Name) // it may own something, and is to be met itself
			}
		}
	}
	for _, peer := range r.absent.start(peers, alive, time.Now()) {
		r.task(func(ctx context.Context) func(time.Time) {
			outcome := r.join(ctx, peer)
			return func(now time.Time) { r.absent.done(peer.Name, outcome, now, rand.Float64()) }
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
	_ = r.list.Shutdown()
	r.tasks.Wait()
}
