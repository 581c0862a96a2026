package membership

import (
	"cmp"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// journalTime is how long a line that was written is only counted when it comes again.
	journalTime = time.Minute
	// journalNodes is how many nodes get a line each when the same becomes of them at once: more get one together.
	journalNodes = 5
)

// line is something to log: a message about a node, or about how many; before and now are its health, both
// the same where that is not what it is about.
type line struct {
	message     string
	node        name.NodeName
	before, now Health
}

// repeated is a line that came again, and how often.
type repeated struct {
	line
	times int
}

// journal keeps the log short where things happen again and again, as where a network is bad: the first line of
// a kind is written, and what comes within a minute is counted.
type journal struct{ lines map[line]*written }

// written is when a line was, and how often it came again since.
type written struct {
	at    time.Time
	times int
}

func newJournal() *journal { return &journal{lines: map[line]*written{}} }

// first says whether a line is to be written now.
func (j *journal) first(l line, now time.Time) bool {
	if before := j.lines[l]; before != nil {
		before.times++
		return false
	}
	j.lines[l] = &written{at: now}
	return true
}

// again returns the lines that came again and whose time is over, sorted; their time begins anew.
func (j *journal) again(now time.Time) []repeated {
	var list []repeated
	for l, w := range j.lines {
		switch {
		case now.Sub(w.at) < journalTime:
		case w.times == 0:
			delete(j.lines, l)
		default:
			list = append(list, repeated{l, w.times})
			j.lines[l] = &written{at: now}
		}
	}
	slices.SortFunc(list, func(x, y repeated) int {
		return cmp.Or(cmp.Compare(x.message, y.message), cmp.Compare(x.node, y.node),
			cmp.Compare(x.before, y.before), cmp.Compare(x.now, y.now))
	})
	return list
}

// log logs a line about a node, unless it is to be counted only.
func (r *run) log(message string, n name.NodeName) {
	if r.journal.first(line{message: message, node: n}, time.Now()) {
		r.config.Log.Info(message, "node", n)
	}
}

// deliver hands a view to the reader if it differs from the last one, and logs what has changed.
func (r *run) deliver(view View, last *View, now time.Time) {
	if view.Joined == last.Joined && view.Deaf == last.Deaf && slices.Equal(view.Members, last.Members) {
		return
	}
	before := map[name.NodeName]Health{}
	for _, x := range last.Members {
		before[x.Name] = x.Health
	}
	changed := map[[2]Health][]name.NodeName{}
	for _, x := range view.Members {
		if h, met := before[x.Name]; !met || h != x.Health {
			how := [2]Health{h, x.Health}
			changed[how] = append(changed[how], x.Name)
		}
		delete(before, x.Name)
	}
	for n, h := range before {
		r.deaths.Add(1)
		how := [2]Health{h, Dead}
		changed[how] = append(changed[how], n)
	}
	for how, nodes := range changed {
		r.logChange(how, nodes, now)
	}
	*last = view
	select {
	case <-r.views:
	default:
	}
	r.views <- view
}

// logChange logs that the health of some nodes has changed, from one to another.
func (r *run) logChange(how [2]Health, nodes []name.NodeName, now time.Time) {
	slices.Sort(nodes)
	before, is := how[0].String(), how[1].String()
	if len(nodes) > journalNodes {
		if r.journal.first(line{"speakers changed", "", how[0], how[1]}, now) {
			r.config.Log.Info("speakers changed", "nodes", len(nodes), "among", nodes[:journalNodes],
				"before", before, "now", is)
		}
		return
	}
	for _, n := range nodes {
		if r.journal.first(line{"speaker changed", n, how[0], how[1]}, now) {
			r.config.Log.Info("speaker changed", "node", n, "before", before, "now", is)
		}
	}
}

// recount logs what came again and again.
func (r *run) recount(now time.Time) {
	for _, x := range r.journal.again(now) {
		about := []any{"what", x.message, "times", x.times}
		if x.node != "" {
			about = append(about, "node", x.node)
		}
		if x.before != x.now {
			about = append(about, "before", x.before.String(), "now", x.now.String())
		}
		r.config.Log.Info("the same again and again", about...)
	}
}
