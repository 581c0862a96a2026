package layer2

import (
	"time"

	"github.com/ballast-lb/ballast/internal/link"
)

// rival is another host that uses the address. The zero value is none.
type rival struct {
	mac link.MAC
	// seen is when it last showed that or, if it is over, when it was found to be; until is
	// when it is over or, if it is, forgotten, unless it shows itself again.
	seen, until time.Time
	// probe says that it was found before the address was answered.
	probe, over bool
	// fellow says that it is a fellow node, and silent that nobody is told of it.
	fellow, silent bool
	// fleeting says that it is a fellow node that has announced the address to others, but not
	// answered us. It may have heard by now that it does not own.
	fleeting bool
	// unheard says that it is a fellow node that is not heard (SetApart), unanswered counts the checks
	// since it last showed itself then.
	unheard    bool
	unanswered int
	// since is when it was first seen, or another one before it that had not ended.
	since time.Time
}

// obstructs says whether the rival is a fellow node that keeps the address from being answered.
func (r rival) obstructs() bool { return r.fellow && r.probe && !r.over }

// expire ends the conflict.
func (r *rival) expire(now time.Time) { r.over, r.seen, r.until = true, now, now.Add(quiet) }

// told returns what others are told of a rival.
func (r rival) told() rival {
	if r.silent {
		return rival{}
	}
	return rival{mac: r.mac, probe: r.probe, over: r.over}
}

// note makes who has shown itself the rival, unless there is one that stays.
func (d *duty) note(s sign, m moment) {
	before, lasts, since := d.rival, quiet, m.now
	fleeting := d.phase == owning && s.fellow && !s.answer
	if d.phase == owning {
		lasts = m.lasts()
	}
	if before != (rival{}) && !before.over {
		if before.mac != s.mac && d.stays(s, m) {
			return
		}
		since = before.since
	}
	if before.mac == s.mac {
		fleeting = fleeting && before.fleeting && !before.over // one that returns is none
	}
	d.rival = rival{
		mac: s.mac, seen: m.now, until: m.now.Add(lasts), since: since, fellow: s.fellow, fleeting: fleeting, unheard: s.unheard,
		probe: d.phase == probing || d.phase == blocked,
	}
	told := before != (rival{}) && !before.over && !before.silent
	d.rival.silent = d.rival.obstructs() && !told && m.now.Sub(since) < obstructionPatience
}

// stays says whether the rival stays though another host has shown itself: if it shows itself still, so
// that the news do not change with every frame of a quarrel. But a fellow node stays neither
// against a host that is none nor, if it has not answered when it was asked, against another node.
func (d *duty) stays(s sign, m moment) bool {
	r := d.rival
	if r.fellow && (!s.fellow || d.phase == probing && d.step > 1) {
		return false
	}
	return m.now.Sub(r.seen) < defendInterval
}
