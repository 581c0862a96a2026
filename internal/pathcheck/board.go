package pathcheck

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// How often a Service is tried that does not deliver: programming a Service takes a service proxy from a
// few milliseconds to a second.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 100 * time.Millisecond
	// eager is for how long the pause is at most lastPause; then it is latePause, and doubtedPause once
	// the Service is announced with a warning.
	eager        = 2 * time.Second
	latePause    = 500 * time.Millisecond
	doubtedPause = 5 * time.Second
	// perTry is the pause that bounds tries to 500 a second, burst how many may go out at once after a rest.
	perTry = 2 * time.Millisecond
	burst  = 10
)

const (
	// Limit is for how long a Service waits that is tried and does not deliver.
	Limit = 3 * time.Second
	// BlindLimit is for how long one waits of which tries say nothing.
	BlindLimit = time.Second
)

// Target is what is to be tried of a Service.
type Target struct {
	// Addresses are to answer, each of them.
	Addresses []netip.Addr
	// Ports are the Service's TCP ports, tried one after the other; none: it cannot be tried so.
	Ports []uint16
	// HealthPort is where the service proxy counts the endpoints of this node; 0: nowhere.
	HealthPort uint16
}

func (t Target) equal(o Target) bool {
	return slices.Equal(t.Addresses, o.Addresses) && slices.Equal(t.Ports, o.Ports) && t.HealthPort == o.HealthPort
}

// Try is something to ask: a half-open connection to an address or, with Health, the endpoints that are
// counted at Port; Address is then invalid.
type Try struct {
	Service name.ServiceKey
	Address netip.Addr
	Port    uint16
	Health  bool
}

// Verdict is what has been found out about a Service: that this node delivers, as far as that can be known,
// or, with Doubted, that it did not within Limit.
type Verdict struct {
	Service name.ServiceKey
	Doubted bool
}

// Board decides what to try of which Services, and what follows. Make it with NewBoard. It is not safe
// for concurrent use. The rules, of a Service at some time:
//
//  1. It delivers once each address has answered and, if there is a HealthPort, an endpoint is counted there.
//  2. Without Ports, or if no try of any Service has ever succeeded, which is so under a service proxy that
//     sees nothing of what a node itself sends, a sync of the service proxy since the Service was wanted is
//     enough, with the HealthPort as in 1, or the BlindLimit.
//  3. After Limit it is doubted and tried on. One that could not be tried so long, because too many had to be,
//     is not doubted.
type Board struct {
	targets map[name.ServiceKey]*tried
	// succeeded says that some try ever has.
	succeeded bool
	synced    time.Time // when the service proxy last had programmed its rules
	free      time.Time // when the next try may go out
}

// tried is a Service that is wanted.
type tried struct {
	Target
	key     name.ServiceKey
	begun   time.Time
	next    time.Time
	pause   time.Duration
	rounds  int
	answers map[netip.Addr]bool
	counted bool
	doubted bool
}

// NewBoard returns a board without Services.
func NewBoard() *Board { return &Board{targets: map[name.ServiceKey]*tried{}} }

// Want has a Service tried until it is settled without doubt or dropped; one that is tried already goes on as it was
// unless the target is another.
func (b *Board) Want(key name.ServiceKey, t Target, now time.Time) {
	if before := b.targets[key]; before != nil && before.equal(t) {
		return
	}
	b.targets[key] = &tried{Target: t, key: key, begun: now, next: now, answers: map[netip.Addr]bool{}}
}

// Drop forgets a Service.
func (b *Board) Drop(key name.ServiceKey) { delete(b.targets, key) }

// Succeed takes that a try was answered.
func (b *Board) Succeed(t Try) {
	known := b.targets[t.Service]
	switch {
	case t.Health && known != nil:
		known.counted = true
	case t.Health:
	default:
		b.succeeded = true
		if known != nil {
			known.answers[t.Address] = true
		}
	}
}

