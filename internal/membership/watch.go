package membership

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// todo is what follows from what was learned.
type todo struct {
	ping    []name.NodeName // send a ping
	ask     []name.NodeName // ask the LAN
	verify  []name.NodeName // ask the gossip
	suspect []name.NodeName // tell all others that it is suspected
	join    []name.NodeName // exchange with it what is known
	inquire []name.NodeName // ask some others whether they hear it
	veto    []hearing       // tell one that another is heard
}

// hearing is what one node is told: that another is heard.
type hearing struct{ to, about name.NodeName }

// watch knows how the speakers of all other nodes are. It is pure: it takes the time as an
// argument and says what is to be done.
type watch struct {
	self     name.NodeName
	interval time.Duration
	missed   int
	peers    map[name.NodeName]*peer
	// deputized are the nodes that this one answers for.
	deputized map[name.NodeName]bool
	deaf      bool
	looked    time.Time
	// doubted is when a node was found dead, and others that were not heard lately are to be
	// asked for; zero: they have been.
	doubted time.Time
	// wondered is when a node that nothing is wrong with was last asked for, heardAny when a
	// packet last came from anybody.
	wondered, heardAny time.Time
	// changes counts what may have changed the members; watching is what watchers returned, nil
	// when that may have changed.
	changes  uint64
	watching []name.NodeName
	// results counts what became of questions to the LAN, vetoes what others told this node it need not miss.
	results [resultCount]uint64
	vetoed  uint64
	warn    func(message string, node name.NodeName)
}

func newWatch(self name.NodeName) *watch {
	return &watch{
		self: self, interval: DefaultInterval, missed: DefaultMissed, peers: map[name.NodeName]*peer{},
		deputized: map[name.NodeName]bool{}, warn: func(string, name.NodeName) {},
	}
}

// peer returns what is known of a node. One that was never met is silent: that it is not
// heard proves nothing yet.
func (w *watch) peer(n name.NodeName, now time.Time) *peer {
	p := w.peers[n]
	if p == nil {
		p = &peer{name: n, health: Silent, since: now}
		w.peers[n] = p
		w.changes++
	}
	return p
}

func (w *watch) become(p *peer, h Health, now time.Time) {
	p.lost = false
	if p.health != h {
		p.health, p.since = h, now
		w.changes++
	}
}

// setPeers tells which nodes there may be. Others are forgotten once the gossip does not know
// them either.
func (w *watch) setPeers(names []name.NodeName, now time.Time) {
	for _, p := range w.peers {
		p.known = false
	}
	for _, n := range names {
		if n != w.self {
			w.peer(n, now).known = true
		}
	}
	for n, p := range w.peers {
		if !p.known && !p.gossiped {
			delete(w.peers, n)
			w.changes++
		}
	}
}

// challenge notes that a node is pinged, and returns the nonce to ping it with: the one before,
// for a while, since its pong may take longer than it takes to ping again.
func (p *peer) challenge(nonce uint64, now time.Time) uint64 {
	p.pinged = now
	if p.nonce == 0 || now.Sub(p.challenged) >= challenge {
		p.nonce, p.challenged = nonce, now
	}
	return p.nonce
}

// fresh says whether a packet is new, and not one recorded earlier: it is of the process that
// answered the last ping, and later than all before. Of another process only a pong counts.
func (p *peer) fresh(in packet, now time.Time) bool {
	if in.boot == p.boot && p.boot != 0 {
		if in.seq <= p.seq {
			return false
		}
		p.seq = in.seq
		return true
	}
	if in.kind != pong || in.nonce == 0 || in.nonce != p.nonce || now.Sub(p.challenged) > 2*challenge {
		return false
	}
	p.boot, p.seq, p.nonce = in.boot, in.seq, 0
	return true
}

