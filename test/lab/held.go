package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Hold says which connections to keep. From and Target are needed.
type Hold struct {
	From   string
	Target netip.AddrPort
	// Count is how many, default 60.
	Count int
	// Interval is the time between two questions over one of them, default 200 ms.
	Interval time.Duration
	// Patience is how long an answer may take before the connection counts as broken, default 5 s.
	Patience time.Duration
}

func (h Hold) withDefaults() Hold {
	if h.Count == 0 {
		h.Count = 60
	}
	if h.Interval == 0 {
		h.Interval = 200 * time.Millisecond
	}
	if h.Patience == 0 {
		h.Patience = 5 * time.Second
	}
	return h
}

// Held is a number of established connections that are in use. It is safe for use by many goroutines.
type Held struct {
	spec   Hold
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	broken  map[Outcome]int
	silence time.Duration
}

// HeldReport says what became of connections.
type HeldReport struct {
	Count, Broken int
	// Silence is the longest time that any of them waited for an answer.
	Silence time.Duration
	// Outcomes counts the broken ones by kind.
	Outcomes map[Outcome]int
}

// String is one line.
func (r HeldReport) String() string {
	return fmt.Sprintf("%d of %d held connections broke %v, longest silence %s", r.Broken, r.Count, r.Outcomes, r.Silence.Round(time.Millisecond))
}

// Closed is the outcome of a connection that the other side closed.
const Closed Outcome = "closed"

// Hold establishes connections and returns when each has been answered once; they are in use until Stop.
func (l *Lab) Hold(ctx context.Context, spec Hold) (*Held, error) {
	spec = spec.withDefaults()
	host, err := l.Host(spec.From)
	if err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(l.background)
	h := &Held{spec: spec, cancel: cancel, broken: map[Outcome]int{}}
	for range spec.Count {
		conn, err := h.establish(ctx, host)
		if err != nil {
			h.Stop()
			return nil, fmt.Errorf("hold a connection to %s: %w", spec.Target, err)
		}
		h.wg.Go(func() { h.use(background, conn) })
	}
	return h, nil
}

// heldConn is one connection and what it received.
type heldConn struct {
	net.Conn
	buffered *bufio.Reader
}

func (h *Held) establish(ctx context.Context, host *Host) (*heldConn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.spec.Patience)
	defer cancel()
	conn, err := host.ns.dial(ctx, "tcp", h.spec.Target.String())
	if err != nil {
		return nil, err
	}
	c := &heldConn{Conn: conn, buffered: bufio.NewReader(conn)}
	if err := c.ask(h.spec.Patience); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// ask sends a request and reads the answer.
func (c *heldConn) ask(patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: held\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.buffered, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// use asks over a connection time and again until it breaks or ctx ends.
func (h *Held) use(ctx context.Context, c *heldConn) {
	defer c.Close()
	ticker := time.NewTicker(h.spec.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		began := time.Now()
		err := c.ask(h.spec.Patience)
		h.mu.Lock()
		h.silence = max(h.silence, time.Since(began))
		if err != nil {
			h.broken[endOf(err)]++
		}
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func endOf(err error) Outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Closed
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	}
	return Outcome(err.Error())
}

// Report says what became of them so far. One that waits for an answer counts as unbroken.
func (h *Held) Report() HeldReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := HeldReport{Count: h.spec.Count, Silence: h.silence, Outcomes: map[Outcome]int{}}
	for outcome, n := range h.broken {
		r.Broken += n
		r.Outcomes[outcome] = n
	}
	return r
}

// Stop closes them, when the answers that they wait for have come or are overdue, and reports.
func (h *Held) Stop() HeldReport {
	h.cancel()
	h.wg.Wait()
	return h.Report()
}