// Sync takes when the service proxy last had programmed its rules.
func (b *Board) Sync(at time.Time) { b.synced = at }

// Blind says whether some Service waits for a sync of the service proxy.
func (b *Board) Blind() bool {
	for _, t := range b.targets {
		if b.blind(t) {
			return true
		}
	}
	return false
}

func (b *Board) blind(t *tried) bool { return len(t.Ports) == 0 || !b.succeeded && !t.doubted }

// Due returns what to try now, first the Services that have waited longest, and notes that it is tried.
func (b *Board) Due(now time.Time) []Try {
	var due []*tried // the first ones, at most as many as may go out
	for _, t := range b.targets {
		if now.Before(t.next) || len(due) == burst && !t.before(due[burst-1]) {
			continue
		}
		i := slices.IndexFunc(due, t.before)
		if i < 0 {
			i = len(due)
		}
		due = slices.Insert(due, i, t)
		due = due[:min(len(due), burst)]
	}
	if earliest := now.Add(-burst * perTry); b.free.Before(earliest) {
		b.free = earliest
	}
	var tries []Try
	for _, t := range due {
		if b.free.After(now) {
			break
		}
		round := t.round(now)
		b.free = b.free.Add(time.Duration(len(round)) * perTry)
		tries = append(tries, round...)
	}
	return tries
}

// before says whether a Service's turn comes before another's.
func (t *tried) before(o *tried) bool {
	return cmp.Or(t.next.Compare(o.next), compare(t.key, o.key)) < 0
}

// round is what a Service's next tries are.
func (t *tried) round(now time.Time) []Try {
	var tries []Try
	if len(t.Ports) > 0 {
		port := t.Ports[t.rounds%len(t.Ports)]
		for _, a := range t.Addresses {
			if !t.answers[a] {
				tries = append(tries, Try{Service: t.key, Address: a, Port: port})
			}
		}
	}
	if t.HealthPort != 0 && !t.counted {
		tries = append(tries, Try{Service: t.key, Port: t.HealthPort, Health: true})
	}
	t.rounds++
	t.pause = max(firstPause, min(t.pause*5/4, lastPause))
	switch {
	case t.doubted:
		t.pause = doubtedPause
	case now.Sub(t.begun) >= eager:
		t.pause = latePause
	}
	t.next = now.Add(t.pause)
	return tries
}

// Settled returns what has been found out since the last call, sorted, and forgets the Services that deliver.
func (b *Board) Settled(now time.Time) []Verdict {
	var found []Verdict
	for key, t := range b.targets {
		switch age := now.Sub(t.begun); {
		case b.delivers(t, age) || age >= Limit && t.rounds == 0:
			found = append(found, Verdict{Service: key})
			delete(b.targets, key)
		case age >= Limit && !t.doubted:
			t.doubted = true
			found = append(found, Verdict{Service: key, Doubted: true})
		}
	}
	slices.SortFunc(found, func(x, y Verdict) int { return compare(x.Service, y.Service) })
	return found
}

func (b *Board) delivers(t *tried, age time.Duration) bool {
	counted := t.HealthPort == 0 || t.counted
	switch {
	case len(t.Ports) > 0 && counted && !slices.ContainsFunc(t.Addresses, func(a netip.Addr) bool { return !t.answers[a] }):
		return true
	case !b.blind(t):
		return false
	}
	return counted && b.synced.After(t.begun) || age >= BlindLimit
}

// Again is when to call Due and Settled again though nothing was found out; zero: not before a Service is wanted.
func (b *Board) Again() time.Time {
	var first time.Time
	earlier := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	for _, t := range b.targets {
		at := t.next
		if at.Before(b.free) { // a backlog: some at a time
			at = b.free.Add((burst - 1) * perTry)
		}
		earlier(at)
		if !t.doubted {
			earlier(t.begun.Add(Limit))
		}
		if b.blind(t) {
			earlier(t.begun.Add(BlindLimit))
		}
	}
	return first
}

func compare(x, y name.ServiceKey) int {
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