// hear takes an authentic packet.
func (w *watch) hear(in packet, now time.Time) (do todo) {
	if in.from == w.self {
		return do
	}
	p := w.peer(in.from, now)
	before, again := p.health, p.boot == in.boot && p.flags&joined != 0
	if !p.fresh(in, now) {
		if in.boot != p.boot && now.Sub(p.pinged) > w.interval/2 {
			do.ping = append(do.ping, p.name)
		}
		return do
	}
	p.heard, p.flags, p.suspected, p.told, w.deaf, w.heardAny = now, in.flags, false, false, false, now
	p.stopping = in.kind == farewell
	switch {
	case in.kind == farewell && in.flags&left != 0:
		p.flags &^= watched
		w.become(p, Dead, now)
		return do
	case in.kind == farewell, in.flags&joined == 0:
		p.flags &^= watched
		w.become(p, Silent, now)
	case in.flags&deaf != 0:
		w.become(p, Dead, now)
	default:
		w.become(p, Alive, now)
	}
	switch in.kind {
	case suspect:
		w.suspected(in.about, now, &do)
		w.inquired(in, now, &do)
	case inquiry:
		w.inquired(in, now, &do)
	case veto:
		if missed := w.peers[in.about]; missed != nil {
			missed.vetoed = true
			w.vetoed++
		}
	}
	if p.health == Alive {
		p.vetoes(now, &do)
	}
	if p.health == Alive && (before == Dead || before != Alive && again) {
		// It was away, and so was this node for it. One that has only just joined was not.
		do.join = append(do.join, p.name)
	}
	return do
}

// suspected is that another node misses the heartbeats of one.
func (w *watch) suspected(n name.NodeName, now time.Time, do *todo) {
	p := w.peers[n]
	if p == nil || p.health == Dead || now.Sub(p.heard) <= w.interval {
		return
	}
	p.suspected = true
	if !p.asking {
		w.question(p, now, do)
	}
}

// inquired is that another node asks whether this one hears a node that it misses. Only what comes
// from that from now on counts, so it is pinged.
func (w *watch) inquired(in packet, now time.Time, do *todo) {
	p := w.peers[in.about]
	if p == nil || in.about == in.from {
		return
	}
	if p.inquirers == nil {
		p.inquirers = map[name.NodeName]time.Time{}
	}
	p.inquirers[in.from] = now
	if now.Sub(p.pinged) > w.interval/2 {
		do.ping = append(do.ping, p.name)
	}
}

// vetoes tells those that miss a node that it has been heard since they asked.
func (p *peer) vetoes(now time.Time, do *todo) {
	for n, since := range p.inquirers {
		if now.Sub(since) <= inquired {
			do.veto = append(do.veto, hearing{n, p.name})
		}
	}
	clear(p.inquirers)
}

// question has a node pinged, the LAN asked for it, and others whether they hear it.
func (w *watch) question(p *peer, now time.Time, do *todo) {
	p.asking, p.asked, p.vetoed = true, now, false
	do.ping = append(do.ping, p.name)
	do.ask = append(do.ask, p.name)
	do.inquire = append(do.inquire, p.name)
}

// gossip takes what the gossip says of a node: that it lives, is dead, or has left.
func (w *watch) gossip(n name.NodeName, alive, gone bool, now time.Time) (do todo) {
	if n == w.self {
		return do
	}
	p := w.peer(n, now)
	p.gossiped, w.watching = alive, nil
	switch {
	case gone:
		w.become(p, Dead, now)
	case alive && p.flags&deaf == 0:
		if p.health == Dead {
			w.become(p, Silent, now)
		}
		do.ping = append(do.ping, n) // its pong says whether it has joined
	case !alive && p.health == Alive && !p.asking:
		w.question(p, now, &do)
	}
	return do
}

// verified takes whether the gossip reached a node that sends no heartbeats.
func (w *watch) verified(n name.NodeName, reached bool, now time.Time) {
	if p := w.peers[n]; p != nil && reached && p.health != Alive && p.gossiped && now.Sub(p.heard) >= gossipAfter {
		w.warn("heartbeats do not get through, but the gossip does: is the UDP port above its own open?", n)
		w.become(p, Alive, now)
		p.flags &^= watched
	}
}

// look is to be called often: it finds whose heartbeats are overdue, and what else is due.
func (w *watch) look(now time.Time) (do todo) {
	if w.stalled(now) {
		gap := now.Sub(w.looked)
		for _, p := range w.peers { // it was this process that stood still
			if p.heard = p.heard.Add(gap); p.heard.After(now) {
				p.heard = now // heard since then
			}
			p.void = p.asking
		}
	}
	w.looked = now
	w.doubt(now, &do)
	lost := w.countLost()
	for _, p := range w.peers {
		if p.lost {
			w.lookForLost(p, lost, now, &do)
		}
		w.lookAt(p, now, &do)
	}
	slices.Sort(do.ping)
	do.ping = slices.Compact(do.ping)
	return do
}

