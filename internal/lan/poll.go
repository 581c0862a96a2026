package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ballast-lb/ballast/internal/link"
)

const (
	// PollInterval is the time between two rounds of a Poll. A kernel answers within a few
	// milliseconds.
	PollInterval = 30 * time.Millisecond
	// PollRounds is how often who has not answered is asked.
	PollRounds = 3
	// PollLeast is how long whoever has not answered has the time to, though enough was heard.
	PollLeast = 10 * time.Millisecond
)

// Poll asks several hosts on one interface whether they are there.
type Poll struct {
	// From is the own interface to ask on, as in a Question.
	From link.Interface
	// Hosts are asked by unicast, and only an answer from their own MAC counts.
	Hosts []Neighbor
	// Gateways are asked by broadcast (IPv4) or multicast (IPv6), since their MACs are not known.
	Gateways []netip.Addr
	// Wanted are addresses of which it is asked who answers for them, like Gateways.
	Wanted []netip.Addr
	// Enough says whether what has been heard is enough to end the poll, after PollLeast; nil: never.
	Enough func(Tally) bool
}

// Tally is what a Poll has heard.
type Tally struct {
	// Answered says which of the Hosts have answered, in their order.
	Answered []bool
	// Gateway says that one of the gateways has.
	Gateway bool
	// Holders are the MACs that frames came from which answer for one of the Wanted, each once. Of a
	// deputy that is its own.
	Holders []link.MAC
}

// hear notes what a frame answers, and returns whether that is news.
func (t *Tally) hear(frame []byte, p Poll) bool {
	if len(frame) < headerLen {
		return false
	}
	for i, h := range p.Hosts {
		if !t.Answered[i] && answers(frame, Question{From: p.From, Neighbor: h}).Neighbor {
			t.Answered[i] = true
			return true
		}
	}
	source := macAt(frame, offSource)
	for _, g := range p.Gateways {
		if !t.Gateway && answers(frame, Question{From: p.From, Neighbor: Neighbor{Address: g, MAC: source}}).Neighbor {
			t.Gateway = true
			return true
		}
	}
	if a, answers := subject(frame, p.From); answers && slices.Contains(p.Wanted, a) && !slices.Contains(t.Holders, source) {
		t.Holders = append(t.Holders, source)
		return true
	}
	return false
}

// subject returns the address that a frame, an answer to an interface, says that somebody has:
// whoever sent it, or another that it names.
func subject(frame []byte, to link.Interface) (netip.Addr, bool) {
	switch fieldAt(frame, offEtherType) {
	case etherTypeARP:
		if len(frame) < arpLen {
			return netip.Addr{}, false
		}
		return replyOf(frame, Question{From: to, Neighbor: Neighbor{MAC: macAt(frame, offSenderHardware)}})
	case etherTypeIPv6:
		if len(frame) < offOptions+optionUnit {
			return netip.Addr{}, false
		}
		return advertisementOf(frame, Question{From: to, Neighbor: Neighbor{MAC: macAt(frame, offOptions+2)}})
	}
	return netip.Addr{}, false
}

// round returns the frames that ask whoever has not answered.
func (p Poll) round(t Tally) [][]byte {
	var frames [][]byte
	for i, h := range p.Hosts {
		if !t.Answered[i] {
			frames = append(frames, probe(p.From, h.Address, onLink(p.From, h.Address), h.MAC))
		}
	}
	for _, g := range p.Gateways {
		if !t.Gateway {
			frames = append(frames, probe(p.From, g, onLink(p.From, g), group(g)))
		}
	}
	for _, a := range p.Wanted {
		sender := onLink(p.From, a)
		if sender.IsUnspecified() {
			sender = anyIPv4(p.From) // a probe would look like one that detects conflicts
		}
		frames = append(frames, probe(p.From, a, sender, group(a)))
	}
	return frames
}

// answered says whether there is nobody left to ask.
func (p Poll) answered(t Tally) bool {
	return !slices.Contains(t.Answered, false) && (t.Gateway || len(p.Gateways) == 0) && len(p.Wanted) == 0
}

// check returns an error if p cannot be asked.
func (p Poll) check() error {
	for _, h := range p.Hosts {
		if err := (Question{From: p.From, Neighbor: h, Others: p.Gateways}).check(); err != nil {
			return err
		}
	}
	return Question{From: p.From, Others: slices.Concat(p.Gateways, p.Wanted)}.checkOthers()
}

// Poll asks up to PollRounds times, PollInterval apart, on a packet socket of its own, and returns
// once it has heard enough, or an interval after the last round. Errors are those of Ask; what was
// heard by then is in the Tally all the same.
func (a *Asker) Poll(ctx context.Context, p Poll) (Tally, error) {
	t := Tally{Answered: make([]bool, len(p.Hosts))}
	if err := p.check(); err != nil {
		return t, fmt.Errorf("check poll: %w", err)
	}
	socket, err := listen(p.From.Index, replyFilter(p.From.MAC))
	if err != nil {
		return t, fmt.Errorf("listen for answers: %w", err)
	}
	defer func() { _ = socket.Close() }()
	ears := make(chan []byte, 64)
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			buffer := make([]byte, answerLen)
			n, err := socket.Read(buffer)
			if err != nil {
				failed <- err
				return
			}
			select {
			case ears <- buffer[:n]:
			default: // more than anybody who is asked sends
			}
		}
	}()
	err = p.converse(ctx, &t, func(f []byte) error { return socket.WriteNow(f) }, ears, failed)
	err = errors.Join(err, socket.Stop())
	<-done
	return t, err
}

// converse sends and listens until the poll is over.
func (p Poll) converse(
	ctx context.Context, t *Tally, send func([]byte) error, heard <-chan []byte, failed <-chan error,
) error {
	next, least := time.NewTimer(0), time.NewTimer(PollLeast)
	defer next.Stop()
	defer least.Stop()
	enough := func() bool { return p.Enough != nil && p.Enough(*t) }
	for round, early := 0, true; ; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("poll: %w", context.Cause(ctx))
		case err := <-failed:
			return fmt.Errorf("hear answers: %w", err)
		case frame := <-heard:
			if t.hear(frame, p) && !early && enough() {
				return nil
			}
		case <-least.C:
			if early = false; enough() {
				return nil
			}
		case <-next.C:
			if round++; round > PollRounds || p.answered(*t) {
				return nil
			}
			for _, f := range p.round(*t) {
				if err := send(f); err != nil {
					return fmt.Errorf("send probe: %w", err)
				}
			}
			next.Reset(PollInterval)
		}
	}
}
