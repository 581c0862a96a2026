package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/ether"
)

// leftover bounds how many frames are still read when the time is over: more than the kernel
// keeps for a socket, so that who sends without end does not keep Ask from returning.
const leftover = 1024

// Asker asks the local network. It holds no state; make it with NewAsker. It may be used by
// several goroutines at once.
type Asker struct{}

// NewAsker returns an Asker.
func NewAsker() *Asker { return &Asker{} }

// Ask asks q on two packet sockets of its own, which needs CAP_NET_RAW, in the network namespace
// of the calling thread. It sends up to Probes times, Interval apart, what has no answer yet,
// and returns as soon as the neighbor, and its speaker if asked for, have answered, or an
// Interval after the last probe; if by then it has heard neither the neighbor nor anybody else,
// up to ExtraWait later. It never waits to send. What has come in by the end counts, even if
// this process got no time to look at it before.
//
// Silence is no error. An error means that q could not be asked, or not to its end, so that the
// silence in the Answer says nothing: the interface is down or away (ENETDOWN, ENODEV, ENXIO),
// the permission is missing (os.ErrPermission), q is incomplete, or ctx has ended. What was
// heard by then is in the Answer all the same. An interface that is up without carrier is no
// error: it hears nobody.
func (a *Asker) Ask(ctx context.Context, q Question) (Answer, error) {
	if err := q.check(); err != nil {
		return Answer{}, fmt.Errorf("check question: %w", err)
	}
	talk, err := listen(q.From.Index, answerFilter(q))
	if err != nil {
		return Answer{}, fmt.Errorf("listen for answers: %w", err)
	}
	defer func() { _ = talk.Close() }()
	crowd, err := listen(q.From.Index, otherFilter(q))
	if err != nil {
		return Answer{}, fmt.Errorf("listen for others: %w", err)
	}
	defer func() { _ = crowd.Close() }()

	e := &ears{heard: make(chan Answer), broken: make(chan error, 2)}
	e.listen(talk, func(frame []byte) Answer { return answers(frame, q) })
	e.listen(crowd, func(frame []byte) Answer { return Answer{Others: isOther(frame, q)} })
	go func() {
		e.listening.Wait()
		close(e.heard)
	}()
	s := &asking{question: q}
	err = e.converse(ctx, s, talk)
	err = errors.Join(err, talk.Stop(), crowd.Stop())
	for part := range e.heard { // until the goroutines are gone
		s.hear(part)
	}
	select {
	case broken := <-e.broken:
		err = errors.Join(err, fmt.Errorf("hear answers: %w", broken))
	default:
	}
	return s.heard, err
}

// ears are the goroutines that read, one a socket. Stopping the sockets ends them; until heard is
// closed, somebody must read it.
type ears struct {
	listening sync.WaitGroup
	heard     chan Answer
	broken    chan error // with room for one error a socket
}

// listen hears what comes in at s, until s is stopped or fails. What judge finds in a frame goes
// to heard, if it is new.
func (e *ears) listen(s *ether.Socket, judge func(frame []byte) Answer) {
	e.listening.Go(func() {
		buffer := make([]byte, answerLen)
		sofar := Answer{}
		note := func(n int) {
			if now := sofar.and(judge(buffer[:n])); now != sofar {
				sofar = now
				e.heard <- now
			}
		}
		for {
			n, err := s.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				e.broken <- err
				return
			}
			note(n)
			if sofar.Others { // one is enough, and on a busy network there are many
				return
			}
		}
		for range leftover {
			n, err := s.ReadNow(buffer)
			if err != nil {
				return
			}
			note(n)
		}
	})
}

// converse sends and listens until the question is over.
func (e *ears) converse(ctx context.Context, s *asking, talk *ether.Socket) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("ask neighbor: %w", context.Cause(ctx))
		case err := <-e.broken:
			return fmt.Errorf("hear answers: %w", err)
		case part := <-e.heard:
			over = s.hear(part)
		case <-next.C:
			var frames [][]byte
			if frames, over = s.tick(); over {
				return nil
			}
			for _, f := range frames {
				if err := talk.WriteNow(f); err != nil {
					return fmt.Errorf("send probe: %w", err)
				}
			}
			next.Reset(Interval)
		}
	}
	return nil
}