// countLost counts the nodes that the LAN found dead.
func (w *watch) countLost() (n int) {
	for _, p := range w.peers {
		if p.lost {
			n++
		}
	}
	return n
}

// lookForLost asks again for a node that the LAN found dead: where this node could not send for a while, or a cut has
// healed and the gossip is still blocked, nothing else would ever tell that it lives. lost is how many there are.
func (w *watch) lookForLost(p *peer, lost int, now time.Time, do *todo) {
	every := max(askDead, time.Duration((len(w.peers)+1)*lost)*time.Second/askDeadRate, now.Sub(p.since)/4)
	if !p.asking && now.Sub(p.asked) >= min(every, askDeadMost) {
		p.asking, p.asked, p.vetoed = true, now, false
		do.ask = append(do.ask, p.name)
		do.inquire = append(do.inquire, p.name)
	}
}

// stalled says whether this process has been held up since the last look.
func (w *watch) stalled(now time.Time) bool {
	return !w.looked.IsZero() && now.Sub(w.looked) > max(stall, 2*w.interval/looks)
}

// doubt asks for nodes that were not heard lately, once one was found dead: where the network
// has split, those that watch the others may all be on the other side.
func (w *watch) doubt(now time.Time, do *todo) {
	if w.doubted.IsZero() {
		return
	}
	w.doubted = time.Time{}
	asked := 0
	for _, p := range w.peers { // at random, since each death has others asked for
		if p.health == Alive && !p.asking && now.Sub(p.heard) >= unheard && asked < w.doubts(p) {
			p.suspected = true
			w.question(p, now, do)
			asked++
		}
	}
}

// doubts is how many nodes to ask for, at most, with this one among them. Of many nodes only some
// ask, each for other ones, so that a death does not fill the LAN with questions.
func (w *watch) doubts(p *peer) int {
	n := len(w.peers) + 1
	if most := doubtsOfAll / n; most > 1 || weight(p.name, w.self)%uint64(n) < doubtsOfAll/5 {
		return min(max(most, 1), doubts)
	}
	return 0
}

// rest is the time between two questions for a living node that has answered before: the more
// nodes ask, the less often does each, so that all together never ask for more than 20 a second.
func (w *watch) rest() time.Duration {
	n := len(w.peers) + 1
	return max(askAlive, time.Duration(n*n)*time.Second/20)
}

func (w *watch) lookAt(p *peer, now time.Time, do *todo) {
	// A heartbeat is late when the last but one may still come; the LAN is asked meanwhile.
	late := time.Duration(max(w.missed-1, 1))*w.interval + w.interval/2
	overdue := p.flags&watched != 0 && now.Sub(p.heard) >= late
	every := askSlowly
	if p.answer != nil && now.Sub(p.asked) >= w.interval {
		w.answered(p.name, *p.answer, now)
	}
	switch {
	case p.health == Alive && (overdue || p.suspected):
		if overdue && !p.told { // each that watches it tells: packets may get lost
			do.suspect = append(do.suspect, p.name)
			p.told = true
		}
		p.suspected = true
		if !p.asking {
			w.question(p, now, do)
		}
		return
	case p.health == Alive && !p.reached:
		every = askFirst
	case p.health == Alive:
		every = w.rest()
	case w.deputized[p.name]:
		every = askAgain
	}
	pausing := p.health == Alive && now.Sub(w.wondered) < askPause
	if p.health != Dead && !p.asking && !pausing && now.Sub(p.asked) >= every {
		if p.health == Alive {
			w.wondered = now
		}
		p.asking, p.asked, p.vetoed = true, now, false
		do.ask = append(do.ask, p.name)
		if p.health == Unheard {
			do.inquire = append(do.inquire, p.name)
		}
	}
	if p.health != Alive && (p.known || p.gossiped) && now.Sub(p.pinged) >= beacon {
		do.ping = append(do.ping, p.name)
	}
	if (p.health == Silent || p.health == Unheard) && p.gossiped && now.Sub(p.since) >= gossipAfter && now.Sub(p.verify) >= gossipAfter {
		p.verify = now
		do.verify = append(do.verify, p.name)
	}
}

