package bgp

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/name"
)

// worker brings gobgp to what its Server wishes; the goroutine of Run owns it.
type worker struct {
	server *Server
	// engine is nil until the first session is wanted.
	engine   *engine
	routerID netip.Addr
	// asn is the AS number of link bandwidths.
	asn uint16
	// sessions are those that gobgp has, policed those that its policies know.
	sessions map[netip.Addr]announce.Peer
	// up are the peers whose sessions were established when the round began.
	up      map[name.PeerName]bool
	policed map[netip.Addr]route
	// again are the sessions that are to get their routes once more, for new next hops.
	again map[netip.Addr]struct{}
	// stale says that gobgp's policies do not know all distributions.
	stale bool
	marks *marks
	// paths are those that gobgp has, pending what they are to become; the mark 0 is to be withdrawn.
	paths, pending map[netip.Prefix]mark
	// announced is when paths were last written, withdrawals when those that wait for that may be withdrawn.
	announced   time.Time
	withdrawals map[netip.Prefix]time.Time
	settling    settling
	regrouping  regrouping
	// hurried says that sessions were ended in the middle of a round.
	hurried  bool
	setbacks map[netip.Addr]setback
}

func newWorker(s *Server) *worker {
	w := &worker{server: s}
	w.reset()
	return w
}

// reset forgets everything that a gobgp now gone knew.
func (w *worker) reset() {
	w.engine = nil
	w.sessions = map[netip.Addr]announce.Peer{}
	w.policed = map[netip.Addr]route{}
	w.again = map[netip.Addr]struct{}{}
	w.stale = false
	w.marks = newMarks()
	w.paths = map[netip.Prefix]mark{}
	w.pending = map[netip.Prefix]mark{}
	w.announced, w.withdrawals = time.Time{}, nil
	w.settling = newSettling()
	w.regrouping = newRegrouping()
	w.setbacks = map[netip.Addr]setback{}
}

// round brings gobgp to the wishes as they stand. It says after how long to come again if nothing happens. An error
// means that something is missing; the next round tries again.
//
// The order is what keeps the wire right: sessions that are to go leave first; the policies learn of new distributions
// and sessions before a path or a session needs them; all paths are in before a new session is.
func (w *worker) round(ctx context.Context) (next time.Duration, err error) {
	waited := w.server.silent(time.Now())
	wish, synced := w.server.take()
	if !synced || ctx.Err() != nil {
		return lastRetry, nil
	}
	if err := w.start(wish); err != nil || w.engine == nil {
		return lastRetry, err
	}
	if err := w.leave(wish); err != nil {
		return 0, err
	}
	w.up = map[name.PeerName]bool{}
	for address := range wish.established {
		w.up[wish.wanted[address].Name] = true
	}
	w.mark(w.server.takeRoutes(false))
	rest, ungrouped := w.group(wish, time.Now())
	if err := w.police(wish); err != nil {
		return 0, err
	}
	withdraw, err := w.flush(ctx)
	if err != nil {
		return 0, err
	}
	w.server.publish(w.engine, w.marks.advertised())
	if w.hurried {
		w.hurried = false
		return time.Millisecond, nil // what is wished has changed
	}
	retry, err := w.join(ctx, wish.without(ungrouped), time.Now())
	if err != nil {
		return 0, err
	}
	for address := range w.again {
		if err := w.engine.sendAgain(address); errors.Is(err, errStuck) {
			return 0, err
		}
		delete(w.again, address) // any other error: the session is gone
	}
	next, err = w.settle(wish)
	for _, also := range []time.Duration{retry, waited, rest, withdraw} {
		if also > 0 {
			next = min(next, also)
		}
	}
	if !wish.again.IsZero() {
		next = min(next, max(time.Until(wish.again), time.Millisecond))
	}
	return next, err
}

// start sees to it that gobgp runs with the right router ID once a session is wanted.
func (w *worker) start(wish wishes) error {
	if asn := shortASN(wish.globalASN); asn != w.asn {
		w.asn, w.stale = asn, true
	}
	if len(wish.wanted) == 0 || w.engine != nil && w.routerID == wish.routerID {
		return nil
	}
	if w.engine != nil {
		w.server.log.Info("restarting BGP for another router ID", "old", w.routerID, "new", wish.routerID)
		err := w.stop(false)
		w.reset()
		w.server.restarted(time.Now())
		if err != nil {
			return err
		}
	}
	engine, err := startEngine(wish.globalASN, wish.routerID, logHandler{log: w.server.log, failed: w.server.failed}, w.server.observe)
	if err != nil {
		return err
	}
	w.engine, w.routerID = engine, wish.routerID
	w.mark(w.server.takeRoutes(true))
	return nil
}

