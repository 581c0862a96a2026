package announce

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

// Report is what a node's speaker tells the others of its node, at first hand.
type Report struct {
	Node name.NodeName `json:"n"`
	// Number is greater for a later report of the same node.
	Number     uint64      `json:"k"`
	Interfaces []Interface `json:"i,omitempty"`
	Proxy      ProxyState  `json:"p"`
	// Leaving says that the speaker is about to stop for good.
	Leaving bool `json:"l,omitempty"`
	// Missed are places of other nodes that do not answer this node on the LAN, sorted. A speaker of the
	// version before neither says nor hears that.
	Missed []Place `json:"m,omitempty"`
}

// believable says whether a number can be one that a speaker came to that had reported as often as
// that before; see election.Claim.Believable.
func (r Report) believable(before uint64) bool {
	return r.Number <= max(election.TermMax, before+election.TermJump)
}

// News is what speakers tell each other.
type News struct {
	Claims  []election.Claim `json:"c,omitempty"`
	Reports []Report         `json:"r,omitempty"`
	// Digest asks who hears it to tell its maker what that lacks; nil: nothing is asked. Answer says
	// that these news are the answer to one. The version before knows neither, and ignores them.
	Digest *Digest `json:"d,omitempty"`
	Answer bool    `json:"a,omitempty"`
	// Delivering is passed on by nobody.
	Delivering []Delivering `json:"v,omitempty"`
}

// Empty says whether there is nothing in it that is to be told unasked.
func (n News) Empty() bool {
	return len(n.Claims) == 0 && len(n.Reports) == 0 && len(n.Delivering) == 0
}

// Encode writes news for Decode.
func (n News) Encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic("announce: news of plain values cannot fail to encode: " + err.Error())
	}
	return b
}

// DecodeNews reads what Encode wrote. Of its entries, those that a well-behaved speaker would not
// write are left out: one of them must not cost the others.
func DecodeNews(b []byte) (News, error) {
	var n News
	if err := json.Unmarshal(b, &n); err != nil {
		return News{}, fmt.Errorf("decode news: %w", err)
	}
	n.Claims = slices.DeleteFunc(n.Claims, func(c election.Claim) bool {
		return !c.Unit.IsValid() || c.Unit.Zone() != "" || c.Owner == "" || c.Epoch == 0
	})
	n.Reports = slices.DeleteFunc(n.Reports, func(r Report) bool { return r.Node == "" })
	if n.Digest != nil && !n.Digest.valid() {
		n.Digest = nil
	}
	n.Delivering = slices.DeleteFunc(n.Delivering, func(d Delivering) bool { return d.Node == "" || len(d.Services) == 0 })
	for i := range n.Reports {
		r := &n.Reports[i]
		r.Missed = slices.DeleteFunc(r.Missed, func(p Place) bool { return p.Node == "" || p.Interface == "" })
	}
	return n, nil
}

// News returns all that this node can tell others: claims for what it knows Services to hold,
// and the reports of nodes that exist.
func (s *State) News() News {
	var n News
	for a, c := range s.claims.known {
		if s.known(a) {
			n.Claims = append(n.Claims, c)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(s.reports)) {
		if _, exists := s.view.node(node); exists {
			n.Reports = append(n.Reports, s.reports[node])
		}
	}
	return n
}

// Heard is the fact that another speaker told these news.
type Heard struct{ News News }

func (f Heard) tell(s *State, now time.Time, t *touched) {
	var learned News
	for _, c := range f.News.Claims {
		if s.learn(c, now) {
			if s.known(c.Unit) || !f.News.Answer { // of a Service that is no more, others that compare tell again and again
				learned.Claims = append(learned.Claims, c)
			}
			for _, key := range s.holders[c.Unit] {
				t.units[s.unitOf[key]] = true
			}
		} else {
			s.contest(c, now)
		}
	}
	for _, d := range f.News.Delivering {
		s.listen(d, now, t)
	}
	changed, missed := false, false
	for _, r := range f.News.Reports {
		if before, known := s.reports[r.Node]; known && before.Number >= r.Number || !r.believable(before.Number) {
			continue
		}
		if r.Node == s.view.Self {
			s.report(r.Number) // of an earlier run of this speaker: ours must be newer
			continue
		}
		missed = missed || !slices.Equal(s.reports[r.Node].Missed, r.Missed)
		s.reports[r.Node], changed = r, true
		learned.Reports = append(learned.Reports, r)
	}
	if missed {
		s.version++
		s.report(0) // what this node misses may be to be told now
	}
	if changed {
		s.merge(now, t)
	}
	s.note(learned, f.News)
}

// note keeps what was news to this node, of all that it was told at once.
func (s *State) note(learned, told News) {
	s.replied = s.replied || told.Answer
	switch {
	case !learned.Empty():
		s.fruitless, s.fruitful = 0, s.fruitful || told.Answer
	case told.Answer && !told.Empty():
		s.fruitless++
	}
	if told.Answer {
		s.counted.mended += uint64(len(learned.Claims))
	}
	if s.view.Joined { // before, all that it hears is old
		s.learned.Claims = append(s.learned.Claims, learned.Claims...)
		s.learned.Reports = append(s.learned.Reports, learned.Reports...)
	}
}

// Learned returns what others told since the last call that was news to this node, for a Relay.
func (s *State) Learned() News {
	learned := s.learned
	s.learned = News{}
	return learned
}

// contest answers a claim that is not news, if the own node has a better one: who made it or passes it
// on does not know that. The same claim comes from several, and is answered once in contestTime.
func (s *State) contest(c election.Claim, now time.Time) {
	better := s.claims.known[c.Unit]
	if better.Owner != s.view.Self || !better.Beats(c) || !s.known(c.Unit) {
		return
	}
	if before := s.contests[c.Unit]; before.claim == c && now.Sub(before.at) < contestTime {
		return
	}
	s.contests[c.Unit] = contest{c, now}
	s.outbox.Claims = append(s.outbox.Claims, better)
	if c.Owner != s.view.Self {
		s.counted.contested++
		s.counted.disputes[c.Unit] = now
		s.won = append(s.won, s.holders[c.Unit]...) // and that node may have announced it
		s.version++
	}
}

// report puts the own node's report into the outbox if it says something new, or if others
// have one with this number already.
func (s *State) report(after uint64) {
	if s.self == nil || !s.self.Settled {
		s.surpass = max(s.surpass, after)
		return
	}
	after, s.surpass = max(after, s.surpass), 0
	before := s.reports[s.view.Self]
	r := Report{
		Node: s.view.Self, Number: max(before.Number, after) + 1,
		Interfaces: s.self.Interfaces, Proxy: s.self.Proxy, Leaving: s.self.Leaving,
		Missed: s.missed(),
	}
	same := r
	same.Number = before.Number
	if after == 0 && equalJSON(same, before) {
		return
	}
	s.reports[s.view.Self] = r
	s.outbox.Reports = append(s.outbox.Reports, r)
}

func equalJSON(x, y Report) bool {
	return slices.Equal(News{Reports: []Report{x}}.Encode(), News{Reports: []Report{y}}.Encode())
}
