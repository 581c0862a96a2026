package storm

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// askInterval is how often each address is asked for.
	askInterval = 100 * time.Millisecond
	// lateFrom is what a tick may be late before it counts as the witness's own gap.
	lateFrom = 50 * time.Millisecond
	// readInterval is how often conditions are read.
	readInterval = time.Second
	// connectInterval is how often each address is connected to.
	connectInterval = 500 * time.Millisecond
)

// witness looks at one round from outside.
type witness struct {
	bed   *Bed
	began time.Time

	mu  sync.Mutex
	o   Observation
	err error
}

// watch looks until ctx ends. It returns when all of its goroutines have.
func (b *Bed) watch(ctx context.Context, began time.Time) (Observation, error) {
	w := &witness{bed: b, began: began, o: Observation{
		Targets: b.targets, Spans: map[netip.Addr][]Span{}, Readings: map[string][]Reading{},
		Answered: map[netip.Addr][]time.Duration{},
	}}
	var probers []*lab.Prober
	var wg sync.WaitGroup
	for lan, hosts := range map[lab.LAN][2]string{
		lab.FirstLAN: {askFirst, connectFirst}, lab.OtherLAN: {askOther, connectOther},
	} {
		q, err := b.lab.StartAsking(hosts[0], b.on(lan)...)
		if err != nil {
			w.fail(err)
			break
		}
		wg.Go(func() { w.ask(ctx, q, b.on(lan)) })
		probe := lab.Probe{From: hosts[1], Interval: connectInterval}
		for _, a := range b.on(lan) {
			probe.Targets = append(probe.Targets, netip.AddrPortFrom(a, 80))
			w.o.Answered[a] = nil
		}
		p, err := b.lab.StartProber(probe)
		if err != nil {
			w.fail(err)
			break
		}
		probers = append(probers, p)
	}
	wg.Go(func() { w.read(ctx) })
	<-ctx.Done()
	wg.Wait()
	for _, p := range probers {
		for _, a := range p.Stop().Attempts {
			if a.Outcome == lab.Answered {
				w.o.Answered[a.Target.Addr()] = append(w.o.Answered[a.Target.Addr()], a.Ended.Sub(began))
			}
		}
	}
	for _, times := range w.o.Answered {
		slices.Sort(times)
	}
	return w.o, w.err
}

func (w *witness) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// ask asks at each tick, and notes at the next who answered. What is said unasked is no answer.
func (w *witness) ask(ctx context.Context, q *lab.Questioner, addresses []netip.Addr) {
	defer q.Stop()
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	asked := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		seen := q.Take()
		if !asked.IsZero() {
			w.note(Period{asked.Sub(w.began), now.Sub(w.began)}, addresses, seen)
		}
		asked = now
		if err := q.Ask(); err != nil {
			w.fail(err)
			return
		}
	}
}

// note adds what was answered in a time.
func (w *witness) note(p Period, addresses []netip.Addr, seen []lab.Sighting) {
	owners := map[netip.Addr][]string{}
	for _, s := range seen {
		if !s.Unasked {
			owners[s.Address] = append(owners[s.Address], w.bed.lab.NameOf(s.Owner))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.To-p.From > askInterval+lateFrom {
		w.o.Late = append(w.o.Late, Period{p.From + askInterval, p.To})
	}
	for _, a := range addresses {
		names := owners[a]
		slices.Sort(names)
		w.o.Spans[a] = extend(w.o.Spans[a], Span{From: p.From, To: p.To, Owners: slices.Compact(names)})
	}
}

// extend adds a span, or prolongs the last if it says the same.
func extend(spans []Span, s Span) []Span {
	if n := len(spans); n > 0 && slices.Equal(spans[n-1].Owners, s.Owners) && spans[n-1].To == s.From {
		spans[n-1].To = s.To
		return spans
	}
	return append(spans, s)
}

// read reads the conditions each second. While the API server does not answer there is nothing to note.
func (w *witness) read(ctx context.Context) {
	ticker := time.NewTicker(readInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		at := time.Since(w.began)
		readings, err := w.bed.read(ctx)
		if err != nil {
			continue
		}
		w.mu.Lock()
		for service, r := range readings {
			r.At = at
			w.o.Readings[service] = append(w.o.Readings[service], r)
		}
		w.mu.Unlock()
	}
}