// shortASN is an AS number in two octets, AS_TRANS (RFC 6793) if it does not fit.
func shortASN(asn uint32) uint16 {
	if asn > math.MaxUint16 {
		return bgp.AS_TRANS
	}
	return uint16(asn)
}

// stop ends gobgp, if it runs; quietly is that of engine.stop.
func (w *worker) stop(quietly bool) error {
	if w.engine == nil {
		return nil
	}
	w.server.publish(nil, nil)
	return w.engine.stop(quietly)
}

// leave ends the sessions that are not wanted, are kept down, or belong to a peer of another name: routes go by name.
func (w *worker) leave(wish wishes) error {
	for address, old := range w.sessions {
		if now, wanted := wish.wanted[address]; wanted && now.Name == old.Name && !wish.held[address] {
			continue
		}
		// The only error besides is that gobgp has no such session.
		if err := w.engine.deletePeer(address); errors.Is(err, errStuck) {
			return err
		}
		delete(w.sessions, address)
		delete(w.again, address)
		if !wish.held[address] {
			w.server.log.Info("BGP peer removed", "peer", old.Name, "address", address)
		}
	}
	return nil
}

// mark takes note of what routes are to become.
func (w *worker) mark(routes map[netip.Prefix]distribution) {
	now := time.Now()
	maps.DeleteFunc(routes, func(prefix netip.Prefix, d distribution) bool { return w.putOff(prefix, d, now) })
	w.rewrite(routes)
}

// rewrite has the paths of routes written anew. Without a mark left for it, a route goes to nobody.
func (w *worker) rewrite(routes map[netip.Prefix]distribution) {
	for prefix, distribution := range routes {
		f := familyOf(prefix)
		m, fresh, err := w.marks.acquire(distribution, f)
		if err != nil {
			w.server.log.Error(err, "a route cannot be announced", "prefix", prefix)
		}
		w.stale = w.stale || fresh
		if before, waiting := w.pending[prefix]; waiting {
			w.marks.release(before, f)
		}
		if m == w.paths[prefix] {
			w.marks.release(m, f)
			delete(w.pending, prefix)
			continue
		}
		w.pending[prefix] = m
	}
}

// police gives gobgp the policies that fit the wishes, if it has others. Sessions whose next hops are new are to get
// their routes again; all others have what they should.
func (w *worker) police(wish wishes) error {
	wanted := make(map[netip.Addr]route, len(wish.wanted))
	for address, peer := range wish.wanted {
		wanted[address] = route{Peer: peer, hops: hopsOf(peer, wish.extended[address])}
	}
	same := func(a, b route) bool { return a.Name == b.Name && a.hops == b.hops }
	if !w.stale && maps.EqualFunc(w.policed, wanted, same) {
		return nil
	}
	if err := w.engine.setPolicies(policies(wanted, w.marks, w.asn)); err != nil {
		return err
	}
	for address := range w.sessions {
		if w.policed[address].hops != wanted[address].hops {
			w.again[address] = struct{}{}
			w.settling.wrote(time.Now()) // a session that is just coming up may miss it
		}
	}
	w.policed, w.stale = wanted, false
	return nil
}

// withdrawPause is how long after announcements withdrawals wait that come with them: gobgp puts what it has not sent yet into
// messages that begin with the withdrawals, and the router would have no route for a moment.
const withdrawPause = 50 * time.Millisecond

// flush brings gobgp's paths to what they are to become. New ones come first, as they may be in place of others. It returns after
// how long there are withdrawals to make; 0: there are none.
func (w *worker) flush(ctx context.Context) (next time.Duration, err error) {
	var announced, withdrawn []netip.Prefix
	for prefix, m := range w.pending {
		if m == 0 {
			withdrawn = append(withdrawn, prefix)
		} else {
			announced = append(announced, prefix)
		}
	}
	for prefixes := range slices.Chunk(announced, batch) {
		if err := w.write(ctx, prefixes, func(marks []mark) error { return w.engine.addPaths(w.pathsOf(prefixes, marks)) }); err != nil {
			return 0, err
		}
		w.announced = time.Now()
		w.settling.wrote(w.announced)
	}
	withdrawn, next = w.due(withdrawn, time.Now())
	for prefixes := range slices.Chunk(withdrawn, batch) {
		if err := w.write(ctx, prefixes, func([]mark) error { return w.engine.deletePaths(prefixes) }); err != nil {
			return 0, err
		}
		w.settling.withdrew(prefixes, time.Now())
	}
	return next, nil
}

