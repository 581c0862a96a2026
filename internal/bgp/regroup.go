package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// regroupPause is how long a change of prefixes that no established session notices waits for that of the others with the
	// same mark, regroupLimit how long at most: the caller changes some hundred at a time.
	regroupPause = 500 * time.Millisecond
	regroupLimit = 5 * time.Second
)

// regrouping are prefixes whose paths stay as they are though they are to get another distribution, which is the same to all
// sessions that are up: gobgp sends a path that is written anew to all of them. Once all prefixes with a mark are to get
// the same distribution, the mark is given that instead.
type regrouping struct {
	marks map[mark]map[netip.Prefix]distribution
	// differ are the peers to which a distribution is another than that of a mark.
	differ map[change][]name.PeerName
	// concerned are those of them to which it matters.
	concerned map[name.PeerName]bool
	// since is when the first prefix came, last the last.
	since, last time.Time
}

// change is that prefixes with a mark are to get a distribution.
type change struct {
	from mark
	to   distributionKey
}

func newRegrouping() regrouping {
	return regrouping{
		marks: map[mark]map[netip.Prefix]distribution{}, differ: map[change][]name.PeerName{}, concerned: map[name.PeerName]bool{},
	}
}

// forget ends that a prefix with a mark waits.
func (r *regrouping) forget(m mark, prefix netip.Prefix) {
	if delete(r.marks[m], prefix); len(r.marks[m]) == 0 {
		delete(r.marks, m)
	}
}

// add has a prefix with a mark wait.
func (r *regrouping) add(m mark, prefix netip.Prefix, d distribution, now time.Time) {
	if len(r.marks) == 0 {
		r.since = now
	}
	if r.last = now; r.marks[m] == nil {
		r.marks[m] = map[netip.Prefix]distribution{}
	}
	r.marks[m][prefix] = d
}

// putOff says whether the path of a prefix stays as it is for now.
func (w *worker) putOff(prefix netip.Prefix, d distribution, now time.Time) bool {
	m := w.paths[prefix]
	w.regrouping.forget(m, prefix)
	entry := w.marks.all[m]
	if _, waiting := w.pending[prefix]; waiting || entry == nil || len(d) == 0 {
		return false
	}
	c := change{m, d.key()}
	if entry.key == c.to {
		return true
	}
	differ, known := w.regrouping.differ[c]
	if !known {
		differ = differing(entry.distribution, d)
		w.regrouping.differ[c] = differ
	}
	before, _ := entry.transitive()
	if after, _ := d.transitive(); after != before || slices.ContainsFunc(differ, func(p name.PeerName) bool { return w.up[p] }) {
		return false
	}
	for _, p := range differ {
		w.regrouping.concerned[p] = true
	}
	w.regrouping.add(m, prefix, d, now)
	return true
}

// differing returns the peers to which two distributions are not the same.
func differing(x, y distribution) []name.PeerName {
	xs, ys := x.byPeer(), y.byPeer()
	var all []name.PeerName
	for p, a := range xs {
		if b, both := ys[p]; !both || a != b {
			all = append(all, p)
		}
	}
	for p := range ys {
		if _, both := xs[p]; !both {
			all = append(all, p)
		}
	}
	return all
}

// byPeer is which attributes each peer gets.
func (d distribution) byPeer() map[name.PeerName]attributesKey {
	all := map[name.PeerName]attributesKey{}
	for _, s := range d {
		key := keyOf(s.Attributes)
		for _, p := range s.peers {
			all[p] = key
		}
	}
	return all
}

// regroup gives marks the distribution that all of their prefixes are to get. Sessions that have begun to come up meanwhile get
// all of their routes again.
func (w *worker) regroup(now time.Time) {
	for m, prefixes := range w.regrouping.marks {
		entry := w.marks.all[m]
		wanted, same := common(prefixes)
		if len(prefixes) < entry.ipv4+entry.ipv6 || !same {
			continue
		}
		differ := differing(entry.distribution, wanted)
		for address, peer := range w.sessions {
			if slices.Contains(differ, peer.Name) {
				w.again[address] = struct{}{}
				w.settling.wrote(now)
			}
		}
		w.marks.become(m, wanted)
		w.stale = true
		delete(w.regrouping.marks, m)
		maps.DeleteFunc(w.regrouping.differ, func(c change, _ []name.PeerName) bool { return c.from == m })
	}
	if len(w.regrouping.marks) == 0 {
		w.regrouping = newRegrouping()
	}
}

// common returns the distribution of some prefixes, if it is the same for all.
func common(prefixes map[netip.Prefix]distribution) (d distribution, same bool) {
	first := distributionKey("")
	for _, one := range prefixes {
		key := one.key()
		if first != "" && first != key {
			return nil, false
		}
		d, first = one, key
	}
	return d, true
}

// group brings prefixes that wait together. It returns for how long sessions with some peers are not to begin meanwhile, and
// which; after that, the paths that have waited in vain are written anew.
func (w *worker) group(wish wishes, now time.Time) (rest time.Duration, waiting map[name.PeerName]bool) {
	w.regroup(now)
	waiting = map[name.PeerName]bool{}
	for _, peer := range wish.wanted {
		if w.regrouping.concerned[peer.Name] {
			waiting[peer.Name] = true
		}
	}
	if len(waiting) == 0 {
		return 0, nil
	}
	r := &w.regrouping
	if rest = min(r.last.Add(regroupPause).Sub(now), r.since.Add(regroupLimit).Sub(now)); rest > 0 {
		return rest, waiting
	}
	late := map[netip.Prefix]distribution{}
	for _, prefixes := range r.marks {
		for prefix, d := range prefixes {
			late[prefix] = d
		}
	}
	w.regrouping = newRegrouping()
	w.rewrite(late)
	return 0, nil
}