// answered takes what the LAN said of a node.
func (w *watch) answered(n name.NodeName, a Answer, now time.Time) {
	p := w.peers[n]
	if p == nil {
		return
	}
	if a.Neighbor || a.Others {
		w.deaf = false
	}
	// What was heard while the LAN was asked counts for more.
	quiet := p.heard.Before(p.asked)
	if p.health == Silent && !p.stopping && now.Sub(p.heard) < 2*beacon {
		quiet = false // it has not joined, and answers pings
	}
	overdue := p.health == Alive && quiet && (p.suspected || !p.gossiped)
	void := !a.Neighbor && (p.void || w.stalled(now))
	if overdue && (a.Neighbor || !a.Asked) && now.Sub(p.asked) < w.interval {
		p.answer = &a // that is known before its speaker's pong can be there
		return
	}
	p.asking, p.answer, p.void = false, nil, false
	w.results[a.result(void)]++
	if void {
		return // it stays suspected, and is asked for again
	}
	p.suspected, p.told = false, false
	w.witness(p)
	switch {
	case a.Neighbor:
		p.reached, p.missed, p.noted = true, 0, false
		speaks := a.Speaker || p.vetoed
		if p.mute++; speaks {
			p.mute = 0
		}
		switch {
		case speaks && (overdue || p.lost || p.health == Silent && p.flags&joined != 0):
			w.become(p, Unheard, now)
		case overdue || p.lost || p.health == Unheard && p.mute >= muteMost:
			w.become(p, Silent, now)
		}
	case p.lost && p.vetoed:
		w.become(p, Unheard, now)
	case p.health == Alive && !overdue:
		if p.missed++; p.missed >= 3 {
			p.reached = false
		}
	case p.health == Dead || !quiet:
	case p.vetoed:
		w.note(p, "a node is missed that others hear: it keeps its addresses")
		w.become(p, Unheard, now)
	case !a.Others && (a.Asked || !w.heardAny.After(p.asked)):
		w.deaf = true
		w.note(p, "a node is missed, but nobody else is heard either: taking nothing over")
	case !a.Asked:
		w.note(p, "a node is missed that shares no network with this one: it keeps its addresses for the grace period, unless others find it dead")
		w.become(p, Silent, now)
	case !p.reached:
		w.note(p, "a node is missed that the LAN never answered for: it keeps its addresses for the grace period")
		w.become(p, Silent, now)
	default:
		w.become(p, Dead, now)
		p.lost, w.doubted = true, now
	}
}

// witness notes whether another node heard one, once that has been asked.
func (w *watch) witness(p *peer) {
	if p.witnessed != p.vetoed {
		p.witnessed = p.vetoed
		w.changes++
	}
}

// result is how an answer counts.
func (a Answer) result(void bool) result {
	switch {
	case a.Neighbor:
		return nodeAnswered
	case void:
		return voided
	case !a.Asked:
		return notAsked
	}
	return nodeSilent
}

// note warns of a node once, until the LAN answers for it again.
func (w *watch) note(p *peer, message string) {
	if !p.noted {
		p.noted = true
		w.warn(message, p.name)
	}
}

// watchers returns which of the nodes that live get this one's heartbeats.
func (w *watch) watchers() []name.NodeName {
	if w.watching != nil {
		return w.watching
	}
	living := []name.NodeName{}
	for n, p := range w.peers {
		if p.gossiped {
			living = append(living, n)
		}
	}
	slices.SortFunc(living, func(x, y name.NodeName) int {
		return cmp.Or(cmp.Compare(weight(w.self, y), weight(w.self, x)), cmp.Compare(x, y))
	})
	w.watching = living[:min(len(living), watchers)]
	return w.watching
}

// weight ranks who watches whom, differently for each node that is watched.
func weight(watched, by name.NodeName) uint64 {
	h := fnv.New64a()
	h.Write([]byte(watched))
	h.Write([]byte{0})
	h.Write([]byte(by))
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return x ^ x>>33
}

// alive says whether any other speaker is.
func (w *watch) alive() bool {
	for _, p := range w.peers {
		if p.health == Alive {
			return true
		}
	}
	return false
}

// members returns how all are, this node among them, sorted by name.
func (w *watch) members(began time.Time) []Member {
	list := []Member{{Name: w.self, Health: Alive, Since: began}}
	for _, p := range w.peers {
		if p.health != Dead {
			list = append(list, Member{Name: p.name, Health: p.health, Since: p.since, Witnessed: p.witnessed})
		}
	}
	slices.SortFunc(list, func(x, y Member) int { return cmp.Compare(x.Name, y.Name) })
	return list
}