// due returns those of the prefixes that may be withdrawn now, and after how long the next one may; 0: there is none.
func (w *worker) due(prefixes []netip.Prefix, now time.Time) (due []netip.Prefix, next time.Duration) {
	waiting := map[netip.Prefix]time.Time{}
	for _, prefix := range prefixes {
		at, seen := w.withdrawals[prefix]
		if !seen {
			at = w.announced.Add(withdrawPause)
		}
		rest := at.Sub(now)
		if rest <= 0 {
			due = append(due, prefix)
			continue
		}
		waiting[prefix] = at
		if next == 0 || rest < next {
			next = rest
		}
	}
	w.withdrawals = waiting
	return due, next
}

// pathsOf are the paths of prefixes with these marks.
func (w *worker) pathsOf(prefixes []netip.Prefix, marks []mark) []path {
	paths := make([]path, len(prefixes))
	for i := range prefixes {
		paths[i] = path{prefix: prefixes[i], mark: marks[i]}
		if entry := w.marks.all[marks[i]]; entry != nil {
			paths[i].weight, _ = entry.transitive()
			paths[i].asn = w.asn
		}
	}
	return paths
}

// write makes one call for some pending prefixes, and takes note of its success.
func (w *worker) write(ctx context.Context, prefixes []netip.Prefix, call func([]mark) error) error {
	if err := ctx.Err(); err != nil {
		return nil // The next thing that Run does is to stop.
	}
	if w.server.urgent.Swap(false) {
		wish, _ := w.server.take()
		w.hurried = true
		if err := w.leave(wish); err != nil {
			return err
		}
	}
	now := make([]mark, len(prefixes))
	for i, prefix := range prefixes {
		now[i] = w.pending[prefix]
	}
	if err := call(now); err != nil {
		return err
	}
	for i, prefix := range prefixes {
		w.marks.release(w.paths[prefix], familyOf(prefix))
		delete(w.pending, prefix)
		if w.paths[prefix] = now[i]; now[i] == 0 {
			delete(w.paths, prefix)
		}
	}
	return nil
}

// setback is a session that gobgp would not have.
type setback struct {
	peer  announce.Peer
	pause time.Duration
	again time.Time
}

// join begins the sessions that are missing and updates those that have changed. What gobgp refuses for one peer
// stands in its state and holds up no other; it is tried again after the time returned, zero for nothing refused.
func (w *worker) join(ctx context.Context, wish wishes, now time.Time) (next time.Duration, err error) {
	maps.DeleteFunc(w.setbacks, func(address netip.Addr, r setback) bool { return wish.wanted[address] != r.peer })
	for address, peer := range wish.wanted {
		old, has := w.sessions[address]
		r, refused := w.setbacks[address]
		switch {
		case ctx.Err() != nil:
			return 0, nil
		case wish.held[address]:
			continue
		case has && sameSession(old, peer):
			w.sessions[address] = peer
			continue
		case !refused || !now.Before(r.again):
			err := w.configure(peer, has)
			if errors.Is(err, errStuck) {
				return 0, err
			}
			if err == nil {
				delete(w.setbacks, address)
				continue
			}
			r = setback{peer: peer, pause: min(max(2*r.pause, firstRetry), lastRetry)}
			r.again = now.Add(jitter(r.pause))
			w.setbacks[address] = r
			w.server.refused(peer, err)
		}
		if rest := r.again.Sub(now); next == 0 || rest < next {
			next = rest
		}
	}
	return next, nil
}

// configure begins or updates one session. After a failed update gobgp may have the session or not: it is begun anew.
func (w *worker) configure(peer announce.Peer, has bool) error {
	if !has {
		if err := w.engine.addPeer(gobgpPeer(peer, w.server.returns(peer))); err != nil {
			return err
		}
		w.server.begun(peer)
		w.server.log.Info("BGP peer added", "peer", peer.Name, "address", peer.Address)
	} else if err := w.engine.updatePeer(gobgpPeer(peer, false)); err != nil {
		delete(w.sessions, peer.Address)
		delete(w.again, peer.Address)
		if stuck := w.engine.deletePeer(peer.Address); errors.Is(stuck, errStuck) {
			return stuck
		}
		return err
	}
	w.sessions[peer.Address] = peer
	return nil
}
