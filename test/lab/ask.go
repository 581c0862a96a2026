package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Answers are, for each address that was asked for, the packets that answered.
type Answers map[netip.Addr][]Sighting

// askBatch is how many requests follow each other without a pause of askPause.
const (
	askBatch = 50
	askPause = 2 * time.Millisecond
)

// Ask asks from a host, by one ARP request or neighbor solicitation each, who has the
// addresses, and collects all answers until window has passed after the last request.
// What the host's kernel knows changes by the answers as by any: do not ask from a host
// whose traffic is being measured.
func (l *Lab) Ask(ctx context.Context, host string, window time.Duration, addresses ...netip.Addr) (Answers, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	w, err := l.Watch(host, addresses...)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	us := h.asker()
	for i, a := range addresses {
		if err := w.socket(a).send(us.request(a)); err != nil {
			return nil, fmt.Errorf("ask from %s for %s: %w", host, a, err)
		}
		if i%askBatch == askBatch-1 {
			if err := pause(ctx, askPause); err != nil {
				return nil, err
			}
		}
	}
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	answers := Answers{}
	for _, s := range w.Stop() {
		if !s.Unasked {
			answers[s.Address] = append(answers[s.Address], s)
		}
	}
	return answers, nil
}

// Questioner asks from one host for the same addresses again and again. It is not safe for use by several goroutines.
type Questioner struct {
	watcher   *Watcher
	us        asker
	addresses []netip.Addr
}

// StartAsking prepares to ask; the caller ends that with Stop.
func (l *Lab) StartAsking(host string, addresses ...netip.Addr) (*Questioner, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	w, err := l.Watch(host, addresses...)
	if err != nil {
		return nil, err
	}
	return &Questioner{watcher: w, us: h.asker(), addresses: addresses}, nil
}

// Ask asks once for each address, without waiting for answers.
func (q *Questioner) Ask() error {
	for _, a := range q.addresses {
		if err := q.watcher.socket(a).send(q.us.request(a)); err != nil {
			return fmt.Errorf("ask for %s: %w", a, err)
		}
	}
	return nil
}

// Take returns what was said since the last Take, answers and announcements.
func (q *Questioner) Take() []Sighting { return q.watcher.Take() }

// Stop ends it.
func (q *Questioner) Stop() { q.watcher.Stop() }

// socket is the one for the address's family.
func (w *Watcher) socket(a netip.Addr) *packetSocket {
	i := slices.IndexFunc(w.sockets, func(s *packetSocket) bool { return s.kind == etherType(a) })
	return w.sockets[i]
}

// asker is the host as one who asks on the LAN.
func (h *Host) asker() asker {
	a := asker{v4: h.IPv4, v6: h.IPv6}
	mac, _ := net.ParseMAC(h.MAC())
	copy(a.mac[:], mac)
	return a
}

// Owners returns the hardware addresses that the address was said to have, sorted, each once.
func (a Answers) Owners(address netip.Addr) []string {
	var owners []string
	for _, s := range a[address] {
		owners = append(owners, s.Owner)
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// NameOf is the host with this hardware address on any card, or the address itself.
func (l *Lab) NameOf(mac string) string {
	for _, h := range l.allHosts() {
		for _, p := range h.ports {
			if p.mac() == mac {
				return h.Name
			}
		}
	}
	return mac
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Flood says how to ask for many addresses at a steady rate.
type Flood struct {
	From      string
	Addresses []netip.Addr
	// Rate is requests a second, Count how many in all.
	Rate, Count int
}

// FloodReport says how a flood was answered.
type FloodReport struct {
	// Sent requests took Duration; Lost of them had no answer within a second of the last.
	Sent, Lost int
	Duration   time.Duration
	// Latencies are from just before a request was sent until the kernel of the asking
	// host received the answer, unsorted.
	Latencies []time.Duration
}

// floodTick is how often a batch of requests is sent.
const floodTick = 5 * time.Millisecond

// Flood asks for addresses in turn, from a random one on. The addresses are many enough, and
// the rate low enough, if an answer comes before its address is asked for again.
func (l *Lab) Flood(ctx context.Context, f Flood) (FloodReport, error) {
	h, err := l.Host(f.From)
	if err != nil {
		return FloodReport{}, err
	}
	w, err := l.Watch(f.From, f.Addresses...)
	if err != nil {
		return FloodReport{}, err
	}
	defer w.Stop()
	us, began, next := h.asker(), time.Now(), rand.IntN(len(f.Addresses))
	asked := map[netip.Addr][]time.Time{}
	report := FloodReport{}
	for report.Sent < f.Count {
		due := min(f.Count, int(time.Since(began).Seconds()*float64(f.Rate)))
		for ; report.Sent < due; report.Sent++ {
			a := f.Addresses[next%len(f.Addresses)]
			next++
			asked[a] = append(asked[a], time.Now())
			if err := w.socket(a).send(us.request(a)); err != nil {
				return report, fmt.Errorf("ask from %s for %s: %w", f.From, a, err)
			}
		}
		if err := pause(ctx, floodTick); err != nil {
			return report, err
		}
	}
	report.Duration = time.Since(began)
	if err := pause(ctx, time.Second); err != nil {
		return report, err
	}
	for _, s := range w.Stop() {
		times := asked[s.Address]
		if s.Unasked || len(times) == 0 {
			continue
		}
		asked[s.Address] = times[1:]
		// The kernel stamps with its wall clock, so the monotonic one must not be used.
		report.Latencies = append(report.Latencies, s.At.Sub(times[0].Round(0)))
	}
	report.Lost = report.Sent - len(report.Latencies)
	return report, nil
}
